"""Surveys and occurrences of a split, with every refused row counted by its reason."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from releve.errors import ReleaseError
from releve.ingest.ids import clean_ids, id_codes
from releve.ingest.names import find_column
from releve.ingest.presence import REASONS
from releve.ingest.refused import NUM_EXAMPLES, Refused
from releve.ingest.release import readable
from releve.ingest.rows import NO_ID, SURVEY_SCHEMA, one_species_a_row, read_rows
from releve.ingest.study import Source
from releve.ingest.text import read_header, read_text_table

OTHER_PLACE = "survey id used at another place"
NO_SPECIES = "no species"
NO_LABELS = "survey without species, kept as an empty list"
DUPLICATE = "duplicate survey-species pair"
UNKNOWN_SURVEY = "label of a survey that the split does not have"
SEVERAL_AREAS = "several areas in one survey, first kept"
SEVERAL_VISITS = "survey id used on several dates, a survey each"


@dataclass(frozen=True)
class Surveys:
    """The surveys of a split, one row each, and what grows there."""

    table: pl.DataFrame
    """``SURVEY_SCHEMA``, by survey_id and date; null where the release says nothing or nonsense.

    A place that was visited on several dates under one id is a survey for each of them.
    """
    labels: pl.DataFrame
    """row (of ``table``), species_id: unique pairs, sorted; a survey without any has an empty list."""
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


def read_surveys(source: Source, split: str) -> Surveys:
    """Return the surveys of a split and their sets of species.

    Plots on which nothing grows are surveys with an empty list; of presence-only records only those with a species
    count. Absences, garden plants and fossils are left out of the lists.

    Raises
    ------
    ReleaseError
        If the table cannot be read, lacks a column, has longitude and latitude exchanged, or species that are no ids.
    """
    rows, rules = read_rows(source, split), source.split_rules(split)
    refused, noted = rows.dropped, rows.mended
    records = _drop_absences(rows.table, refused)
    if rules.presence_only:
        records = refused.keep(records, pl.col("species_id").is_not_null(), NO_SPECIES)
    records = records.hstack([pl.Series("survey", id_codes(records["survey_id"]))]).sort("survey", maintain_order=True)
    here = [pl.col(axis) == _of_first_row(pl.col(axis)) for axis in ("lon", "lat")]
    records = refused.keep(records, pl.all_horizontal(here), OTHER_PLACE)
    records = _number_visits(records, noted)
    if rules.labelled and records["species_id"].has_nulls():
        is_bare = pl.col("species_id").is_null().all().over("survey")
        bare = records.filter(is_bare & _is_first_row())
        noted.note(NO_LABELS, bare.select(survey="survey_id"), "survey")
        silent = records.filter(pl.col("species_id").is_null() & pl.col("why_not").is_null() & ~is_bare)
        refused.note(NO_SPECIES, silent)
    table, several_areas = _one_row_per_survey(records)
    noted.note(SEVERAL_AREAS, several_areas, "survey")
    pairs = records.select(row="survey", species_id="species_id").drop_nulls()
    if not len(pairs):
        pairs = _separate_labels(source, split, table, refused, noted)
    labels = _unique_pairs(pairs, table["survey_id"], source.species, refused)
    return Surveys(table, labels, refused.counts, noted.counts, refused.examples | noted.examples)


def read_occurrences(source: Source, split: str) -> Occurrences:
    """Return the records of a split that have a species; duplicates are kept, absences are not.

    Raises
    ------
    ReleaseError
        If the table cannot be read, lacks a column, has longitude and latitude exchanged, or species that are no ids.
    """
    rows = read_rows(source, split)
    refused, noted = rows.dropped, rows.mended
    records = _drop_absences(rows.table, refused).filter(pl.col("why_not").is_null())
    records = refused.keep(records, pl.col("species_id").is_not_null(), NO_SPECIES)
    return Occurrences(records.drop("row", "why_not"), refused.counts, noted.counts, refused.examples | noted.examples)


def _drop_absences(records: pl.DataFrame, refused: Refused) -> pl.DataFrame:
    """Return the records, and count those that name a species which they do not say grows there."""
    if records["why_not"].null_count() < len(records):
        for reason in REASONS:
            refused.note(reason, records.filter(pl.col("why_not") == reason))
    return records


def _is_first_row() -> pl.Expr:
    """Return whether a row is its survey's first, in a table sorted by survey. Far cheaper than a grouping."""
    return (pl.col("survey") != pl.col("survey").shift(1)).fill_null(True)


def _of_first_row(value: pl.Expr) -> pl.Expr:
    """Return a value (never null) of the first row of each row's survey, in a table sorted by survey."""
    return pl.when(_is_first_row()).then(value).forward_fill()


def _number_visits(records: pl.DataFrame, noted: Refused) -> pl.DataFrame:
    """Return the records, sorted by survey, with the surveys numbered from 0: an id may have several dates.

    A row that lacks a part of the date is of the date that the other rows have, if they have one.
    """
    parts = ("year", "month", "day")
    codes = [pl.col(part).fill_null(-1) for part in parts]
    is_other = pl.any_horizontal(code != _of_first_row(code) for code in codes)
    several = records.select(is_other.any().over("survey").alias("is"))["is"]
    if several.any():
        of_several = records.filter(several)
        for at, part in enumerate(parts):
            least, most = (extreme.over("survey", *parts[:at]) for extreme in (pl.col(part).min(), pl.col(part).max()))
            of_several = of_several.with_columns(pl.col(part).fill_null(pl.when(least == most).then(least)))
        of_several = of_several.sort("survey", *parts, maintain_order=True)
        is_next = ~_is_first_row() & pl.any_horizontal(code != code.shift(1) for code in codes)
        again = of_several.filter(is_next)["survey"].unique()
        noted.note(
            SEVERAL_VISITS,
            of_several.filter(_is_first_row() & pl.col("survey").is_in(again.implode())).select(survey="survey_id"),
            "survey",
        )
        records = pl.concat([records.filter(~several), of_several]).sort("survey", maintain_order=True)
    starts = pl.any_horizontal(_is_first_row(), *(code != code.shift(1) for code in codes))
    return records.with_columns(survey=starts.cum_sum().cast(pl.Int64) - 1)


def _one_row_per_survey(records: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the first record of each survey, with its first valid area, and the ids of those that had several."""
    with_area = records.select("survey", "survey_id", "area_m2").drop_nulls()
    areas = with_area.filter(_is_first_row()).select("survey", "area_m2")
    several = with_area.filter(pl.col("area_m2") != _of_first_row(pl.col("area_m2")))
    table = records.drop("area_m2").filter(_is_first_row())
    table = table.join(areas, on="survey", how="left", maintain_order="left")
    return table.select(SURVEY_SCHEMA.names()), several.unique("survey", maintain_order=True).select(survey="survey_id")


def _unique_pairs(pairs: pl.DataFrame, ids: pl.Series, names: pl.DataFrame | None, refused: Refused) -> pl.DataFrame:
    """Return the unique pairs, sorted, and count the others."""
    pairs = pairs.sort("row", "species_id")
    again = (pl.col("row") == pl.col("row").shift(1)) & (pl.col("species_id") == pl.col("species_id").shift(1))
    labels = pairs.filter(~again.fill_null(False))
    if len(labels) < len(pairs):
        refused.counts[DUPLICATE] = len(pairs) - len(labels)
        examples = pairs.filter(again).unique(maintain_order=True).head(NUM_EXAMPLES)
        called = {} if names is None else dict(names.rows())
        refused.examples[DUPLICATE] = tuple(
            f"survey {ids[row]}, species {called.get(s, s)}" for row, s in examples.rows()
        )
    return labels


def _separate_labels(source: Source, split: str, table: pl.DataFrame, refused: Refused, noted: Refused) -> pl.DataFrame:
    """Return the labels of a table of their own: one pair per row, or a list of species per survey."""
    rules, layout = source.split_rules(split), source.rules
    paths = source.label_tables(split)
    if not paths:
        return pl.DataFrame(schema={"row": pl.Int64, "species_id": pl.Int64})
    path = source.root / paths[0]
    header = read_header(path, error=ReleaseError)
    survey = find_column(header, layout.columns["survey_id"])
    species = find_column(header, (*layout.columns["species_id"], "predictions", "labels", "species"))
    if survey is None or species is None:
        raise ReleaseError(
            f"{paths[0]} has columns {header}",
            expected=f"a survey and a species column as in {readable(rules.labels)}",
        )
    text = read_text_table(path, (survey, species), error=ReleaseError)
    for counts, account in ((text.dropped, refused), (text.noted, noted)):
        account.counts.update({f"labels, {reason}": count for reason, count in counts.items()})
        account.examples.update({f"labels, {reason}": text.examples[reason] for reason in counts})
    listed = text.cells.select(survey_id=clean_ids(text.cells[survey]), species_id=species, row=text.rows)
    listed = refused.keep(listed, pl.col("survey_id").is_not_null(), f"labels, {NO_ID}")
    listed = one_species_a_row(listed, species, paths[0], decimal_comma=text.separator != ",")
    surveys = table.select("survey_id").with_row_index("row")
    labelled = surveys.join(listed, on="survey_id", how="semi")
    if labelled["survey_id"].is_duplicated().any():
        twice = labelled.filter(labelled["survey_id"].is_duplicated())["survey_id"].unique(maintain_order=True)
        raise ReleaseError(
            f"{paths[0]} names surveys by ids of which {len(twice)} stand for several dates, such as {twice[0]!r}",
            expected="an id of its own for each survey",
        )
    refused.note(UNKNOWN_SURVEY, listed.join(surveys, on="survey_id", how="anti").with_columns(cell="survey_id"))
    pairs = listed.drop("row").join(surveys, on="survey_id").drop_nulls()
    return pairs.select(pl.col("row").cast(pl.Int64), "species_id")
