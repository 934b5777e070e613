"""How much more often one model than another ranks places with a species above those without, with an interval."""

# N surveys, S species, G blocks, P places with a species, M places without, R resamples

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from releve.lists import Lists

MOST_SPECIES = 200
"""Of more species with an AUC, so many are drawn."""


class Difference(NamedTuple):
    """A difference and its interval; NaN where it is not defined."""

    gain: float
    low: float
    high: float


def auc_difference(
    ours: torch.Tensor | NDArray,
    theirs: torch.Tensor | NDArray,
    truth: Lists,
    folds: NDArray[np.integer],
    blocks: NDArray[np.integer],
    rng: np.random.Generator,
    *,
    num_resamples: int = 1000,
    level: float = 0.95,
) -> Difference:
    """Return the mean AUC over species of one model minus another's, when whole spatial blocks are resampled.

    The AUC of a species is the share of pairs of a place with it and one without, of the same fold, in which the first
    has the higher score; a tie counts half. How often it is won is counted once for each pair of blocks, and a
    resample that draws a block w times counts pairs of two blocks by the product of their w.

    Parameters
    ----------
    ours, theirs
        (N, S) scores of the same surveys by two models.
    truth
        The observed sets.
    folds
        (N,) surveys of different folds were scored by different models, and are not compared.
    blocks
        (N,) block of each survey.
    rng
        Draws the resamples, and of more than 200 species those that are compared.
    num_resamples, level
        How many resamples, and the share of them inside the interval.

    References
    ----------
    Hanley & McNeil (1982), doi:10.1148/radiology.143.1.7063747: the AUC as a share of pairs.

    Examples
    --------
    >>> truth, blocks = Lists.from_rows([[0], [], [0], []]), np.arange(4)
    >>> ours, theirs = np.array([[0.9], [0.1], [0.8], [0.2]]), np.array([[0.9], [0.1], [0.2], [0.8]])
    >>> auc_difference(ours, theirs, truth, np.zeros(4), blocks, np.random.default_rng(0)).gain
    0.25
    """
    gain_R = auc_differences(ours, theirs, truth, folds, blocks, rng, num_resamples=num_resamples)
    return summarise(gain_R, len(np.unique(blocks)), level=level)


def auc_differences(
    ours: torch.Tensor | NDArray,
    theirs: torch.Tensor | NDArray,
    truth: Lists,
    folds: NDArray[np.integer],
    blocks: NDArray[np.integer],
    rng: np.random.Generator,
    *,
    num_resamples: int = 1000,
) -> NDArray[np.float64]:
    """Return (R + 1,) what :func:`auc_difference` is made of: the difference, then that of each resample; NaN for none.

    Those of several pairs of tables can be averaged one by one, if all get a generator in the same state.
    """
    known_NS = truth.to_csr(ours.shape[1]).tocsc()
    counts_S = np.diff(known_NS.indptr)
    species = np.flatnonzero((counts_S > 0) & (counts_S < len(blocks)))
    if len(species) > MOST_SPECIES:
        species = np.sort(rng.choice(species, MOST_SPECIES, replace=False))
    block_of, num_blocks = np.unique(blocks, return_inverse=True)[1], len(np.unique(blocks))
    weights_RG = np.vstack(
        [np.ones(num_blocks), rng.multinomial(num_blocks, np.full(num_blocks, 1 / num_blocks), num_resamples)]
    )
    total_R, count_R = np.zeros(num_resamples + 1), np.zeros(num_resamples + 1)
    for at in species.tolist():
        has_N = np.zeros(len(blocks), bool)
        has_N[known_NS.indices[known_NS.indptr[at] : known_NS.indptr[at + 1]]] = True
        ours_N, theirs_N = (np.asarray(table[:, at], np.float64) for table in (ours, theirs))
        gain_R = _gain_of_species(ours_N, theirs_N, has_N, np.asarray(folds), block_of, weights_RG)
        defined = np.isfinite(gain_R)
        total_R[defined] += gain_R[defined]
        count_R += defined
    return np.divide(total_R, count_R, out=np.full(len(total_R), np.nan), where=count_R > 0)


def summarise(gain_R: NDArray[np.float64], num_blocks: int, *, level: float = 0.95) -> Difference:
    """Return the difference and its interval, of what :func:`auc_differences` returns for so many blocks."""
    drawn = gain_R[1:][np.isfinite(gain_R[1:])]
    if num_blocks < 2 or not len(drawn):
        return Difference(float(gain_R[0]), float("nan"), float("nan"))
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Difference(float(gain_R[0]), float(low), float(high))


def _gain_of_species(
    ours_N: NDArray, theirs_N: NDArray, has_N: NDArray[np.bool_], folds: NDArray, block_of: NDArray, weights_RG: NDArray
) -> NDArray[np.float64]:
    """Return (R,) the difference in AUC, the mean over the folds that define one; NaN where none does."""
    total_R, count_R = np.zeros(len(weights_RG)), np.zeros(len(weights_RG))
    for fold in np.unique(folds[has_N]):
        inside = folds == fold
        with_P, without_M = np.flatnonzero(has_N & inside), np.flatnonzero(~has_N & inside)
        if not len(without_M):
            continue
        here_P, there_M = block_of[with_P], block_of[without_M]
        wins = [_wins(scores[with_P], scores[without_M], here_P, there_M) for scores in (ours_N, theirs_N)]
        blocks_with, blocks_without = np.unique(here_P), np.unique(there_M)
        weight_with, weight_without = weights_RG[:, blocks_with], weights_RG[:, blocks_without]
        won_R = np.einsum("ra,ab,rb->r", weight_with, wins[0] - wins[1], weight_without, optimize=True)
        pairs_R = (weight_with @ np.bincount(here_P)[blocks_with]) * (
            weight_without @ np.bincount(there_M)[blocks_without]
        )
        defined = pairs_R > 0
        total_R[defined] += won_R[defined] / pairs_R[defined]
        count_R += defined
    return np.divide(total_R, count_R, out=np.full(len(total_R), np.nan), where=count_R > 0)


def _wins(scores_P: NDArray, scores_M: NDArray, here_P: NDArray, there_M: NDArray) -> NDArray[np.float64]:
    """Return (blocks with, blocks without) the pairs that are won."""
    blocks_with, row_P = np.unique(here_P, return_inverse=True)
    columns = []
    for block in np.unique(there_M):
        ordered = np.sort(scores_M[there_M == block])
        won_P = (np.searchsorted(ordered, scores_P, "left") + np.searchsorted(ordered, scores_P, "right")) / 2
        columns.append(np.bincount(row_P, won_P, len(blocks_with)))
    return np.column_stack(columns)
