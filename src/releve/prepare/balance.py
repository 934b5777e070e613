"""Deal blocks to folds so that each fold holds its share of the surveys and of every commoner species."""

# B blocks, K folds, C quantities to balance, S species

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from releve.lists import Lists

MOST_SPECIES = 500
"""The commonest species that are balanced; more cost time and change little."""
MIN_SITES_PER_FOLD = 2
MOST_PASSES = 10
MOST_PARTNERS = 2000
"""Blocks tried as partners of a swap, drawn at random where there are more."""


def deal_blocks(
    sizes_B: NDArray[np.int64], sites_BS: NDArray[np.int64], num_folds: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return the fold of each block, no fold empty, with the surveys and the sites of species spread evenly.

    Each quantity (surveys; occupied sites of a species) should be shared equally by the folds. What is minimised is
    the sum of squared relative deviations, the surveys weighing as much as all species together: blocks are dealt
    largest first to the fold where the sum grows least, then moved to another fold or swapped while that lowers it.

    Parameters
    ----------
    sizes_B
        (B,) surveys of each block, all above 0; at least as many blocks as folds.
    sites_BS
        (B, S) occupied sites of the species to balance; S may be 0.
    num_folds
        Number of folds.
    rng
        Order of the blocks and breaker of ties.

    Examples
    --------
    Two species, each in two blocks: every fold gets one block of each.

    >>> sites = np.array([[5, 0], [5, 0], [0, 5], [0, 5]])
    >>> folds = deal_blocks(np.full(4, 5), sites, 2, np.random.default_rng(0))
    >>> bool(folds[0] != folds[1]), bool(folds[2] != folds[3])
    (True, True)
    """
    share_BC = _shares(sizes_B, sites_BS, num_folds)
    square_B = (share_BC**2).sum(axis=1)
    order = rng.permutation(len(sizes_B))
    order = order[np.argsort(-sizes_B[order], kind="stable")]
    total_KC = np.zeros((num_folds, share_BC.shape[1]))
    fold_of_B = np.full(len(sizes_B), -1)
    for block in order:
        growth_K = total_KC @ share_BC[block]
        fold_of_B[block] = rng.choice(np.flatnonzero(growth_K <= growth_K.min() + 1e-12))
        total_KC[fold_of_B[block]] += share_BC[block]
    overlap_BK = share_BC @ total_KC.T

    def put(block: int, fold: int) -> None:
        step_B = share_BC @ share_BC[block]
        overlap_BK[:, fold_of_B[block]] -= step_B
        overlap_BK[:, fold] += step_B
        fold_of_B[block] = fold

    for _ in range(MOST_PASSES):
        improved = False
        for block in rng.permutation(len(sizes_B)).tolist():
            here = fold_of_B[block]
            # Half of the change of the sum when a block goes to a fold: |a|² + a·(there - here).
            move_K = square_B[block] + overlap_BK[block] - overlap_BK[block, here]
            move_K[here] = 0.0
            partners = np.flatnonzero(fold_of_B != here)
            if len(partners) > MOST_PARTNERS:
                partners = rng.choice(partners, MOST_PARTNERS, replace=False)
            theirs = fold_of_B[partners]
            back = square_B[partners] + overlap_BK[partners, here] - overlap_BK[partners, theirs]
            swap = move_K[theirs] + back - 2 * (share_BC[partners] @ share_BC[block])
            best_swap = int(swap.argmin()) if len(partners) else -1
            if best_swap >= 0 and swap[best_swap] < min(move_K.min(), -1e-9):
                fold = int(theirs[best_swap])
                put(int(partners[best_swap]), int(here))
                put(block, fold)
            elif move_K.min() < -1e-9:
                put(block, int(move_K.argmin()))
            else:
                continue
            improved = True
        if not improved:
            break
    return fold_of_B


def count_sites(labels: Lists, block_of_row: NDArray[np.int64], num_blocks: int, num_folds: int) -> NDArray[np.int64]:
    """Return (B, S) rows that hold each of the commoner species, those with two sites or more a fold.

    Examples
    --------
    >>> labels = Lists.from_rows([[0, 1], [0], [0], [0, 2]])
    >>> count_sites(labels, np.array([0, 0, 1, 1]), 2, 2).tolist()
    [[2], [2]]
    """
    counts_S = np.bincount(labels.indices)
    common = np.flatnonzero(counts_S >= MIN_SITES_PER_FOLD * num_folds)
    common = common[np.argsort(-counts_S[common], kind="stable")][:MOST_SPECIES]
    column_of = np.full(len(counts_S), -1)
    column_of[common] = np.arange(len(common))
    kept = column_of[labels.indices] >= 0
    cells = block_of_row[labels.surveys()[kept]] * len(common) + column_of[labels.indices[kept]]
    return np.bincount(cells, minlength=num_blocks * len(common)).reshape(num_blocks, len(common))


def _shares(sizes_B: NDArray[np.int64], sites_BS: NDArray[np.int64], num_folds: int) -> NDArray[np.float64]:
    """Return (B, C) each block's part of a fold's equal share of the surveys, then of each species, weighted."""
    quantities_BC = np.column_stack([sizes_B, sites_BS]).astype(np.float64)
    share_BC = quantities_BC * num_folds / quantities_BC.sum(axis=0)
    share_BC[:, 0] *= np.sqrt(max(sites_BS.shape[1], 1))
    return share_BC
