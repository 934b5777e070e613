"""Scores against observed sets: AUC, average precision, Boyce index and top-k accuracy, exactly and by blocks."""

# N surveys, S species, B surveys of a block, K list positions

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from releve.errors import TableError
from releve.metrics.lists import Lists

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class RankScores:
    """How well scores order surveys within a species and species within a survey; see :func:`rank_scores`.

    ``auc_S`` and ``ap_S`` are (S,), NaN where not defined. ``num_species_scored`` counts the species with an
    AUC. ``top_k_accuracy`` maps k to a share in [0, 1].
    """

    auc_macro: float
    ap_macro: float
    num_species_scored: int
    auc_S: np.ndarray
    ap_S: np.ndarray
    top_k_accuracy: dict[int, float]


def rank_scores(
    scores: np.ndarray | torch.Tensor, truth: Lists, *, top_k: Sequence[int] = (1, 5, 10, 20, 30)
) -> RankScores:
    """Return AUC and average precision of each species and their means, and the top-k accuracy.

    AUC is the chance that a survey with the species scores higher than one without, a tie counting one half:
    the mean rank of the presences, so that ties are handled as in scikit-learn's ``roc_auc_score``. Average
    precision is the mean, over the presences, of the precision among all surveys that score at least as high,
    equal to ``average_precision_score``. Both are defined for a species with a presence and an absence (AP
    alone for one present everywhere); the means are over the species for which they are defined, and are NaN
    where there is none. Top-k accuracy is the share of all (survey, observed species) pairs whose species is
    among the k best of its survey; a species unknown to the model is a miss; of equal scores the lower index
    comes first.

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
    scores_NS = scores if isinstance(scores, np.ndarray) else scores.detach().cpu().numpy()
    if scores_NS.ndim != 2 or len(scores_NS) != truth.num_surveys:
        raise TableError(f"scores of shape {scores_NS.shape}", expected=f"({truth.num_surveys}, species)")
    num_surveys, num_species = scores_NS.shape
    known = truth.indices < num_species
    order = np.argsort(truth.indices[known], kind="stable")
    positive_rows = truth.surveys()[known][order]
    starts = np.concatenate([[0], np.cumsum(np.bincount(truth.indices[known], minlength=num_species))])

    auc_S, ap_S = np.full(num_species, np.nan), np.full(num_species, np.nan)
    block_columns = max(1, min(256, 32_000_000 // max(num_surveys, 1)))
    for first in range(0, num_species, block_columns):
        columns = range(first, min(first + block_columns, num_species))
        block = np.ascontiguousarray(scores_NS[:, columns.start : columns.stop].T)
        _check_finite(block, first)
        for species in columns:
            rows = positive_rows[starts[species] : starts[species + 1]]
            if len(rows):
                column = block[species - first]
                auc_S[species], ap_S[species] = _auc_ap(np.sort(column), np.sort(column[rows]))
    return RankScores(
        auc_macro=_mean_defined(auc_S),
        ap_macro=_mean_defined(ap_S),
        num_species_scored=int(np.isfinite(auc_S).sum()),
        auc_S=auc_S,
        ap_S=ap_S,
        top_k_accuracy=_top_k_accuracy(scores_NS, truth, top_k),
    )


def _check_finite(block: np.ndarray, first_species: int) -> None:
    if not np.isfinite(block).all():
        raise TableError(
            f"{np.count_nonzero(~np.isfinite(block))} scores are NaN or infinite among the species from "
            f"index {first_species} on",
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


def _mean_defined(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float("nan")


def _top_k_accuracy(scores_NS: np.ndarray, truth: Lists, top_k: Sequence[int]) -> dict[int, float]:
    """Return, for each k, the share of observed pairs among the k best of their survey."""
    num_surveys, num_species = scores_NS.shape
    hits = dict.fromkeys(top_k, 0)
    deepest = min(max(top_k, default=0), num_species)
    known = truth.indices < num_species
    pair_rows, pair_species = truth.surveys()[known], truth.indices[known]
    block_rows = max(1, 8_000_000 // max(num_species, 1))
    for first in range(0, num_surveys if deepest else 0, block_rows):
        block = np.asarray(scores_NS[first : first + block_rows])
        pairs = slice(*np.searchsorted(pair_rows, [first, first + block_rows]))
        rows, species = pair_rows[pairs] - first, pair_species[pairs]
        values = block[rows, species][:, None]
        best_BK = -np.sort(np.partition(-block, deepest - 1, axis=1)[:, :deepest], axis=1)
        ranks = np.count_nonzero(best_BK[rows] > values, axis=1)
        tied = np.count_nonzero(best_BK[rows] == values, axis=1) > 1
        tied |= (best_BK[rows, -1:] == values)[:, 0]  # the tie may go on beyond the deepest
        for i in np.flatnonzero(tied):
            ranks[i] += np.count_nonzero(block[rows[i], : species[i]] == values[i])
        for k in hits:
            hits[k] += int(np.count_nonzero(ranks < min(k, deepest)))
    return {k: count / max(len(truth.indices), 1) for k, count in hits.items()}
