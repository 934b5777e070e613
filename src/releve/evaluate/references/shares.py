"""Reference models that only count: shares of training rows, everywhere, by region or among the nearest."""

# N training rows, M rows to predict, S species

from __future__ import annotations

import numpy as np
import polars as pl
import scipy.sparse
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from sklearn.neighbors import NearestNeighbors

from releve.evaluate.references.design import gather_labels, standardised_covariates
from releve.geo import unit_vectors
from releve.store.read import Store

NUM_NEAREST_PLACES = 15
NUM_NEAREST_ENVIRONMENTS = 30
PRIOR_WEIGHT = 1.0
"""Weight, in neighbours, of the overall frequency in a mean over neighbours, so that no probability is 0."""
PRIOR_PLOTS = 10.0
"""Weight, in training rows, of the overall frequency in a country's, and of the country's in a region's."""


def predict_frequency(
    store: Store, train: NDArray[np.int64], target: Store, rows: NDArray[np.int64], seed: int
) -> NDArray[np.float32]:
    """Return (M, S) probabilities: each species' share of the training rows, the same everywhere."""
    share = np.asarray(gather_labels(store, train).mean(axis=0)).ravel()
    return np.broadcast_to(share, (len(rows), len(share))).astype(np.float32)


def predict_frequency_by_region(
    store: Store, train: NDArray[np.int64], target: Store, rows: NDArray[np.int64], seed: int
) -> NDArray[np.float32]:
    """Return (M, S) probabilities: each species' share in the row's region of its country, drawn to the country's.

    The share of a country is drawn to the overall one in the same way. A row whose country or region is not known or
    has no training row gets the wider share.
    """
    labels = gather_labels(store, train)
    probs = np.asarray(labels.mean(axis=0), np.float32).ravel()[None].repeat(len(rows), axis=0)
    for columns in (("country",), ("country", "region")):
        ours, theirs = _group_names(store, train, columns), _group_names(target, rows, columns)
        for name in set(ours) & set(theirs) - {None}:
            known, wanted = ours == name, theirs == name
            counts_S = np.asarray(labels[known].sum(axis=0)).ravel()
            probs[wanted] = (counts_S + PRIOR_PLOTS * probs[wanted]) / (known.sum() + PRIOR_PLOTS)
    return probs


def predict_nearest_places(
    store: Store, train: NDArray[np.int64], target: Store, rows: NDArray[np.int64], seed: int
) -> NDArray[np.float32]:
    """Return (M, S) probabilities: the share among the 15 training rows nearest on the globe."""
    known = unit_vectors(store.lon[train], store.lat[train])
    k = min(NUM_NEAREST_PLACES, len(train))
    nearest = cKDTree(known).query(unit_vectors(target.lon[rows], target.lat[rows]), k=k, workers=-1)[1]
    return _mean_of_rows(store, train, nearest.reshape(len(rows), k))


def predict_nearest_environments(
    store: Store, train: NDArray[np.int64], target: Store, rows: NDArray[np.int64], seed: int
) -> NDArray[np.float32]:
    """Return (M, S) probabilities: the share among the 30 training rows with the most similar covariates."""
    known, table = standardised_covariates(store, train, target, rows)
    k = min(NUM_NEAREST_ENVIRONMENTS, len(train))
    nearest = NearestNeighbors(n_neighbors=k, n_jobs=2).fit(known).kneighbors(table, return_distance=False)
    return _mean_of_rows(store, train, nearest)


def _mean_of_rows(store: Store, train: NDArray[np.int64], nearest_MK: NDArray[np.int64]) -> NDArray[np.float32]:
    labels = gather_labels(store, train)
    num_rows, k = nearest_MK.shape
    pairs = (np.ones(nearest_MK.size, np.float32), (np.repeat(np.arange(num_rows), k), nearest_MK.ravel()))
    weights = scipy.sparse.csr_matrix(pairs, (num_rows, len(train)))
    share = np.asarray(labels.mean(axis=0)).ravel()
    prior = PRIOR_WEIGHT / (PRIOR_WEIGHT + k)
    return ((1 - prior) * (weights @ labels).toarray() / k + prior * share).astype(np.float32)


def _group_names(store: Store, rows: NDArray[np.int64], columns: tuple[str, ...]) -> NDArray[np.object_]:
    """Return the names of the columns joined, None where one is missing."""
    have = [name for name in columns if name in store.surveys.columns]
    if len(have) < len(columns):
        return np.full(len(rows), None, object)
    table = store.surveys[rows.tolist()].select(pl.concat_str(columns, separator="\x1f"))
    return np.array(table.to_series().to_list(), object)
