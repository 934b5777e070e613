"""Scores are of rows that the scored model was not fitted on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from releve import evaluate
from releve.decide import expected_f1_sets
from releve.decide.decision import DecideConfig, fit_decision
from releve.errors import ConfigError
from releve.evaluate import EvaluateConfig, evaluate_held_out, held_out_baseline
from releve.metrics import Lists, score_sets
from releve.models.baselines import BASELINES
from releve.prepare.split import split_rows
from releve.store import Store
from stores import make_store


@pytest.fixture(scope="module")
def store() -> Store:
    return make_store(150)


@pytest.fixture(scope="module")
def rows(store: Store) -> np.ndarray:
    return np.concatenate([np.flatnonzero(store.folds == fold) for fold in (1, 0)])


def test_each_row_is_predicted_from_the_training_rows_of_its_own_fold(
    store: Store, rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def watched(fitted: Store, train: np.ndarray, target: Store, wanted: np.ndarray, seed: int) -> np.ndarray:
        asked.append((train, wanted))
        return np.full((len(wanted), 8), 0.1 + 0.1 * store.folds[wanted[0]], np.float32)

    monkeypatch.setitem(BASELINES, "watched", watched)
    probs, _ = held_out_baseline(store, rows, "watched", buffer_km=30.0, seed=0)
    assert len(asked) == 2
    for train, wanted in asked:
        fold = store.folds[wanted[0]]
        assert wanted.tolist() == np.flatnonzero(store.folds == fold).tolist()
        assert train.tolist() == split_rows(store.folds, store.lon, store.lat, fold, 30.0)[0].tolist()
        assert len(train) < (store.folds != fold).sum()
        assert not set(train) & set(wanted)
    # The answers come back in the order of the rows: fold 1 first, whose probabilities were the higher or the lower.
    first = probs[store.folds[rows] == 1, 0]
    assert len(np.unique(first)) == 1
    assert first[0] != probs[store.folds[rows] == 0, 0][0]


def test_a_baselines_answer_for_a_fold_does_not_depend_on_its_labels(store: Store) -> None:
    inside = np.flatnonzero(store.folds == 2)
    altered = replace(
        store, labels=Lists.from_rows([[7] if f == 2 else store.labels.row(i) for i, f in enumerate(store.folds)])
    )
    seen = []
    predict = BASELINES["nearest places"]
    for kind in (store, altered):
        train, _, _ = split_rows(kind.folds, kind.lon, kind.lat, 2, 1.0)
        seen.append(predict(kind, train, kind, inside, 0))
    np.testing.assert_array_equal(*seen)


def test_the_tables_hold_the_models_and_the_baselines_scores(store: Store, rows: np.ndarray) -> None:
    probs = torch.rand(len(rows), 8, generator=torch.Generator().manual_seed(0))
    lists = expected_f1_sets(probs)
    config = EvaluateConfig(baselines=("frequency", "nearest places"))
    found = evaluate_held_out(store, rows, probs, lists, config, buffer_km=1.0, seed=0, name="ours")
    table = found.table()
    assert set(table["model"]) == {"ours", "frequency", "nearest places"}
    assert table["sample_f1"].is_sorted(descending=True)
    for row in table.iter_rows(named=True):
        assert row["sample_f1_low"] <= row["sample_f1"] <= row["sample_f1_high"]
        assert row["sample_f1_low"] < row["sample_f1_high"]
    truth = store.labels.take(rows)
    ours = table.filter(pl.col("model") == "ours").row(0, named=True)
    assert ours["sample_f1"] == pytest.approx(score_sets(lists, truth, 8).sample_f1)
    assert found.surveys["survey_id"].to_list() == store.surveys["survey_id"][rows.tolist()].to_list()
    assert found.surveys["f1"].mean() == pytest.approx(ours["sample_f1"])
    assert found.surveys["num_observed"].to_list() == [len(truth.row(i)) for i in range(len(rows))]
    for i in (0, 7):
        observed, predicted = set(truth.row(i).tolist()), set(lists.row(i).tolist())
        expected = 2 * len(observed & predicted) / (len(observed) + len(predicted))
        assert found.surveys["f1"][i] == pytest.approx(expected)
    assert found.species["species_id"].to_list() == store.species_ids.tolist()
    assert found.reliability["num_cells"].sum() == len(rows) * 8


def test_the_signal_is_found_by_environments_and_not_by_frequency(store: Store, rows: np.ndarray) -> None:
    scores = {}
    for name in ("frequency", "nearest environments"):
        _, lists = held_out_baseline(store, rows, name, buffer_km=1.0, seed=0)
        scores[name] = score_sets(lists, store.labels.take(rows), 8).sample_f1
    assert scores["nearest environments"] > scores["frequency"] + 0.02


def test_an_unknown_baseline_is_refused(store: Store, rows: np.ndarray) -> None:
    with pytest.raises(ConfigError, match="unknown baseline 'oracle'"):
        held_out_baseline(store, rows, "oracle", buffer_km=1.0, seed=0)


def test_the_interval_is_wider_where_neighbours_are_drawn_together(store: Store, rows: np.ndarray) -> None:
    truth = store.labels.take(rows)
    lists = Lists.from_rows([truth.row(i) if fold == 0 else [0] for i, fold in enumerate(store.folds[rows])])
    probs = np.full((len(rows), 8), 0.5)
    apart = evaluate.score_model("a", probs, lists, truth, np.arange(len(rows)), 0)
    together = evaluate.score_model("b", probs, lists, truth, store.folds[rows].astype(np.int64), 0)
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_no_group_is_decided_by_what_was_fitted_on_itself() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = {"network": torch.randn(60, 9, generator=generator)}
    drawn = torch.rand(60, 9, generator=generator) < torch.sigmoid(logits["network"])
    truth = Lists.from_rows([row.nonzero().flatten().tolist() or [0] for row in drawn])
    groups = [np.arange(0, 30), np.arange(30, 60)]
    config = DecideConfig(rule="threshold")
    probs, lists = evaluate.decide_held_out(logits, truth, groups, config)
    for group, others in (groups, groups[::-1]):
        decision = fit_decision({"network": logits["network"][others]}, truth.take(others), config)
        expected = decision.probs({"network": logits["network"][group]})
        torch.testing.assert_close(probs[group], expected)
        assert lists.take(group).indices.tolist() == decision.lists(expected).indices.tolist()
