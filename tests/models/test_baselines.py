"""Reference models equal what is worked out by hand, or by scikit-learn, on the training rows alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import scipy.sparse
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.neighbors import NearestNeighbors

from releve.geo import unit_vectors
from releve.metrics import Lists
from releve.models import baselines
from releve.models.baselines import BASELINES, PRIOR_WEIGHT, predict_extra_trees, standardised_covariates
from releve.store import Store
from stores import make_store

TRAIN, ROWS = np.arange(0, 90), np.arange(90, 120)


@pytest.fixture(scope="module")
def store() -> Store:
    return make_store(120)


def dense(store: Store, rows: np.ndarray) -> np.ndarray:
    labels = np.zeros((len(rows), len(store.species_ids)))
    for i, row in enumerate(rows):
        labels[i, store.labels.row(row)] = 1
    return labels


def shrunk(means: np.ndarray, labels: np.ndarray, num_neighbours: int) -> np.ndarray:
    return (num_neighbours * means + PRIOR_WEIGHT * labels.mean(axis=0)) / (num_neighbours + PRIOR_WEIGHT)


def test_frequency_is_the_share_of_training_rows(store: Store) -> None:
    probs = BASELINES["frequency"](store, TRAIN, store, ROWS, 0)
    np.testing.assert_allclose(probs, np.tile(dense(store, TRAIN).mean(axis=0), (30, 1)), rtol=1e-6)


def test_three_places_by_hand(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "NUM_NEAREST_PLACES", 2)
    four = replace(
        store,
        surveys=pl.DataFrame({"lon": [0.0, 1.0, 5.0, 0.4], "lat": [50.0, 50.0, 50.0, 50.0]}),
        labels=Lists.from_rows([[0, 1], [1], [2], [0]]),
        species=store.species.head(3),
    )
    probs = BASELINES["nearest places"](four, np.arange(3), four, np.array([3]), 0)
    # The nearest two hold {0, 1} and {1}: means 1/2, 1, 0. Frequencies 1/3, 2/3, 1/3 weigh 1 of 3.
    np.testing.assert_allclose(probs, [[1 / 3 + 1 / 9, 2 / 3 + 2 / 9, 1 / 9]], rtol=1e-6)


@pytest.mark.parametrize(("name", "k"), [("nearest places", 15), ("nearest environments", 30)])
def test_nearest_neighbours_are_scikit_learns(name: str, k: int) -> None:
    store = make_store(120, missing=0.0)  # surveys without covariates would all be alike: of equals, any
    if name == "nearest places":
        points = [unit_vectors(store.lon[rows], store.lat[rows]) for rows in (TRAIN, ROWS)]
    else:
        points = list(standardised_covariates(store, TRAIN, store, ROWS))
    model = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(points[0])
    labels = dense(store, TRAIN)
    expected = shrunk(labels[model.kneighbors(points[1])[1]].mean(axis=1), labels, k)
    found = BASELINES[name](store, TRAIN, store, ROWS, 0)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_environments_are_standardised_by_training_rows_with_missing_at_the_mean(store: Store) -> None:
    array = store.arrays["covariates"]
    known, table = standardised_covariates(store, TRAIN, store, ROWS)
    raw = np.where(array.row_of[:, None] >= 0, array.values[array.row_of], np.nan).astype(float)
    mean, std = np.nanmean(raw[TRAIN], axis=0), np.nanstd(raw[TRAIN], axis=0)
    for side, rows in ((known, TRAIN), (table, ROWS)):
        expected = np.clip(np.nan_to_num((raw[rows, :3] - mean[:3]) / std[:3]), -5, 5)
        np.testing.assert_allclose(side[:, :3], expected, atol=1e-5)
        for column, code in zip(side[:, 3:].T, (0, 1, 2), strict=True):
            np.testing.assert_array_equal(column, raw[rows, 3] == code)


def test_covariates_of_another_store_are_found_by_name(store: Store) -> None:
    array = store.arrays["covariates"]
    order = [2, 3, 0]  # soil, cover, warmth; no rain
    spec = array.spec.model_copy(update={"channels": tuple(array.spec.channels[i] for i in order), "shape": (3,)})
    other = replace(store, arrays={"covariates": replace(array, spec=spec, values=array.values[:, order])})
    ours, theirs = (standardised_covariates(store, TRAIN, target, ROWS)[1] for target in (store, other))
    np.testing.assert_array_equal(theirs[:, 1], 0)
    np.testing.assert_array_equal(np.delete(theirs, 1, axis=1), np.delete(ours, 1, axis=1))


def test_constant_columns_are_left_out(store: Store) -> None:
    array = store.arrays["covariates"]
    values = array.values.copy()
    values[:, 2] = 0.1
    constant = replace(store, arrays={"covariates": replace(array, values=values)})
    assert standardised_covariates(constant, TRAIN, constant, ROWS)[0].shape == (90, 5)


def test_extra_trees_average_the_labels_of_their_leaves(store: Store) -> None:
    """On 8 species the components hold all but one dimension of the labels; the leaf means are worked out here."""
    found = predict_extra_trees(store, TRAIN, store, ROWS, 4)
    labels = dense(store, TRAIN)
    known, table = standardised_covariates(store, TRAIN, store, ROWS)
    known = np.column_stack([known, store.lon[TRAIN], store.lat[TRAIN]])
    table = np.column_stack([table, store.lon[ROWS], store.lat[ROWS]])
    svd = baselines.TruncatedSVD(7, random_state=4).fit_transform(scipy.sparse.csr_matrix(labels, dtype=np.float32))
    forest = ExtraTreesRegressor(200, min_samples_leaf=3, max_features=0.3, random_state=4).fit(known, svd)
    means = np.zeros((30, 8))
    for tree in forest.estimators_:
        ours, theirs = tree.apply(known), tree.apply(table)
        means += np.stack([labels[ours == leaf].mean(axis=0) for leaf in theirs]) / 200
    np.testing.assert_allclose(found, shrunk(means, labels, 30), atol=1e-5)
    # A forest grown on the labels themselves tells much the same.
    direct = ExtraTreesRegressor(200, min_samples_leaf=3, max_features=0.3, random_state=4).fit(known, labels)
    np.testing.assert_allclose(found, shrunk(direct.predict(table), labels, 30), atol=0.25)
    assert np.corrcoef(found.ravel(), direct.predict(table).ravel())[0, 1] > 0.97


@pytest.mark.parametrize("name", BASELINES)
def test_no_baseline_looks_at_the_rows_it_predicts(store: Store, name: str) -> None:
    rows = [[7] if i in ROWS else store.labels.row(i) for i in range(120)]
    altered = replace(store, labels=Lists.from_rows(rows))
    expected = BASELINES[name](store, TRAIN, store, ROWS, 0)
    np.testing.assert_array_equal(BASELINES[name](altered, TRAIN, altered, ROWS, 0), expected)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("train", [np.array([5]), np.arange(4), TRAIN])
@pytest.mark.parametrize("covariates", [True, False])
def test_few_rows_and_no_covariates_still_give_probabilities(
    store: Store, name: str, train: np.ndarray, covariates: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines, "NUM_TREES", 5)
    kind = store if covariates else replace(store, arrays={})
    probs = BASELINES[name](kind, train, kind, ROWS, 0)
    assert probs.shape == (30, 8)
    assert probs.dtype == np.float32
    assert ((probs >= 0) & (probs <= 1)).all()
    assert probs.sum() > 0
