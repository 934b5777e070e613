"""Places as people write them: degrees as text, and coordinates that cannot be where they say."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from pyproj import Transformer

from releve.ingest.dates import as_text
from releve.ingest.reference import Cells, country_code_of

Bools = NDArray[np.bool_]
Extent = Mapping[str, float]

WORLD = {"west": -180.0, "south": -90.0, "east": 180.0, "north": 90.0}
NEAR_ZERO_DEG = 0.5
NEAR_COUNTRY_KM = 20.0
"""A place this near to a country may well name it."""
NEAR_OTHERS, NEAR_OTHERS_DEG = 4.0, 4.0
"""Places within this many quarter ranges of the middle one, and within this many degrees, belong to a study."""
LETTERS = {"lon": ("E", "W"), "lat": ("N", "S")}
"""Hemispheres, the positive one first. O is west in Spain and France and east in Germany: it is not read."""

BAD_SIZES = {
    "area_m2": "area infinite or not positive",
    "uncertainty_m": "uncertainty of the place infinite or negative",
}

_NUMBER = r"\d{1,3}(?:[.,]\d+)?"
_SECONDS = rf"(?:({_NUMBER}) *(?:[\"″”s]|'')? *)?"
_DEGREES = rf"^([NSEW])? *([+-]?{_NUMBER}) *(?:[°ºd:] *)?(?:({_NUMBER}) *(?:['m:] *)?{_SECONDS})?([NSEW])?$"
_SIGNS = r"[°ºNSEW]"


def read_degrees(column: pl.Series, axis: str, *, decimal_comma: bool = False) -> pl.Series:
    r"""Return a column of longitudes or latitudes as Float64 degrees; null where there is no number.

    Degrees, minutes and seconds are read if a degree sign or a hemisphere's letter tells that they are: ``2°21'4"E``,
    ``N 44 54.7``, ``48.5°``. A letter of the other axis, or minutes beyond 59, are no number.

    Parameters
    ----------
    column
        Text or numbers.
    axis
        ``lon`` or ``lat``.
    decimal_comma
        Whether ``2,35`` is a number.

    Examples
    --------
    >>> read_degrees(pl.Series(["2.35", "2°21'36\"W", "E 2 21.6", "48°N", "2,35"]), "lon").round(5).to_list()
    [2.35, -2.36, 2.36, None, None]
    """
    if column.dtype.is_numeric():
        return column.cast(pl.Float64).fill_nan(None)
    text = as_text(column)
    plain = text.str.replace(r"^([^,.]*),([^,.]*)$", "$1.$2") if decimal_comma else text
    degrees = plain.cast(pl.Float64, strict=False).fill_nan(None)
    signed = (degrees.is_null() & text.str.contains(_SIGNS)).fill_null(False)
    if signed.any():
        degrees = degrees.set(signed, None).zip_with(~signed, _with_minutes(text, axis))
    return degrees.alias(column.name)


def look_like_degrees(x: ArrayLike, y: ArrayLike) -> bool | None:
    """Return whether most coordinates can be degrees, exchanged or not; None if there are none.

    Examples
    --------
    >>> look_like_degrees([2.35, -3.7], [48.85, 40.4]), look_like_degrees([262750.0], [6557250.0])
    (True, False)
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    known = np.isfinite(x) & np.isfinite(y) & ~((x == 0) & (y == 0))
    if not known.any():
        return None
    return bool(np.mean((np.abs(x[known]) <= 180) & (np.abs(y[known]) <= 180)) > 0.5)


def _with_minutes(text: pl.Series, axis: str) -> pl.Series:
    names = ["before", "degrees", "minutes", "seconds", "after"]
    groups = pl.col("text").str.extract_groups(_DEGREES).struct.rename_fields(names)
    parts = text.str.replace_all("[′’]", "'").to_frame("text").select(groups).unnest("text")
    whole, minutes, seconds = (
        pl.col(name).str.replace(",", ".").cast(pl.Float64, strict=False) for name in ("degrees", "minutes", "seconds")
    )
    letter = pl.coalesce("before", "after")
    possible = (minutes.fill_null(0) < 60) & (seconds.fill_null(0) < 60) & letter.is_in(LETTERS[axis]).fill_null(True)
    size = whole.abs() + minutes.fill_null(0) / 60 + seconds.fill_null(0) / 3600
    negative = pl.col("degrees").str.starts_with("-") | (letter == LETTERS[axis][1]).fill_null(False)
    return parts.select(pl.when(possible).then(pl.when(negative).then(-size).otherwise(size)).alias("x"))["x"]


def can_be(size: str) -> pl.Expr:
    """Return where a column of ``BAD_SIZES`` can be the size of a place; null where it is not known.

    Examples
    --------
    >>> table = pl.DataFrame({"area_m2": [100.0, 0.0, float("inf"), None], "uncertainty_m": [0.0, -1.0, 5.0, None]})
    >>> table.select(can_be("area_m2"), can_be("uncertainty_m")).rows()
    [(True, True), (False, False), (False, True), (None, None)]
    """
    return pl.col(size).is_finite() & (pl.col(size) > 0 if size == "area_m2" else pl.col(size) >= 0)


def is_inside(lon: ArrayLike, lat: ArrayLike, extent: Extent) -> Bools:
    """Return which places lie within west, south, east, north; west > east crosses the antimeridian.

    Examples
    --------
    >>> is_inside([2.0, 178.0], [48.0, -17.0], {"west": 170.0, "south": -30.0, "east": -170.0, "north": 0.0}).tolist()
    [False, True]
    """
    x, y = np.asarray(lon, float), np.asarray(lat, float)
    with np.errstate(invalid="ignore"):
        if extent["west"] <= extent["east"]:
            across = (x >= extent["west"]) & (x <= extent["east"])
        else:
            across = ((x >= extent["west"]) & (x <= 180)) | ((x >= -180) & (x <= extent["east"]))
        return across & (y >= extent["south"]) & (y <= extent["north"])


def is_zero(lon: ArrayLike, lat: ArrayLike) -> Bools:
    """Return which places lie within half a degree of longitude 0, latitude 0, in the sea: nothing was entered."""
    with np.errstate(invalid="ignore"):
        return (np.abs(np.asarray(lon)) <= NEAR_ZERO_DEG) & (np.abs(np.asarray(lat)) <= NEAR_ZERO_DEG)


def to_degrees(
    x: NDArray[np.float64], y: NDArray[np.float64], crs: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return coordinates of any CRS as longitude and latitude of EPSG:4326: infinite if the CRS has no such place.

    The origin of a projection, 0 and 0, stays 0 and 0: nothing was entered.

    Examples
    --------
    >>> lon, lat = to_degrees(np.array([500000.0, 0.0]), np.array([5000000.0, 0.0]), "EPSG:32632")
    >>> lon.round(3).tolist(), lat.round(3).tolist()
    ([9.0, 0.0], [45.153, 0.0])
    """
    lon, lat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
    nothing = (x == 0) & (y == 0)
    lon, lat = (np.where(nothing, 0.0, np.where(np.isnan(x) | np.isnan(y), np.nan, axis)) for axis in (lon, lat))
    return lon, lat


def extent_of_most(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> Extent:
    """Return a box around most of the places, wide enough for what belongs to them.

    If most lie at sea or nowhere, and on land when longitude and latitude are exchanged, it is that of the exchanged
    ones.

    Examples
    --------
    Five plots around one place, and one whose coordinates are exchanged:

    >>> lon, lat = np.array([9.0, 10.0, 10.0, 10.0, 11.0, 47.5]), np.array([47.0, 48.0, 48.0, 48.0, 48.5, 10.2])
    >>> extent_of_most(lon, lat)
    {'west': 6.0, 'south': 44.0, 'east': 14.0, 'north': 52.0}
    """
    known = np.isfinite(lon) & np.isfinite(lat) & ~is_zero(lon, lat)
    lon, lat = lon[known], lat[known]
    if not len(lon):
        return WORLD
    here, there = (np.mean(Cells(*place).country_codes() > 0) for place in ((lon, lat), (lat, lon)))
    if here < 0.5 < there:
        lon, lat = lat, lon
    bounds: dict[str, float] = {}
    for values, low, high in ((lon, "west", "east"), (lat, "south", "north")):
        first, middle, third = np.quantile(values, (0.25, 0.5, 0.75))
        wide = max(NEAR_OTHERS * float(third - first), NEAR_OTHERS_DEG)
        bounds |= {low: max(float(middle) - wide, WORLD[low]), high: min(float(middle) + wide, WORLD[high])}
    return {side: bounds[side] for side in WORLD}


def extent_of_study(
    lon: NDArray[np.float64], lat: NDArray[np.float64], extent: Extent, country: pl.Series | None = None
) -> Extent:
    """Return the extent if most places lie in it, exchanged or not; else the world: a study of another region.

    Examples
    --------
    >>> europe = {"west": -32.0, "south": 26.0, "east": 36.0, "north": 73.0}
    >>> extent_of_study(np.array([-60.0, 2.35]), np.array([-3.0, 48.85]), europe) == europe
    True
    >>> extent_of_study(np.array([-60.0, -61.0, 0.0]), np.array([-3.0, -4.0, 0.0]), europe) == WORLD
    True
    """
    known = np.isfinite(lon) & np.isfinite(lat) & ~is_zero(lon, lat)
    here = is_inside(lon, lat, extent) | is_swapped(lon, lat, extent, country)
    return extent if (known & here).sum() >= known.sum() / 2 else WORLD


def is_swapped(
    lon: NDArray[np.float64],
    lat: NDArray[np.float64],
    extent: Extent,
    country: pl.Series | None = None,
    *,
    in_doubt: bool | None = None,
) -> Bools:
    """Return which places have longitude and latitude exchanged.

    They lie outside the extent, and inside when exchanged. The country that they name decides; else, if only one of
    the two places is on land, the land; else the other places: exchanged are the few that lie elsewhere than most, and
    all if more of those that can be told are exchanged than not. A study of another region is none of these.

    Parameters
    ----------
    lon, lat
        (N,) degrees; NaN is not swapped.
    extent
        west, south, east, north.
    country
        (N,) names or ISO codes; null and unknown ones say nothing.
    in_doubt
        What a place is called that neither country nor land tells; by default the other places tell.

    Examples
    --------
    Two plots in France, one of them exchanged, which is in the Indian Ocean:

    >>> europe = {"west": -32.0, "south": 26.0, "east": 36.0, "north": 73.0}
    >>> is_swapped(np.array([2.35, 48.85]), np.array([48.85, 2.35]), europe).tolist()
    [False, True]
    """
    is_in = is_inside(lon, lat, extent)
    swapped = np.zeros(len(lon), bool)
    at = np.flatnonzero(~is_in & is_inside(lat, lon, extent))
    if not len(at):
        return swapped
    here, there = (_evidence(*places, at, country) for places in ((lon, lat), (lat, lon)))
    if in_doubt is None:
        in_doubt = is_in.sum() > np.isfinite(lon).sum() / 2 or (there > here).sum() > (here > there).sum()
    swapped[at] = np.where(there == here, in_doubt, there > here)
    return swapped


def _evidence(
    lon: NDArray[np.float64], lat: NDArray[np.float64], at: NDArray[np.int64], country: pl.Series | None
) -> NDArray[np.int64]:
    """Return 2 where a place lies in or near the country that it names, else 1 on land and 0 at sea."""
    cells = Cells(lon[at], lat[at])
    on_land = cells.country_codes() > 0
    named = np.full(len(at), -1) if country is None else country_code_of(country[at]).astype(np.int64)
    near = (named > 0) & ~cells.far_from(named.astype(np.int16), named > 0, NEAR_COUNTRY_KM) & cells.valid
    return np.where(near, 2, on_land.astype(np.int64))
