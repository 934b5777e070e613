"""Doubts about an occurrence, each a column of its own: where, when, what, and how often it is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from releve.errors import TableError
from releve.ingest.dates import NO_SUCH_DAY, NO_SUCH_YEAR
from releve.ingest.ids import in_order
from releve.ingest.places import WORLD, is_inside, is_swapped, is_zero
from releve.ingest.reference import UNKNOWN, Cells, country_code_of, near_places, read_institutions, read_places
from releve.ingest.rows import OCCURRENCE_SCHEMA
from releve.prepare.config import CleanConfig

Bools = NDArray[np.bool_]


PLACE_DECIMALS = 5


KEY_COLUMNS = ("lon", "lat", "species_id")


@dataclass(frozen=True)
class _Records:
    """What the flags look at; whatever several of them need is worked out once."""

    table: pl.DataFrame
    config: CleanConfig
    extent: Mapping[str, float]

    @cached_property
    def lon(self) -> NDArray[np.float64]:
        return self.table["lon"].cast(pl.Float64).fill_null(np.nan).to_numpy()

    @cached_property
    def lat(self) -> NDArray[np.float64]:
        return self.table["lat"].cast(pl.Float64).fill_null(np.nan).to_numpy()

    @cached_property
    def cells(self) -> Cells:
        return Cells(self.lon, self.lat)

    @cached_property
    def country_codes(self) -> NDArray[np.uint8]:
        return self.cells.country_codes()

    def at(self, places: pl.DataFrame, radius_m: float) -> Bools:
        """Return which valid records lie within a radius of any of the places."""
        if self.cells.valid.all():
            return near_places(self.lon, self.lat, places, radius_m / 1000)
        near = np.zeros(len(self.lon), bool)
        valid = np.flatnonzero(self.cells.valid)
        near[valid] = near_places(self.lon[valid], self.lat[valid], places, radius_m / 1000)
        return near


def _impossible(records: _Records, lost: Bools) -> Bools:
    return ~records.cells.valid


def _zero(records: _Records, lost: Bools) -> Bools:
    return is_zero(records.lon, records.lat)


def _equal(records: _Records, lost: Bools) -> Bools:
    return records.cells.valid & (np.abs(records.lon) == np.abs(records.lat))


def _swapped(records: _Records, lost: Bools) -> Bools:
    return is_swapped(records.lon, records.lat, records.extent, records.table["country"], in_doubt=True)


def _outside(records: _Records, lost: Bools) -> Bools:
    return records.cells.valid & ~is_inside(records.lon, records.lat, records.extent)


def _sea(records: _Records, lost: Bools) -> Bools:
    return records.cells.far_from(None, records.country_codes == 0, records.config.sea_tolerance_km)


def _centroid(records: _Records, lost: Bools) -> Bools:
    return records.at(read_places("centroid"), records.config.centroid_radius_m)


def _capital(records: _Records, lost: Bools) -> Bools:
    return records.at(read_places("capital"), records.config.capital_radius_m)


def _institution(records: _Records, lost: Bools) -> Bools:
    path = records.config.institutions
    if path is None:
        return np.zeros(len(records.table), bool)
    return records.at(read_institutions(path), records.config.institution_radius_m)


def _country_mismatch(records: _Records, lost: Bools) -> Bools:
    if records.table["country"].null_count() == len(records.table):
        return np.zeros(len(records.table), bool)
    named, here = country_code_of(records.table["country"]), records.country_codes
    doubted = (named > 0) & (named != here) & (here != 0) & (here != UNKNOWN)
    return records.cells.far_from(named, doubted, records.config.border_tolerance_km)


def _uncertain(records: _Records, lost: Bools) -> Bools:
    return _expression(records, pl.col("uncertainty_m") > records.config.max_uncertainty_m)


def _no_uncertainty(records: _Records, lost: Bools) -> Bools:
    return _expression(records, pl.col("uncertainty_m").is_null() | pl.col("uncertainty_m").is_nan())


def _imprecise(records: _Records, lost: Bools) -> Bools:
    found = np.zeros(len(records.table), bool)
    steps_deg = [10.0 ** (1 - records.config.min_decimals)] if records.config.min_decimals else []
    for step_deg in steps_deg + ([records.config.grid_deg] if records.config.grid_deg else []):
        rows = np.flatnonzero(_is_multiple(records.lon, step_deg) & records.cells.valid)
        found[rows] |= _is_multiple(records.lat[rows], step_deg)
    return found


def _is_multiple(degrees: NDArray[np.float64], step_deg: float) -> Bools:
    with np.errstate(invalid="ignore"):
        steps = degrees / step_deg
        return np.abs(steps - np.rint(steps)) < 1e-6


def _bad_date(records: _Records, lost: Bools) -> Bools:
    config, year = records.config, pl.coalesce("year", pl.col("date").dt.year())
    wrong = [pl.col("date_fault").is_in([NO_SUCH_YEAR, NO_SUCH_DAY]), year < config.first_year]
    if config.last_year is not None:
        wrong.append(year > config.last_year)
    return _expression(records, pl.any_horizontal(*wrong))


def _no_date(records: _Records, lost: Bools) -> Bools:
    return _expression(records, pl.col("date").is_null() & pl.col("year").is_null())


def _not_species(records: _Records, lost: Bools) -> Bools:
    allowed = {rank.lower() for rank in records.config.taxon_ranks}
    ranks = records.table["taxon_rank"]
    others = [rank for rank in ranks.unique().drop_nulls() if rank.strip().lower() not in allowed]
    return _expression(records, pl.col("taxon_rank").is_in(pl.Series(others, dtype=pl.String).implode()))


def _expression(records: _Records, condition: pl.Expr) -> Bools:
    return records.table.select(condition.fill_null(False).alias("found"))["found"].to_numpy()


def _duplicate(records: _Records, lost: Bools) -> Bools:
    """Return all but one of the records of the same species, place and date.

    The one is the first by publisher and survey of those that no other flag drops, so that a good record is never
    lost to its bad copy; ties are settled by the other columns, so that the order of rows does not matter.
    """
    found = np.zeros(len(records.table), bool)
    known = np.flatnonzero(records.cells.valid & records.table["species_id"].is_not_null().to_numpy())
    lon, lat, species = records.lon, records.lat, records.table["species_id"].cast(pl.Int64).fill_null(0).to_numpy()
    if len(known) < len(found):
        lon, lat, species = lon[known], lat[known], species[known]
    x, y = (np.rint(degrees * 10**PLACE_DECIMALS).astype(np.int64) for degrees in (lon, lat))
    x %= 360 * 10**PLACE_DECIMALS
    # Few records share place and species, or, by chance, the mixture of the two: only those are sorted.
    few = np.flatnonzero(pl.Series(_mix(x, y, species)).is_duplicated().to_numpy())
    rows = known[few]
    copies = records.table.select(OCCURRENCE_SCHEMA.names())[rows].with_columns(
        _day_number().alias("at_day"), at_x=x[few], at_y=y[few], is_lost=lost[rows], row=rows
    )
    same = ("species_id", "at_x", "at_y", "at_day")
    first = (*same, "is_lost", "publisher")
    others = (name for name in OCCURRENCE_SCHEMA if name not in (*first, "survey_id"))
    copies = copies.sort(*first, *in_order("survey_id"), *others, nulls_last=True)
    again = pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in same).fill_null(False)
    found[copies.filter(again)["row"].to_numpy()] = True
    return found


def _day_number() -> pl.Expr:
    """Return year, month and day as one whole number, from the date or else from what is known of it."""
    whole = pl.col("date")
    parts = [pl.col(name).fill_null(0).cast(pl.Int64) for name in ("year", "month", "day")]
    given = [part.cast(pl.Int64) for part in (whole.dt.year(), whole.dt.month(), whole.dt.day())]
    numbers = [year * 10_000 + month * 100 + day for year, month, day in (given, parts)]
    return pl.coalesce(*numbers)


def _mix(*parts: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return one well mixed number for each row of whole numbers."""
    mixed = np.zeros(len(parts[0]), np.uint64)
    for part in parts:
        mixed = (mixed ^ part.view(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return mixed


@dataclass(frozen=True)
class Flag:
    """A doubt about a record."""

    description: str
    find: Callable[[_Records, Bools], Bools]
    """Which records have it; the second argument tells which an earlier flag drops."""


FLAGS: dict[str, Flag] = {
    "impossible_coordinates": Flag("a coordinate is missing, not finite or beyond 180 or 90 degrees", _impossible),
    "zero_coordinates": Flag("within half a degree of longitude 0, latitude 0", _zero),
    "equal_coordinates": Flag("longitude and latitude are the same number, but for the sign", _equal),
    "swapped_coordinates": Flag(
        "outside the extent, inside with lon and lat exchanged; country and land agree",
        _swapped,
    ),
    "outside_extent": Flag("outside the extent", _outside),
    "sea": Flag("further from land than sea_tolerance_km", _sea),
    "country_centroid": Flag("within centroid_radius_m of the centre of a country", _centroid),
    "country_mismatch": Flag(
        "in another country, further than border_tolerance_km from the one that it names", _country_mismatch
    ),
    "capital": Flag("within capital_radius_m of the centre of a capital", _capital),
    "institution": Flag("within institution_radius_m of an institution of the user's table", _institution),
    "uncertain": Flag("location uncertainty above max_uncertainty_m", _uncertain),
    "no_uncertainty": Flag("location uncertainty not given", _no_uncertainty),
    "imprecise": Flag("both coordinates have fewer than min_decimals decimals, or lie on grid_deg", _imprecise),
    "bad_date": Flag("no such day, before first_year or after last_year", _bad_date),
    "no_date": Flag("no year", _no_date),
    "not_species": Flag("of a rank other than taxon_ranks", _not_species),
    "duplicate": Flag("same species, place (5 decimals) and date as a record that is kept before it", _duplicate),
}
"""How each of ``releve.prepare.config.FLAGS`` is found, in that order."""


def flag_records(table: pl.DataFrame, config: CleanConfig, extent: Mapping[str, float] | None = None) -> pl.DataFrame:
    """Return one bool column for each of ``FLAGS``, in their order, with the rows of the table.

    A flag depends on its own row alone, except ``duplicate``.

    Parameters
    ----------
    table
        Records as of ``read_occurrences``; any value may be null or, if a number, NaN. Columns of
        ``OCCURRENCE_SCHEMA`` may be absent except lon, lat and species_id.
    config
        Limits of the flags.
    extent
        west, south, east, north in degrees, outside which there can be no record; west > east crosses the
        antimeridian. By default the whole world.

    Raises
    ------
    TableError
        If the table, or that of institutions, lacks a column.

    Examples
    --------
    A record in Paris, one in the Atlantic Ocean:

    >>> records = pl.DataFrame({"lon": [2.35221, -30.12345], "lat": [48.85661, 45.54321], "species_id": [1, 1]})
    >>> flags = flag_records(records, CleanConfig())
    >>> [name for name in flags.columns if flags[name][0]], [name for name in flags.columns if flags[name][1]]
    (['capital', 'no_uncertainty', 'no_date'], ['sea', 'no_uncertainty', 'no_date'])
    """
    lacking = [name for name in KEY_COLUMNS if name not in table.columns]
    if lacking:
        raise TableError(f"the records lack columns {lacking}; they have {table.columns}")
    absent = [pl.lit(None, dtype=kind).alias(name) for name, kind in OCCURRENCE_SCHEMA.items() if name not in table]
    records = _Records(table.with_columns(absent), config, extent or WORLD)
    lost = np.zeros(len(table), bool)
    flags = {}
    for name, flag in FLAGS.items():
        found = flag.find(records, lost)
        flags[name] = pl.Series(name, found, dtype=pl.Boolean)
        if name in config.drop:
            lost |= found
    return pl.DataFrame(flags)
