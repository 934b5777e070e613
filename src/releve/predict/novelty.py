"""How new a place is to a run: in its covariates (MESS), and where the run tells places apart (dissimilarity index).

MESS is the least similarity of a covariate (:mod:`releve.predict.mess`). The *dissimilarity index* is the distance to
the nearest training row, in units of the mean distance between two training rows. It is taken in the space of what the
run's network makes of a place, its features, beside what it reads there: the covariates as scores of their ranks, each
weighted by how much it tells of the species. (Runs of trees have only the latter.) The facts of a survey (its area,
year, country) are hidden, so that they make no place new. Both hold a value beyond the range of training at its end;
how far beyond it is adds to the index: with K covariates that lie b_k standard deviations outside,

    DI^2 = (distance / mean distance)^2 + BEYOND / K sum of b_k^2.

A class that training did not know counts as one standard deviation.

A place is *inside* the area that a run may be applied to if its index is no higher than the upper whisker (third
quartile and one and a half times the distance between the quartiles, or the highest if that is lower) of those that
rows have to the rows of other folds that they are predicted from when they are held out.

References
----------
Meyer & Pebesma (2021), Predicting into unknown space? Estimating the area of applicability of spatial prediction
models, Methods in Ecology and Evolution 12, 1620-1633, doi:10.1111/2041-210X.13650. There the space is that of the
covariates, weighted by their importance.
"""

# B places, R training rows kept, N numbers, K covariates (numbers, then classes), F features, D axes, Q quantiles

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from releve.data.gather import Batch
from releve.errors import RunError
from releve.files import atomic_path
from releve.models.kinds import MemberModel
from releve.models.model import SpeciesModel
from releve.models.trees import TableFeatures
from releve.predict.mess import beyond, least, similarity_of_classes, similarity_of_numbers
from releve.runs.folder import NOVELTY_FILE, Run
from releve.runs.predict import BATCH_SIZE, gatherer_for
from releve.store.read import Store
from releve.train.device import autocast_for

BEYOND = 2.0
"""Weight of what lies outside the range of training; chosen in simulated worlds (docs/log.md)."""
MEASURED = ("covariates", "landsat", "climate", "patch")
"""Modalities that tell of the environment of a place, and not only where it is."""


@dataclass(frozen=True, eq=False)
class NoveltyOf:
    """How new each of B places is.

    Parameters
    ----------
    mess
        (B,) float32 similarity, at most 100, below 0 outside the range of training; NaN where no covariate is known.
    most_dissimilar
        (B,) int16 the covariate that it is of, a position in ``Novelty.variables``; -1 where none is known.
    dissimilarity
        (B,) float32 dissimilarity index, 0 at a training row.
    inside
        (B,) bool whether the run may be applied there; false where the run knows nothing of a place that it looks at,
        but for where it is.
    """

    mess: NDArray[np.float32]
    most_dissimilar: NDArray[np.int16]
    dissimilarity: NDArray[np.float32]
    inside: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Novelty:
    """What tells how new a place is; see the module's text.

    Parameters
    ----------
    member
        Position, in the run's members, of the one in whose space places are compared.
    numbers, classes
        Names of the covariates.
    codes
        Of each class, the codes that training knew.
    quantiles_NQ
        Of each number, values of the training rows at equally spaced ranks.
    centre_F, axes_FD
        Mean in the member's space, and axes of most variance, in units of the mean distance between training rows.
    rows_RD
        Training rows on these axes.
    threshold
        () the highest dissimilarity index inside.
    """

    member: int
    numbers: tuple[str, ...]
    classes: tuple[str, ...]
    codes: tuple[tuple[float, ...], ...]
    quantiles_NQ: Tensor
    centre_F: Tensor
    axes_FD: Tensor
    rows_RD: Tensor
    threshold: Tensor

    @property
    def variables(self) -> tuple[str, ...]:
        """(K,) names of all covariates, in the order that ``most_dissimilar`` counts them."""
        return self.numbers + self.classes

    @torch.inference_mode()
    def of(self, run: Run, store: Store, rows: NDArray[np.int64]) -> NoveltyOf:
        """Return how new these rows of a store are to a run; what a row gets does not depend on the others.

        Parameters
        ----------
        run
            The run that this was learned from, or an ensemble whose first part it is.
        store
            Any store that the run can predict.
        rows
            (B,) positions in it.
        """
        model = first_part(run).models[self.member]
        gatherer, space = gatherer_for(model, store), Space(model, run)
        mess, most = np.zeros(len(rows), np.float32), np.zeros(len(rows), np.int16)
        dissimilarity, known = np.zeros(len(rows), np.float32), np.zeros(len(rows), bool)
        for start in range(0, len(rows), BATCH_SIZE):
            at = slice(start, start + BATCH_SIZE)
            batch = gatherer.batch(rows[at])
            values_BK = covariates_of(batch, model, self.variables)
            mess[at], most[at] = (each.numpy() for each in least(self.similarity(values_BK)))
            dissimilarity[at] = self.dissimilarity(space.of(batch), values_BK)
            known[at] = is_measured(model, batch)
        return NoveltyOf(mess, most, dissimilarity, known & (dissimilarity <= float(self.threshold)))

    def similarity(self, values_BK: Tensor) -> Tensor:
        """Return (B, K) similarities of covariates in the order of ``variables``; NaN where a value is."""
        numbers_BN, classes_BC = values_BK.split([len(self.numbers), len(self.classes)], dim=1)
        of_numbers = similarity_of_numbers(numbers_BN, self.quantiles_NQ)
        return torch.cat([of_numbers, similarity_of_classes(classes_BC, self.codes)], dim=1)

    def dissimilarity(self, features_BF: Tensor, values_BK: Tensor) -> Tensor:
        """Return (B,) dissimilarity indices from places in the member's space and their covariates."""
        distance_B = nearest(self.project(features_BF), self.rows_RD)
        numbers_BN, classes_BC = values_BK.split([len(self.numbers), len(self.classes)], dim=1)
        unknown_BC = similarity_of_classes(classes_BC, self.codes) < 0
        outside_BN = deviations_beyond(numbers_BN, self.quantiles_NQ)
        return join_distances(distance_B, torch.cat([outside_BN, unknown_BC.float()], dim=1))

    def project(self, features_BF: Tensor) -> Tensor:
        """Return (B, D) features on the axes."""
        return (features_BF - self.centre_F) @ self.axes_FD


def deviations_beyond(values_BN: Tensor, quantiles_NQ: Tensor) -> Tensor:
    """Return (B, N) how many standard deviations values lie outside the range of training; of a constant, 0."""
    spread_N = (quantiles_NQ - quantiles_NQ.mean(dim=1, keepdim=True)).square().mean(dim=1).sqrt()
    return torch.where(spread_N > 0, beyond(values_BN, quantiles_NQ) / spread_N, 0.0)


def join_distances(distance_B: Tensor, outside_BK: Tensor) -> Tensor:
    """Return (B,) dissimilarity indices from distances and from how far covariates lie outside, in deviations.

    Examples
    --------
    >>> join_distances(torch.tensor([3.0, 3.0]), torch.tensor([[0.0, 0.0], [4.0, 0.0]])).tolist()
    [3.0, 5.0]
    """
    if not outside_BK.shape[1]:
        return distance_B
    return (distance_B.square() + BEYOND * outside_BK.square().mean(dim=1)).sqrt()


def nearest(points_BD: Tensor, rows_RD: Tensor) -> Tensor:
    """Return (B,) the distance from each point to the nearest row.

    Examples
    --------
    >>> nearest(torch.tensor([[3.0, 4.0], [1.0, 1.0]]), torch.tensor([[0.0, 0.0], [1.0, 1.0]])).tolist()
    [3.605551242828369, 0.0]
    """
    # The nearest by a matrix product; then its distance itself, which by that product would be lost in rounding.
    closeness_BR = torch.addmm(-rows_RD.square().sum(dim=1) / 2, points_BD, rows_RD.T)
    return (points_BD - rows_RD[closeness_BR.argmax(dim=1)]).norm(dim=1)


def covariates_of(batch: Batch, model: MemberModel, names: tuple[str, ...]) -> Tensor:
    """Return (B, K) covariates of these names, on the CPU; NaN where missing."""
    table = model.statistics.tables.get("covariates")
    values_BK = torch.full((len(batch), len(names)), torch.nan)
    if table is not None and "covariates" in batch.values:
        at = [table.columns.index(name) for name in names]
        values_BK[batch.places["covariates"].cpu()] = batch.values["covariates"].cpu()[:, at]
    return values_BK


class Space:
    """Where a member tells places apart: what its network makes of their environment, and what it reads there."""

    def __init__(self, model: MemberModel, run: Run) -> None:
        """Look up what a run's model reads: covariates, or where it sees none, the place."""
        tables = {name: table for name, table in model.statistics.tables.items() if name in ("covariates", "location")}
        if "covariates" in tables:
            tables.pop("location", None)
        self.columns = TableFeatures(model.statistics.model_copy(update={"tables": tables}))
        self.num_codes = [len(each) for table in tables.values() for each in table.codes.values()]
        self.network = model if isinstance(model, SpeciesModel) else None
        self.num_made = int(self.network.fusion.num_features) if self.network else 0  # type: ignore[arg-type]
        self.run = run

    def of(self, batch: Batch) -> Tensor:
        """Return (B, F) float32, on the CPU: ``num_made`` features of the network, scores of ranks, a column a class.

        Facts of the surveys are hidden: they take the network's value for a survey that lacks them.
        """
        parts = [self._columns_of(batch)] if self.columns.tables else []
        if self.network is not None:
            values, places = ({k: x for k, x in each.items() if k != "survey"} for each in (batch.values, batch.places))
            hidden = replace(batch, values=values, places=places).to(self.run.device)
            with autocast_for(self.run.config.train, self.run.device):  # in the precision of predictions
                features_BF = self.network.features(hidden)
            # Behind the features of the environment are those of how a row was observed.
            parts.insert(0, features_BF[:, : self.num_made].float().cpu())
        return torch.cat([torch.zeros(len(batch), 0), *parts], dim=1)

    def _columns_of(self, batch: Batch) -> Tensor:
        """Return scores of ranks, and for each class that training knew 1 where it is."""
        values_BF = self.columns.of(batch)
        numbers_BF, codes = values_BF[:, : values_BF.shape[1] - len(self.num_codes)], self.num_codes
        each = [values_BF[:, i - len(codes), None] == torch.arange(1.0, num + 1) for i, num in enumerate(codes)]
        return torch.cat([numbers_BF, *(x.float() for x in each)], dim=1)


def is_measured(model: MemberModel, batch: Batch) -> NDArray[np.bool_]:
    """Return (B,) whether a model that looks at the environment knows anything of it, but for where it is."""
    looked_at = [name for name in model.modalities if name in MEASURED]
    measured = np.full(len(batch), not looked_at)
    for name in looked_at:
        if name in batch.places:
            values, at = batch.values[name], batch.places[name].cpu().numpy()
            known = torch.isfinite(values).any(dim=1).cpu().numpy() if name == "covariates" else True
            measured[at] |= known
    return measured


def first_part(run: Run) -> Run:
    """Return a run itself, or the first part of an ensemble."""
    return run.placed_parts[0] if run.parts else run


def write_novelty(run: Run, novelty: Novelty) -> None:
    """Write tensors and names to the run's folder as safetensors; whole or absent."""
    fields = dict(vars(novelty))
    tensors = {name: fields.pop(name).contiguous() for name in list(fields) if isinstance(fields[name], Tensor)}
    with atomic_path(run.path / NOVELTY_FILE) as partial:
        save_file(tensors, partial, metadata={"facts": json.dumps(fields)})


def read_novelty(run: Run) -> Novelty:
    """Return what :func:`write_novelty` wrote for a run, or for the first part of an ensemble.

    Raises
    ------
    RunError
        If the run was trained before that was learned.
    """
    file = first_part(run).path / NOVELTY_FILE
    if not file.is_file():
        raise RunError(
            f"run {file.parent} does not know how new a place is to it: it has no {NOVELTY_FILE}",
            expected="a run made since that is learned",
            action="Train it again",
        )
    with safe_open(file, "pt") as opened:
        facts = json.loads(opened.metadata()["facts"])
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (no mapping)
    numbers, classes, codes = tuple(facts["numbers"]), tuple(facts["classes"]), tuple(map(tuple, facts["codes"]))
    return Novelty(facts["member"], numbers, classes, codes, **tensors)
