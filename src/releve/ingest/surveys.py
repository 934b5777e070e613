"""Surveys and occurrences of a split, with every refused row counted by its reason."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from releve.errors import ReleaseError
from releve.ingest.dates import FAULTS, date_parts
from releve.ingest.layouts import Layout
from releve.ingest.names import find_column
from releve.ingest.release import Release, readable
from releve.ingest.tables import integer_id, read_header, read_table

_SURVEY: dict[str, type[pl.DataType]] = {
    "survey_id": pl.Int64,
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
    "series_id": pl.Int64,
    "patch_id": pl.Int64,
}
SURVEY_SCHEMA = pl.Schema(_SURVEY)
OCCURRENCE_SCHEMA = pl.Schema(_SURVEY | {"species_id": pl.Int64, "taxon_rank": pl.String, "date": pl.Date})
TEXTS = ("country", "region", "publisher", "taxon_rank", "subset")
DATES = ("year", "month", "day", "date")
REQUIRED = ("survey_id", "lon", "lat")

BAD_ID = "survey id not an integer"
BAD_PLACE = "coordinates out of range"
OTHER_PLACE = "survey id used at another place"
NO_SPECIES = "no species id"
NO_LABELS = "survey without species"
DUPLICATE = "duplicate survey-species pair"
BAD_AREA = "area infinite or not positive"
SEVERAL_AREAS = "several areas in one survey, first kept"
NUM_EXAMPLES = 3


@dataclass(frozen=True)
class Surveys:
    """The surveys of a split, one row each, and what grows there."""

    table: pl.DataFrame
    """``SURVEY_SCHEMA``, sorted by survey_id; null where the release says nothing or nonsense."""
    labels: pl.DataFrame
    """survey_id, species_id: unique pairs, sorted; empty where the split has no labels."""
    dropped: dict[str, int]
    """Rows (or surveys, where the reason says so) left out, by reason."""
    noted: dict[str, int]
    """What was mended rather than left out."""
    examples: dict[str, tuple[str, ...]]
    """The first few rows or surveys of each reason; row 1 is the first below the header."""


@dataclass(frozen=True)
class Occurrences:
    """The records of a split, one row each, as they were published."""

    table: pl.DataFrame
    """``OCCURRENCE_SCHEMA``, in the order of the file."""
    dropped: dict[str, int]
    noted: dict[str, int]
    """What was mended rather than left out."""
    examples: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class _Refused:
    """What was left out so far."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def note(self, reason: str, rows: pl.DataFrame, what: str = "row") -> None:
        """Count rows of a table under a reason, with the first of its column ``what`` as examples."""
        if len(rows):
            self.counts[reason] = len(rows)
            self.examples[reason] = tuple(f"{what} {value}" for value in rows[what][:NUM_EXAMPLES])

    def keep(self, table: pl.DataFrame, condition: pl.Expr, reason: str) -> pl.DataFrame:
        """Return the rows where a condition holds, and count the others."""
        kept = table.filter(condition.fill_null(False))
        if len(kept) < len(table):
            self.note(reason, table.filter(~condition.fill_null(False)))
        return kept


def read_surveys(release: Release, split: str) -> Surveys:
    """Return the surveys of a split and their sets of species.

    Raises
    ------
    ReleaseError
        If the table lacks a column, or longitude and latitude are swapped.
    """
    records, refused, noted = _read_records(release, split)
    records = records.sort("survey_id", maintain_order=True)
    here = [pl.col(axis) == _of_first_row(pl.col(axis)) for axis in ("lon", "lat")]
    records = refused.keep(records, pl.all_horizontal(here), OTHER_PLACE)
    if release.split_rules(split).labelled and records["species_id"].has_nulls():
        bare = records.filter(pl.col("species_id").is_null().all().over("survey_id") & _is_first_row())
        refused.note(NO_LABELS, bare.select(survey="survey_id"), "survey")
        records = refused.keep(records, pl.col("species_id").is_not_null(), NO_SPECIES)
    table, several_areas = _one_row_per_survey(records)
    noted.note(SEVERAL_AREAS, several_areas, "survey")
    pairs = records.select("survey_id", "species_id").drop_nulls()
    if not len(pairs):
        pairs = _separate_labels(release, split).join(table, on="survey_id", how="semi")
    labels = _unique_pairs(pairs, refused)
    return Surveys(table, labels, refused.counts, noted.counts, refused.examples | noted.examples)


def read_occurrences(release: Release, split: str) -> Occurrences:
    """Return the records of a split that have a species; duplicates are kept.

    Raises
    ------
    ReleaseError
        If the table lacks a column, or longitude and latitude are swapped.
    """
    records, refused, noted = _read_records(release, split)
    records = refused.keep(records, pl.col("species_id").is_not_null(), NO_SPECIES)
    return Occurrences(records.drop("row"), refused.counts, noted.counts, refused.examples | noted.examples)


def _read_records(release: Release, split: str) -> tuple[pl.DataFrame, _Refused, _Refused]:
    """Return the rows of a split's table that have an id and a place, what was left out, what was mended."""
    rules, layout = release.split_rules(split), release.rules
    path = release.tables(split, rules.metadata)[0]
    columns = _resolve_columns(release, split, path)
    texts = {name: columns.pop(name) for name in (*TEXTS, *DATES) if name in columns}
    raw = read_table(release.root / path, layout.separator, columns, texts).with_row_index("row", offset=1)
    if rules.subset:
        raw = raw.filter(pl.col("subset").str.to_lowercase() == rules.subset)
    _refuse_swapped(raw, columns, path, layout)
    refused, mended = _Refused(), _Refused()
    if "area_m2" in raw.columns:
        mended.note(BAD_AREA, raw.filter(pl.col("area_m2").is_infinite() | (pl.col("area_m2") <= 0)))
    raw = raw.drop(name for name in DATES if name in raw.columns).hstack(date_parts(raw))
    for fault in FAULTS:
        mended.note(fault, raw.filter(pl.col("fault") == fault))
    records = raw.select("row", *_typed(raw.columns, columns))
    records = refused.keep(records, pl.col("survey_id").is_not_null(), BAD_ID)
    in_range = pl.col("lon").is_between(-180, 180) & pl.col("lat").is_between(-90, 90)
    return refused.keep(records, in_range, BAD_PLACE), refused, mended


def _resolve_columns(release: Release, split: str, path: str) -> dict[str, str]:
    """Return what a column means -> its name in the file, with the columns that form a survey as they are."""
    layout, rules = release.rules, release.split_rules(split)
    header = read_header(release.root / path, layout.separator)
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


def _typed(columns: list[str], numbers: dict[str, str]) -> list[pl.Expr]:
    """Return the expressions of ``OCCURRENCE_SCHEMA`` over a raw table."""
    have = set(columns)
    survey = integer_id("survey_id")
    same = [name for name in numbers if name.startswith("same_")]
    if same:
        survey = pl.when(pl.all_horizontal(pl.col(same).is_not_null())).then(survey.min().over(same)).otherwise(survey)
    expressions = {
        "survey_id": survey,
        "series_id": integer_id("series_id") if "series_id" in have else survey,
        "patch_id": integer_id("patch_id") if "patch_id" in have else survey,
        "species_id": integer_id("species_id") if "species_id" in have else pl.lit(None),
        "area_m2": _positive("area_m2", 1e-9) if "area_m2" in have else pl.lit(None),
        "uncertainty_m": _positive("uncertainty_m", 0) if "uncertainty_m" in have else pl.lit(None),
    }
    for name in OCCURRENCE_SCHEMA:
        known = pl.col(name) if name in have else pl.lit(None)
        if name in TEXTS and name in have:
            known = pl.when(~known.str.to_lowercase().is_in(["", "nan", "na"])).then(known)
        expressions.setdefault(name, known)
    return [expressions[name].cast(kind).alias(name) for name, kind in OCCURRENCE_SCHEMA.items()]


def _positive(name: str, low: float) -> pl.Expr:
    return pl.when(pl.col(name).is_finite() & (pl.col(name) >= low)).then(pl.col(name))


def _refuse_swapped(raw: pl.DataFrame, columns: dict[str, str], path: str, layout: Layout) -> None:
    """Raise if most places lie outside the release's extent but inside it with lon and lat exchanged."""
    swapped = raw.filter(~_inside("lon", "lat", layout) & _inside("lat", "lon", layout))
    if len(swapped) > len(raw) / 2:
        raise ReleaseError(
            f"{path}: {len(swapped)} of {len(raw)} places lie outside the extent of {layout.title}, but "
            f"inside when columns {columns['lon']!r} and {columns['lat']!r} are exchanged",
            expected=f"longitude in {columns['lon']!r} and latitude in {columns['lat']!r}, in degrees",
            action=f"Exchange the two column names in {path}",
        )


def _inside(lon: str, lat: str, layout: Layout) -> pl.Expr:
    extent = layout.extent
    across = pl.col(lon).is_between(extent["west"], extent["east"])
    return (across & pl.col(lat).is_between(extent["south"], extent["north"])).fill_null(False)


def _is_first_row() -> pl.Expr:
    """Return whether a row is its survey's first, in a table sorted by survey. Far cheaper than a grouping."""
    return (pl.col("survey_id") != pl.col("survey_id").shift(1)).fill_null(True)


def _of_first_row(value: pl.Expr) -> pl.Expr:
    """Return a value (never null) of the first row of each row's survey, in a table sorted by survey."""
    return pl.when(_is_first_row()).then(value).forward_fill()


def _one_row_per_survey(records: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the first record of each survey, with its first valid area, and the surveys that had several."""
    with_area = records.select("survey_id", "area_m2").drop_nulls()
    areas = with_area.filter(_is_first_row())
    several = with_area.filter(pl.col("area_m2") != _of_first_row(pl.col("area_m2")))
    table = records.drop("area_m2").filter(_is_first_row())
    table = table.join(areas, on="survey_id", how="left", maintain_order="left")
    return table.select(SURVEY_SCHEMA.names()), several.select(survey=pl.col("survey_id").unique().sort())


def _unique_pairs(pairs: pl.DataFrame, refused: _Refused) -> pl.DataFrame:
    """Return the unique pairs, sorted, and count the others."""
    pairs = pairs.sort("survey_id", "species_id")
    again = ~_is_first_row() & (pl.col("species_id") == pl.col("species_id").shift(1))
    labels = pairs.filter(~again.fill_null(False))
    if len(labels) < len(pairs):
        refused.counts[DUPLICATE] = len(pairs) - len(labels)
        examples = pairs.filter(again).unique(maintain_order=True).head(NUM_EXAMPLES)
        refused.examples[DUPLICATE] = tuple("survey {}, species {}".format(*pair) for pair in examples.rows())
    return labels


def _separate_labels(release: Release, split: str) -> pl.DataFrame:
    """Return the labels of a table of their own: one pair per row, or a list of species per survey."""
    empty = pl.DataFrame(schema={"survey_id": pl.Int64, "species_id": pl.Int64})
    rules, layout = release.split_rules(split), release.rules
    paths = release.tables(split, rules.labels) if rules.labels else []
    if not paths:
        return empty
    path = release.root / paths[0]
    header = read_header(path, layout.separator)
    survey = find_column(header, layout.columns["survey_id"])
    species = find_column(header, (*layout.columns["species_id"], "predictions", "labels", "species"))
    if survey is None or species is None:
        raise ReleaseError(
            f"{paths[0]} has columns {header}",
            expected=f"a survey and a species column as in {readable(rules.labels)}",
        )
    raw = read_table(path, layout.separator, {"survey_id": survey}, {"species_id": species})
    long = raw.with_columns(pl.col("species_id").str.split(" ")).explode("species_id")
    long = long.with_columns(pl.col("species_id").cast(pl.Float64, strict=False))
    return long.select(integer_id("survey_id"), integer_id("species_id")).drop_nulls()
