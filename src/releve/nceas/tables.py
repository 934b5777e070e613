"""Check and align the tables of a region of the NCEAS benchmark; data.py reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from polars import selectors

from releve.errors import TableError
from releve.geo import equal_area_crs, project

META = ("siteid", "spid", "x", "y", "occ", "group")


def read_table(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    """Return a parquet or CSV table; ``NA``, and a number that is not finite, are missing values.

    Raises
    ------
    TableError
        If the file cannot be parsed, has no row or lacks a column, or a place in it is missing.
    """
    try:
        if path.suffix == ".parquet":
            table = pl.read_parquet(path, glob=False)
        else:
            table = pl.read_csv(path, null_values=["NA", ""], infer_schema_length=None, glob=False)
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        raise TableError(f"{path} cannot be read: {error}", action="Export the table again") from error
    if missing := [name for name in columns if name not in table.columns]:
        raise TableError(f"{path} lacks columns {missing}; it has {table.columns}")
    if not len(table):
        raise TableError(f"{path} holds no row", action="Export the table again")
    places = [name for name in ("x", "y") if name in table.columns]
    if bad := [name for name in places if not table[name].dtype.is_numeric()]:
        raise TableError(f"columns {bad} of {path} are not numbers", expected="coordinates")
    table = table.with_columns(pl.col(places).cast(pl.Float64))
    table = table.with_columns(pl.when(selectors.float().is_finite()).then(selectors.float()))
    if nulls := sum(table[name].null_count() for name in places):
        raise TableError(f"{nulls} coordinates of {path} are missing", expected="x and y in every row")
    return table


def aligned_plots(env: pl.DataFrame, pa: pl.DataFrame, env_path: Path, pa_path: Path) -> tuple[pl.DataFrame, bool]:
    """Return the plots of ``pa`` in the order of ``env``, and whether they had to be moved.

    Raises
    ------
    TableError
        If the two tables do not hold the same plots.
    """
    ids, others = _as_text(env["siteid"]), _as_text(pa["siteid"])
    if len(ids) == len(others) and ids.equals(others):
        return pa, False
    unmatched = set(ids) ^ set(others)
    if unmatched or len(ids) != len(others) or ids.n_unique() < len(ids) or ids.null_count():
        example = (
            f", {len(unmatched)} of them in one table only, such as {min(map(str, unmatched))!r}" if unmatched else ""
        )
        raise TableError(
            f"{env_path.name} has {len(ids)} plots and {pa_path.name} {len(others)}{example}",
            expected="the same siteid in both, in the same order or each once",
        )
    order = pl.DataFrame({"key": ids}).with_row_index("to")
    moved = pa.with_columns(others.alias("key")).join(order, on="key").sort("to").drop("key", "to")
    return moved, True


def _as_text(ids: pl.Series) -> pl.Series:
    """Return identifiers as text that is the same for 7, 7.0 and "7"."""
    numbers = ids.cast(pl.Float64, strict=False)
    return (ids if numbers.null_count() else numbers).cast(pl.String)


def choose_covariates(
    tables: dict[str, pl.DataFrame], background: pl.DataFrame, region: str
) -> tuple[list[str], list[str]]:
    """Return the columns that every table has and that vary over the background, and notes on the others.

    Parameters
    ----------
    tables
        All tables of the region with covariates, by a name for messages; the background is among them.

    Raises
    ------
    TableError
        If none is left, or one is numbers in one table and text in another.
    """
    notes, chosen = [], []
    names = sorted({name for table in tables.values() for name in table.columns} - set(META))
    for name in names:
        lacking = [what for what, table in tables.items() if name not in table.columns]
        if lacking:
            notes.append(f"covariate {name} dropped: absent from {', '.join(lacking)}")
        elif background[name].drop_nulls().n_unique() < 2:
            notes.append(f"covariate {name} dropped: constant over the background")
        else:
            _check_same_kind(name, tables)
            chosen.append(name)
    if not chosen:
        raise TableError(
            f"no covariate of {region} is left ({'; '.join(notes) or 'the tables have none'})",
            expected="columns beside " + ", ".join(META),
        )
    return chosen, notes


def _check_same_kind(name: str, tables: dict[str, pl.DataFrame]) -> None:
    numbers = {what: table[name].dtype.is_numeric() for what, table in tables.items() if table[name].count()}
    if len(set(numbers.values())) > 1:
        as_numbers, as_text = (
            [what for what, is_number in numbers.items() if is_number == kind] for kind in (True, False)
        )
        raise TableError(
            f"covariate {name} is numbers in {', '.join(as_numbers)} and text in {', '.join(as_text)}",
            expected="the same in every table",
            action="Correct the values that are no numbers (NA is a missing one), or write codes as text everywhere",
        )


def presence(pa: pl.DataFrame, species: Sequence[str], path: Path) -> np.ndarray:
    """Return (plots, species) bool.

    Raises
    ------
    TableError
        If a value is neither 0 nor 1.
    """
    values = pa.select(pl.col(species).cast(pl.Float64, strict=False)).to_numpy().reshape(len(pa), len(species))
    if bad := [name for name, column in zip(species, values.T, strict=True) if not np.isin(column, (0, 1)).all()]:
        raise TableError(f"columns {bad[:5]} of {path} hold values other than 0 and 1", expected="presence or absence")
    return values == 1


def kilometres(tables: Iterable[pl.DataFrame]) -> Callable[[pl.DataFrame], np.ndarray]:
    """Return a function from a table to its (rows, 2) kilometres; degrees are told from metres by their size.

    Degrees are projected to an equal-area CRS that suits all tables.
    """
    xy = np.concatenate([table.select("x", "y").to_numpy() for table in tables])
    if (np.abs(xy) <= (360, 90)).all():
        crs = equal_area_crs(xy[:, 0], xy[:, 1])
        return lambda table: project(table["x"].to_numpy(), table["y"].to_numpy(), crs) / 1000
    return lambda table: table.select("x", "y").to_numpy() / 1000
