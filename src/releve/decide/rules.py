"""Rules that turn probabilities into species lists, and their settings fitted on validation surveys.

A rule is ``rule(probs, setting) -> Lists``; ``FITS[name](probs, truth, coverage)`` finds the setting for
``RULES[name]``.
"""

# N surveys, B surveys of a block, S species, K list length, G thresholds of the grid

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from releve.decide.blocks import best_first, check_rows, lists_of_pairs, map_blocks
from releve.decide.conformal import miss_rate_threshold
from releve.decide.expected_f1 import expected_f1_sets
from releve.decide.grid import THRESHOLDS_G, binned_cells, counts_reached, log_odds, reached
from releve.errors import ConfigError
from releve.lists import Lists

Probs = np.ndarray | torch.Tensor

SHRINKAGE = 10.0
"""Observed presences at which a species' own threshold weighs as much as the global one."""


def top_k_sets(probs: Probs, k: float) -> Lists:
    """Return the ``k`` most probable species of each survey; of equals, the lower index.

    Parameters
    ----------
    probs
        (N, S) probabilities.
    k
        List length, 0 to S.

    Raises
    ------
    ConfigError
        If ``k`` is not a whole number from 0 to S.
    TableError
        If a probability is NaN or outside [0, 1].

    Examples
    --------
    >>> top_k_sets(np.array([[0.2, 0.9, 0.2]]), 2).row(0).tolist()
    [0, 1]
    """
    num_species = probs.shape[-1]
    if k != int(k) or not 0 <= k <= num_species:
        raise ConfigError(f"k is {k}", expected=f"a whole number from 0 to the {num_species} species")
    length = int(k)

    def work(first: int, block_BS: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        columns_BK = best_first(block_BS, max(length, 1))[1][:, :length]
        surveys = first + np.arange(len(block_BS)).repeat(length)
        return surveys, columns_BK.flatten().cpu().numpy()

    return lists_of_pairs(map_blocks(work, probs, probs=True), len(probs))


def threshold_sets(probs: Probs, threshold: float | np.ndarray, *, min_size: int = 1) -> Lists:
    """Return the species of each survey whose probability reaches the threshold.

    Parameters
    ----------
    probs
        (N, S) probabilities.
    threshold
        One for all species, or one for each, (S,).
    min_size
        A survey with fewer species over their threshold gets its most probable others up to this number.

    Raises
    ------
    ConfigError
        If the thresholds are NaN or of the wrong shape, or ``min_size`` is not in 0 to S.
    TableError
        If a probability is NaN or outside [0, 1].

    Examples
    --------
    >>> lists = threshold_sets(np.array([[0.2, 0.9, 0.6], [0.1, 0.0, 0.2]]), 0.5)
    >>> [lists.row(0).tolist(), lists.row(1).tolist()]
    [[1, 2], [2]]
    """
    num_species = probs.shape[-1]
    threshold = np.asarray(threshold, dtype=np.float64)
    if threshold.shape not in ((), (num_species,)) or np.isnan(threshold).any():
        raise ConfigError(
            f"thresholds of shape {threshold.shape}, {np.isnan(threshold).sum()} of them NaN",
            expected=f"one number, or one for each of the {num_species} species",
        )
    if not 0 <= min_size <= num_species:
        raise ConfigError(f"min_size is {min_size}", expected=f"0 to the {num_species} species")

    def work(first: int, block_BS: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        cut = torch.as_tensor(threshold, dtype=block_BS.dtype, device=block_BS.device)
        taken_BS = block_BS >= cut
        short = taken_BS.sum(dim=1) < min_size
        if short.any():
            over_first = block_BS[short] + 2.0 * taken_BS[short]
            fill = best_first(over_first, min_size)[1]
            taken_BS[short] = torch.zeros_like(taken_BS[short]).scatter_(1, fill, True)
        rows, columns = taken_BS.nonzero(as_tuple=True)
        return first + rows.cpu().numpy(), columns.cpu().numpy()

    return lists_of_pairs(map_blocks(work, probs, probs=True), len(probs))


RULES: dict[str, Callable[[Probs, Any], Lists]] = {
    "expected_f1": lambda probs, setting: expected_f1_sets(probs),
    "top_k": top_k_sets,
    "threshold": threshold_sets,
    "species_threshold": threshold_sets,
    "conformal": partial(threshold_sets, min_size=0),
}


def fit_top_k(probs: Probs, truth: Lists) -> int:
    """Return the list length, the same for all surveys, with the highest sF1; of equals, the shortest.

    Exact: with |T| observed species, a list of k has F1 <= 2 min(k, |T|) / (k + |T|), which falls beyond the
    richest survey, so the search ends once this bound is below the best mean found.

    Parameters
    ----------
    probs
        (N, S) probabilities of validation surveys.
    truth
        Their observed sets.

    Raises
    ------
    TableError
        If a probability is NaN or outside [0, 1], or the numbers of surveys differ or are 0.

    Examples
    --------
    >>> fit_top_k(np.array([[0.9, 0.8, 0.1], [0.7, 0.2, 0.6]]), Lists.from_rows([[0, 1], [0, 2]]))
    2
    """
    check_rows(probs, truth)
    num_species = probs.shape[1]
    observed_N = truth.lengths()
    known = truth.to_csr(num_species)
    num_best = 64
    while True:
        num_best = min(num_best, num_species)
        sizes_K = np.arange(1, num_best + 1)

        def work(first: int, block_BS: torch.Tensor, sizes_K: np.ndarray = sizes_K) -> np.ndarray:
            columns_BK = best_first(block_BS, len(sizes_K))[1].cpu().numpy()
            rows = slice(first, first + len(block_BS))
            hits_BK = np.take_along_axis(known[rows].toarray(), columns_BK, axis=1).cumsum(axis=1, dtype=np.int64)
            return (2 * hits_BK / (sizes_K + observed_N[rows, None])).sum(axis=0)

        sf1_K = np.sum(map_blocks(work, probs, probs=True), axis=0) / len(observed_N)
        best = int(sf1_K.argmax())
        longer = np.arange(num_best + 1, max(num_best + 1, observed_N.max()) + 1)
        bound = max(float((2 * np.minimum(k, observed_N) / (k + observed_N)).mean()) for k in longer)
        if num_best == num_species or bound <= sf1_K[best]:
            return best + 1
        num_best *= 4


def fit_threshold(probs: Probs, truth: Lists) -> float:
    """Return the threshold, the same for all species, with the highest sF1; of equals, the lowest.

    The best of the 1,025 of ``THRESHOLDS_G``, each scored exactly as :func:`threshold_sets` would be, with at
    least one species in a list.

    Parameters
    ----------
    probs
        (N, S) probabilities of validation surveys.
    truth
        Their observed sets.

    Raises
    ------
    TableError
        If a probability is NaN or outside [0, 1], or the numbers of surveys differ or are 0.

    Examples
    --------
    >>> probs = np.array([[0.9, 0.8, 0.1], [0.7, 0.3, 0.6]])
    >>> 0.3 < fit_threshold(probs, Lists.from_rows([[0, 1], [0, 2]])) < 0.6
    True
    """
    check_rows(probs, truth)
    known = truth.to_csr(probs.shape[1])
    observed_N = truth.lengths()

    def work(first: int, block_BS: torch.Tensor) -> np.ndarray:
        truth_BS = known[first : first + len(block_BS)].toarray()
        listed_BG, hits_BG = counts_reached(block_BS, truth_BS)
        top_B1 = best_first(block_BS, 1)[1].cpu().numpy()
        hits_BG = np.where(listed_BG > 0, hits_BG, np.take_along_axis(truth_BS, top_B1, axis=1))
        observed_B1 = observed_N[first : first + len(block_BS), None]
        return (2 * hits_BG / (np.maximum(listed_BG, 1) + observed_B1)).sum(axis=0)

    sf1_G = np.sum(map_blocks(work, probs, probs=True), axis=0)
    return float(THRESHOLDS_G[sf1_G.argmax()])


def fit_species_thresholds(probs: Probs, truth: Lists) -> np.ndarray:
    """Return a threshold for each species, (S,): its own best one, shrunk to the global one if it is rare.

    A species' own threshold maximises its F1 over the surveys (on ``THRESHOLDS_G``, the middle of the first
    range of equally good ones). With n observed presences, the threshold returned is, in log-odds,
    (n · own + 10 · global) / (n + 10), where global is :func:`fit_threshold`: a species never observed, or
    never reached by any threshold, gets the global one.

    Parameters
    ----------
    probs
        (N, S) probabilities of validation surveys.
    truth
        Their observed sets.

    Raises
    ------
    TableError
        If a probability is NaN or outside [0, 1], or the numbers of surveys differ or are 0.

    Examples
    --------
    >>> probs = np.array([[0.9, 0.2], [0.8, 0.1]] * 50)
    >>> own = fit_species_thresholds(probs, Lists.from_rows([[0, 1], [0]] * 50))
    >>> bool(0.1 < own[1] < 0.2), bool(own[0] < 0.8)
    (True, True)
    """
    general = fit_threshold(probs, truth)
    num_species, num_bins = probs.shape[1], len(THRESHOLDS_G)
    known = truth.to_csr(num_species)
    listed_SG = torch.zeros((num_species, num_bins), dtype=torch.int32)
    hits_SG = torch.zeros((num_species, num_bins), dtype=torch.int32)

    lock = threading.Lock()

    def work(first: int, block_BS: torch.Tensor) -> None:
        rows, columns, bins = binned_cells(block_BS)
        hit = known[first : first + len(block_BS)].toarray()[rows, columns] > 0
        keys = torch.from_numpy(columns * num_bins + bins)
        with lock:
            for counts_SG, found in ((listed_SG, keys), (hits_SG, keys[hit])):  # numpy's add.at is slower
                counts_SG.view(-1).scatter_add_(0, found, torch.ones(len(found), dtype=torch.int32))

    map_blocks(work, probs, probs=True)
    observed_S = np.bincount(truth.indices[truth.indices < num_species], minlength=num_species)
    reached_SG = reached(listed_SG.numpy()) + observed_S[:, None]
    f1_SG = 2 * reached(hits_SG.numpy()) / np.maximum(reached_SG, 1)
    own_S = _middle_of_best(f1_SG)
    weight_S = np.where(f1_SG.max(axis=1) > 0, observed_S, 0)
    shrunk_S = (weight_S * log_odds(own_S) + SHRINKAGE * log_odds(general)) / (weight_S + SHRINKAGE)
    return 1 / (1 + np.exp(-shrunk_S))


def _middle_of_best(f1_SG: np.ndarray) -> np.ndarray:
    """Return, for each species, the middle (in log-odds) of the first run of thresholds with the best F1."""
    best_SG = f1_SG >= f1_SG.max(axis=1, keepdims=True) - 1e-12
    first_S = best_SG.argmax(axis=1)
    ended_SG = ~best_SG & (np.arange(f1_SG.shape[1]) > first_S[:, None])
    last_S = np.where(ended_SG.any(axis=1), ended_SG.argmax(axis=1), f1_SG.shape[1]) - 1
    return THRESHOLDS_G[(first_S + last_S + 1) // 2]


FITS: dict[str, Callable[[Probs, Lists, float], float | np.ndarray | None]] = {
    "expected_f1": lambda probs, truth, coverage: None,
    "top_k": lambda probs, truth, coverage: fit_top_k(probs, truth),
    "threshold": lambda probs, truth, coverage: fit_threshold(probs, truth),
    "species_threshold": lambda probs, truth, coverage: fit_species_thresholds(probs, truth),
    "conformal": miss_rate_threshold,
}
