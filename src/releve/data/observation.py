"""How presence-only rows came about: who looked, how much, and how easy the place is to reach."""

# N rows, K columns

from __future__ import annotations

import re

import numpy as np
import polars as pl
from numpy.typing import NDArray

from releve.store.read import Store

OBSERVATION_NUMERIC = ("log1p_num_records", "log1p_cell_records")
OBSERVATION_CATEGORICAL = ("publisher",)
ACCESS = re.compile(r"(roads?|railways?)$", re.IGNORECASE)
"""Covariates that say how easily people get to a place; density of people and buildings shape the plants too."""
BLOCK_ROWS = 100_000


def access_columns(store: Store) -> tuple[str, ...]:
    """Return the covariates of a store that say how easily people get to a place."""
    if "covariates" not in store.arrays:
        return ()
    return tuple(name for name in store.arrays["covariates"].spec.channels if ACCESS.search(name))


def observation_columns(store: Store) -> tuple[str, ...]:
    """Return the columns of :func:`observation_features`."""
    return (*OBSERVATION_NUMERIC, *OBSERVATION_CATEGORICAL, *access_columns(store))


def observation_features(store: Store, rows: NDArray[np.int64], categories: dict[str, list[str]]) -> NDArray:
    """Return (N, K) float32: log of records and of records in the 10 km cell, publisher code, access covariates.

    Parameters
    ----------
    store
        An open store.
    rows
        Positions of presence-only rows.
    categories
        The known publishers, in the order of their codes; another is NaN.
    """
    table = store.surveys[rows.tolist()]
    counts = table.select(pl.col("num_records").cast(pl.Float64).log1p(), pl.col("log1p_cell_records").cast(pl.Float64))
    columns = [counts.fill_null(float("nan")).to_numpy()]
    codes = {value: float(code) for code, value in enumerate(categories.get("publisher", []))}
    publisher = table["publisher"].cast(pl.String).replace_strict(codes, default=None, return_dtype=pl.Float64)
    columns.append(publisher.fill_null(float("nan")).to_numpy())
    features = np.column_stack(columns).astype(np.float32)
    access = access_columns(store)
    if not access:
        return features
    array = store.arrays["covariates"]
    places = [array.spec.channels.index(name) for name in access]
    blocks = [array.gather(rows[i : i + BLOCK_ROWS])[:, places] for i in range(0, len(rows), BLOCK_ROWS)]
    values = np.concatenate([np.zeros((0, len(places)), np.float32), *blocks])
    values = np.where(array.row_of[rows, None] >= 0, values, np.float32(np.nan))
    return np.concatenate([features, values], axis=1)
