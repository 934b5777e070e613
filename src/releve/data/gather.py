"""Rows of a store as batches, gathered by index: no file is opened in a step, and nothing is normalised here."""

# B batch, P surveys of the batch that have a modality
# C channels, H W pixels, Y years, Q seasons, K covariates

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from releve.data.observation import observation_features
from releve.data.survey import survey_features
from releve.store.read import Store

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Batch:
    """What a model is given.

    Parameters
    ----------
    values
        By modality, for the P surveys that have it: ``covariates`` and ``survey`` (P, K) float32 with NaN for
        missing; ``landsat`` and ``climate`` (P, C, Y, Q) and ``patch`` (P, C, H, W) in the store's integer type;
        ``location`` (P, 2) float32 degrees ``lon, lat``; ``observation`` (P, K) float32 of presence-only rows.
    places
        By modality, (P,) int64: positions in the batch of the surveys in ``values``, ascending. ``plots``: the rows
        that were observed as plots are, or are yet to be.
    year, month
        (B,) int64; month 0 where only the year is known.
    counts
        By modality, how many surveys have it in the batches of all processes that take the step together; those of
        this batch where a name is not in it.
    """

    values: dict[str, Tensor]
    places: dict[str, Tensor]
    year: Tensor
    month: Tensor
    counts: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.year)

    def count(self, name: str) -> int:
        """Return how many surveys of the step have a modality; 0 if it was not gathered."""
        return self.counts.get(name, len(self.places.get(name, ())))

    def to(self, device: torch.device) -> Batch:
        """Return the batch on another device."""
        values = {name: move(x, device) for name, x in self.values.items()}
        places = {name: move(x, device) for name, x in self.places.items()}
        return Batch(values, places, move(self.year, device), move(self.month, device), self.counts)


def move(x: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device; from pageable memory a copy would wait for the steps before it."""
    return (x.pin_memory() if device.type == "cuda" and not x.is_cuda else x).to(device, non_blocking=True)


@dataclass(frozen=True)
class Pairs:
    """(P,) positions in a batch, and a species that is present there."""

    rows: NDArray[np.int64]
    species: NDArray[np.int64]


class Gatherer:
    """Turns positions in a store into batches.

    Arrays stay memory-mapped: what is in use lies in the system's cache, once for all members of a run. Those that a
    GPU holds whole are gathered there. Which rows are wanted is always worked out on the CPU, so that nothing in a
    step waits for the GPU.
    """

    def __init__(
        self,
        store: Store,
        modalities: tuple[str, ...],
        categories: dict[str, list[str]],
        columns: tuple[str, ...] | None = None,
        resident: dict[str, Tensor] | None = None,
    ) -> None:
        """Look up what is gathered.

        Parameters
        ----------
        store
            An open store.
        modalities
            Names to gather; one that the store lacks is left out of the batch. ``observation`` is how presence-only
            rows came about (see :mod:`releve.data.observation`).
        categories
            For each categorical column of the ``survey`` modality, its known values in the order of their codes.
        columns
            Covariates wanted, in this order; one that the store lacks is NaN. By default all of the store's.
        resident
            Modalities on the training device, see :func:`releve.data.resident.place_arrays`; not with ``columns``.
        """
        self.store, self.modalities, self.resident = store, modalities, resident or {}
        self._column_places = _column_places(store, columns)
        self._year = torch.from_numpy(store.surveys["year"].fill_null(0).to_numpy().astype(np.int64))
        self._month = torch.from_numpy(store.surveys["month"].fill_null(0).to_numpy().astype(np.int64))
        stored = {name: array for name, array in store.arrays.items() if name in modalities}
        self._row_of = {name: array.row_of for name, array in stored.items()}
        self._decoded = {name: array for name, array in stored.items() if array.offsets is not None}
        self._values = {name: array.values for name, array in stored.items() if array.offsets is None}
        whole = np.arange(len(store))
        if "survey" in modalities:
            self._row_of["survey"], self._values["survey"] = whole, survey_features(store.surveys, categories)
        if "location" in modalities:
            self._row_of["location"] = whole
            self._values["location"] = np.column_stack([store.lon, store.lat]).astype(np.float32)
        if "observation" in modalities:
            records = np.flatnonzero(~store.is_plot)
            self._values["observation"] = observation_features(store, records, categories)
            self._row_of["observation"] = np.full(len(store), -1, np.int64)
            self._row_of["observation"][records] = np.arange(len(records))
        self._pool = ThreadPoolExecutor() if self._decoded else None

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
        values, places, counts = {}, {}, {}
        for name in (name for name in self.modalities if name in self._row_of):
            row_of = self._row_of[name]
            found = np.flatnonzero(row_of[rows] >= 0)
            values[name], places[name] = self._gather(name, rows[found]), torch.from_numpy(found)
            if together is not None:
                counts[name] = int((row_of[together] >= 0).sum())
        as_plots = self.store.is_plot[rows] if "observation" in self.modalities else np.ones(len(rows), bool)
        places["plots"] = torch.from_numpy(np.flatnonzero(as_plots))
        index = torch.from_numpy(np.ascontiguousarray(rows, np.int64))
        return Batch(values, places, self._year[index], self._month[index], counts)

    def presences(self, rows: NDArray[np.int64]) -> Pairs:
        """Return every species that is present in the surveys at these positions, survey by survey."""
        starts = self.store.labels.indptr
        lengths = starts[rows + 1] - starts[rows]
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        species = self.store.labels.indices[np.repeat(starts[rows], lengths) + within]
        return Pairs(np.repeat(np.arange(len(rows)), lengths), species.astype(np.int64))

    def _gather(self, name: str, rows: NDArray[np.int64]) -> Tensor:
        """Return (P, ...) values of surveys that have a modality."""
        if name in self._decoded:
            return torch.from_numpy(self._decoded[name].gather(rows, self._pool))
        own = self._row_of[name][rows]
        if name in self.resident:
            values = self.resident[name].index_select(0, move(torch.from_numpy(own), self.resident[name].device))
            return values.view(torch.uint16) if self._values[name].dtype == np.uint16 else values
        gathered = self._values[name][own]
        if name == "covariates" and self._column_places is not None:
            at = self._column_places
            gathered = np.where(at >= 0, gathered[:, np.maximum(at, 0)], np.float32(np.nan))
        return torch.from_numpy(gathered)


def _column_places(store: Store, columns: tuple[str, ...] | None) -> NDArray[np.int64] | None:
    """Return where each wanted covariate stands in the store (-1: nowhere); None if they are the store's own."""
    have = store.arrays["covariates"].spec.channels if "covariates" in store.arrays else columns
    if columns is None or have is None or columns == have:
        return None
    return np.array([have.index(name) if name in have else -1 for name in columns], np.int64)


def prefetch(work: Callable[[Item], Result], items: Iterable[Item], depth: int) -> Iterator[Result]:
    """Yield ``work(item)`` in the order of the items, up to ``depth`` of them ahead; with 0 each when it is asked for.

    Examples
    --------
    >>> list(prefetch(str, [1, 2, 3], depth=2))
    ['1', '2', '3']
    """
    if depth == 0:
        yield from map(work, items)
        return
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(1) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
