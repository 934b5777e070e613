"""The rows of a split's table: ids, places, dates, species, and what speaks against a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from releve.errors import ReleaseError
from releve.ingest.dates import FAULTS, date_parts
from releve.ingest.ids import clean_ids, id_number
from releve.ingest.layouts import Layout, Split
from releve.ingest.places import BAD_SIZES, WORLD, can_be, extent_of_most, is_swapped, is_zero, read_degrees, to_degrees
from releve.ingest.presence import UNKNOWN_STATUS, is_unknown_status, why_no_presence
from releve.ingest.refused import Refused
from releve.ingest.sheets import Sheet
from releve.ingest.study import Source

_SURVEY: dict[str, type[pl.DataType]] = {
    "survey_id": pl.String,
    "lon": pl.Float64,
    "lat": pl.Float64,
    "year": pl.Int32,
    "month": pl.Int32,
    "day": pl.Int32,
    "country": pl.String,
    "region": pl.String,
    "publisher": pl.String,
    "area_m2": pl.Float64,
    "uncertainty_m": pl.Float64,
    "series_id": pl.String,
    "patch_id": pl.String,
}
SURVEY_SCHEMA = pl.Schema(_SURVEY)
OCCURRENCE_SCHEMA = pl.Schema(
    _SURVEY | {"species_id": pl.Int64, "taxon_rank": pl.String, "date": pl.Date, "date_fault": pl.String}
)
VISIT = ("survey_id", "lon", "lat", "year", "month", "day")
"""What tells a survey from all others: an id alone may be of another release, or have several dates."""
IDS = ("survey_id", "series_id", "patch_id")
DATES = ("year", "month", "day", "date")

NO_ID = "no survey id"
NO_PLACE = "no coordinates"
BAD_PLACE = "coordinates out of range"
NO_NUMBER = {
    "lon": "longitude is no number",
    "lat": "latitude is no number",
    "area_m2": "area is no number, taken as missing",
    "uncertainty_m": "uncertainty of the place is no number, taken as missing",
}
AT_ZERO = "plot at longitude 0, latitude 0"
EQUAL = "plot whose longitude and latitude are the same number"
SWAPPED = "plot with longitude and latitude exchanged"

_ONE_ID = r"\d+(?:\.0+)?"
_SEVERAL_IDS = rf"^{_ONE_ID}(?:[\s,;|]+{_ONE_ID})+$"
_WITH_DECIMAL_COMMAS = r"^\d+(?:,0+)?(?:[\s;|]+\d+(?:,0+)?)*$"
MAX_SPECIES_ID = 2**53


@dataclass(frozen=True)
class Rows:
    """The rows of a split's table that have an id and a place."""

    table: pl.DataFrame
    """row, the columns of ``OCCURRENCE_SCHEMA``, why_not; a row for each species of a cell that lists several.

    ``why_not`` says why a row is no presence; it then has no species.
    """
    dropped: Refused
    mended: Refused


def read_rows(source: Source, split: str) -> Rows:
    """Return the rows of a split's tables, what was left out and what was mended.

    Raises
    ------
    ReleveError
        If a table cannot be read, lacks a column, has longitude and latitude exchanged, or species that are no ids.
    """
    rules, layout = source.split_rules(split), source.rules
    dropped, mended, parts = Refused(), Refused(), []
    sheets = source.sheets(split)
    for sheet in sheets:
        dropped.add(sheet.text.dropped, sheet.text.examples)
        mended.add(sheet.text.noted, sheet.text.examples)
        parts.append(_read_sheet(sheet, rules, mended))
    table = pl.concat(parts, how="diagonal_relaxed") if len(parts) > 1 else parts[0]
    if layout.extent is None:
        layout = replace(layout, extent=extent_of_most(*(table[axis].to_numpy() for axis in ("lon", "lat"))))
    _refuse_swapped(table, sheets, layout)
    for name, reason in BAD_SIZES.items():
        mended.note(reason, table.filter(~can_be(name)))
    for fault in FAULTS:
        mended.note(fault, table.filter(pl.col("date_fault") == fault))
    if "occurrence_status" in table.columns:
        strange = table.filter(is_unknown_status())
        mended.note(UNKNOWN_STATUS, strange.with_columns(cell="occurrence_status"))
    table = _typed(table, rules.same_survey)
    table = dropped.keep(table, pl.col("survey_id").is_not_null(), NO_ID)
    for axis in ("lon", "lat"):
        is_word = pl.col(f"{axis}_word").is_not_null()
        dropped.note(NO_NUMBER[axis], table.filter(is_word).rename({f"{axis}_word": "cell"}))
        table = table.filter(~is_word)
    table = dropped.keep(table, pl.all_horizontal(pl.col("lon", "lat").is_not_null()), NO_PLACE)
    in_range = pl.col("lon").is_between(-180, 180) & pl.col("lat").is_between(-90, 90)
    table = dropped.keep(table, in_range, BAD_PLACE)
    if rules.labelled and not rules.presence_only:
        table = _leave_out_misplaced(table, layout, dropped)
    return Rows(table.select("row", *OCCURRENCE_SCHEMA, "why_not"), dropped, mended)


def _read_sheet(sheet: Sheet, rules: Split, mended: Refused) -> pl.DataFrame:
    """Return the rows of a table, their places, dates and species in their types."""
    table = _read_cells(sheet, mended)
    if rules.subset:
        table = table.filter(pl.col("subset").str.to_lowercase() == rules.subset)
    if "species_id" in sheet.columns:
        decimal_comma = sheet.text.separator != ","
        table = one_species_a_row(table, sheet.called["species_id"], sheet.origin, decimal_comma=decimal_comma)
    table = table.drop(name for name in DATES if name in table.columns).hstack(date_parts(table))
    return table.with_columns(date_fault=pl.col("fault").cast(pl.String))


def _read_cells(sheet: Sheet, mended: Refused) -> pl.DataFrame:
    """Return the columns by what they mean: numbers, ids, and all others as text; of places also what is no number."""
    text, columns = sheet.text, sheet.columns
    decimal_comma = text.separator != ","
    table = text.cells.select(pl.col(old).alias(new) for new, old in columns.items()).with_columns(row=text.rows)
    table = table.with_columns(clean_ids(table[name]).alias(name) for name in IDS if name in columns)
    for axis in ("lon", "lat"):
        degrees = read_degrees(table[axis], axis, decimal_comma=decimal_comma)
        words = table[axis].set(degrees.is_not_null(), None).cast(pl.String).alias(f"{axis}_word")
        table = table.with_columns(degrees.alias(axis), words)
    if sheet.crs is not None:
        x, y = (table[axis].fill_null(np.nan).to_numpy() for axis in ("lon", "lat"))
        lon, lat = to_degrees(x, y, sheet.crs)
        table = table.with_columns(lon=pl.Series(lon).fill_nan(None), lat=pl.Series(lat).fill_nan(None))
    for name in BAD_SIZES:
        if name not in columns:
            table = table.with_columns(pl.lit(None, pl.Float64).alias(name))
            continue
        values = text.cells.select(text.number(columns[name])).to_series()
        cells = table.select("row", cell=table[name].set(values.is_not_null(), None))
        mended.note(NO_NUMBER[name], cells.drop_nulls("cell"))
        table = table.with_columns(values.alias(name))
    return table


def one_species_a_row(table: pl.DataFrame, column: str, path: str, *, decimal_comma: bool) -> pl.DataFrame:
    """Return a table with ``species_id`` as Int64 ids, with a row for each one of a list in a cell.

    Parameters
    ----------
    table
        row (its number in the file) and species_id, as text.
    column, path
        What the species' column and the file are called, for a message.
    decimal_comma
        Whether ``12,0`` is species 12, or else species 12 and 0.

    Raises
    ------
    ReleaseError
        If some are no ids: a set of species without them would be half a set.
    """
    if decimal_comma:
        whole = pl.col("species_id").str.replace_all(r",0+($|[\s;|])", "$1")
        has_decimals = pl.col("species_id").str.contains(_WITH_DECIMAL_COMMAS)
        table = table.with_columns(species_id=pl.when(has_decimals).then(whole).otherwise("species_id"))
    several = pl.col("species_id").str.contains(_SEVERAL_IDS)
    if table.select(several.any()).item():
        lists = pl.when(several).then(pl.col("species_id").str.replace_all(r"[\s,;|]+", " "))
        table = table.with_columns(lists.otherwise("species_id").str.split(" ").alias("several"), is_list=several)
        table = table.with_row_index("at")
        listed = table.filter("is_list").drop("species_id").explode("several").rename({"several": "species_id"})
        others = table.filter(~pl.col("is_list").fill_null(False)).drop("several")
        table = pl.concat([listed.select(others.columns), others]).sort("at", maintain_order=True).drop("at", "is_list")
    number = pl.col("species_id").cast(pl.Float64, strict=False)
    is_id = (number == number.floor()) & number.is_between(0, MAX_SPECIES_ID)
    words = table.filter(pl.col("species_id").is_not_null() & ~is_id.fill_null(False))
    if len(words):
        num_ids = int(table.select(is_id.sum()).item())
        raise ReleaseError(
            f"{path}: column {column!r} has {num_ids} ids and {len(words)} cells that are none, such as "
            f"{words['species_id'].unique(maintain_order=True).head(3).to_list()} in row {words['row'][0]}",
            expected="a whole number for each species",
            action="Number all species, names as well, or remove these rows",
        )
    return table.with_columns(number.cast(pl.Int64).alias("species_id"))


def _typed(table: pl.DataFrame, same_survey: tuple[str, ...]) -> pl.DataFrame:
    """Return a table of cells with the columns of ``OCCURRENCE_SCHEMA``, and why a row is no presence."""
    table = table.with_columns(why_no_presence(table.columns))
    same = [f"same_{at}" for at in range(len(same_survey))]
    if same and set(same) <= set(table.columns):
        # The first as of in_order: the least number, or, where there is none, the first by its letters.
        first = pl.coalesce(id_number("survey_id").min().cast(pl.String), pl.col("survey_id").min()).over(same)
        is_known = pl.all_horizontal(pl.col(same).is_not_null()) & first.is_not_null()
        table = table.with_columns(survey_id=pl.when(is_known).then(first).otherwise("survey_id"))
    absent = [name for name in OCCURRENCE_SCHEMA if name not in table.columns]
    table = table.with_columns(
        pl.lit(None, OCCURRENCE_SCHEMA[name]).alias(name)
        if name not in ("series_id", "patch_id")
        else pl.col("survey_id").alias(name)
        for name in absent
    )
    return table.with_columns(
        pl.when(pl.col("why_not").is_null()).then(pl.col("species_id").cast(pl.Int64)).alias("species_id"),
        *(pl.when(can_be(name)).then(name).alias(name) for name in BAD_SIZES),
    )


def _refuse_swapped(table: pl.DataFrame, sheets: Sequence[Sheet], layout: Layout) -> None:
    """Raise if most places have longitude and latitude exchanged."""
    swapped = _is_swapped(table, layout)
    if swapped.sum() > len(table) / 2:
        lon, lat = (sheets[0].called[axis] for axis in ("lon", "lat"))
        files = ", ".join(sheet.origin for sheet in sheets)
        raise ReleaseError(
            f"{files}: {int(swapped.sum())} of {len(table)} places lie outside the extent of {layout.title}, but "
            f"inside when columns {lon!r} and {lat!r} are exchanged",
            expected=f"longitude in {lon!r} and latitude in {lat!r}, in degrees",
            action=f"Exchange the two column names in {files}",
        )


def _is_swapped(table: pl.DataFrame, layout: Layout) -> pl.Series:
    lon, lat = (table[axis].fill_null(float("nan")).to_numpy() for axis in ("lon", "lat"))
    country = table["country"] if "country" in table.columns else None
    return pl.Series("swapped", is_swapped(lon, lat, layout.extent or WORLD, country))


def _leave_out_misplaced(table: pl.DataFrame, layout: Layout, dropped: Refused) -> pl.DataFrame:
    """Return the plots that can be where they say; of records, which are cleaned later, the flags tell."""
    lon, lat = table["lon"].to_numpy(), table["lat"].to_numpy()
    there = pl.format("lon {}, lat {}", "lon", "lat")
    table = table.with_columns(_is_swapped(table, layout), zero=pl.Series(is_zero(lon, lat)), cell=there)
    equal = pl.col("lon").abs() == pl.col("lat").abs()
    for reason, misplaced in {AT_ZERO: pl.col("zero"), EQUAL: equal, SWAPPED: pl.col("swapped")}.items():
        plots = table.filter(misplaced).unique("survey_id", keep="first", maintain_order=True)
        dropped.note(reason, plots.rename({"survey_id": "plot"}), "plot")
        table = table.filter(~misplaced)
    return table.drop("swapped", "zero", "cell")
