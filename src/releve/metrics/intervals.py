"""Intervals by resampling whole spatial blocks."""

# N surveys, S species, R resamples, G blocks

from __future__ import annotations

import numpy as np

from releve.errors import TableError


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
    if values_N.shape != (len(blocks),) or not len(values_N):
        raise TableError(f"values of shape {values_N.shape} for {len(blocks)} blocks", expected="one of each")
    if not np.isfinite(values_N).all():
        raise TableError(f"{np.count_nonzero(~np.isfinite(values_N))} of {len(values_N)} values are NaN")
    names, block_of = np.unique(np.asarray(blocks), return_inverse=True)
    num_blocks = len(names)
    if num_blocks == 1:
        return float("nan"), float("nan")
    sums_G = np.bincount(block_of, weights=values_N)
    sizes_G = np.bincount(block_of)
    means = []
    chunk = max(1, 20_000_000 // num_blocks)
    for first in range(0, num_resamples, chunk):
        size = min(chunk, num_resamples - first)
        draws_RG = rng.multinomial(num_blocks, np.full(num_blocks, 1 / num_blocks), size=size)
        means.append((draws_RG @ sums_G) / (draws_RG @ sizes_G))
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
