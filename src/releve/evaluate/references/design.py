"""What reference models are given: the tables that the run looks at, read as the run reads them, and labels."""

# N training rows, M rows to predict, K columns, S species

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray

from releve.data.gather import Gatherer
from releve.data.statistics import Statistics, TableStatistics, measure_statistics
from releve.errors import StoreError
from releve.models.config import TABLES
from releve.models.tables import QuantileScore
from releve.store.read import Store

MOST_ROWS = 100_000
"""Training rows of a reference model; of more, so many are drawn."""
BLOCK_ROWS = 4096


@dataclass(frozen=True, eq=False)
class Design:
    """The rows that a reference model is fitted on, those that it predicts, and what it may know of them.

    Parameters
    ----------
    store, train
        Where the training rows are.
    target, rows
        Where the rows to predict are; the same store or another.
    modalities
        The tables that the models look at. Those that the training rows have no value of are left out.
    seed
        Of the rows that statistics are measured on where there are very many.
    """

    store: Store
    train: NDArray[np.int64]
    target: Store
    rows: NDArray[np.int64]
    modalities: tuple[str, ...]
    seed: int

    @cached_property
    def labels(self) -> scipy.sparse.csr_matrix:
        """(N, S) labels of the training rows, sparse float32."""
        return self.store.labels.take(self.train).to_csr(len(self.store.species_ids)).astype(np.float32)

    @cached_property
    def statistics(self) -> Statistics | None:
        """Quantiles and categories of the training rows; None where they have no value of any table."""
        try:
            return measure_statistics(self.store, self.train, self.modalities, rng=np.random.default_rng(self.seed))
        except StoreError:
            return None

    @property
    def columns(self) -> tuple[str, ...]:
        """(K,) names of the columns: ``modality.column``, and ``modality.column=code`` for a category."""
        tables = self.statistics.tables if self.statistics else {}
        return tuple(f"{name}.{column}" for name, table in tables.items() for column in _column_names(table))

    @cached_property
    def known(self) -> NDArray[np.float32]:
        """(N, K) columns of the training rows: see :func:`make_design`."""
        return self._encode(self.store, self.train)

    @cached_property
    def asked(self) -> NDArray[np.float32]:
        """(M, K) columns of the rows to predict."""
        return self._encode(self.target, self.rows)

    def filled(self, missing: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return ``known`` and ``asked`` with a number for missing values; one constant column if there are none."""
        if not self.columns:
            return np.zeros((len(self.train), 1), np.float32), np.zeros((len(self.rows), 1), np.float32)
        known, asked = (np.nan_to_num(table, nan=missing) for table in (self.known, self.asked))
        return known, asked

    def gatherer(self, store: Store) -> Gatherer:
        """Return what gathers the tables of a store, with the covariates of the training rows, in their order."""
        assert self.statistics
        table = self.statistics.tables.get("covariates")
        names = self.statistics.modalities
        return Gatherer(store, names, self.statistics.categories, table.columns if table else None)

    def _encode(self, store: Store, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        values = np.full((len(rows), len(self.columns)), np.nan, np.float32)
        if self.statistics is None:
            return values
        gatherer = self.gatherer(store)
        for start in range(0, len(rows), BLOCK_ROWS):
            batch, at = gatherer.batch(rows[start : start + BLOCK_ROWS]), 0
            for name, table in self.statistics.tables.items():
                width = len(_column_names(table))
                if name in batch.values:
                    values[start + batch.places[name].numpy(), at : at + width] = _encode_table(
                        table, batch.values[name]
                    )
                at += width
        return values


ReferenceModel = Callable[[Design, int], NDArray[np.float32]]
"""``predict(design, seed)``: fit on the training rows of a design, and return (M, S) probabilities."""


def make_design(
    store: Store,
    train: NDArray[np.int64],
    target: Store,
    rows: NDArray[np.int64],
    modalities: tuple[str, ...],
    seed: int = 0,
) -> Design:
    """Return what reference models are given.

    The columns are those of every table modality that the run looks at (``covariates``, ``survey``, ``location``), by
    the statistics that networks and forests use: a number is the normal score of its rank among the training rows, a
    category is columns of 0 and 1, a missing value is NaN. A run that looks at no table, but images or series only, is
    compared with models of the covariates and the place.

    Parameters
    ----------
    store, train
        The training rows; of more than 100,000, so many are drawn.
    target, rows
        The rows to predict.
    modalities
        Those of the run.
    seed
        Of what is drawn.
    """
    if len(train) > MOST_ROWS:
        train = np.sort(np.random.default_rng(seed).choice(train, MOST_ROWS, replace=False))
    tables = tuple(name for name in modalities if name in TABLES) or ("covariates", "location")
    return Design(store, train, target, rows, tables, seed)


def _column_names(table: TableStatistics) -> list[str]:
    numbers = [name for name in table.columns if name in table.quantiles]
    return numbers + [f"{name}={code:g}" for name in table.columns for code in table.codes.get(name, ())]


def _encode_table(table: TableStatistics, values_BK: torch.Tensor) -> NDArray[np.float32]:
    """Return the columns of :func:`_column_names`."""
    numbers = [i for i, name in enumerate(table.columns) if name in table.quantiles]
    scores = QuantileScore([table.quantiles[table.columns[i]] for i in numbers])(values_BK[:, numbers])
    codes = [
        (values_BK[:, i] == code).float()[:, None]
        for i, name in enumerate(table.columns)
        for code in table.codes.get(name, ())
    ]
    return torch.cat([scores, *codes], dim=1).numpy()
