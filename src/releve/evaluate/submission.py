"""Lists of species as files, read, written and scored.

The field's submissions are ``surveyId,predictions``, with ids separated by spaces; species that have names are written
as ``surveyId,species``, with names separated by semicolons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from releve.errors import TableError
from releve.files import atomic_path
from releve.ingest.ids import clean_ids
from releve.ingest.spellings import clean_names
from releve.ingest.text import LONG, read_text_table
from releve.lists import Lists
from releve.metrics.sets import SetScores, score_sets
from releve.progress import say

PREDICTION_COLUMNS = ("predictions",)
SOLUTION_COLUMNS = ("target_species_ids", "predictions")
NAMES_COLUMN = "species"
BETWEEN_NAMES = ";"


def write_submission(path: Path, survey_ids: pl.Series, lists: Lists, species: np.ndarray) -> None:
    """Write lists as ``surveyId,predictions``: one row per survey, species ids ascending, separated by spaces.

    Species with names are written as ``surveyId,species``, names in order, separated by semicolons.

    Parameters
    ----------
    path
        CSV file; whole or absent.
    survey_ids
        Text, in the order of the lists.
    lists
        Species indices of each survey.
    species
        (S,) the official id of each species index, or its name.

    Raises
    ------
    TableError
        If the numbers of surveys differ, a survey id is repeated, or a list names a species without an id.
    """
    check_no_repeats(survey_ids)
    with submission_writer(path, species) as append:
        append(survey_ids, lists)


@contextmanager
def submission_writer(path: Path, species: np.ndarray) -> Iterator[Callable[[pl.Series, Lists], None]]:
    """Yield a function ``append(survey_ids, lists)`` that adds rows to a submission.

    The file gets its name when the block ends well; nothing is left of it otherwise. That no survey id is repeated is
    for the caller to see to, with :func:`check_no_repeats`.

    Parameters
    ----------
    path
        CSV file; whole or absent.
    species
        (S,) the official id of each species index, or its name.

    Raises
    ------
    TableError
        From ``append``: if the numbers of surveys differ, or a list names a species without an id.
    """
    species = np.asarray(species)
    column = PREDICTION_COLUMNS[0] if species.dtype.kind == "i" else NAMES_COLUMN
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        file.write(f"surveyId,{column}\n")

        def append(survey_ids: pl.Series, lists: Lists) -> None:
            rows = _submission_rows(survey_ids, lists, species)
            file.write(rows.write_csv(include_header=False))

        yield append


def check_no_repeats(survey_ids: pl.Series) -> None:
    """Refuse a submission in which a survey would have two rows.

    Raises
    ------
    TableError
        If a survey id is repeated.
    """
    repeated = survey_ids.filter(survey_ids.is_duplicated()).unique(maintain_order=True)
    if len(repeated):
        raise TableError(
            f"{len(repeated)} survey ids are repeated, such as {_examples(repeated)}",
            expected="one row per survey",
            action="Give each survey, and each visit of a place, an id of its own",
        )


def _submission_rows(survey_ids: pl.Series, lists: Lists, species: np.ndarray) -> pl.DataFrame:
    """Return ``surveyId`` and the lists, ids or names in order."""
    if len(survey_ids) != lists.num_surveys:
        raise TableError(f"{len(survey_ids)} survey ids for {lists.num_surveys} lists", expected="one each")
    if len(lists.indices) and lists.indices.max() >= len(species):
        raise TableError(f"a list names species index {lists.indices.max()}", expected=f"under {len(species)}")
    surveys = pl.DataFrame({"row": np.arange(len(survey_ids)), "surveyId": survey_ids})
    pairs = pl.DataFrame({"row": lists.surveys(), "species": species[lists.indices]})
    between = " " if species.dtype.kind == "i" else BETWEEN_NAMES
    joined = pairs.group_by("row").agg(pl.col("species").sort().cast(pl.String).str.join(between).alias("listed"))
    table = surveys.join(joined, on="row", how="left").sort("row").drop("row")
    return table.with_columns(pl.col("listed").fill_null(""))


def read_submission(path: Path, *, columns: tuple[str, ...] = PREDICTION_COLUMNS) -> pl.DataFrame:
    """Return a submission or solution file as ``surveyId`` (text) and ``species`` (ascending list of Int64 or String).

    A species that is repeated within a list counts once, since lists are sets; an empty cell is an empty list. Other
    columns are left out. Names are in a column ``species``, separated by semicolons.

    Parameters
    ----------
    path
        CSV file.
    columns
        Names the column of lists may have, the preferred one first.

    Raises
    ------
    TableError
        If the file is missing, empty or unreadable, lacks a column, a survey id or repeats one, or the id of a species
        is no integer.
    """
    text = read_text_table(path)
    if text.dropped:
        raise TableError(
            f"{path} cannot be read as CSV: {sum(text.dropped.values())} rows have more cells than the header, such as "
            f"{text.examples[LONG][0]}",
            expected="columns separated by commas, species ids separated by spaces",
        )
    table = text.cells
    name = next((column for column in (*columns, NAMES_COLUMN) if column in table.columns), None)
    if "surveyId" not in table.columns or name is None:
        raise TableError(
            f"{path} has the columns {table.columns}",
            expected=f"surveyId and {' or '.join(columns)}, or {NAMES_COLUMN} where species have names",
            action='Species ids are one column, separated by spaces: "1,12 45 678"',
        )
    survey_id = clean_ids(table["surveyId"])
    cells = pl.col(name).fill_null("")
    tokens = cells.str.split(BETWEEN_NAMES) if name == NAMES_COLUMN else cells.str.extract_all(r"\S+")
    read = table.select(survey_id, tokens.alias("tokens")).with_row_index("row")
    if read["surveyId"].has_nulls():
        raise TableError(f"{path}: {read['surveyId'].null_count()} rows have no surveyId", expected="an id a row")
    repeated = read["surveyId"].filter(read["surveyId"].is_duplicated()).unique(maintain_order=True)
    if len(repeated):
        raise TableError(
            f"{path}: {len(repeated)} surveys have more than one row, such as {_examples(repeated)}",
            expected="one row per survey, its species separated by spaces",
        )
    long = read.explode("tokens").drop_nulls("tokens")
    if name == NAMES_COLUMN:
        listed = long.with_columns(species=clean_names(long["tokens"])).filter(pl.col("species") != "")
        return _as_sets(read, listed)
    listed = long.with_columns(pl.col("tokens").cast(pl.Int64, strict=False).alias("species"))
    bad = listed.filter(pl.col("species").is_null() | (pl.col("species") < 0))["tokens"]
    if len(bad):
        raise TableError(
            f"{path}: {len(bad)} species ids of {name} are no integers of 0 or more, such as {_examples(bad)}",
            expected="integers separated by spaces",
        )
    return _as_sets(read, listed)


def _as_sets(read: pl.DataFrame, listed: pl.DataFrame) -> pl.DataFrame:
    """Return ``surveyId`` and the set of ``species`` of each row."""
    sets = listed.group_by("row").agg(pl.col("species").unique().sort())
    joined = read.select("row", "surveyId").join(sets, on="row", how="left").sort("row").drop("row")
    return joined.with_columns(pl.col("species").fill_null(pl.lit([], dtype=sets.schema["species"])))


def _examples(values: pl.Series) -> str:
    return str(values.head(3).to_list())


def score_files(predictions_csv: Path, solution_csv: Path) -> SetScores:
    """Return how well a submission matches a solution, over all surveys of the solution.

    A survey the submission leaves out scores 0, and how many there are is said. ``per_survey_f1`` is in the order of
    the solution, and ``per_species`` has ``species_id`` (of names ``species``) where
    :func:`releve.metrics.sets.score_sets` has an index.

    Parameters
    ----------
    predictions_csv
        ``surveyId,predictions``.
    solution_csv
        ``surveyId,target_species_ids`` or ``surveyId,predictions``, or of names ``surveyId,species``.

    Raises
    ------
    TableError
        If a file is not as :func:`read_submission` needs it, one has ids and the other names, or a survey is predicted
        that the solution lacks.
    """
    predicted = read_submission(predictions_csv)
    truth = read_submission(solution_csv, columns=SOLUTION_COLUMNS)
    kinds = {predictions_csv: predicted.schema["species"], solution_csv: truth.schema["species"]}
    if len(set(kinds.values())) > 1:
        words = [
            f"{file} has {'names' if kind == pl.List(pl.String) else 'ids'} of species" for file, kind in kinds.items()
        ]
        raise TableError(" and ".join(words), expected="the same in both")
    foreign = predicted["surveyId"].filter(~predicted["surveyId"].is_in(truth["surveyId"].implode()))
    if len(foreign):
        raise TableError(
            f"{len(foreign)} of {predicted.height} predicted surveys are not in {solution_csv}, such as "
            f"{_examples(foreign)}",
            expected="surveys of the solution only",
            action="Check that both files belong to the same release and split",
        )
    missing = truth["surveyId"].filter(~truth["surveyId"].is_in(predicted["surveyId"].implode()))
    if len(missing):
        some = f"{len(missing)} of {truth.height} surveys of {solution_csv}, such as {_examples(missing)},"
        say(f"{some} are not in {predictions_csv}: each scores 0")
    both = truth.rename({"species": "truth"}).join(
        predicted.rename({"species": "predicted"}), on="surveyId", how="left", maintain_order="left"
    )
    long = {name: _explode(both[name]) for name in ("predicted", "truth")}
    species = np.unique(np.concatenate([listed for _, listed in long.values()]))
    lists = {
        name: Lists.from_pairs(rows, np.searchsorted(species, listed), both.height)
        for name, (rows, listed) in long.items()
    }
    scores = score_sets(lists["predicted"], lists["truth"], len(species))
    key = "species_id" if species.dtype.kind == "i" else NAMES_COLUMN
    named = scores.per_species.with_columns(pl.Series(key, species)).drop("species_index")
    return replace(scores, per_species=named.select(key, pl.exclude(key)))


def _explode(sets: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return the row and the species of every entry of a column of lists; a null has none."""
    table = pl.DataFrame({"row": np.arange(len(sets)), "species": sets})
    long = table.explode("species").drop_nulls("species")
    listed = long["species"].to_numpy()
    return long["row"].to_numpy(), listed.astype(str) if listed.dtype == object else listed
