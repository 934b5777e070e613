"""What the training rows of each fold say about the rows and species that are scored: how far, how rare, how new."""

# N scored rows, F folds, S species

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from releve.geo import block_ids, nearest_km
from releve.metrics.cells import frequency_class
from releve.prepare.split import measure_fold, split_rows
from releve.store.read import Store

BOOTSTRAP_BLOCK_KM = 50.0
"""Surveys of one block are drawn together, since neighbours are alike."""


@dataclass(frozen=True, eq=False)
class FoldFacts:
    """Facts of the rows that are scored and of the species, from the training plots of the rows' folds.

    ``fold_of_row`` is (N,) int64, a row of ``prevalence_FS``: the share of the fold's training plots that hold a
    species. ``num_train_S`` is the mean number of training plots over folds, ``class_of_species`` its position in
    ``FREQUENCY_CLASSES``. ``distance_km`` and ``novelty`` are (N,): the distance to the nearest training plot, and the
    root of the mean squared difference in standardised covariates to the most similar one (NaN without covariates).
    ``table`` has one row a fold.
    """

    fold_of_row: NDArray[np.int64]
    prevalence_FS: NDArray[np.float64]
    num_train_S: NDArray[np.float64]
    distance_km: NDArray[np.float64]
    novelty: NDArray[np.float64]
    table: pl.DataFrame

    def take(self, rows: NDArray[np.int64]) -> FoldFacts:
        """Return the facts of some of the rows."""
        own = {name: getattr(self, name)[rows] for name in ("fold_of_row", "distance_km", "novelty")}
        return replace(self, **own)

    @property
    def class_of_species(self) -> NDArray[np.int64]:
        """(S,) frequency class."""
        return frequency_class(self.num_train_S)


def measure_folds(store: Store, rows: NDArray[np.int64], buffer_km: float) -> FoldFacts:
    """Return the facts of held-out rows.

    Parameters
    ----------
    store
        The labelled store.
    rows
        Positions of the rows that are scored.
    buffer_km
        As in training.
    """
    folds, fold_of_row = np.unique(store.folds[rows], return_inverse=True)
    counts_FS = np.zeros((len(folds), len(store.species_ids)))
    num_plots_F = np.zeros(len(folds))
    distance_km, novelty = np.full(len(rows), np.inf), np.full(len(rows), np.nan)
    table = []
    for f, fold in enumerate(folds.tolist()):
        train, _, _ = split_rows(store.folds, store.lon, store.lat, fold, buffer_km, store.reach_km)
        train = train[store.is_scored[train]]
        inside = np.flatnonzero(fold_of_row == f)
        counts_FS[f] = np.bincount(store.labels.take(train).indices, minlength=len(store.species_ids))
        num_plots_F[f] = len(train)
        places = (store.lon[rows[inside]], store.lat[rows[inside]], store.lon[train], store.lat[train])
        distance_km[inside] = nearest_km(*places)
        novelty[inside] = measure_novelty(store, train, rows[inside])
        table.append(
            measure_fold(
                *(store.folds, store.lon, store.lat, fold, buffer_km, store.is_scored),
                labels=store.labels,
                reach_km=store.reach_km,
            )
        )
    return FoldFacts(
        fold_of_row=fold_of_row,
        prevalence_FS=counts_FS / np.maximum(num_plots_F, 1)[:, None],
        num_train_S=counts_FS.mean(axis=0),
        distance_km=distance_km,
        novelty=novelty,
        table=pl.DataFrame([asdict(row) for row in table]),
    )


def measure_novelty(store: Store, train: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how far each row's covariates lie from the most similar training row, in standard deviations.

    Missing covariates are the mean; NaN for a row without any, and in a store without covariates.
    """
    if "covariates" not in store.arrays or not len(train):
        return np.full(len(rows), np.nan)
    known, table = standardised_covariates(store, train, store, rows)
    distances, _ = NearestNeighbors(n_neighbors=1, n_jobs=2).fit(known).kneighbors(table)
    return np.where(store.arrays["covariates"].row_of[rows] < 0, np.nan, distances[:, 0] / np.sqrt(known.shape[1]))


def standardised_covariates(
    store: Store, train: NDArray[np.int64], target: Store, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (N, K) covariates of training rows and (M, K) of others, by the training rows' mean and deviation.

    A missing value is the mean (0). Categories (land cover classes) become columns of 0 and 1. A store without
    covariates gives one constant column.
    """
    if "covariates" not in store.arrays:
        return np.zeros((len(train), 1), np.float32), np.zeros((len(rows), 1), np.float32)
    spec = store.arrays["covariates"].spec
    known, table = _raw_covariates(store, train, spec.channels), _raw_covariates(target, rows, spec.channels)
    pairs: list[tuple[NDArray, NDArray]] = []
    for name, ours, theirs in zip(spec.channels, known.T, table.T, strict=True):
        valid = ours[np.isfinite(ours)]
        if name in spec.categorical:
            pairs += [(ours == code, theirs == code) for code in np.unique(valid)]
        elif len(valid) and valid.max() > valid.min():
            mean, deviation = valid.mean(), valid.std()
            ours, theirs = (np.nan_to_num(np.clip((x - mean) / deviation, -5, 5)) for x in (ours, theirs))
            pairs.append((ours, theirs))
    if not pairs:
        return np.zeros((len(train), 1), np.float32), np.zeros((len(rows), 1), np.float32)
    return (
        np.column_stack([ours for ours, _ in pairs]).astype(np.float32),
        np.column_stack([theirs for _, theirs in pairs]).astype(np.float32),
    )


def _raw_covariates(store: Store, rows: NDArray[np.int64], columns: tuple[str, ...]) -> NDArray[np.float64]:
    """Return (rows, columns) float64 with NaN for missing values, surveys and columns."""
    values = np.full((len(rows), len(columns)), np.nan)
    if "covariates" in store.arrays:
        array = store.arrays["covariates"]
        have = [name for name in columns if name in array.spec.channels]
        gathered = array.gather(rows)[:, [array.spec.channels.index(name) for name in have]]
        values[:, [columns.index(name) for name in have]] = gathered
        values[array.row_of[rows] < 0] = np.nan
    return values


def bootstrap_side_km(block_size_km: float) -> float:
    """Return the side of the blocks that are drawn whole: that of the folds' blocks, and 50 km at most.

    Examples
    --------
    >>> bootstrap_side_km(10.0), bootstrap_side_km(200.0)
    (10.0, 50.0)
    """
    return min(BOOTSTRAP_BLOCK_KM, block_size_km)


def bootstrap_blocks(
    lon: NDArray[np.float64], lat: NDArray[np.float64], block_size_km: float = BOOTSTRAP_BLOCK_KM
) -> NDArray[np.int64]:
    """Return the block of each survey that is drawn whole when intervals are worked out, given that of the folds."""
    return block_ids(lon, lat, bootstrap_side_km(block_size_km))
