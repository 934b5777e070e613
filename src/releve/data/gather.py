"""Gather batches from a store by index: fancy indexing over arrays, no file opened in a step."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from releve.data.batch import Batch
from releve.data.observation import observation_features
from releve.store import Store

SURVEY_NUMERIC = ("log10_area_m2", "log10_uncertainty_m", "year")
SURVEY_CATEGORICAL = ("country", "region")


class Gatherer:
    """Turns positions in a store into batches.

    Arrays stay memory-mapped: what is in use lies in the system's cache, once for all members of a run.

    Parameters
    ----------
    store
        An open store.
    modalities
        Names to gather; one that the store lacks is left out of the batch. ``observation`` is how presence-only rows
        came about (see :mod:`releve.data.observation`).
    categories
        For each categorical column of the ``survey`` modality, its known values in the order of their codes.
    columns
        Covariates wanted, in this order; one that the store lacks is NaN. By default all of the store's.
    trust
        (surveys,) how far each row's silence is trusted; by default what the store says.
    """

    def __init__(
        self,
        store: Store,
        modalities: tuple[str, ...],
        categories: dict[str, list[str]],
        columns: tuple[str, ...] | None = None,
        trust: NDArray[np.float32] | None = None,
    ) -> None:
        self.store, self.categories = store, categories
        self._column_places = _column_places(store, columns)
        self.modalities = modalities
        self._labels = torch.from_numpy(np.ascontiguousarray(store.labels.indices)).long()
        self._indptr = torch.from_numpy(np.ascontiguousarray(store.labels.indptr)).long()
        surveys = store.surveys
        self._year = torch.from_numpy(surveys["year"].fill_null(0).to_numpy().astype(np.int64))
        self._month = torch.from_numpy(surveys["month"].fill_null(0).to_numpy().astype(np.int64))
        self._tables: dict[str, NDArray[np.float32]] = {}
        if "survey" in modalities:
            self._tables["survey"] = survey_features(surveys, categories)
        if "location" in modalities:
            self._tables["location"] = np.column_stack([store.lon, store.lat]).astype(np.float32)
        self._trust = torch.from_numpy(store.trust if trust is None else trust)
        encoded = any(name in modalities and array.offsets is not None for name, array in store.arrays.items())
        self._pool = ThreadPoolExecutor() if encoded else None

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """Return the batch of the surveys at these positions, in their order."""
        index = torch.from_numpy(np.ascontiguousarray(rows, np.int64))
        values, places = {}, {}
        for name in self.modalities:
            if name in self._tables:
                values[name] = torch.from_numpy(self._tables[name][rows])
                places[name] = torch.arange(len(rows))
            elif name == "observation":
                found = np.flatnonzero(~self.store.is_plot[rows])
                values[name] = torch.from_numpy(observation_features(self.store, rows[found], self.categories))
                places[name] = torch.from_numpy(found)
            elif name in self.store.arrays:
                array = self.store.arrays[name]
                found = np.flatnonzero(array.row_of[rows] >= 0)
                gathered = array.gather(rows[found], self._pool)
                if name == "covariates" and self._column_places is not None:
                    gathered = _reorder(gathered, self._column_places)
                values[name] = torch.from_numpy(gathered)
                places[name] = torch.from_numpy(found)
        label_rows, label_species = self._gather_labels(index)
        date = self._year[index], self._month[index]
        return Batch(index, values, places, *date, label_rows, label_species, self._trust[index])

    def _gather_labels(self, index: Tensor) -> tuple[Tensor, Tensor]:
        starts = self._indptr[index]
        lengths = self._indptr[index + 1] - starts
        label_rows = torch.repeat_interleave(lengths)
        first_of_row = lengths.cumsum(0) - lengths
        within = torch.arange(len(label_rows)) - first_of_row[label_rows]
        return label_rows, self._labels[starts[label_rows] + within]


def _column_places(store: Store, columns: tuple[str, ...] | None) -> NDArray[np.int64] | None:
    """Return where each wanted covariate stands in the store (-1: nowhere); None if they are the store's own."""
    if columns is None or "covariates" not in store.arrays:
        return None
    have = store.arrays["covariates"].spec.channels
    if columns == have:
        return None
    return np.array([have.index(name) if name in have else -1 for name in columns], np.int64)


def _reorder(values: NDArray[np.float32], places: NDArray[np.int64]) -> NDArray[np.float32]:
    return np.where(places >= 0, values[:, np.maximum(places, 0)], np.float32(np.nan))


def survey_features(surveys: pl.DataFrame, categories: dict[str, list[str]]) -> NDArray[np.float32]:
    """Return (N, K) facts of the surveys themselves: ``SURVEY_NUMERIC`` then ``SURVEY_CATEGORICAL``.

    Area and uncertainty are in log10 of metres (squared); a category is the position of its name in ``categories``;
    NaN stands for missing and for a name not seen in training.

    Examples
    --------
    >>> table = pl.DataFrame({"area_m2": [100.0, None], "uncertainty_m": [9.0, 0.0], "year": [2019, 2020],
    ...                       "country": ["Italy", "Malta"], "region": ["ALPINE", None]})
    >>> survey_features(table, {"country": ["France", "Italy"], "region": ["ALPINE"]}).tolist()
    [[2.0, 1.0, 2019.0, 1.0, 0.0], [nan, 0.0, 2020.0, nan, nan]]
    """
    columns = [
        pl.when(pl.col("area_m2") > 0).then(pl.col("area_m2").log10()),
        pl.when(pl.col("uncertainty_m") >= 0).then((pl.col("uncertainty_m") + 1).log10()),
        pl.col("year").cast(pl.Float64),
    ]
    for name in SURVEY_CATEGORICAL:
        known = categories.get(name, [])
        codes = {value: float(code) for code, value in enumerate(known)}
        columns.append(pl.col(name).cast(pl.Utf8).replace_strict(codes, default=None, return_dtype=pl.Float64))
    names = SURVEY_NUMERIC + SURVEY_CATEGORICAL
    features = surveys.select(*(column.alias(name) for column, name in zip(columns, names, strict=True)))
    return features.fill_null(float("nan")).to_numpy().astype(np.float32)
