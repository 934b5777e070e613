"""A forest predicts the labels of the training rows that share its leaves, and is the same after being written."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from releve.data.gather import Gatherer
from releve.data.statistics import Statistics, measure_statistics
from releve.metrics.ranks import rank_scores
from releve.models.config import ForestConfig
from releve.models.forest import PRIOR_ROWS, ForestModel, fit_forest
from releve.store.read import Store
from stores import make_store

TABLES = ("covariates", "survey", "location")
TREES = ForestConfig(num_trees=12, min_rows=3)


def grow(
    store: Store, rows: np.ndarray, config: ForestConfig = TREES, modalities: tuple[str, ...] = TABLES
) -> tuple[ForestModel, Gatherer, Statistics]:
    statistics = measure_statistics(store, rows, modalities, rng=np.random.default_rng(0))
    gatherer = Gatherer(store, statistics.modalities, statistics.categories)
    return fit_forest(gatherer, rows, statistics, config=config, seed=1), gatherer, statistics


@pytest.fixture(scope="module")
def store() -> Store:
    return make_store(120)


def test_probabilities_are_the_mean_labels_of_leaf_mates_worked_out_row_by_row(store: Store) -> None:
    train, val = np.arange(80), np.arange(80, 120)
    model, gatherer, statistics = grow(store, train)
    logits = model(gatherer.batch(val))
    ours = model.leaf_TN.numpy()
    theirs = model.leaves(gatherer.batch(val)).numpy()
    labels = store.labels.take(train).to_csr(8).toarray().astype(float)
    for i in range(len(val)):
        means = [labels[ours[t] == theirs[t, i]].mean(axis=0) for t in range(TREES.num_trees)]
        expected = (PRIOR_ROWS * np.mean(means, axis=0) + labels.mean(axis=0)) / (PRIOR_ROWS + 1)
        np.testing.assert_allclose(torch.sigmoid(logits[i]).numpy(), expected, atol=2e-5)


def test_a_species_that_no_leaf_mate_has_is_given_its_overall_share_as_one_row_in_31(store: Store) -> None:
    """Two training rows of three have species 0, a leaf mate none: (30 x 0 + 2 / 3) / 31 = .0215."""
    _, gatherer, statistics = grow(store, np.arange(80))
    tensors = {
        "children_TJ2": torch.tensor([[[1, 2], [-1, -1], [-1, -1]]]),
        "feature_TJ": torch.zeros(1, 3),
        "threshold_TJ": torch.tensor([[1e9, 0.0, 0.0]]),  # every row goes to node 1
        "leaf_TN": torch.tensor([[2, 2, 1]]),
        "indptr": torch.tensor([0, 1, 2, 2]),  # rows 0 and 1 have species 0, row 2 has none
        "indices": torch.tensor([0, 0]),
    }
    model = ForestModel(statistics, tensors)
    probs = torch.sigmoid(model(gatherer.batch(np.arange(4))))
    np.testing.assert_allclose(probs[:, 0], 2 / 3 / 31, rtol=1e-4)
    np.testing.assert_allclose(probs[:, 1:], 0.0, atol=2e-6)


def test_leaves_of_thousands_of_rows_take_little_memory(store: Store) -> None:
    """Of 20,000 rows, random places for the most part, all lie in one leaf of each tree, and 400 rows meet it."""
    _, _, statistics = grow(store, np.arange(80))
    num_trees, num_rows = 20, 20_000
    tensors = {
        "feature_TJ": torch.zeros(num_trees, 1),
        "leaf_TN": torch.zeros(num_trees, num_rows, dtype=torch.int32),
        "indptr": torch.cat([torch.tensor([0]), torch.arange(1, num_rows + 1).clamp(max=5)]),
        "indices": torch.zeros(5, dtype=torch.int64),
    }
    model = ForestModel(statistics, tensors)
    tracemalloc.start()
    means = model.means(np.zeros((num_trees, 400), np.int64)).toarray()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(means[:, 0], 5 / num_rows, rtol=1e-5)
    assert not means[:, 1:].any() and peak < 50e6


def test_a_planted_signal_is_found_on_rows_not_trained_on() -> None:
    store = make_store(300, missing=0.0)
    train, val = np.arange(200), np.arange(200, 300)
    model, gatherer, _ = grow(store, train, ForestConfig(num_trees=50))
    assert rank_scores(model(gatherer.batch(val)), store.labels.take(val)).auc_macro > 0.8


def test_a_forest_that_was_written_and_read_gives_the_same_logits(store: Store, tmp_path: Path) -> None:
    model, gatherer, statistics = grow(store, np.arange(80))
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, tmp_path / "w.safetensors")
    again = ForestModel(statistics, load_file(tmp_path / "w.safetensors"))
    batch = gatherer.batch(np.arange(120))
    assert torch.equal(model(batch), again(batch))


def test_the_same_seed_grows_the_same_forest(store: Store) -> None:
    batch_of = [grow(store, np.arange(80)) for _ in range(2)]
    first, second = (model(gatherer.batch(np.arange(80, 120))) for model, gatherer, _ in batch_of)
    assert torch.equal(first, second)


def test_a_survey_without_covariates_still_has_a_prediction(store: Store) -> None:
    model, gatherer, _ = grow(store, np.arange(80))
    lacking = np.flatnonzero(store.arrays["covariates"].row_of < 0)[:3]
    assert torch.isfinite(model(gatherer.batch(lacking))).all()
