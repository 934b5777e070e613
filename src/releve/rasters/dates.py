"""When the bands of a cube were: the time axis of NetCDF and Zarr, as GDAL hands it on."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta

from rasterio.io import DatasetReader

from releve.errors import RasterError

SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_SINCE = re.compile(r"(second|minute|hour|day)s? since (\d{1,4})-(\d{1,2})-(\d{1,2})(?:[T ](\d{1,2}):?(\d{2})?.*)?")
FIXED_YEARS = {"noleap": 365, "365_day": 365, "360_day": 360, "all_leap": 366, "366_day": 366}
"""Calendars whose years are all of one length -> days."""


def band_steps(dataset: DatasetReader, first_year: int, num_years: int, num_seasons: int) -> dict[int, int] | None:
    """Return, for the bands that lie in some years, year * seasons + season; None if the bands say no time.

    Raises
    ------
    RasterError
        If the time is in units that are not understood, or two bands lie in one season.
    """
    steps: dict[int, int] = {}
    for band in dataset.indexes:
        tags = dataset.tags(band)
        value = tags.get("NETCDF_DIM_time", tags.get("DIM_time_VALUE"))
        if value is None:
            return None
        units = tags.get("DIM_time_UNIT", dataset.tags().get("time#units", ""))
        calendar = dataset.tags().get("time#calendar", "standard")
        year, month = year_and_month(float(value), units, calendar)
        if not first_year <= year < first_year + num_years:
            continue
        step = (year - first_year) * num_seasons + (month - 1) * num_seasons // 12
        if step in steps.values():
            raise RasterError(
                f"{dataset.name} has two bands in one season, {year}-{month:02d}",
                expected=f"{num_seasons} steps a year",
                action="Average them first",
            )
        steps[band] = step
    return steps


def year_and_month(value: float, units: str, calendar: str = "standard") -> tuple[int, int]:
    """Return year and month (from 1) of a time as the CF conventions write it.

    Raises
    ------
    RasterError
        If the units are not understood.

    Examples
    --------
    >>> year_and_month(59.5, "days since 2000-01-01"), year_and_month(59.5, "days since 2001-01-01")
    ((2000, 2), (2001, 3))
    >>> year_and_month(45, "days since 2000-01-01 00:00:00", "360_day")
    (2000, 2)
    """
    since = _SINCE.fullmatch(units.strip())
    if not since:
        raise RasterError(f"a time axis in {units!r}", expected='units such as "days since 1900-01-01"')
    year, month, day = int(since[2]), int(since[3]), int(since[4])
    hours = int(since[5] or 0) + int(since[6] or 0) / 60
    days = value * SECONDS[since[1]] / 86400 + hours / 24
    if calendar not in FIXED_YEARS:
        date = datetime(year, month, day) + timedelta(days=days)
        return date.year, date.month
    length = FIXED_YEARS[calendar]
    ends = [30 * (i + 1) for i in range(12)] if length == 360 else _month_ends(leap=length == 366)
    day_of_year = days + day - 1 + (ends[month - 2] if month > 1 else 0)
    return year + math.floor(day_of_year / length), 1 + next(i for i in range(12) if day_of_year % length < ends[i])


def _month_ends(*, leap: bool) -> list[int]:
    return [datetime(2000 if leap else 2001, month, 1).timetuple().tm_yday - 1 for month in range(2, 13)] + [365 + leap]
