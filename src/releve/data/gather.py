"""Gather batches from a store by index: fancy indexing over arrays, no file opened in a step."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from releve.data.batch import Batch
from releve.data.observation import observation_features
from releve.data.survey import survey_features
from releve.store.read import Store


class Gatherer:
    """Turns positions in a store into batches.

    Arrays stay memory-mapped: what is in use lies in the system's cache, once for all members of a run. Those that a
    GPU holds whole are gathered there. Which rows are wanted is always worked out on the CPU, so that nothing in a
    step waits for the GPU.

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
    resident
        Modalities on the training device, see :func:`releve.data.resident.place_arrays`; not with ``columns``.
    """

    def __init__(
        self,
        store: Store,
        modalities: tuple[str, ...],
        categories: dict[str, list[str]],
        columns: tuple[str, ...] | None = None,
        trust: NDArray[np.float32] | None = None,
        resident: dict[str, Tensor] | None = None,
    ) -> None:
        self.store, self.categories = store, categories
        self._column_places = _column_places(store, columns)
        self.modalities = modalities
        self.resident = resident or {}
        surveys = store.surveys
        self._year = torch.from_numpy(surveys["year"].fill_null(0).to_numpy().astype(np.int64))
        self._month = torch.from_numpy(surveys["month"].fill_null(0).to_numpy().astype(np.int64))
        self._tables: dict[str, NDArray[np.float32]] = {}
        self._row_of = {name: array.row_of for name, array in store.arrays.items() if name in modalities}
        if "survey" in modalities:
            self._tables["survey"] = survey_features(surveys, categories)
        if "location" in modalities:
            self._tables["location"] = np.column_stack([store.lon, store.lat]).astype(np.float32)
        if "observation" in modalities:
            records = np.flatnonzero(~store.is_plot)
            self._tables["observation"] = observation_features(store, records, categories)
            self._row_of["observation"] = np.full(len(store), -1, np.int64)
            self._row_of["observation"][records] = np.arange(len(records))
        self._trust = torch.from_numpy(store.trust if trust is None else trust)
        encoded = any(name in modalities and array.offsets is not None for name, array in store.arrays.items())
        self._pool = ThreadPoolExecutor() if encoded else None

    @property
    def decodes(self) -> bool:
        """Whether patches are decoded for each batch."""
        return self._pool is not None

    def batch(self, rows: NDArray[np.int64], together: NDArray[np.int64] | None = None) -> Batch:
        """Return the batch of the surveys at these positions, in their order.

        Parameters
        ----------
        rows
            Positions in the store.
        together
            Positions in the batches of all processes that take the step; by default ``rows``.
        """
        index = torch.from_numpy(np.ascontiguousarray(rows, np.int64))
        values, places, counts = {}, {}, {}
        for name in self.modalities:
            if name not in self._tables and name not in self._row_of:
                continue
            found = np.arange(len(rows)) if name not in self._row_of else np.flatnonzero(self._row_of[name][rows] >= 0)
            values[name] = self._gather(name, rows[found])
            places[name] = torch.from_numpy(found)
            if together is not None:
                row_of = self._row_of.get(name)
                counts[name] = len(together) if row_of is None else int((row_of[together] >= 0).sum())
        if "observation" in self.modalities:
            places["plots"] = torch.from_numpy(np.flatnonzero(self.store.is_plot[rows]))
        else:
            places["plots"] = torch.arange(len(rows))
        labels = self.store.labels.take(rows)
        pairs = torch.from_numpy(labels.surveys()).long(), torch.from_numpy(labels.indices).long()
        date = self._year[index], self._month[index]
        return Batch(index, values, places, *date, *pairs, self._trust[index], counts)

    def _gather(self, name: str, rows: NDArray[np.int64]) -> Tensor:
        """Return (P, ...) values of surveys that have a modality."""
        if name in self._tables:
            return torch.from_numpy(self._tables[name][self._row_of[name][rows] if name in self._row_of else rows])
        if name in self.resident:
            held = self.resident[name]
            index = torch.from_numpy(self._row_of[name][rows])
            index = index.pin_memory() if held.is_cuda else index
            values = held.index_select(0, index.to(held.device, non_blocking=True))
            return values.view(torch.uint16) if self.store.arrays[name].spec.dtype == "uint16" else values
        gathered = self.store.arrays[name].gather(rows, self._pool)
        if name == "covariates" and self._column_places is not None:
            gathered = _reorder(gathered, self._column_places)
        return torch.from_numpy(gathered)


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
