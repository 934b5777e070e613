"""What a run's training rows tell of how new other places are, learned when its members are trained."""

# N training rows, R of them kept, B held-out rows, S species, K covariates, F features, D axes

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from releve.data.statistics import NUM_QUANTILES
from releve.lists import Lists
from releve.models.kinds import MemberModel
from releve.predict.novelty import (
    Novelty,
    Space,
    covariates_of,
    deviations_beyond,
    join_distances,
    nearest,
)
from releve.predict.training import training_of
from releve.prepare.split import split_rows
from releve.runs.folder import Run
from releve.runs.predict import BATCH_SIZE, gatherer_for

MAX_ROWS = 20_000
"""Rows, drawn from the training rows, that distances are measured on."""
NUM_KEPT, NUM_AXES = 2_000, 32
NUM_PAIRS = 100_000
RIDGE = 0.1
"""Of columns with a variance of about 1."""


def fit_novelty(run: Run) -> Novelty:
    """Return what tells how new a place is to a run, learned from its training rows alone.

    These are the plots, or records where there are no plots, that some member was trained on. Features are those of
    the network that was trained on all rows, where there is one, else of that which held out the first fold.

    Parameters
    ----------
    run
        A run whose members are trained; of an ensemble, each part learns its own.
    """
    rng = np.random.default_rng(run.seed)
    rows = np.flatnonzero(run.store.is_scored)
    rows = rows if len(rows) <= MAX_ROWS else np.sort(rng.choice(rows, MAX_ROWS, replace=False))
    training, member = training_of(run), chosen_member(run)
    numbers, classes = tuple(training.quantiles), tuple(training.codes)
    features_NF, values_NK = look_at(run, rows, run.models[member], numbers + classes)
    trained = is_trained_on(run, rows)
    labels, num_species = run.store.labels.take(rows[trained]), len(run.store.species_ids)
    num_made = Space(run.models[member], run).num_made
    scales_F = scales_of(features_NF[trained], num_made, labels, num_species, rng)
    centre_F, axes_FD = main_axes(features_NF[trained], scales_F)
    points_ND = (features_NF - centre_F) @ axes_FD
    unit = mean_distance(points_ND[trained], rng)
    axes_FD, points_ND = axes_FD / unit, points_ND / unit
    kept = np.flatnonzero(trained)[spread_out(points_ND[trained], NUM_KEPT)]
    found = held_out_distances(run, rows, kept, points_ND, values_NK[:, : len(numbers)], num_classes=len(classes))
    return Novelty(
        member=member,
        numbers=numbers,
        classes=classes,
        codes=tuple(tuple(training.codes[name]) for name in classes),
        quantiles_NQ=widest_quantiles(values_NK[trained, : len(numbers)], list(training.quantiles.values())),
        centre_F=centre_F,
        axes_FD=axes_FD,
        rows_RD=points_ND[kept],
        threshold=upper_whisker(found),
    )


def chosen_member(run: Run) -> int:
    """Return the position of the member in whose space places are compared: a network, one that held out nothing."""
    order = [(member.kind != "network", member.fold is not None, at) for at, member in enumerate(run.members)]
    return min(order)[-1]


def is_trained_on(run: Run, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which rows some member was trained on: all, but for the fold that every member of a run held out."""
    folds = [member.fold for member in run.members]
    if folds[0] is None or len(set(folds)) > 1:
        return np.ones(len(rows), bool)
    return np.asarray(run.store.folds[rows] != folds[0])


@torch.inference_mode()
def look_at(run: Run, rows: NDArray[np.int64], model: MemberModel, names: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Return (N, F) features and (N, K) covariates of rows of the run's store."""
    gatherer, space = gatherer_for(model, run.store), Space(model, run)
    features, values = [], []
    for start in range(0, len(rows), BATCH_SIZE):
        batch = gatherer.batch(rows[start : start + BATCH_SIZE])
        features.append(space.of(batch))
        values.append(covariates_of(batch, model, names))
    return torch.cat(features), torch.cat(values)


def scales_of(features_NF: Tensor, num_made: int, labels: Lists, num_species: int, rng: np.random.Generator) -> Tensor:
    """Return (F,) what each feature is to be multiplied by: both parts of a space count for the same in distances.

    Parameters
    ----------
    features_NF
        In the space of a member.
    num_made
        How many of them its network has made; the others are columns that it reads, weighted by importance.
    labels, num_species
        The N sets of species.
    rng
        Draws pairs of rows.
    """
    scales_F = torch.cat([torch.ones(num_made), importance(features_NF[:, num_made:], labels, num_species)])
    for part in (slice(num_made), slice(num_made, None)):
        scales_F[part] /= mean_distance(features_NF[:, part] * scales_F[part], rng)
    return scales_F


def importance(columns_NF: Tensor, labels: Lists, num_species: int) -> Tensor:
    """Return (F,) how much columns tell of the species: the length of their coefficients in a ridge regression."""
    columns = columns_NF.double().numpy()
    columns = columns - columns.mean(axis=0)
    known = labels.to_csr(num_species).astype(np.float64)
    products = (known.T @ columns).T  # those of centred columns: the labels' means fall out
    penalty = RIDGE * len(columns) * np.eye(columns.shape[1])
    coefficients = np.linalg.solve(columns.T @ columns + penalty, products)
    return torch.from_numpy(np.linalg.norm(coefficients, axis=1)).float()


def main_axes(features_NF: Tensor, scales_F: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of features, and the (F, D) axes of most variance of what they are after scaling."""
    centre_F = features_NF.double().mean(dim=0)
    scaled_NF = (features_NF - centre_F) * scales_F
    _, vectors_FF = torch.linalg.eigh(scaled_NF.T @ scaled_NF)
    return centre_F.float(), (scales_F[:, None] * vectors_FF[:, -NUM_AXES:]).float()


def mean_distance(points_ND: Tensor, rng: np.random.Generator) -> float:
    """Return the mean distance of pairs of different rows; 1 if all rows are alike."""
    first = rng.integers(0, len(points_ND), NUM_PAIRS)
    second = (first + rng.integers(1, max(2, len(points_ND)), NUM_PAIRS)) % len(points_ND)
    return float((points_ND[first] - points_ND[second]).norm(dim=1).mean()) or 1.0


def spread_out(points_ND: Tensor, number: int) -> NDArray[np.int64]:
    """Return positions of rows of which each is the farthest from those before it; all rows if there are no more.

    No row is then farther from the kept ones than these are from one another.

    References
    ----------
    Gonzalez (1985), Clustering to minimize the maximum intercluster distance, Theoretical Computer Science 38, 293-306,
    doi:10.1016/0304-3975(85)90224-5.

    Examples
    --------
    >>> spread_out(torch.tensor([[0.0], [1.0], [10.0], [6.0]]), 3).tolist()
    [0, 2, 3]
    """
    if len(points_ND) <= number:
        return np.arange(len(points_ND))
    kept, distance_N = [0], torch.full((len(points_ND),), torch.inf)
    while len(kept) < number:
        distance_N = torch.minimum(distance_N, (points_ND - points_ND[kept[-1]]).square().sum(dim=1))
        kept.append(int(distance_N.argmax()))
    return np.array(kept)


def held_out_distances(
    run: Run,
    rows: NDArray[np.int64],
    kept: NDArray[np.int64],
    points_ND: Tensor,
    numbers_NN: Tensor,
    *,
    num_classes: int,
) -> Tensor:
    """Return the dissimilarity index of each row to the kept rows that its fold's members were trained on.

    Where a fold leaves none of these, its rows have none.

    Parameters
    ----------
    run, rows
        The run, and positions in its store.
    kept
        Which of these are compared with.
    points_ND, numbers_NN
        On the axes, and covariates that are numbers.
    num_classes
        Covariates that are none.
    """
    store, split = run.store, run.config.split
    found = [torch.zeros(0)]
    for fold in range(store.manifest.num_folds):
        fitted, _, _ = split_rows(store.folds, store.lon, store.lat, fold, split.buffer_km, store.reach_km)
        near, inside = kept[np.isin(rows[kept], fitted)], np.flatnonzero(store.folds[rows] == fold)
        if not len(near) or not len(inside):
            continue
        distance_B = nearest(points_ND[inside], points_ND[near])
        known_NN = numbers_NN[np.isin(rows, fitted)]
        outside_BK = torch.cat([beyond_rows(numbers_NN[inside], known_NN), torch.zeros(len(inside), num_classes)], 1)
        found.append(join_distances(distance_B, outside_BK))
    return torch.cat(found)


def beyond_rows(values_BN: Tensor, known_NN: Tensor) -> Tensor:
    """Return (B, N) how many standard deviations of known rows values lie outside their range."""
    return deviations_beyond(values_BN, quantiles_of(known_NN))


def quantiles_of(values_NN: Tensor) -> Tensor:
    """Return (N, 101) values at equally spaced ranks of each column; NaN is left out, and 0 where there is no value."""
    if not values_NN.shape[1]:
        return torch.zeros(0, NUM_QUANTILES)
    ranks = torch.linspace(0, 1, NUM_QUANTILES, dtype=torch.float64)
    return values_NN.double().nanquantile(ranks, dim=0).T.nan_to_num().float().contiguous()


def widest_quantiles(values_NN: Tensor, known: list[Sequence[float]]) -> Tensor:
    """Return (N, 101) values at equally spaced ranks of rows, the ends as wide as those that the members know."""
    quantiles_NQ = quantiles_of(values_NN)
    if known:
        ends = torch.tensor([(each[0], each[-1]) for each in known], dtype=torch.float32)
        quantiles_NQ[:, 0] = torch.minimum(quantiles_NQ[:, 0], ends[:, 0])
        quantiles_NQ[:, -1] = torch.maximum(quantiles_NQ[:, -1], ends[:, 1])
    return quantiles_NQ


def upper_whisker(found_B: Tensor) -> Tensor:
    """Return the third quartile and one and a half times the distance of the quartiles, or the highest if lower.

    Where no row was compared with another fold's, nothing is known to be outside: infinity.

    Examples
    --------
    >>> upper_whisker(torch.tensor([1.0, 2.0, 3.0, 4.0, 50.0])), upper_whisker(torch.tensor([1.0, 2.0]))
    (tensor(7.), tensor(2.))
    """
    if not len(found_B):
        return torch.tensor(torch.inf)
    low, high = found_B.quantile(torch.tensor([0.25, 0.75]))
    return torch.minimum(high + 1.5 * (high - low), found_B.max())
