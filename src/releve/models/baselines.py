"""Reference models that every network is shown beside: same folds, same rows, same lists."""

# N training rows, M rows to predict, S species, K columns

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import ExtraTreesRegressor

from releve.geo import unit_vectors
from releve.store import Store

NUM_NEAREST_PLACES = 15
NUM_NEAREST_ENVIRONMENTS = 30
NUM_TREES = 200
NUM_LABEL_COMPONENTS = 64
PRIOR_WEIGHT = 1.0
"""Weight, in neighbours, of the overall frequency in a mean over neighbours, so that no probability is 0."""

Baseline = Callable[[Store, NDArray[np.int64], Store, NDArray[np.int64], int], NDArray[np.float32]]
"""``predict(store, train, target, rows, seed)``: fit on ``train`` of a store, predict ``rows`` of it or another."""


def predict_frequency(
    store: Store, train: NDArray[np.int64], target: Store, rows: NDArray[np.int64], seed: int
) -> NDArray[np.float32]:
    """Return (M, S) probabilities: each species' share of the training rows, the same everywhere."""
    share = np.asarray(_labels(store, train).mean(axis=0)).ravel()
    return np.broadcast_to(share, (len(rows), len(share))).astype(np.float32)


def predict_nearest_places(
    store: Store, train: NDArray[np.int64], target: Store, rows: NDArray[np.int64], seed: int
) -> NDArray[np.float32]:
    """Return (M, S) probabilities: the share among the 15 training rows nearest on the globe."""
    known = unit_vectors(store.lon[train], store.lat[train])
    places = unit_vectors(target.lon[rows], target.lat[rows])
    return _mean_of_nearest(store, train, known, places, NUM_NEAREST_PLACES)


def predict_nearest_environments(
    store: Store, train: NDArray[np.int64], target: Store, rows: NDArray[np.int64], seed: int
) -> NDArray[np.float32]:
    """Return (M, S) probabilities: the share among the 30 training rows with the most similar covariates."""
    known, table = standardised_covariates(store, train, target, rows)
    return _mean_of_nearest(store, train, known, table, NUM_NEAREST_ENVIRONMENTS)


def predict_extra_trees(
    store: Store, train: NDArray[np.int64], target: Store, rows: NDArray[np.int64], seed: int
) -> NDArray[np.float32]:
    """Return (M, S) probabilities by extremely randomised trees on covariates and coordinates.

    Trees are grown on the 64 leading components of the labels (growing them on thousands of species takes hours);
    the prediction is the forest's own: the mean, over trees, of the labels of the training rows in the same leaf.

    References
    ----------
    Geurts, Ernst & Wehenkel (2006), Extremely randomized trees, doi:10.1007/s10994-006-6226-1.
    """
    labels = _labels(store, train)
    known, table = standardised_covariates(store, train, target, rows)
    known = np.column_stack([known, store.lon[train], store.lat[train]])
    table = np.column_stack([table, target.lon[rows], target.lat[rows]])
    num_components = min(NUM_LABEL_COMPONENTS, min(labels.shape) - 1)
    if num_components < 1:
        return predict_frequency(store, train, target, rows, seed)
    targets = TruncatedSVD(num_components, random_state=seed).fit_transform(labels)
    forest = ExtraTreesRegressor(NUM_TREES, min_samples_leaf=3, max_features=0.3, n_jobs=-1, random_state=seed).fit(
        known, targets
    )
    train_leaves, leaves = forest.apply(known), forest.apply(table)
    total = np.zeros((len(rows), labels.shape[1]), np.float32)
    for ours, theirs in zip(train_leaves.T, leaves.T, strict=True):
        size = int(max(ours.max(), theirs.max())) + 1
        member = scipy.sparse.csr_matrix(
            (np.ones(len(ours), np.float32), (ours, np.arange(len(ours)))), (size, len(ours))
        )
        counts = np.maximum(np.asarray(member.sum(axis=1)), 1)
        leaf_means = scipy.sparse.diags(1 / counts.ravel()) @ (member @ labels)
        total += leaf_means[theirs].toarray()
    return _shrink(total / NUM_TREES, labels, NUM_NEAREST_ENVIRONMENTS)


BASELINES: dict[str, Baseline] = {
    "frequency": predict_frequency,
    "nearest places": predict_nearest_places,
    "nearest environments": predict_nearest_environments,
    "extra trees": predict_extra_trees,
}


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


def _labels(store: Store, rows: NDArray[np.int64]) -> scipy.sparse.csr_matrix:
    return store.labels.take(rows).to_csr(len(store.species_ids)).astype(np.float32)


def _mean_of_nearest(
    store: Store, train: NDArray[np.int64], train_points: NDArray, points: NDArray, num_nearest: int
) -> NDArray[np.float32]:
    labels = _labels(store, train)
    k = min(num_nearest, len(train))
    nearest = cKDTree(train_points).query(points, k=k, workers=-1)[1].reshape(len(points), k)
    pairs = (np.ones(nearest.size, np.float32), (np.repeat(np.arange(len(points)), k), nearest.ravel()))
    weights = scipy.sparse.csr_matrix(pairs, (len(points), len(train)))
    return _shrink((weights @ labels).toarray() / k, labels, k)


def _shrink(probs: NDArray, labels: scipy.sparse.csr_matrix, num_neighbours: int) -> NDArray[np.float32]:
    share = np.asarray(labels.mean(axis=0)).ravel()
    weight = PRIOR_WEIGHT / (PRIOR_WEIGHT + num_neighbours)
    return ((1 - weight) * probs + weight * share).astype(np.float32)
