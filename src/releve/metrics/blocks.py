"""Blocks of rows or of columns of a table of scores that may be larger than memory."""

# N surveys, B surveys of a block, S species, C species of a block

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from releve.errors import TableError
from releve.lists import Lists

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

NUM_THREADS = 2
ROW_CELLS = 500_000
"""Cells of a block of rows: small enough for the processor's cache."""
COLUMN_CELLS = 32_000_000
MAPPED_CELLS = 200_000_000
"""Cells of a block of columns. From a file each block costs one pass over the whole, so the blocks are larger."""
COPIED_ROWS = 256


def as_table(scores: np.ndarray | torch.Tensor, truth: Lists) -> np.ndarray:
    """Return (N, S) scores as an array, a memory map as it is.

    Raises
    ------
    TableError
        If the table is not two-dimensional, or has another number of rows than there are observed sets.
    """
    scores_NS = scores if isinstance(scores, np.ndarray) else scores.detach().cpu().numpy()
    if scores_NS.ndim != 2 or len(scores_NS) != truth.num_surveys:
        raise TableError(f"scores of shape {scores_NS.shape}", expected=f"({truth.num_surveys}, species)")
    return scores_NS


def map_rows(function: Callable[[int, np.ndarray], T], scores_NS: np.ndarray) -> Iterator[T]:
    """Yield ``function(first row, (B, S) floats)`` for each block of rows, in order, two blocks at a time.

    Half precision, integers and booleans are widened to float32 or float64. The pages of a memory map are let go
    of after each block.

    Examples
    --------
    >>> list(map_rows(lambda first, block_BS: (first, float(block_BS.sum())), np.eye(3)))
    [(0, 3.0)]
    """
    step = max(1, ROW_CELLS // max(scores_NS.shape[1], 1))

    def work(first: int) -> T:
        found = function(first, _as_floats(np.asarray(scores_NS[first : first + step])))
        release_pages(scores_NS)
        return found

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        firsts = range(0, len(scores_NS), step)
        for start in range(0, len(firsts), 64):  # so that no more results wait than are soon added up
            yield from pool.map(work, firsts[start : start + 64])


def column_blocks(scores_NS: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the first species and the (C, N) floats of each block of columns, contiguous along the surveys.

    Examples
    --------
    >>> [(first, block_CN.tolist()) for first, block_CN in column_blocks(np.array([[1.0, 2.0], [3.0, 4.0]]))]
    [(0, [[1.0, 3.0], [2.0, 4.0]])]
    """
    num_surveys, num_species = scores_NS.shape
    cells = MAPPED_CELLS if _mapped(scores_NS) else COLUMN_CELLS
    width = max(1, cells // max(num_surveys, 1))
    for first in range(0, num_species, width):
        columns = slice(first, min(first + width, num_species))
        block_CN = np.empty((columns.stop - first, num_surveys), _as_floats(scores_NS[:0]).dtype)
        for start in range(0, num_surveys, COPIED_ROWS):
            block_CN[:, start : start + COPIED_ROWS] = scores_NS[start : start + COPIED_ROWS, columns].T
            release_pages(scores_NS)
        yield first, block_CN


def release_pages(scores_NS: np.ndarray) -> None:
    """Let go of what was read of a memory map, so that it does not count as this process's memory.

    The values stay in the system's cache or on disk. Private copies (mode ``c``) are kept, as they may be changed.
    """
    if (opened := _mapped(scores_NS)) is not None and hasattr(mmap, "MADV_DONTNEED"):
        opened.madvise(mmap.MADV_DONTNEED)


def _mapped(array: np.ndarray) -> mmap.mmap | None:
    """Return the shared map that an array, or what it is a view of, reads from."""
    base: object = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap) and base.mode == "c":
            return None
        base = base.base
    return base if isinstance(base, mmap.mmap) else None


def _as_floats(block: np.ndarray) -> np.ndarray:
    if block.dtype in (np.float32, np.float64):
        return block
    return block.astype(np.float32 if block.dtype.kind == "f" else np.float64)
