"""Vegetation indices of satellite series: level, season and trend of each place."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

BANDS = ("red", "green", "blue", "nir", "swir1", "swir2")
INDICES = {"ndvi": ("nir", "red"), "ndwi": ("nir", "swir1")}
"""Each index is (a - b) / (a + b) of two bands."""
MAX_VALUE = 255
CHUNK_ROWS = 8192


def seasonal_indices(
    cubes: NDArray[np.int16],
    first_year: int,
    *,
    year: NDArray[np.int64] | None = None,
    month: NDArray[np.int64] | None = None,
) -> pl.DataFrame:
    """Return NDVI and NDWI of each series: mean by quarter, amplitude over the quarters, trend a year.

    ``ndvi_q1`` ... ``ndvi_q4`` are means over the years; ``ndvi_amplitude`` is the largest less the smallest of them,
    if all four are known; ``ndvi_trend_per_year`` is the least-squares slope over the years of the departures from
    the quarter's mean, so that a gap in one quarter does not pass for a trend. The same for ``ndwi``.
    ``num_ndvi_steps`` and ``num_ndwi_steps`` count what these rest on. Float32; null where nothing is valid.

    Parameters
    ----------
    cubes
        (N, 6, years, 4): red, green, blue, nir, swir1, swir2; 0 to 255, anything else is missing.
    first_year
        Calendar year of the first step.
    year, month
        (N,) date of each survey; later steps, and the quarter that had not ended, are not looked at. A month of 0
        stands for an unknown one, which counts as January. By default all steps are.

    Raises
    ------
    ValueError
        If the cubes do not have six bands and four quarters.

    References
    ----------
    Tucker 1979, doi:10.1016/0034-4257(79)90013-0: NDVI = (nir - red) / (nir + red).
    Gao 1996, doi:10.1016/S0034-4257(96)00067-3: NDWI = (nir - swir) / (nir + swir), the water of the canopy, here
    with swir1 (1.6 micrometres); not McFeeters' (1996) index of open water, (green - nir) / (green + nir).

    Examples
    --------
    Two years, green in the second quarter only:

    >>> cube = np.full((1, 6, 2, 4), 50, np.int16)
    >>> cube[0, 3, :, 1] = 150
    >>> seasonal_indices(cube, 2019).select("ndvi_q1", "ndvi_q2", "ndvi_amplitude", "ndvi_trend_per_year").row(0)
    (0.0, 0.5, 0.5, 0.0)
    """
    cubes = np.asarray(cubes)
    if cubes.ndim != 4 or cubes.shape[1] != len(BANDS) or cubes.shape[3] != 4:
        raise ValueError(f"cubes have shape {cubes.shape}, expected (N, 6, years, 4)")
    parts: dict[str, list[NDArray[np.float32]]] = {}
    for start in range(0, max(len(cubes), 1), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        chunk = cubes[rows].astype(np.float32)
        chunk[(chunk < 0) | (chunk > MAX_VALUE)] = np.nan
        if year is not None:
            visible = _visible(year[rows], None if month is None else month[rows], first_year, chunk.shape[2])
            chunk[~np.broadcast_to(visible[:, None], chunk.shape)] = np.nan
        for name, bands in INDICES.items():
            a, b = (chunk[:, BANDS.index(band)] for band in bands)
            for column, values in _summarise(a, b).items():
                parts.setdefault(column.format(name), []).append(values)
    table = pl.DataFrame({name: np.concatenate(values) for name, values in parts.items()})
    counts = [pl.col(name).cast(pl.Int16) for name in table.columns if name.startswith("num_")]
    return table.fill_nan(None).with_columns(counts)


def _visible(
    year: NDArray[np.int64], month: NDArray[np.int64] | None, first_year: int, num_years: int
) -> NDArray[np.bool_]:
    """Return (N, years, 4): the step had ended before the survey's month began."""
    month = np.ones_like(year) if month is None else np.maximum(month, 1)
    step_year = first_year + np.arange(num_years)[None, :, None]
    end_month = 3 * np.arange(1, 5)[None, None, :]
    before = step_year < year[:, None, None]
    return before | ((step_year == year[:, None, None]) & (end_month < month[:, None, None]))


def _summarise(a: NDArray[np.float32], b: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Return the columns of one index from its two bands, each (N, years, 4)."""
    total = a + b
    index = np.divide(a - b, total, out=np.full_like(total, np.nan), where=total > 0)
    known = np.isfinite(index)
    num_known = known.sum(axis=1)  # N, 4
    quarter_mean = _ratio(np.where(known, index, 0).sum(axis=1), num_known)
    years = np.arange(index.shape[1], dtype=np.float32)[None, :, None]
    mean_year = _ratio(np.where(known, years, 0).sum(axis=1), num_known)
    from_mean = np.where(known, years - mean_year[:, None], 0)
    slope = _ratio(
        (from_mean * np.where(known, index - quarter_mean[:, None], 0)).sum(axis=(1, 2)),
        (from_mean**2).sum(axis=(1, 2)),
    )
    columns = {f"{{}}_q{quarter + 1}": quarter_mean[:, quarter] for quarter in range(4)}
    columns["{}_amplitude"] = quarter_mean.max(axis=1) - quarter_mean.min(axis=1)  # NaN if any quarter is
    columns["{}_trend_per_year"] = slope
    columns["num_{}_steps"] = num_known.sum(axis=1).astype(np.float32)
    return columns


def _ratio(a: NDArray[np.float32], b: NDArray) -> NDArray[np.float32]:
    return np.divide(a, b, out=np.full(a.shape, np.nan, np.float32), where=b > 0)
