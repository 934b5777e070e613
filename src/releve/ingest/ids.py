"""Ids of surveys: text as it is written, so that 0101 and 101 are two plots, and any code is an id."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

_FLOAT = r"^(\d+)\.0+$"
_POWER = r"^\d(\.\d+)?[eE]\+\d+$"


def clean_ids(ids: pl.Series) -> pl.Series:
    """Return ids as text; a whole number that was written as a float is mended.

    Examples
    --------
    >>> import polars as pl
    >>> clean_ids(pl.Series(["3018575.0", "0101", "FR-001", "1e+05", "12.5"])).to_list()
    ['3018575', '0101', 'FR-001', '100000', '12.5']
    """
    ids = ids.cast(pl.String)
    if ids.str.contains("e+", literal=True).any():  # as R writes 100000
        number = pl.when(pl.col("id").str.contains(_POWER)).then(pl.col("id").cast(pl.Float64, strict=False))
        whole = pl.when((number == number.floor()) & (number < 2**53)).then(number.cast(pl.Int64, strict=False))
        ids = ids.alias("id").to_frame().select(pl.coalesce(whole.cast(pl.String), "id")).to_series().alias(ids.name)
    return ids.str.replace(_FLOAT, "$1") if ids.str.contains(".0", literal=True).any() else ids


def id_number(column: str) -> pl.Expr:
    """Return the expression of a column of ids as Int64; null for what is not the usual way to write a whole number.

    Examples
    --------
    >>> import polars as pl
    >>> pl.DataFrame({"id": ["101", "0101", "FR-001"]}).select(id_number("id"))["id"].to_list()
    [101, None, None]
    """
    text = pl.col(column).cast(pl.String)
    number = text.cast(pl.Int64, strict=False)
    return pl.when((number >= 0) & (number.cast(pl.String) == text)).then(number)


def in_order(column: str) -> list[pl.Expr]:
    """Return what to sort a table by to have its ids in order: numbers by size, then the others by their letters."""
    return [id_number(column).is_null(), id_number(column), pl.col(column)]


def id_codes(ids: pl.Series) -> NDArray[np.int64]:
    """Return a number for each id, the same for the same ones, rising as :func:`in_order` has them.

    Examples
    --------
    >>> import polars as pl
    >>> id_codes(pl.Series(["9", "101"])).tolist(), id_codes(pl.Series(["b", "a", "b", "10", "9"])).tolist()
    ([9, 101], [3, 2, 3, 1, 0])
    """
    table = ids.alias("id").to_frame()
    numbers = table.select(id_number("id")).to_series()
    if not numbers.has_nulls():
        return numbers.to_numpy()
    order = table.unique().sort(in_order("id")).with_row_index("code")
    return table.join(order, on="id", how="left", maintain_order="left")["code"].cast(pl.Int64).to_numpy()


def file_numbers(ids: pl.Series) -> NDArray[np.int64]:
    """Return the number by which each id is found in file names, -1 for one that has none.

    That of an id with leading zeros is its number, if no other id has that number.

    Examples
    --------
    >>> import polars as pl
    >>> file_numbers(pl.Series(["7", "0101", "101", "0102", "FR-1", None])).tolist()
    [7, -1, 101, 102, -1, -1]
    """
    table = ids.alias("id").to_frame().with_columns(number=id_number("id"))
    padded = table.filter(pl.col("number").is_null() & pl.col("id").str.contains(r"^0\d{1,17}$")).unique()
    if len(padded):
        padded = padded.with_columns(other=pl.col("id").cast(pl.Int64))
        padded = padded.filter(pl.col("other").is_unique() & ~pl.col("other").is_in(table["number"].implode()))
        table = table.join(padded.select("id", "other"), on="id", how="left", maintain_order="left")
        table = table.with_columns(number=pl.coalesce("number", "other"))
    return table["number"].fill_null(-1).to_numpy()
