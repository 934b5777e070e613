"""Blocks of rows of a large table of scores, and the best species of each row in a fixed order."""

# N surveys, B surveys of a block, S species, K best species

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch

from releve.errors import TableError
from releve.lists import Lists

T = TypeVar("T")

BLOCK_CELLS = 500_000

_ONE_AT_A_TIME = threading.Lock()  # the number of threads belongs to the process, and must be put back


def map_blocks(
    function: Callable[[int, torch.Tensor], T], scores: np.ndarray | torch.Tensor, *, probs: bool = False
) -> list[T]:
    """Return ``function(first row, (B, S) float tensor)`` for each block of rows down a table, in order.

    As many blocks are worked on at once as torch may use threads, each on a single one: on a shared machine
    this is several times faster than threads within each small operation, which wait for one another. Only
    the blocks at work are read, so a memory map may be larger than memory. Half precision is widened to
    float32; integers and booleans become float64.

    Parameters
    ----------
    function
        What to do with a block. It must not change it, nor call ``map_blocks``.
    scores
        (N, S) table.
    probs
        Whether to check that the table holds probabilities.

    Raises
    ------
    TableError
        If the table is not two-dimensional or has no column, or if ``probs`` and a value is NaN or outside
        [0, 1].

    Examples
    --------
    >>> map_blocks(lambda first, block_BS: (first, float(block_BS.sum())), np.eye(3))
    [(0, 3.0)]
    """
    if scores.ndim != 2 or not scores.shape[1]:
        raise TableError(f"scores of shape {tuple(scores.shape)}", expected="(surveys, species)")
    step = max(1, BLOCK_CELLS // scores.shape[1])

    def work(first: int) -> T:
        block_BS = _as_block(scores[first : first + step])
        if probs:
            low, high = torch.aminmax(block_BS)
            if not (low >= 0 and high <= 1):  # NaN fails both
                raise _bad_probs(scores)
        return function(first, block_BS)

    with _ONE_AT_A_TIME:
        num_threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with ThreadPoolExecutor(num_threads) as pool:
                return list(pool.map(work, range(0, len(scores), step)))
        finally:
            torch.set_num_threads(num_threads)


def _as_block(block: np.ndarray | torch.Tensor) -> torch.Tensor:
    if isinstance(block, np.ndarray):
        block = torch.from_numpy(block if block.flags.writeable else block.copy())
    block = block.detach()
    if not block.is_floating_point():
        block = block.double()
    return block if block.dtype in (torch.float32, torch.float64) else block.float()


def _bad_probs(probs: np.ndarray | torch.Tensor) -> TableError:
    num_nan = num_outside = 0
    for row in probs:
        row_S = torch.as_tensor(row)
        num_nan += int(row_S.isnan().sum())
        num_outside += int(((row_S < 0) | (row_S > 1)).sum())
    return TableError(
        f"{num_nan} NaN and {num_outside} values outside 0 to 1 among {probs.shape[0]} x {probs.shape[1]} "
        "probabilities",
        expected="probabilities",
        action="Apply a sigmoid to logits; for NaN, look for a missing modality that was not masked",
    )


def best_first(scores_BS: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the ``k`` best scores of each row, best first, and their columns; of equals, the first column.

    ``torch.topk`` alone picks any of equal scores; here the same table always gives the same lists.

    Examples
    --------
    >>> best_first(torch.tensor([[0.1, 0.5, 0.5, 0.5]]), 2)[1].tolist()
    [[1, 2]]
    """
    values_BK, columns_BK = torch.topk(scores_BS, min(k + 1, scores_BS.shape[1]))
    if values_BK.shape[1] > k:
        cut = values_BK[:, k - 1]
        spilled = cut == values_BK[:, k]
        columns_BK = columns_BK[:, :k]
        if spilled.any():
            columns_BK[spilled] = _first_of_equals(scores_BS[spilled], cut[spilled, None], k)
    columns_BK = columns_BK.sort(dim=1).values
    values_BK, order_BK = scores_BS.gather(1, columns_BK).sort(dim=1, descending=True, stable=True)
    return values_BK, columns_BK.gather(1, order_BK)


def _first_of_equals(scores_BS: torch.Tensor, cut_B1: torch.Tensor, k: int) -> torch.Tensor:
    """Return (B, k) columns: all above the cut, then the first of those equal to it."""
    above_BS, equal_BS = scores_BS > cut_B1, scores_BS == cut_B1
    room_B1 = k - above_BS.sum(dim=1, keepdim=True)
    taken_BS = above_BS | (equal_BS & (equal_BS.cumsum(dim=1, dtype=torch.int32) <= room_B1))
    return taken_BS.nonzero()[:, 1].reshape(len(scores_BS), k)


def check_rows(scores: np.ndarray | torch.Tensor, truth: Lists) -> None:
    """Refuse scores to be fitted on that are not of the same surveys as the observed sets, or of none.

    Raises
    ------
    TableError
        If they are not.
    """
    if len(scores) != truth.num_surveys or not len(scores):
        raise TableError(
            f"{len(scores)} rows of scores for {truth.num_surveys} observed sets",
            expected="the same surveys, one or more, in the same order",
            action="Fit on held-out surveys: see split.num_folds and train.num_folds",
        )


def lists_of_pairs(pairs: list[tuple[np.ndarray, np.ndarray]], num_surveys: int) -> Lists:
    """Return the lists made of (survey rows, species indices) found block by block."""
    none = np.empty(0, dtype=np.int64)
    surveys, species = (np.concatenate([none, *(pair[i] for pair in pairs)]) for i in (0, 1))
    return Lists.from_pairs(surveys, species, num_surveys)
