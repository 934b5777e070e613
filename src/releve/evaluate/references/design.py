"""What the reference models share: their signature, labels and standardised covariates."""

# N training rows, M rows to predict, K columns

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from releve.store.read import Store

ReferenceModel = Callable[[Store, NDArray[np.int64], Store, NDArray[np.int64], int], NDArray[np.float32]]
"""``predict(store, train, target, rows, seed)``: fit on ``train`` of a store, predict ``rows`` of it or another."""


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


def gather_labels(store: Store, rows: NDArray[np.int64]) -> scipy.sparse.csr_matrix:
    """Return the (N, S) labels of rows, sparse float32."""
    return store.labels.take(rows).to_csr(len(store.species_ids)).astype(np.float32)
