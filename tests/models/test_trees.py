"""What trees see of the tables, and trees as tables of nodes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.tree import DecisionTreeRegressor

from releve.data.gather import Gatherer
from releve.data.statistics import measure_statistics
from releve.models.config import TABLES
from releve.models.trees import TableFeatures, find_leaves, node_tables
from releve.store.read import Store
from stores import make_store

TRAIN = np.arange(90)
FACTS = ("area_m2", "uncertainty_m", "year", "country", "region")


@pytest.fixture(scope="module")
def store() -> Store:
    return make_store(120)


def features_of(store: Store) -> dict[str, np.ndarray]:
    statistics = measure_statistics(store, TRAIN, TABLES, rng=np.random.default_rng(0))
    features = TableFeatures(statistics)
    table = features.of(Gatherer(store, TABLES, statistics.categories).batch(np.arange(120))).numpy()
    return dict(zip(features.columns, table.T, strict=True))


def test_columns_are_named_in_the_order_of_the_tables_numbers_first(store: Store) -> None:
    assert list(features_of(store)) == [
        *("covariates.warmth", "covariates.rain", "covariates.soil", "covariates.cover"),
        *("survey.log10_area_m2", "survey.log10_uncertainty_m", "survey.year", "survey.country", "survey.region"),
        *("location.lon", "location.lat"),
    ]


def test_a_category_is_the_place_of_its_code_from_1_and_0_where_it_is_missing_or_new(store: Store) -> None:
    columns = features_of(store)
    np.testing.assert_array_equal(columns["survey.country"], np.where(store.surveys["country"] == "France", 1, 2))
    alpine = (store.surveys["region"] == "ALPINE").fill_null(False).to_numpy()
    np.testing.assert_array_equal(columns["survey.region"], alpine)
    array = store.arrays["covariates"]
    cover = np.where(array.row_of >= 0, array.values[array.row_of, 3], np.nan)
    np.testing.assert_array_equal(columns["covariates.cover"], np.nan_to_num(cover + 1))


def test_a_missing_number_is_taken_for_the_median(store: Store) -> None:
    columns = features_of(store)
    array = store.arrays["covariates"]
    missing = (array.row_of < 0) | np.isnan(array.values[array.row_of, 0])
    assert missing.any() and (columns["covariates.warmth"][missing] == 0).all()
    assert (columns["covariates.warmth"][~missing] != 0).mean() > 0.9


def test_hidden_facts_are_all_those_of_a_survey_and_nothing_else(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    statistics = measure_statistics(store, TRAIN, TABLES, rng=np.random.default_rng(0))
    features = TableFeatures(statistics)
    whole = features.of(Gatherer(store, TABLES, statistics.categories).batch(TRAIN))
    unknown = store.surveys.with_columns(
        *(pl.lit(None, store.surveys.schema[name]).alias(name) for name in FACTS if name in store.surveys.columns)
    )
    without = features.of(Gatherer(replace(store, surveys=unknown), TABLES, statistics.categories).batch(TRAIN))
    assert not torch.equal(whole, without)
    monkeypatch.setattr("releve.models.trees.HIDDEN_SHARE", 1.0)
    assert torch.equal(features.hide_facts(whole, np.random.default_rng(0)), without)
    monkeypatch.setattr("releve.models.trees.HIDDEN_SHARE", 0.25)
    some = features.hide_facts(whole, np.random.default_rng(0))
    hidden = (some == without).all(dim=1)
    assert torch.equal(some[~hidden], whole[~hidden]) and 10 < int(hidden.sum()) < 35  # of 90


def test_a_row_ends_in_the_leaf_that_scikit_learn_puts_it_in() -> None:
    """Trees of several depths side by side; the shorter ones are padded with nodes that nothing reaches."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 6)).astype(np.float32), rng.normal(size=(200, 3))
    trees = [DecisionTreeRegressor(max_leaf_nodes=size, random_state=0).fit(x, y) for size in (2, 9, 40)]
    tables = node_tables([tree.tree_ for tree in trees])
    found = find_leaves(torch.from_numpy(x), **tables)
    np.testing.assert_array_equal(found.numpy(), np.stack([tree.apply(x) for tree in trees]))
