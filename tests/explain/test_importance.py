"""What is lost by shuffling: all that a variable says and nothing of one that says nothing, with intervals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from releve.evaluate.facts import bootstrap_blocks
from releve.explain.importance import log_likelihood, measure_importance, shuffled_within
from releve.explain.variables import correlations, list_variables
from releve.lists import Lists
from releve.runs.folder import Run
from stores import make_mixed_store, make_store

from .runs import known_run


def row_of(table: pl.DataFrame, name: str, shuffled: str = "everywhere", kind: str = "variable") -> dict[str, float]:
    return table.filter(variable=name, shuffled=shuffled, kind=kind).row(0, named=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return known_run(make_store(300, missing=0.0), tmp_path_factory.mktemp("known"))


def test_the_log_likelihood_is_that_of_what_was_found() -> None:
    found = log_likelihood(torch.tensor([[0.2, 0.5], [1.0, 0.0]]), Lists.from_rows([[1], [0, 7]]))
    assert found[0].tolist() == pytest.approx(np.log([0.8, 0.5]).tolist())
    assert found[1].tolist() == pytest.approx([0, 0], abs=1e-6)  # finite, and species 7 has no column


def test_an_order_stays_in_its_block_and_single_surveys_stay_where_they_are() -> None:
    blocks = np.array([4, 0, 4, 9, 4, 0, 4])
    rng = np.random.default_rng(0)
    orders = np.array([shuffled_within(blocks, rng) for _ in range(200)])
    assert (np.sort(orders, axis=1) == np.arange(7)).all() and (blocks[orders] == blocks).all()
    assert (orders[:, 3] == 3).all()
    shares = [(orders[:, 0] == at).mean() for at in (0, 2, 4, 6)]
    assert np.abs(np.array(shares) - 0.25).max() < 0.1


def test_the_loss_is_that_of_predictions_with_the_values_of_others_worked_out_by_hand(run: Run) -> None:
    found = measure_importance(run, num_repeats=1, seed=3)
    rng, store = np.random.default_rng(3), run.store
    order = shuffled_within(np.zeros(300, np.int64), rng)  # the first shuffle is of warmth, everywhere
    warmth = np.nan_to_num(store.arrays["covariates"].gather(np.arange(300))[:, 0].astype(np.float64))
    has = store.labels.to_csr(8).toarray().astype(bool)

    def loglik(warmth: np.ndarray) -> np.ndarray:
        logits = np.stack([2 * warmth, -(warmth**2)], axis=1)
        return -np.logaddexp(0, np.where(has[:, :2], -logits, logits)).sum(axis=1)

    lost = loglik(warmth) - loglik(warmth[order])
    row = row_of(found.table, "warmth")
    assert row["loglik_lost"] == pytest.approx(lost.mean(), abs=1e-5)
    assert row["loglik_lost_low"] < lost.mean() < row["loglik_lost_high"]
    assert row["loglik_lost_low"] > 0 and row["f1_lost"] > 0.02
    assert found.facts["num_surveys"] == 300 and found.facts["num_held_out"] == 300


def test_what_the_members_do_not_look_at_costs_nothing_and_groups_hold_what_is_in_them(run: Run) -> None:
    found = measure_importance(run, num_repeats=2)
    for name in ("rain", "soil", "plot area", "country", "coordinates"):
        for shuffled in ("everywhere", "within blocks"):
            row = row_of(found.table, name, shuffled)
            assert row["loglik_lost"] == row["loglik_lost_low"] == row["loglik_lost_high"] == row["f1_lost"] == 0
    whole = row_of(found.table, "covariates", kind="modality")
    assert whole["loglik_lost_low"] > 0 and whole["modality"] == "covariates"
    assert row_of(found.table, "facts of the survey", kind="modality")["loglik_lost"] == 0


def test_repeats_are_averaged_and_the_same_seed_gives_the_same(run: Run) -> None:
    first, again, other = (measure_importance(run, num_repeats=n, seed=s) for n, s in ((3, 0), (3, 0), (1, 1)))
    assert first.table.equals(again.table) and first.species.equals(again.species)
    assert not first.table.equals(other.table)


def test_within_blocks_counts_only_what_tells_neighbours_apart(tmp_path: Path) -> None:
    """Where warmth is one value for each block, shuffling it inside costs nothing, and everywhere it does."""
    store = make_store(300, missing=0.0)
    blocks = bootstrap_blocks(store.lon, store.lat, 50)
    values = store.arrays["covariates"].values
    row_of_survey = store.arrays["covariates"].row_of
    values[row_of_survey, 0] = np.random.default_rng(0).normal(size=blocks.max() + 1)[blocks]
    found = measure_importance(known_run(store, tmp_path), num_repeats=2)
    assert row_of(found.table, "warmth", "within blocks")["loglik_lost"] == 0
    assert abs(row_of(found.table, "warmth")["loglik_lost"]) > 0.01
    assert row_of(found.table, "cover", "within blocks")["loglik_lost"] != 0


def test_each_species_has_its_own_losses_and_its_most_important_variable(run: Run) -> None:
    found = measure_importance(run, [0, 2, 3], num_repeats=2)
    told = {(row["species"], row["variable"]): row["loglik_lost"] for row in found.told.to_dicts()}
    assert told[0, "warmth"] > 0.1 and told[0, "cover"] == 0
    assert told[2, "warmth"] == told[2, "cover"] == 0  # the same everywhere
    assert told[3, "warmth"] == 0 and told[3, "cover"] != 0
    best = {row["species_index"]: row for row in found.species.to_dicts()}
    assert best[0]["variable"] == "warmth" and best[0]["loglik_lost"] == pytest.approx(told[0, "warmth"], abs=1e-6)
    counts = np.bincount(run.store.labels.indices, minlength=8)
    assert {at: row["num_true"] for at, row in best.items()} == dict(enumerate(counts.tolist()))


def test_a_sample_is_drawn_of_many_surveys(run: Run) -> None:
    found = measure_importance(run, num_repeats=1, max_surveys=50)
    assert found.facts["num_surveys"] == 50 and found.facts["num_held_out"] == 300


def test_runs_on_records_alone_lose_auc_and_no_lists(tmp_path: Path) -> None:
    store = make_mixed_store(0, 200)
    found = measure_importance(known_run(store, tmp_path, records=True), num_repeats=2)
    assert "f1_lost" not in found.table.columns and "sample_f1" not in found.facts
    row = row_of(found.table, "warmth")
    assert row["auc_lost"] > 0.01 and row["auc_lost_low"] < row["auc_lost"] < row["auc_lost_high"]
    assert row_of(found.table, "rain")["auc_lost"] == 0


def test_variables_that_say_nearly_the_same_are_named_beside_each_other(tmp_path: Path) -> None:
    store = make_store(200, missing=0.0)
    values = store.arrays["covariates"].values
    values[:, 1] = -3 * values[:, 0] + np.random.default_rng(0).normal(0, 0.5, 200)
    run = known_run(store, tmp_path)
    table = correlations(store, list_variables(run), np.arange(200))
    assert table.select("first", "second").rows() == [("warmth", "rain")]
    a, b = values[:, 0], values[:, 1]
    both = np.isfinite(a) & np.isfinite(b)
    assert table["r"][0] == pytest.approx(np.corrcoef(a[both], b[both])[0, 1], abs=1e-5)
    found = measure_importance(run, num_repeats=1)
    assert row_of(found.table, "warmth")["correlated_with"] == "rain"
    assert row_of(found.table, "rain")["correlated_with"] == "warmth"
    assert row_of(found.table, "soil")["correlated_with"] is None
