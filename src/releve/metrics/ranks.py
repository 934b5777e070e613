"""Scores against observed sets: AUC, average precision, Boyce index and top-k accuracy, exactly and by blocks."""

# N surveys, S species, B surveys of a block, K list positions

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from releve.errors import TableError
from releve.lists import Lists
from releve.metrics.blocks import NUM_THREADS, as_table, column_blocks, map_rows

if TYPE_CHECKING:
    import torch


MIN_BOYCE_PRESENCES = 10
"""Presences below which the Boyce index of a species says nothing."""
NUM_WINDOWS = 101


@dataclass(frozen=True, eq=False)
class RankScores:
    """How well scores order surveys within a species and species within a survey; see :func:`rank_scores`.

    ``auc_S``, ``ap_S`` and ``boyce_S`` are (S,), NaN where not defined. ``num_species_scored`` counts the
    species with an AUC. ``top_k_accuracy`` maps k to a share in [0, 1].
    """

    auc_macro: float
    ap_macro: float
    num_species_scored: int
    auc_S: np.ndarray
    ap_S: np.ndarray
    boyce_S: np.ndarray
    top_k_accuracy: dict[int, float]


def rank_scores(
    scores: np.ndarray | torch.Tensor, truth: Lists, *, top_k: Sequence[int] = (1, 5, 10, 20, 30)
) -> RankScores:
    """Return AUC, average precision and Boyce index of each species, means, and the top-k accuracy.

    AUC is the chance that a survey with the species scores higher than one without, a tie counting one half:
    the mean rank of the presences, so that ties are handled as in scikit-learn's ``roc_auc_score``. Average
    precision is the mean, over the presences, of the precision among all surveys that score at least as high,
    equal to ``average_precision_score``. Both are defined for a species with a presence and an absence (AP
    alone for one present everywhere), the Boyce index (:func:`boyce_index`) for one with 10 presences; the means
    are over the species for which they are defined, and are NaN where there is none. Top-k accuracy is the share
    of all (survey, observed species) pairs whose species is among the k best of its survey; a species unknown to
    the model is a miss; of equal scores the lower index comes first.

    Parameters
    ----------
    scores
        (N, S) probabilities, logits or any finite scores; a memory map is read in blocks.
    truth
        The N observed sets.
    top_k
        The values of k.

    Raises
    ------
    TableError
        If a score is NaN or infinite, or the numbers of surveys differ.

    Examples
    --------
    >>> probs = np.array([[0.9, 0.2], [0.4, 0.6], [0.5, 0.3]])
    >>> ranks = rank_scores(probs, Lists.from_rows([[0], [0, 1], []]), top_k=[1])
    >>> ranks.auc_S.tolist(), round(float(ranks.ap_S[0]), 4), round(ranks.top_k_accuracy[1], 4)
    ([0.5, 1.0], 0.8333, 0.6667)
    """
    scores_NS = as_table(scores, truth)
    num_species = scores_NS.shape[1]
    known = truth.indices < num_species
    order = np.argsort(truth.indices[known], kind="stable")
    positive_rows = truth.surveys()[known][order]
    starts = np.concatenate([[0], np.cumsum(np.bincount(truth.indices[known], minlength=num_species))])
    found_3S = np.full((3, num_species), np.nan)

    def work(first: int, block_CN: np.ndarray) -> None:
        for species, column in enumerate(block_CN, first):
            rows = positive_rows[starts[species] : starts[species + 1]]
            if not np.isfinite(column).all():
                raise _not_finite(column, species)
            if len(rows):
                positives = np.sort(column[rows])
                column.sort()
                found_3S[:2, species] = _auc_ap(column, positives)
                found_3S[2, species] = _boyce(column, positives)

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        for first, block_CN in column_blocks(scores_NS):
            parts = np.array_split(block_CN, NUM_THREADS)
            firsts = first + np.cumsum([0, *map(len, parts[:-1])])
            list(pool.map(work, firsts.tolist(), parts))
    auc_S, ap_S, boyce_S = found_3S
    return RankScores(
        auc_macro=mean_defined(auc_S),
        ap_macro=mean_defined(ap_S),
        num_species_scored=int(np.isfinite(auc_S).sum()),
        auc_S=auc_S,
        ap_S=ap_S,
        boyce_S=boyce_S,
        top_k_accuracy=_top_k_accuracy(scores_NS, truth, top_k),
    )


def _not_finite(column: np.ndarray, species: int) -> TableError:
    return TableError(
        f"{np.count_nonzero(~np.isfinite(column))} scores are NaN or infinite for species index {species}",
        expected="finite scores",
        action="Mask missing modalities before the model, or look for a diverged training run",
    )


def _auc_ap(sorted_all: np.ndarray, sorted_positives: np.ndarray) -> tuple[float, float]:
    """Return AUC (NaN without a negative) and average precision from sorted scores."""
    num_all, num_positives = len(sorted_all), len(sorted_positives)
    below = np.searchsorted(sorted_all, sorted_positives, side="left")
    not_above = np.searchsorted(sorted_all, sorted_positives, side="right")
    own = np.searchsorted(sorted_positives, sorted_positives, side="left")
    precision = (num_positives - own) / (num_all - below)
    num_negatives = num_all - num_positives
    wins = (below + not_above).sum() / 2 - num_positives**2 / 2
    return wins / (num_positives * num_negatives) if num_negatives else np.nan, precision.mean()


def boyce_index(scores: np.ndarray, is_present: np.ndarray) -> float:
    """Return the continuous Boyce index of one species, -1 to 1: whether presences grow with the score.

    A window a tenth of the scores' range wide moves over the range in 100 steps. In each window that holds a survey,
    the ratio is the share of the presences in it over the share of all surveys in it; the index is Spearman's
    correlation of ratio and window, where of equal ratios that follow one another only the first counts. NaN where
    there are fewer than 10 presences, or all scores or ratios are equal.

    Parameters
    ----------
    scores
        (N,) finite scores.
    is_present
        (N,) whether the species was observed.

    References
    ----------
    Hirzel, Le Lay, Helfer, Randin & Guisan (2006), Evaluating the ability of habitat suitability models to predict
    species presences, doi:10.1016/j.ecolmodel.2006.05.017.

    Examples
    --------
    >>> scores = np.linspace(0, 1, 1000)
    >>> rng = np.random.default_rng(0)
    >>> round(boyce_index(scores, rng.random(1000) < scores), 1)
    1.0
    >>> round(boyce_index(scores, rng.random(1000) < 1 - scores), 1)
    -1.0
    """
    return _boyce(np.sort(scores), np.sort(scores[is_present]))


def _boyce(sorted_all: np.ndarray, sorted_positives: np.ndarray) -> float:
    low, high = float(sorted_all[0]), float(sorted_all[-1])
    if len(sorted_positives) < MIN_BOYCE_PRESENCES or low == high:
        return float("nan")
    width = (high - low) / 10
    start_W = np.linspace(low, high - width, NUM_WINDOWS)
    end_W = np.append(start_W[:-1] + width, high)
    counts = [
        np.searchsorted(values, end_W, side="right") - np.searchsorted(values, start_W, side="left")
        for values in (sorted_positives, sorted_all)
    ]
    used = counts[1] > 0
    ratio_W = counts[0][used] / counts[1][used]
    new = np.append(True, np.diff(ratio_W) != 0)
    if new.sum() < 2:
        return float("nan")
    _, place, count = np.unique(ratio_W[new], return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]  # of equal ratios the mean rank
    return float(np.corrcoef(ranks, np.arange(len(ranks)))[0, 1]) if len(count) > 1 else float("nan")


def mean_defined(values: np.ndarray) -> float:
    """Return the mean of the finite values, NaN where there is none."""
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float("nan")


def _top_k_accuracy(scores_NS: np.ndarray, truth: Lists, top_k: Sequence[int]) -> dict[int, float]:
    """Return, for each k, the share of observed pairs among the k best of their survey."""
    num_species = scores_NS.shape[1]
    deepest = min(max(top_k, default=0), num_species)
    known = truth.indices < num_species
    pair_rows, pair_species = truth.surveys()[known], truth.indices[known]

    def work(first: int, block_BS: np.ndarray) -> np.ndarray:
        pairs = slice(*np.searchsorted(pair_rows, [first, first + len(block_BS)]))
        rows, species = pair_rows[pairs] - first, pair_species[pairs]
        values = block_BS[rows, species][:, None]
        best_BK = np.sort(np.partition(block_BS, num_species - deepest, axis=1)[:, num_species - deepest :], axis=1)
        ranks = np.count_nonzero(best_BK[rows] > values, axis=1)
        tied = np.count_nonzero(best_BK[rows] == values, axis=1) > 1
        tied |= (best_BK[rows, :1] == values)[:, 0]  # the tie may go on beyond the deepest
        for i in np.flatnonzero(tied):
            ranks[i] += np.count_nonzero(block_BS[rows[i], : species[i]] == values[i])
        return np.array([np.count_nonzero(ranks < min(k, deepest)) for k in top_k])

    hits = sum(map_rows(work, scores_NS)) if deepest else np.zeros(len(top_k), int)
    return {k: int(count) / max(len(truth.indices), 1) for k, count in zip(top_k, np.atleast_1d(hits), strict=True)}
