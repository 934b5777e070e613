"""Intervals by resampling whole spatial blocks."""

# N surveys, S species, R resamples, G blocks

from __future__ import annotations

import numpy as np
import scipy.sparse

from releve.errors import TableError
from releve.lists import Lists

RESAMPLES_AT_ONCE = 100


def bootstrap_interval(
    values: np.ndarray,
    blocks: np.ndarray,
    rng: np.random.Generator,
    *,
    num_resamples: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Return the percentile interval of the mean of ``values`` when whole spatial blocks are resampled.

    Neighbouring surveys are alike; resampling them one by one would make the interval too narrow. With G
    blocks, each resample draws G of them with replacement and takes the mean of all their values.

    Parameters
    ----------
    values
        (N,) finite values, for instance ``SetScores.per_survey_f1``.
    blocks
        (N,) block of each survey: any integers or names.
    rng
        Source of the resamples.
    num_resamples
        How many resamples.
    level
        Share of the resampled means inside the interval.

    Returns
    -------
    tuple[float, float]
        The low and the high end; (NaN, NaN) with a single block, which says nothing about the spread.

    Raises
    ------
    TableError
        If a value is NaN or infinite, there is none, or the lengths differ.

    References
    ----------
    Künsch (1989), The jackknife and the bootstrap for general stationary observations, Annals of Statistics
    17, 1217-1241, doi:10.1214/aos/1176347265.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> low, high = bootstrap_interval(np.array([0.1, 0.2, 0.3, 0.4]), np.array([0, 0, 1, 1]), rng)
    >>> round(low, 2), round(high, 2)
    (0.15, 0.35)
    """
    values_N = np.asarray(values, dtype=np.float64)
    return ratio_interval(values_N, np.ones(values_N.shape), blocks, rng, num_resamples=num_resamples, level=level)


def ratio_interval(
    top: np.ndarray,
    bottom: np.ndarray,
    blocks: np.ndarray,
    rng: np.random.Generator,
    *,
    num_resamples: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Return the percentile interval of ``top.sum() / bottom.sum()`` when whole blocks are resampled.

    For instance of micro F1, with 2 x hits and listed + observed species of each survey. Parameters and exceptions
    as for :func:`bootstrap_interval`; a resample whose denominator is 0 is left out.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> low, high = ratio_interval(np.array([2.0, 0.0]), np.array([4.0, 4.0]), np.array([0, 1]), rng)
    >>> low, high
    (0.0, 0.5)
    """
    values_2N = np.stack([top, bottom]).astype(np.float64)
    if values_2N.shape != (2, len(blocks)) or not len(blocks):
        raise TableError(f"values of shape {np.shape(top)} for {len(blocks)} blocks", expected="one of each")
    if num_bad := np.count_nonzero(~np.isfinite(values_2N)):
        raise TableError(f"{num_bad} of {len(blocks)} values are NaN or infinite")
    block_of, num_blocks = _number_blocks(blocks)
    if num_blocks == 1:
        return float("nan"), float("nan")
    sums_G2 = np.stack([np.bincount(block_of, weights=values) for values in values_2N], axis=1)
    ratios = []
    chunk = max(1, 20_000_000 // num_blocks)
    for first in range(0, num_resamples, chunk):
        size = min(chunk, num_resamples - first)
        draws_RG = rng.multinomial(num_blocks, np.full(num_blocks, 1 / num_blocks), size=size)
        top_R, bottom_R = (draws_RG @ sums_G2).T
        ratios.append(top_R[bottom_R != 0] / bottom_R[bottom_R != 0])
    return percentile_interval(np.concatenate(ratios), level)


def percentile_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Return the middle part of resampled values, NaN ends where none is finite.

    Examples
    --------
    >>> percentile_interval(np.arange(5.0), 0.5)
    (1.0, 3.0)
    """
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def resample_species_f1(
    predicted: Lists,
    truth: Lists,
    num_species: int,
    blocks: np.ndarray,
    rng: np.random.Generator,
    *,
    num_resamples: int = 1000,
) -> np.ndarray:
    """Return (R, S) float32 F1 of each species, each time with other weights of the blocks; NaN where never observed.

    The mean of a row over species is one resampled macro F1. Blocks get random weights of mean 1 (the Bayesian
    bootstrap) instead of being drawn: among drawn blocks a rare species is often missing, so that the macro F1 of
    the commoner ones, which is higher, would be what the interval is of.

    Parameters
    ----------
    predicted, truth
        The lists and the observed sets of the same N surveys.
    num_species
        Number of columns of the model; species beyond it are left out.
    blocks
        (N,) block of each survey.
    rng
        Source of the weights.
    num_resamples
        How many resamples; NaN throughout with a single block.

    References
    ----------
    Rubin (1981), The Bayesian bootstrap, Annals of Statistics 9, 130-134, doi:10.1214/aos/1176345338.

    Examples
    --------
    >>> lists, truth = Lists.from_rows([[0, 1], [0]]), Lists.from_rows([[0], [0]])
    >>> f1_RS = resample_species_f1(lists, truth, 2, np.array([0, 1]), np.random.default_rng(0), num_resamples=3)
    >>> f1_RS.tolist()
    [[1.0, nan], [1.0, nan], [1.0, nan]]
    """
    block_of, num_blocks = _number_blocks(blocks)
    listed_NS, observed_NS = predicted.to_csr(num_species), truth.to_csr(num_species)
    in_block_GN = scipy.sparse.csr_matrix(
        (np.ones(len(block_of), np.float32), (block_of, np.arange(len(block_of)))), (num_blocks, len(block_of))
    )
    f1_RS = np.full((num_resamples, num_species), np.nan, np.float32)
    seen = np.flatnonzero(np.asarray(observed_NS.sum(axis=0)).ravel())
    if num_blocks == 1:
        return f1_RS
    hits_SG = (in_block_GN @ listed_NS.multiply(observed_NS).astype(np.float32)).T.tocsr()[seen]
    sizes_SG = (in_block_GN @ (listed_NS + observed_NS).astype(np.float32)).T.tocsr()[seen]
    for first in range(0, num_resamples, RESAMPLES_AT_ONCE):
        weights_GR = rng.exponential(size=(num_blocks, min(RESAMPLES_AT_ONCE, num_resamples - first)))
        weights_GR = weights_GR.astype(np.float32)
        f1_RS[first : first + RESAMPLES_AT_ONCE, seen] = (2 * (hits_SG @ weights_GR) / (sizes_SG @ weights_GR)).T
    return f1_RS


def _number_blocks(blocks: np.ndarray) -> tuple[np.ndarray, int]:
    names, block_of = np.unique(np.asarray(blocks), return_inverse=True)
    return block_of, len(names)
