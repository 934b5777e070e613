"""Reference models that only count: shares of training rows, everywhere, by region or among the nearest."""

# N training rows, M rows to predict, S species

from __future__ import annotations

import numpy as np
import polars as pl
import scipy.sparse
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from sklearn.neighbors import NearestNeighbors

from releve.evaluate.references.design import Design
from releve.geo import unit_vectors
from releve.store.read import Store

NUM_NEAREST_PLACES = 15
NUM_NEAREST_ENVIRONMENTS = 30
PRIOR_WEIGHT = 1.0
"""Weight, in neighbours, of the overall frequency in a mean over neighbours, so that no probability is 0."""
PRIOR_PLOTS = 10.0
"""Weight, in training rows, of the overall frequency in a country's, and of the country's in a region's."""


def predict_frequency(design: Design, seed: int) -> NDArray[np.float32]:
    """Return (M, S) probabilities: each species' share of the training rows, the same everywhere."""
    share = np.asarray(design.labels.mean(axis=0)).ravel()
    return np.broadcast_to(share, (len(design.rows), len(share))).astype(np.float32)


def predict_frequency_by_region(design: Design, seed: int) -> NDArray[np.float32]:
    """Return (M, S) probabilities: each species' share in the row's region of its country, drawn to the country's.

    The share of a country is drawn to the overall one in the same way. A row whose country or region is not known or
    has no training row gets the wider share.
    """
    labels = design.labels
    probs = np.asarray(labels.mean(axis=0), np.float32).ravel()[None].repeat(len(design.rows), axis=0)
    for columns in (("country",), ("country", "region")):
        ours = _group_names(design.store, design.train, columns)
        theirs = _group_names(design.target, design.rows, columns)
        for name in set(ours) & set(theirs) - {None}:
            known, wanted = ours == name, theirs == name
            counts_S = np.asarray(labels[known].sum(axis=0)).ravel()
            probs[wanted] = (counts_S + PRIOR_PLOTS * probs[wanted]) / (known.sum() + PRIOR_PLOTS)
    return probs


def predict_nearest_places(design: Design, seed: int) -> NDArray[np.float32]:
    """Return (M, S) probabilities: the share among the 15 training rows nearest on the globe."""
    known, asked = (
        unit_vectors(store.lon[rows], store.lat[rows])
        for store, rows in ((design.store, design.train), (design.target, design.rows))
    )
    k = min(NUM_NEAREST_PLACES, len(known))
    nearest = cKDTree(known).query(asked, k=k, workers=-1)[1]
    return _mean_of_rows(design, nearest.reshape(len(asked), k))


def predict_nearest_environments(design: Design, seed: int) -> NDArray[np.float32]:
    """Return (M, S) probabilities: the share among the 30 training rows with the most similar columns of the tables.

    A missing value is taken for the median, where the normal score is 0.
    """
    known, asked = design.filled(0.0)
    k = min(NUM_NEAREST_ENVIRONMENTS, len(known))
    nearest = NearestNeighbors(n_neighbors=k, n_jobs=2).fit(known).kneighbors(asked, return_distance=False)
    return _mean_of_rows(design, nearest)


def _mean_of_rows(design: Design, nearest_MK: NDArray[np.int64]) -> NDArray[np.float32]:
    labels = design.labels
    num_rows, k = nearest_MK.shape
    pairs = (np.ones(nearest_MK.size, np.float32), (np.repeat(np.arange(num_rows), k), nearest_MK.ravel()))
    weights = scipy.sparse.csr_matrix(pairs, (num_rows, labels.shape[0]))
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
