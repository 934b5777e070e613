"""A table of surveys or of values, as a release or a study hands it to the readers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import polars as pl

from releve.ingest.text import TextTable

REQUIRED = ("survey_id", "lon", "lat")
"""What each row of plots or records must have."""


@dataclass(frozen=True)
class Sheet:
    """A table of plots or records: a row for each species of each of them."""

    origin: str
    """Its path, from the root of the release or study."""
    text: TextTable
    columns: Mapping[str, str]
    """What a column means -> its name in ``text``."""
    called: Mapping[str, str]
    """The same -> its name in the file."""
    crs: str | None = None
    """Of the columns ``lon`` and ``lat``, where these are not in degrees of EPSG:4326."""


@dataclass(frozen=True)
class ValueTable:
    """A table of covariates by survey id."""

    origin: str
    key: str
    """Column of the survey ids, of text as :func:`releve.ingest.ids.clean_ids` leaves it."""
    names: tuple[str, ...]
    """Columns of the covariates."""
    text: TextTable


def with_cells(text: TextTable, cells: pl.DataFrame, rows: pl.Series | None = None) -> TextTable:
    """Return a table with other cells, and other rows if they are not the same."""
    return replace(text, cells=cells, rows=text.rows if rows is None else rows)


def with_origin(text: TextTable, origin: str) -> TextTable:
    """Return a table whose rows, in examples too, are told from those of other files."""
    rows = pl.select(pl.format("{} of {}", text.rows, pl.lit(origin)).alias("row")).to_series()
    examples = {reason: tuple(f"{row} of {origin}" for row in found) for reason, found in text.examples.items()}
    return replace(text, rows=rows, examples=examples)
