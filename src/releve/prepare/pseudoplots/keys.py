"""Numbers that stand for records: dense codes, packed keys, and hashes that do not know the order of rows."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray


def dense_codes(values: pl.Series) -> NDArray[np.int64]:
    """Return the rank, 0 and up, of each value among the distinct values; -1 for null.

    Examples
    --------
    >>> dense_codes(pl.Series(["oak", None, "ash", "oak"])).tolist()
    [1, -1, 0, 1]
    """
    if values.dtype in (pl.Categorical, pl.Enum):
        values = values.cast(pl.String)
    distinct = values.drop_nulls().unique().sort()
    if values.dtype == pl.String:
        return values.cast(pl.Enum(distinct)).to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
    if values.null_count():
        codes = np.full(len(values), -1, np.int64)
        codes[values.is_not_null().to_numpy()] = dense_codes(values.drop_nulls())
        return codes
    return np.unique(values.to_numpy(), return_inverse=True)[1].astype(np.int64, copy=False)


def combine(*codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return one dense code for each distinct combination of codes of 0 and up.

    Examples
    --------
    >>> combine(np.array([5, 5, 9]), np.array([0, 1, 0])).tolist()
    [0, 1, 2]
    """
    key = codes[0]
    for code in codes[1:]:
        if int(key.max(initial=0)) * (int(code.max(initial=0)) + 1) > 2**61:
            key = np.unique(key, return_inverse=True)[1]
        key = key * (int(code.max(initial=0)) + 1) + code
    return np.unique(key, return_inverse=True)[1].astype(np.int64, copy=False)


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the values scattered evenly over 64 bits, one to one.

    References
    ----------
    The finaliser of SplitMix64: Steele, Lea & Flood 2014, doi:10.1145/2660193.2660195.
    """
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def hash_rows(table: pl.DataFrame, *, seed: int = 0) -> NDArray[np.uint64]:
    """Return a 64-bit hash of each row's content; it depends on neither the order of rows nor the library's version.

    Examples
    --------
    >>> rows = pl.DataFrame({"survey_id": [7, 7, 8], "publisher": ["a", "a", None]})
    >>> hashes = hash_rows(rows)
    >>> bool(hashes[0] == hashes[1]), bool(hashes[0] == hashes[2])
    (True, False)
    """
    state = mix(np.full(len(table), seed % 2**64, np.uint64))
    for column in table:
        if column.null_count() == len(column):
            continue
        if column.dtype.is_float():
            bits = (column.fill_null(np.nan).to_numpy().astype(np.float64) + 0.0).view(np.uint64)
        elif column.dtype.is_integer():
            bits = column.cast(pl.Int64).fill_null(np.iinfo(np.int64).min).to_numpy().view(np.uint64)
        else:
            bits = dense_codes(column).view(np.uint64)
        state = mix(state ^ mix(bits))
    return state


def uniform(hashes: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return numbers in [0, 1) of hashes, by their upper 53 bits."""
    return (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53


def run_starts(sorted_values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each run of equal values begins.

    Examples
    --------
    >>> run_starts(np.array([4, 4, 7, 9, 9])).tolist()
    [0, 2, 3]
    """
    new = np.ones(len(sorted_values), bool)
    new[1:] = sorted_values[1:] != sorted_values[:-1]
    return np.flatnonzero(new)
