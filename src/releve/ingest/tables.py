"""CSV files with foreign habits: ids as floats, quoted numbers, words among numbers, short and long rows."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from releve.errors import ReleaseError
from releve.ingest.names import find_column

MAX_ID = 2**53
"""Ids are read as floats, which are exact up to here."""


def read_header(path: Path, separator: str) -> list[str]:
    """Return the column names of a table.

    Raises
    ------
    ReleaseError
        If the file cannot be opened or is empty.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as handle:
            header = next(csv.reader(handle, delimiter=separator), [])
    except OSError as error:
        raise ReleaseError(f"cannot read {path}: {error.strerror}") from error
    if not header:
        raise ReleaseError(f"{path} is empty", expected="a table with a header", action="Download it again")
    return header


def read_table(
    path: Path, separator: str, numbers: Mapping[str, str], texts: Mapping[str, str] | None = None
) -> pl.DataFrame:
    """Return the named columns, renamed: numbers as Float64 (what is no number is null), texts as String.

    Parameters
    ----------
    path
        A CSV file.
    separator
        What stands between its columns.
    numbers, texts
        Names to give -> names in the file.

    Raises
    ------
    ReleaseError
        If the file is not a table of text.
    """
    named = {**numbers, **(texts or {})}
    kinds = {old: pl.Float64 for old in numbers.values()} | {old: pl.String for old in (texts or {}).values()}
    try:
        table = pl.read_csv(
            path,
            separator=separator,
            columns=sorted(set(named.values())),
            schema_overrides=kinds,
            infer_schema=False,
            ignore_errors=True,
            truncate_ragged_lines=True,
            encoding="utf8-lossy",
            glob=False,  # a folder may well be called [draft]
        )
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ReleaseError(f"cannot read {path}: {error}", action="Download it again") from error
    return table.select(pl.col(old).alias(new) for new, old in named.items())


def integer_id(name: str) -> pl.Expr:
    """Return the expression of a float column as Int64 ids; null for what is not an id.

    Examples
    --------
    >>> import polars as pl
    >>> pl.DataFrame({"id": [6874.0, 12.5, None]}).select(integer_id("id"))["id"].to_list()
    [6874, None, None]
    """
    value = pl.col(name)
    valid = value.is_finite() & (value == value.floor()) & value.is_between(0, MAX_ID)
    return pl.when(valid).then(value).otherwise(None).cast(pl.Int64)


def key_column(path: Path, separator: str, wanted: Sequence[str]) -> str:
    """Return the name of a table's column of ids.

    Raises
    ------
    ReleaseError
        If it has none.
    """
    header = read_header(path, separator)
    key = find_column(header, wanted)
    if key is None:
        raise ReleaseError(f"{path} has no column of ids; it has {header[:10]}", expected=f"one of {list(wanted)}")
    return key
