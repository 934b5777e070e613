"""Boosted trees take Newton steps for all species, and are the same after being written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch
from safetensors.torch import load_file, save_file
from scipy.special import expit, logit

from releve.data.gather import Gatherer
from releve.data.statistics import Statistics, measure_statistics
from releve.metrics.ranks import rank_scores
from releve.models import boosting
from releve.models.boosting import BoostedModel, fit_boosted_trees, newton_steps
from releve.models.config import TABLES
from releve.models.trees import find_leaves
from releve.store.read import Store
from stores import make_store

TRAIN = np.arange(90)


@pytest.fixture(scope="module")
def store() -> Store:
    return make_store(120)


def boost(store: Store, rows: np.ndarray = TRAIN, *, seed: int = 1) -> tuple[BoostedModel, Gatherer, Statistics]:
    statistics = measure_statistics(store, rows, TABLES, rng=np.random.default_rng(0))
    gatherer = Gatherer(store, statistics.modalities, statistics.categories)
    return fit_boosted_trees(gatherer, rows, statistics, seed=seed), gatherer, statistics


def test_a_leafs_newton_step_by_hand() -> None:
    """Leaf 1 holds two rows at p = 1/2: errors 1/2 + 1/2 and -1/2 - 1/2, curvature 1/4 + 1/4 + the penalty 2."""
    observed = scipy.sparse.csr_matrix(np.array([[1, 0], [1, 0], [0, 0]], np.float32))
    steps = newton_steps(observed, torch.zeros(3, 2), np.array([1, 1, 2]), 3)
    np.testing.assert_allclose(steps, [[0, 0], [1 / 2.5, -1 / 2.5], [-0.5 / 2.25, -0.5 / 2.25]], rtol=1e-6)


def test_two_rounds_are_worked_out_row_by_row(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the overall share on, each round adds to a row the Newton step of the rows in its leaf, times the rate."""
    monkeypatch.setattr(boosting, "NUM_ROUNDS", 2)
    monkeypatch.setattr("releve.models.trees.HIDDEN_SHARE", 0.0)
    model, gatherer, _ = boost(store)
    labels = store.labels.take(TRAIN).to_csr(8).toarray().astype(float)
    kept = labels.sum(axis=0) >= boosting.MIN_PRESENCES
    known = np.full((90, 8), logit(labels.mean(axis=0)))
    asked = np.full((30, 8), logit(labels.mean(axis=0)))
    ours, theirs = (
        find_leaves(model.features.of(batch), model.children_TJ2, model.feature_TJ, model.threshold_TJ)
        for batch in (gatherer.batch(TRAIN), gatherer.batch(np.arange(90, 120)))
    )
    for leaf_N, leaf_M in zip(ours.numpy(), theirs.numpy(), strict=True):
        assert len(np.unique(leaf_N)) > 2
        steps = {}
        for leaf in np.unique(leaf_N):
            probs = expit(known[leaf_N == leaf])
            error = (labels[leaf_N == leaf] - probs).sum(axis=0)
            steps[leaf] = boosting.LEARNING_RATE * error / ((probs * (1 - probs)).sum(axis=0) + boosting.PENALTY)
        known += [steps[leaf] * kept for leaf in leaf_N]
        asked += [steps[leaf] * kept for leaf in leaf_M]
    np.testing.assert_allclose(model(gatherer.batch(np.arange(90, 120))).numpy(), asked, atol=1e-5)


def test_a_planted_signal_is_found_on_rows_not_trained_on() -> None:
    store = make_store(300, missing=0.0)
    model, gatherer, _ = boost(store, np.arange(200))
    val = np.arange(200, 300)
    assert rank_scores(model(gatherer.batch(val)), store.labels.take(val)).auc_macro > 0.8


def test_blocks_of_rows_do_not_change_the_trees(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boosting, "NUM_ROUNDS", 3)
    whole, gatherer, _ = boost(store)
    monkeypatch.setattr(boosting, "BLOCK_ROWS", 7)
    batch = gatherer.batch(np.arange(120))
    np.testing.assert_allclose(boost(store)[0](batch), whole(batch), atol=1e-5)


def test_boosted_trees_that_were_written_and_read_give_the_same_logits(store: Store, tmp_path: Path) -> None:
    model, gatherer, statistics = boost(store)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    again = BoostedModel(statistics, load_file(tmp_path / "w.safetensors"))
    batch = gatherer.batch(np.arange(120))
    assert torch.equal(model(batch), again(batch))


def test_the_same_seed_gives_the_same_trees_and_another_seed_others(store: Store) -> None:
    first, again, other = (boost(store, seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(first.step_LK, again.step_LK)
    assert first.step_LK.shape != other.step_LK.shape or not torch.equal(first.step_LK, other.step_LK)


def test_a_species_with_too_few_rows_keeps_its_overall_share(store: Store) -> None:
    rows = [[s for s in store.labels.row(i) if s != 5] + ([5] if i in (3, 40) else []) for i in range(120)]
    kind = type(store)(
        *(store.path, store.manifest, store.surveys, store.species, type(store.labels).from_rows(rows), store.arrays)
    )
    model, gatherer, _ = boost(kind)
    logits = model(gatherer.batch(np.arange(90, 120)))
    np.testing.assert_allclose(torch.sigmoid(logits[:, 5]), 2 / 90, rtol=1e-5)
    assert (logits[:, :5].std(dim=0) > 0.1).all()
