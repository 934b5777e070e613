"""What a model must know of its training rows: quantiles, means, categories, prevalence. Nothing of other rows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from releve.data.observation import OBSERVATION_CATEGORICAL, observation_columns, observation_features
from releve.data.survey import SURVEY_CATEGORICAL, SURVEY_NUMERIC, survey_features
from releve.errors import StoreError
from releve.store.read import Store, StoredArray

NUM_QUANTILES = 101
MAX_TABLE_ROWS, MAX_ARRAY_ROWS = 20_000, 4_000
"""Rows, drawn from the training rows, that quantiles, and means over series and pixels, are measured on."""
BLOCK_ROWS = 64
MIN_CATEGORY_ROWS = 5
"""A category with fewer training rows is treated as unknown."""


class TableStatistics(BaseModel):
    """Statistics of a table modality, in the order of its columns."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: tuple[str, ...]
    categorical: tuple[str, ...]
    quantiles: dict[str, list[float]]
    """For each numeric column with a value, values at equally spaced ranks."""
    codes: dict[str, list[float]]
    """For each categorical column, the values that have an embedding of their own."""
    classes: dict[str, dict[int, str]] = {}
    """Of a categorical column whose classes have names, the name of each code."""


class ArrayStatistics(BaseModel):
    """Statistics of a series or patch modality."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: tuple[int, ...]
    fill: float | None
    mean: list[float]
    """For each channel, over values that are not fill."""
    std: list[float]
    first_year: int | None
    channels: tuple[str, ...] = ()
    """Their names, in order."""


class Statistics(BaseModel):
    """All statistics of one set of training rows; they travel with the model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_rows: int
    """Training plots; where there are none, presence-only rows."""
    species_ids: list[int]
    species_names: list[str] = []
    """Their names; none where species have numbers only."""
    num_positives: list[int]
    """Rows among them in which each species is present."""
    num_records: int = 0
    """Presence-only training rows beside the plots."""
    record_positives: list[int] = []
    """Rows among them in which each species is present."""
    categories: dict[str, list[str]]
    """Names known to the ``survey`` modality's categorical columns, in the order of their codes."""
    tables: dict[str, TableStatistics]
    arrays: dict[str, ArrayStatistics]

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities that a model can be built for."""
        return tuple(name for name in (*self.tables, *self.arrays) if name != "observation")


def measure_statistics(
    store: Store, rows: NDArray[np.int64], modalities: tuple[str, ...], *, rng: np.random.Generator
) -> Statistics:
    """Return the statistics of the training rows.

    Parameters
    ----------
    store
        An open store.
    rows
        Positions of the training rows; no other row is looked at.
    modalities
        Modalities to measure; one without a single value in these rows is left out.
    rng
        Draws the rows that are measured when there are very many.

    Raises
    ------
    StoreError
        If the rows hold no species, or no modality has a value.
    """
    plots, records = rows[store.is_plot[rows]], rows[~store.is_plot[rows]]
    counts, record_counts = (
        np.bincount(store.labels.take(part).indices, minlength=len(store.species_ids)) for part in (plots, records)
    )
    if counts.sum() + record_counts.sum() == 0:
        raise StoreError(f"the {len(rows)} training rows of {store.path} hold no species", expected="labelled rows")
    categories = {name: _frequent_names(store, rows, name) for name in SURVEY_CATEGORICAL}
    if "observation" in modalities and len(records):
        categories |= {name: _frequent_names(store, records, name) for name in OBSERVATION_CATEGORICAL}
    tables: dict[str, TableStatistics] = {}
    arrays: dict[str, ArrayStatistics] = {}
    values: NDArray
    for name in modalities:
        if name == "location":
            values = np.column_stack([store.lon, store.lat])[rows]
            tables[name] = _table_statistics(values, ("lon", "lat"), ())
        elif name == "survey":
            values = survey_features(store.surveys[rows.tolist()], categories)
            tables[name] = _table_statistics(values, SURVEY_NUMERIC + SURVEY_CATEGORICAL, SURVEY_CATEGORICAL)
        elif name == "observation":
            if len(records):
                values = observation_features(store, _some(records, MAX_TABLE_ROWS, rng), categories)
                tables[name] = _table_statistics(values, observation_columns(store), OBSERVATION_CATEGORICAL)
        elif name in store.arrays and (store.arrays[name].row_of[rows] >= 0).any():
            array = store.arrays[name]
            having = rows[array.row_of[rows] >= 0]
            if name == "covariates":
                values = array.gather(_some(having, MAX_TABLE_ROWS, rng))
                table = _table_statistics(values, array.spec.channels, array.spec.categorical)
                tables[name] = table.model_copy(update={"classes": array.spec.classes})
            else:
                arrays[name] = _array_statistics(array, _some(having, MAX_ARRAY_ROWS, rng))
    tables = {name: table for name, table in tables.items() if table.quantiles or any(table.codes.values())}
    if not (tables.keys() - {"observation"}) and not arrays:
        raise StoreError(f"store {store.path} has none of the modalities {modalities}", expected="at least one")
    return Statistics(
        num_rows=len(plots) or len(records),
        species_ids=store.species_ids.tolist(),
        species_names=store.species_names,
        num_positives=(counts if len(plots) else record_counts).tolist(),
        num_records=len(records) if len(plots) else 0,
        record_positives=record_counts.tolist() if len(plots) and len(records) else [],
        categories=categories,
        tables=tables,
        arrays=arrays,
    )


def _some(rows: NDArray[np.int64], limit: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return rows if len(rows) <= limit else np.sort(rng.choice(rows, limit, replace=False))


def _frequent_names(store: Store, rows: NDArray[np.int64], column: str) -> list[str]:
    names = store.surveys[column][rows.tolist()].drop_nulls().to_list()
    values, counts = np.unique(np.array(names, dtype=str), return_counts=True)
    return values[counts >= MIN_CATEGORY_ROWS].tolist()


def _table_statistics(values: NDArray, columns: tuple[str, ...], categorical: tuple[str, ...]) -> TableStatistics:
    quantiles, codes = {}, {}
    for name, column in zip(columns, values.T, strict=True):
        valid = column[np.isfinite(column)].astype(np.float64)
        if name in categorical:
            found, counts = np.unique(valid, return_counts=True)
            codes[name] = found[counts >= MIN_CATEGORY_ROWS].tolist()
        elif len(valid):
            quantiles[name] = np.quantile(valid, np.linspace(0, 1, NUM_QUANTILES)).tolist()
    return TableStatistics(columns=columns, categorical=categorical, quantiles=quantiles, codes=codes)


def _array_statistics(array: StoredArray, rows: NDArray[np.int64]) -> ArrayStatistics:
    """Mean and standard deviation of each channel, in blocks of rows so that patches need not fit in memory."""
    num_channels = array.spec.shape[0]
    count, total, square = np.zeros(num_channels), np.zeros(num_channels), np.zeros(num_channels)
    fill = np.nan if array.spec.fill is None else array.spec.fill  # no value equals NaN
    pool = ThreadPoolExecutor() if array.offsets is not None else None
    for start in range(0, len(rows), BLOCK_ROWS):
        block = array.gather(rows[start : start + BLOCK_ROWS], pool)
        for channel in range(num_channels):
            values = block[:, channel]
            valid = values[values != fill].astype(np.float64)
            count[channel] += valid.size
            total[channel] += valid.sum()
            square[channel] += np.square(valid).sum()
    count = np.maximum(count, 1)
    mean = total / count
    std = np.sqrt(np.maximum(square / count - mean**2, 0))
    return ArrayStatistics(
        shape=array.spec.shape,
        fill=array.spec.fill,
        mean=mean.tolist(),
        std=np.where(std > 1e-6 * np.abs(mean), std, 1.0).tolist(),  # rain in kg a m2 and second has small numbers
        first_year=array.spec.first_year,
        channels=array.spec.channels,
    )
