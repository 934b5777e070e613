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

Baseline = Callable[[Store, NDArray[np.int64], NDArray[np.int64], int], NDArray[np.float32]]


def predict_frequency(
    store: Store, train: NDArray[np.int64], rows: NDArray[np.int64], seed: int
) -> NDArray[np.float32]:
    """Return (M, S) probabilities: each species' share of the training rows, the same everywhere."""
    share = np.asarray(_labels(store, train).mean(axis=0)).ravel()
    return np.broadcast_to(share, (len(rows), len(share))).astype(np.float32)


def predict_nearest_places(
    store: Store, train: NDArray[np.int64], rows: NDArray[np.int64], seed: int
) -> NDArray[np.float32]:
    """Return (M, S) probabilities: the share among the 15 training rows nearest on the globe."""
    places = unit_vectors(store.lon, store.lat)
    return _mean_of_nearest(store, train, places[train], places[rows], NUM_NEAREST_PLACES)


def predict_nearest_environments(
    store: Store, train: NDArray[np.int64], rows: NDArray[np.int64], seed: int
) -> NDArray[np.float32]:
    """Return (M, S) probabilities: the share among the 30 training rows with the most similar covariates."""
    table = standardised_covariates(store, train)
    return _mean_of_nearest(store, train, table[train], table[rows], NUM_NEAREST_ENVIRONMENTS)


def predict_extra_trees(
    store: Store, train: NDArray[np.int64], rows: NDArray[np.int64], seed: int
) -> NDArray[np.float32]:
    """Return (M, S) probabilities by extremely randomised trees on covariates and coordinates.

    Trees are grown on the 64 leading components of the labels (growing them on thousands of species takes hours);
    the prediction is the forest's own: the mean, over trees, of the labels of the training rows in the same leaf.

    References
    ----------
    Geurts, Ernst & Wehenkel (2006), Extremely randomized trees, doi:10.1007/s10994-006-6226-1.
    """
    labels = _labels(store, train)
    table = np.column_stack([standardised_covariates(store, train), store.lon, store.lat])
    num_components = min(NUM_LABEL_COMPONENTS, min(labels.shape) - 1)
    if num_components < 1:
        return predict_frequency(store, train, rows, seed)
    targets = TruncatedSVD(num_components, random_state=seed).fit_transform(labels)
    forest = ExtraTreesRegressor(NUM_TREES, min_samples_leaf=3, max_features=0.3, n_jobs=-1, random_state=seed).fit(
        table[train], targets
    )
    train_leaves, leaves = forest.apply(table[train]), forest.apply(table[rows])
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


def standardised_covariates(store: Store, train: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return (surveys, K) covariates by mean and deviation of the training rows; missing is the mean (0).

    Categories (land cover classes) become columns of 0 and 1. A store without covariates gives one constant column.
    """
    if "covariates" not in store.arrays:
        return np.zeros((len(store), 1), np.float32)
    array = store.arrays["covariates"]
    raw = np.array(array.gather(np.arange(len(store))), np.float64)
    raw[array.row_of < 0] = np.nan
    columns = []
    for name, column in zip(array.spec.channels, raw.T, strict=True):
        if name in array.spec.categorical:
            columns += [(column == code).astype(float) for code in np.unique(column[train][np.isfinite(column[train])])]
            continue
        known = column[train][np.isfinite(column[train])]
        deviation = known.std() if len(known) else 0.0
        if deviation > 0:
            columns.append(np.nan_to_num(np.clip((column - known.mean()) / deviation, -5, 5)))
    return np.column_stack(columns).astype(np.float32) if columns else np.zeros((len(store), 1), np.float32)


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
