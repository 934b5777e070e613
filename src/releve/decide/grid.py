"""The thresholds that are tried, and how many cells of each survey reach each of them."""

# N surveys, B surveys of a block, S species, G thresholds of the grid

from __future__ import annotations

import numpy as np
import torch

_log_odds = np.linspace(-1, 1, 1025) * np.log(0.9999 / 0.0001)
THRESHOLDS_G = (1 / (1 + np.exp(-_log_odds))).astype(np.float32).astype(np.float64)
"""(G,) thresholds tried, ascending, evenly spaced in log-odds from .0001 to .9999; exact in float32."""


def binned_cells(block_BS: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return row, column and index of the highest threshold reached, of the cells that reach the lowest.

    Examples
    --------
    >>> rows, columns, bins = binned_cells(torch.tensor([[0.0, 0.5, 1.0]]))
    >>> columns.tolist(), THRESHOLDS_G[bins].round(4).tolist()
    ([1, 2], [0.5, 0.9999])
    """
    rows, columns = (x.cpu().numpy() for x in (block_BS >= THRESHOLDS_G[0]).nonzero(as_tuple=True))
    values = np.minimum(block_BS.cpu().numpy()[rows, columns], THRESHOLDS_G[-1], dtype=np.float64)
    last, step = len(THRESHOLDS_G) - 1, _log_odds[1] - _log_odds[0]
    bins = ((log_odds(values) - _log_odds[0]) / step).astype(np.int64).clip(0, last)  # right, or next to it
    bins -= values < THRESHOLDS_G[bins]
    bins += (bins < last) & (values >= THRESHOLDS_G[np.minimum(bins + 1, last)])
    return rows, columns, bins


def counts_reached(block_BS: torch.Tensor, truth_BS: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how many species of each survey reach each threshold, (B, G), and how many of these are observed.

    Examples
    --------
    >>> listed_BG, hits_BG = counts_reached(torch.tensor([[0.2, 0.6, 0.9]]), np.array([[1, 0, 1]]))
    >>> at = np.searchsorted(THRESHOLDS_G, [0.1, 0.3, 0.7, 0.95])
    >>> listed_BG[0, at].tolist(), hits_BG[0, at].tolist()
    ([3, 2, 1, 0], [2, 1, 1, 0])
    """
    rows, columns, bins = binned_cells(block_BS)
    hit = truth_BS[rows, columns] > 0
    num_bins = len(THRESHOLDS_G)
    keys = rows * num_bins + bins
    listed_BG, hits_BG = (
        reached(np.bincount(found, minlength=len(truth_BS) * num_bins).reshape(-1, num_bins))
        for found in (keys, keys[hit])
    )
    return listed_BG, hits_BG


def reached(counts: np.ndarray) -> np.ndarray:
    """Return how many cells reach each threshold, from how many have it as their highest.

    Examples
    --------
    >>> reached(np.array([[5, 0, 2]])).tolist()
    [[7, 2, 2]]
    """
    return counts[:, ::-1].cumsum(axis=1, dtype=counts.dtype)[:, ::-1]


def log_odds(probs: np.ndarray | float) -> np.ndarray:
    """Return log(p / (1 - p)) of probabilities between 0 and 1.

    Examples
    --------
    >>> log_odds(0.5).item()
    0.0
    """
    return np.asarray(np.log(probs) - np.log1p(-np.asarray(probs)))
