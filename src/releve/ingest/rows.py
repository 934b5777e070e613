"""The rows of a split's table: ids, places, dates, species, and what speaks against a row."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from releve.errors import ReleaseError
from releve.ingest.dates import FAULTS, date_parts
from releve.ingest.ids import clean_ids, id_number
from releve.ingest.layouts import Layout
from releve.ingest.names import find_column
from releve.ingest.places import BAD_SIZES, can_be, is_swapped, is_zero, read_degrees
from releve.ingest.presence import why_no_presence
from releve.ingest.refused import Refused
from releve.ingest.release import Release
from releve.ingest.text import TextTable, read_header, read_text_table

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
REQUIRED = ("survey_id", "lon", "lat")
IDS = ("survey_id", "series_id", "patch_id")
NUMBERS = ("lon", "lat", "area_m2", "uncertainty_m")
DATES = ("year", "month", "day", "date")

NO_ID = "no survey id"
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


def read_rows(release: Release, split: str) -> Rows:
    """Return the rows of a split's table, what was left out and what was mended.

    Raises
    ------
    ReleaseError
        If the table cannot be read, lacks a column, has longitude and latitude exchanged, or species that are no ids.
    """
    rules, layout = release.split_rules(split), release.rules
    path = release.tables(split, rules.metadata)[0]
    columns = _resolve_columns(release, split, path)
    text = read_text_table(release.root / path, columns.values(), error=ReleaseError)
    dropped, mended = Refused.of(text.dropped, text.examples), Refused.of(text.noted, text.examples)
    table = _read_cells(text, columns, mended)
    if rules.subset:
        table = table.filter(pl.col("subset").str.to_lowercase() == rules.subset)
    _refuse_swapped(table, columns, path, layout)
    if "species_id" in columns:
        table = one_species_a_row(table, columns["species_id"], path, decimal_comma=text.separator != ",")
    for name, reason in BAD_SIZES.items():
        mended.note(reason, table.filter(~can_be(name)))
    table = table.drop(name for name in DATES if name in table.columns).hstack(date_parts(table))
    for fault in FAULTS:
        mended.note(fault, table.filter(pl.col("fault") == fault))
    table = table.with_columns(date_fault=pl.col("fault").cast(pl.String))
    table = _typed(table, rules.same_survey)
    table = dropped.keep(table, pl.col("survey_id").is_not_null(), NO_ID)
    for axis in ("lon", "lat"):
        is_word = pl.col(f"{axis}_word").is_not_null()
        dropped.note(NO_NUMBER[axis], table.filter(is_word).rename({f"{axis}_word": "cell"}))
        table = table.filter(~is_word)
    in_range = pl.col("lon").is_between(-180, 180) & pl.col("lat").is_between(-90, 90)
    table = dropped.keep(table, in_range, BAD_PLACE)
    if rules.labelled and not rules.presence_only:
        table = _leave_out_misplaced(table, layout, dropped)
    return Rows(table.select("row", *OCCURRENCE_SCHEMA, "why_not"), dropped, mended)


def _resolve_columns(release: Release, split: str, path: str) -> dict[str, str]:
    """Return what a column means -> its name in the file, with the columns that form a survey as they are."""
    layout, rules = release.rules, release.split_rules(split)
    header = read_header(release.root / path, error=ReleaseError)
    found = {role: find_column(header, names) for role, names in layout.columns.items()}
    required = [*REQUIRED, *(["species_id"] if rules.labelled else []), *(["subset"] if rules.subset else [])]
    lacking = [layout.columns[role][0] for role in required if found.get(role) is None]
    if lacking:
        raise ReleaseError(f"{path} lacks columns {lacking}; it has {header}", action="Use the official table")
    columns = {role: name for role, name in found.items() if name is not None}
    same = [find_column(header, [name]) for name in rules.same_survey]
    if all(same):
        columns |= {f"same_{i}": str(name) for i, name in enumerate(same)}
    return columns


def _read_cells(text: TextTable, columns: dict[str, str], mended: Refused) -> pl.DataFrame:
    """Return the columns by what they mean: numbers, ids, and all others as text; of places also what is no number."""
    table = text.cells.select(pl.col(old).alias(new) for new, old in columns.items()).with_columns(row=text.rows)
    table = table.with_columns(clean_ids(table[name]).alias(name) for name in IDS if name in columns)
    for name in NUMBERS:
        if name not in columns:
            table = table.with_columns(pl.lit(None, pl.Float64).alias(name))
            continue
        cells = text.cells[columns[name]]
        if name in REQUIRED:
            values = read_degrees(cells, name, decimal_comma=text.separator != ",")
        else:
            values = text.cells.select(text.number(columns[name])).to_series()
        words = pl.DataFrame({"cell": cells.set(values.is_not_null(), None), "row": text.rows})
        if name in REQUIRED:
            table = table.with_columns(words["cell"].alias(f"{name}_word"))
        else:
            mended.note(NO_NUMBER[name], words.drop_nulls("cell"))
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
        listed = table.filter("is_list").drop("species_id").explode("several").rename({"several": "species_id"})
        others = table.filter(~pl.col("is_list").fill_null(False)).drop("several")
        table = pl.concat([listed.select(others.columns), others]).sort("row", maintain_order=True).drop("is_list")
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


def _refuse_swapped(table: pl.DataFrame, columns: dict[str, str], path: str, layout: Layout) -> None:
    """Raise if most places have longitude and latitude exchanged."""
    swapped = _is_swapped(table, layout)
    if swapped.sum() > len(table) / 2:
        raise ReleaseError(
            f"{path}: {int(swapped.sum())} of {len(table)} places lie outside the extent of {layout.title}, but "
            f"inside when columns {columns['lon']!r} and {columns['lat']!r} are exchanged",
            expected=f"longitude in {columns['lon']!r} and latitude in {columns['lat']!r}, in degrees",
            action=f"Exchange the two column names in {path}",
        )


def _is_swapped(table: pl.DataFrame, layout: Layout) -> pl.Series:
    lon, lat = (table[axis].fill_null(float("nan")).to_numpy() for axis in ("lon", "lat"))
    country = table["country"] if "country" in table.columns else None
    return pl.Series("swapped", is_swapped(lon, lat, layout.extent, country))


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
