"""Scores are of rows that the scored model was not fitted on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from releve.config import Config, make_config
from releve.decide.config import DecideConfig
from releve.decide.decision import fit_decision
from releve.decide.expected_f1 import expected_f1_sets
from releve.errors import ConfigError, TableError
from releve.evaluate.config import REFERENCES, SAMPLED_REFERENCES, EvaluateConfig
from releve.evaluate.coverage import conformal_held_out, coverage_table
from releve.evaluate.entry import score_model
from releve.evaluate.evaluation import Evaluation, evaluate_held_out
from releve.evaluate.facts import measure_folds, standardised_covariates
from releve.evaluate.held_out import (
    assessment_groups,
    decide_held_out,
    fold_designs,
    held_out_reference,
    reference_rows,
)
from releve.evaluate.references import REFERENCE_MODELS, SAMPLED_REFERENCE_MODELS
from releve.evaluate.references.design import Design, make_design
from releve.evaluate.tables import DISTANCE_EDGES_KM, example_table, group_table
from releve.geo import nearest_km
from releve.lists import Lists
from releve.metrics.cells import FREQUENCY_CLASSES
from releve.metrics.ranks import rank_scores
from releve.metrics.sets import score_sets
from releve.prepare.split import split_rows
from releve.store.read import Store
from releve.train.rows import fold_rows
from stores import make_mixed_store, make_store


@pytest.fixture(scope="module")
def store() -> Store:
    return make_store(150)


@pytest.fixture(scope="module")
def rows(store: Store) -> np.ndarray:
    return np.concatenate([np.flatnonzero(store.folds == fold) for fold in (1, 0)])


def recipe(*references: str, buffer_km: float = 1.0, **train: str) -> Config:
    """A recipe of tables that is called ``ours``; the names of reference models are not checked."""
    data = {"records": "po"} if train else {}
    content = {"title": "ours", "split": {"buffer_km": buffer_km}, "train": train, "data": data}
    config = make_config(content, origin="test")
    return config.model_copy(update={"evaluate": EvaluateConfig.model_construct(references=references)})


def reference(store: Store, rows: np.ndarray, name: str, config: Config | None = None) -> tuple[np.ndarray, Lists]:
    config = config or recipe()
    designs = fold_designs(store, rows, config, seed=0)
    return held_out_reference(store, rows, designs, name, config.decide, seed=0)


def test_each_row_is_predicted_from_the_training_rows_of_its_own_fold(
    store: Store, rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def watched(design: Design, seed: int) -> np.ndarray:
        asked.append((design.train, design.rows))
        return np.full((len(design.rows), 8), 0.1 + 0.1 * store.folds[design.rows[0]], np.float32)

    monkeypatch.setitem(REFERENCE_MODELS, "watched", watched)
    probs, _ = reference(store, rows, "watched", recipe(buffer_km=30.0))
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


@pytest.mark.parametrize("regime", ["pa", "po", "presence", "classes"])
def test_a_reference_model_is_fitted_on_the_rows_of_the_run(regime: str) -> None:
    """Plots where the run learns from plots, presence-only rows where it has nothing else; less the run's buffer."""
    mixed = make_mixed_store()
    config = recipe(buffer_km=20.0, regime=regime)
    for fold in range(3):
        ours = fold_rows(mixed, fold, config.split, config.train.regime)
        expected = ours.records if regime == "po" else ours.plots
        assert len(expected) > 20
        np.testing.assert_array_equal(reference_rows(mixed, fold, config), expected)
        assert mixed.is_plot[expected].all() == (regime != "po") and mixed.is_plot[expected].any() == (regime != "po")
        assert not (mixed.folds[expected] == fold).any()
        held_out = np.flatnonzero(mixed.folds == fold)
        places = (mixed.lon[expected], mixed.lat[expected], mixed.lon[held_out], mixed.lat[held_out])
        assert nearest_km(*places).min() > 20.0


def test_a_reference_model_gets_the_tables_and_the_list_rule_of_the_run(store: Store, rows: np.ndarray) -> None:
    config = recipe()
    model = config.model.model_copy(update={"modalities": ("survey", "patch")})
    config = config.model_copy(update={"model": model, "decide": DecideConfig(rule="top_k")})
    for _, design in fold_designs(store, rows, config, seed=0):
        assert {name.partition(".")[0] for name in design.columns} == {"survey"}
    _, lists = reference(store, rows, "nearest environments", config)
    lengths = [lists.take(group).lengths() for group in assessment_groups(store, rows)]
    assert all(len(np.unique(of_group)) == 1 for of_group in lengths)  # the k best, for every plot
    _, other = reference(store, rows, "nearest environments", recipe())
    assert len(np.unique(other.lengths())) > 2


def test_a_reference_models_answer_for_a_fold_does_not_depend_on_its_labels(store: Store) -> None:
    inside = np.flatnonzero(store.folds == 2)
    altered = replace(
        store, labels=Lists.from_rows([[7] if f == 2 else store.labels.row(i) for i, f in enumerate(store.folds)])
    )
    seen = []
    predict = REFERENCE_MODELS["nearest places"]
    for kind in (store, altered):
        train, _, _ = split_rows(kind.folds, kind.lon, kind.lat, 2, 1.0)
        seen.append(predict(make_design(kind, train, kind, inside, ("location",)), 0))
    np.testing.assert_array_equal(*seen)


def test_the_tables_hold_the_models_and_the_reference_models_scores(store: Store, rows: np.ndarray) -> None:
    probs = torch.rand(len(rows), 8, generator=torch.Generator().manual_seed(0))
    lists = expected_f1_sets(probs)
    config = recipe("frequency", "nearest places")
    found = evaluate_held_out(store, rows, probs, lists, config, seed=0)
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
    scores, config = {}, recipe()
    model = config.model.model_copy(update={"modalities": ("covariates",)})
    for name in ("frequency", "nearest environments"):
        _, lists = reference(store, rows, name, config.model_copy(update={"model": model}))
        scores[name] = score_sets(lists, store.labels.take(rows), 8).sample_f1
    assert scores["nearest environments"] > scores["frequency"] + 0.02


def test_a_recipe_can_name_every_reference_model_and_no_other() -> None:
    assert tuple(REFERENCE_MODELS) == REFERENCES and tuple(SAMPLED_REFERENCE_MODELS) == SAMPLED_REFERENCES


def test_an_unknown_reference_is_refused(store: Store, rows: np.ndarray) -> None:
    with pytest.raises(ConfigError, match="unknown reference model 'oracle'"):
        reference(store, rows, "oracle")


def test_the_interval_is_wider_where_neighbours_are_drawn_together(store: Store, rows: np.ndarray) -> None:
    truth = store.labels.take(rows)
    lists = Lists.from_rows([truth.row(i) if fold == 0 else [0] for i, fold in enumerate(store.folds[rows])])
    probs = np.full((len(rows), 8), 0.5)
    apart = score_model("a", probs, lists, truth, np.arange(len(rows)), 0)
    together = score_model("b", probs, lists, truth, store.folds[rows].astype(np.int64), 0)
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_no_group_is_decided_by_what_was_fitted_on_itself() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = {"network": torch.randn(60, 9, generator=generator)}
    drawn = torch.rand(60, 9, generator=generator) < torch.sigmoid(logits["network"])
    truth = Lists.from_rows([row.nonzero().flatten().tolist() or [0] for row in drawn])
    groups = [np.arange(0, 30), np.arange(30, 60)]
    config = DecideConfig(rule="threshold")
    probs, lists = decide_held_out(logits, truth, groups, config)
    for group, others in (groups, groups[::-1]):
        decision = fit_decision({"network": logits["network"][others]}, truth.take(others), config)
        expected = decision.probs({"network": logits["network"][group]})
        torch.testing.assert_close(probs[group], expected)
        assert lists.take(group).indices.tolist() == decision.lists(expected).indices.tolist()


def make_probs(num_rows: int, num_species: int = 8) -> torch.Tensor:
    return torch.rand(num_rows, num_species, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def found(store: Store, rows: np.ndarray) -> Evaluation:
    def sampled(design: Design, seed: int) -> np.ndarray:
        scores = np.full((len(design.rows), 8), np.nan, np.float32)
        scores[:, [1, 4]] = np.random.default_rng(len(design.rows)).random((len(design.rows), 2))
        return scores

    def absent(design: Design, seed: int) -> np.ndarray:
        raise ImportError("not here")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("releve.evaluate.config.SAMPLED_REFERENCES", ("sampled", "absent"))
        patch.setitem(SAMPLED_REFERENCE_MODELS, "sampled", sampled)
        patch.setitem(SAMPLED_REFERENCE_MODELS, "absent", absent)
        config = recipe("frequency", "sampled", "absent")
        probs = make_probs(len(rows))
        lists = expected_f1_sets(probs)
        return evaluate_held_out(store, rows, probs, lists, config, seed=0, promised=lists)


def test_every_table_is_made_and_none_holds_a_nan(found: Evaluation) -> None:
    names = "scores surveys species frequency_classes countries regions distances novelties reliability calibration"
    assert list(found.tables) == [*names.split(), "folds", "examples", "coverage"]
    for table in found.tables.values():
        assert not table.select(pl.col(pl.Float64, pl.Float32).is_nan().any()).sum_horizontal().sum()


def test_a_model_of_a_sample_of_species_has_ranks_alone_and_comes_last(
    found: Evaluation, store: Store, rows: np.ndarray
) -> None:
    scores = found.tables["scores"]
    last = scores.row(-1, named=True)
    assert last["model"] == "sampled (2 species)" and last["num_species_scored"] == 2
    assert (last["sample_f1"], last["gain"], last["brier"], last["is_model"]) == (None, None, None, False)
    ours = found.entries[0].ranks
    assert last["auc_of_run"] == pytest.approx(ours.auc_S[[1, 4]].mean())
    assert found.table()["model"].to_list() == [name for name in scores["model"].to_list() if "sampled" not in name]
    assert "absent" not in " ".join(scores["model"].to_list())


def test_the_gain_is_the_paired_difference_and_null_for_the_run(found: Evaluation) -> None:
    run = found.tables["scores"].filter("is_model").row(0, named=True)
    other = found.tables["scores"].filter(pl.col("model") == "frequency").row(0, named=True)
    assert run["gain"] is None
    assert other["gain"] == pytest.approx(run["sample_f1"] - other["sample_f1"])
    assert other["gain_low"] < other["gain"] < other["gain_high"]
    for name in ("sample_f1", "macro_f1", "micro_f1", "recall", "precision", "richness_bias"):
        assert run[f"{name}_low"] <= run[name] <= run[f"{name}_high"], name


def test_distance_and_novelty_are_those_to_the_training_plots_of_the_rows_fold(store: Store, rows: np.ndarray) -> None:
    facts = measure_folds(store, rows, 1.0)
    for i in (0, 40):
        train, _, _ = split_rows(store.folds, store.lon, store.lat, int(store.folds[rows[i]]), 1.0)
        own = rows[[i]]
        expected = nearest_km(store.lon[own], store.lat[own], store.lon[train], store.lat[train])
        assert facts.distance_km[i] == pytest.approx(expected[0])
        known, table = standardised_covariates(store, train, store, own)
        difference = np.sqrt(((known - table) ** 2).mean(axis=1)).min()
        has = store.arrays["covariates"].row_of[rows[i]] >= 0
        assert facts.novelty[i] == pytest.approx(difference, abs=1e-5) if has else np.isnan(facts.novelty[i])
        shares = np.bincount(store.labels.take(train).indices, minlength=8) / len(train)
        np.testing.assert_allclose(facts.prevalence_FS[facts.fold_of_row[i]], shares)
    assert facts.table["fold"].to_list() == [0, 1] and facts.table["num_val"].sum() == len(rows)


def test_prevalence_and_distance_are_of_the_plots_beyond_the_buffer(store: Store, rows: np.ndarray) -> None:
    """Folds lie side by side: with 60 km between them the plots left are fewer, farther, and their shares others."""
    near, far = measure_folds(store, rows, 0.0), measure_folds(store, rows, 60.0)
    assert near.distance_km.min() < 60.0 <= far.distance_km.min()
    assert near.table["num_train"].to_list() == [(store.folds != fold).sum() for fold in (0, 1)]
    for f in (0, 1):
        held_out = np.flatnonzero(store.folds == f)
        others = np.flatnonzero(store.folds != f)
        places = (store.lon[others], store.lat[others], store.lon[held_out], store.lat[held_out])
        kept = others[nearest_km(*places) >= 60.0]
        assert far.table["num_train"][f] == len(kept) < len(others)
        shares = np.bincount(store.labels.take(kept).indices, minlength=8) / len(kept)
        np.testing.assert_allclose(far.prevalence_FS[f], shares)


def test_groups_hold_all_surveys_and_their_own_scores(found: Evaluation) -> None:
    surveys = found.surveys
    for name, column in (("countries", "country"), ("regions", "region")):
        table = found.tables[name]
        assert table["num_surveys"].sum() == len(surveys)
        for row in table.iter_rows(named=True):
            known = pl.col(column).is_null() if row["group"] == "unknown" else pl.col(column) == row["group"]
            part = surveys.filter(known)
            assert (row["num_surveys"], row["sample_f1"]) == (len(part), pytest.approx(part["f1"].mean()))
            bias = (part["num_predicted"].cast(int) - part["num_observed"].cast(int)).mean()
            assert row["richness_bias"] == pytest.approx(bias)
    assert "unknown" in found.tables["regions"]["group"].to_list()
    assert found.tables["distances"]["num_surveys"].sum() == len(surveys)
    near = surveys.filter(pl.col("distance_km") < DISTANCE_EDGES_KM[1])
    first = found.tables["distances"].filter(group="0-5 km")
    assert first["num_surveys"].to_list() == ([len(near)] if len(near) else [])
    novelties = found.tables["novelties"]
    assert novelties.filter(pl.col("group") != "unknown")["num_surveys"].max() <= len(surveys) / 5 + 1
    assert novelties["novelty_from"].drop_nulls().is_sorted()


def test_a_group_in_one_block_has_no_interval() -> None:
    surveys = pl.DataFrame({"f1": [0.5, 1.0], "num_observed": [1, 2], "num_predicted": [3, 2], "num_hit": [1, 2]})
    row = group_table(surveys, pl.Series(["a", None]), ["a", "b"], np.zeros(2, int), 0).to_dicts()
    assert [r["group"] for r in row] == ["a", "unknown"]
    assert (row[0]["sample_f1"], row[0]["sample_f1_low"], row[0]["precision"]) == (0.5, None, pytest.approx(1 / 3))


def test_frequency_classes_pool_their_species(found: Evaluation) -> None:
    table, species = found.tables["frequency_classes"], found.species
    assert table["num_species"].sum() == len(species)
    assert set(table["group"]) <= set(FREQUENCY_CLASSES)
    for row in table.iter_rows(named=True):
        part = species.filter(pl.col("frequency_class") == row["group"])
        assert row["num_true"] == part["num_true"].sum()
        assert row["recall"] == pytest.approx(part["num_hit"].sum() / part["num_true"].sum())
        assert row["macro_f1"] == pytest.approx(part.filter(pl.col("num_true") > 0)["f1"].mean())
        assert row["auc"] == pytest.approx(part["auc"].mean())
        assert row["macro_f1_low"] <= row["macro_f1"] <= row["macro_f1_high"]


def test_tss_is_at_the_training_prevalence_of_each_fold(found: Evaluation, store: Store, rows: np.ndarray) -> None:
    probs, truth = make_probs(len(rows)).numpy(), store.labels.take(rows).to_csr(8).toarray().astype(bool)
    facts = measure_folds(store, rows, 1.0)
    above = probs >= facts.prevalence_FS[facts.fold_of_row]
    tss = (above & truth).sum(axis=0) / truth.sum(axis=0) + (~above & ~truth).sum(axis=0) / (~truth).sum(axis=0) - 1
    np.testing.assert_allclose(found.species["tss"].to_numpy(), tss, atol=1e-6)
    np.testing.assert_allclose(found.species["brier"].to_numpy(), ((probs - truth) ** 2).mean(axis=0), atol=1e-6)


def test_examples_go_from_the_best_survey_to_the_worst(found: Evaluation, store: Store, rows: np.ndarray) -> None:
    examples = found.tables["examples"]
    ids = examples["survey_id"].unique(maintain_order=True).to_list()
    f1 = [found.surveys.filter(survey_id=i)["f1"].item() for i in ids]
    assert len(ids) == 8 and f1 == sorted(f1, reverse=True)
    assert (f1[0], f1[-1]) == (found.surveys["f1"].max(), found.surveys["f1"].min())
    at = found.surveys["survey_id"].to_list().index(ids[3])
    part = examples.filter(survey_id=ids[3])
    observed = set(store.species_ids[store.labels.row(int(rows[at]))].tolist())
    assert set(part.filter("is_observed")["species_id"]) == observed
    assert part.filter("is_predicted").height == found.surveys["num_predicted"][at]


@pytest.mark.parametrize("bad", [np.nan, 1.5, -0.1])
def test_what_is_no_probability_is_refused(store: Store, rows: np.ndarray, bad: float) -> None:
    probs = make_probs(len(rows))
    lists = expected_f1_sets(probs)
    probs[3, 2] = bad
    with pytest.raises(TableError, match="NaN"):
        evaluate_held_out(store, rows, probs, lists, recipe(), seed=0)


def test_constant_scores_and_a_species_absent_from_a_fold_are_scored_as_chance(store: Store, rows: np.ndarray) -> None:
    sets = [[s for s in store.labels.row(i) if s != 3 or store.folds[i] != 0] for i in range(len(store))]
    kind = replace(store, labels=Lists.from_rows(sets))
    probs = torch.full((len(rows), 8), 0.25)
    lists = Lists.from_rows([[0]] * len(rows))
    config = recipe("frequency")
    made = evaluate_held_out(kind, rows, probs, lists, config, seed=0)
    assert made.species["auc"].drop_nulls().unique().to_list() == [0.5]
    assert made.species["boyce"].null_count() == 8
    only = np.flatnonzero(kind.folds[rows] == 1)
    expected = rank_scores(probs[only], kind.labels.take(rows[only])).ap_S[3]
    assert made.species["average_precision"][3] == pytest.approx(expected)


def test_a_store_without_covariates_or_regions_has_no_novelty(store: Store, rows: np.ndarray) -> None:
    kind = replace(store, arrays={}, surveys=store.surveys.drop("region"))
    probs = make_probs(len(rows))
    config = recipe()
    made = evaluate_held_out(kind, rows, probs, expected_f1_sets(probs), config, seed=0)
    assert made.tables["novelties"].is_empty() and made.surveys["novelty"].null_count() == len(rows)
    assert made.tables["regions"]["group"].to_list() == ["unknown"]
    assert made.tables["scores"]["gain"].to_list() == [None]


def make_logits(store: Store) -> dict[str, torch.Tensor]:
    """Return logits of all rows that know the observed sets, under noise."""
    dense = store.labels.to_csr(8).toarray()
    return {"network": torch.from_numpy(2 * dense - 1 + 0.8 * np.random.default_rng(0).normal(size=dense.shape))}


def test_conformal_lists_hold_what_they_promise_on_held_out_surveys() -> None:
    store = make_store(400, missing=0.0)
    groups = assessment_groups(store, np.arange(400))
    lists = conformal_held_out(make_logits(store), store.labels, groups, DecideConfig(), coverage=0.9)
    assert lists is not None
    countries = {"country": store.surveys["country"].to_numpy()}
    table = coverage_table(lists, store.labels, countries, blocks=np.arange(400), seed=0)
    assert table["group"].to_list() == ["all", "France", "Italy"]
    assert table["num_surveys"][0] == table["num_surveys"][1] + table["num_surveys"][2] == 400
    assert 0.88 < table["coverage"][0] < 0.93
    assert table["coverage_low"][0] < table["coverage"][0] < table["coverage_high"][0]


def test_a_groups_own_labels_move_neither_its_calibration_nor_its_conformal_threshold() -> None:
    store = make_store(400, missing=0.0)
    rows = np.arange(400)
    groups = [rows[rows % 3 == i] for i in range(3)]
    wrong = store.labels.take(np.roll(rows, 7))
    for own in groups:
        inside = set(own.tolist())
        altered = Lists.from_rows([wrong.row(i) if i in inside else store.labels.row(i) for i in rows])
        first, again = (
            conformal_held_out(make_logits(store), truth, groups, DecideConfig()) for truth in (store.labels, altered)
        )
        assert first is not None and again is not None
        np.testing.assert_array_equal(first.take(own).indices, again.take(own).indices)
        others = np.setdiff1d(rows, own)
        assert first.take(others).indices.tolist() != again.take(others).indices.tolist()


def test_coverage_false_lists_and_lengths_of_each_group_by_hand() -> None:
    """Surveys 0 and 1 in A; 2, without a species, and 3, with one that the model does not know (9), in B."""
    lists = Lists.from_rows([[0, 1, 2, 3], [1], [4], []])
    truth = Lists.from_rows([[0, 1], [1, 2, 3, 4], [], [9]])
    groups = {"country": np.array(["A", "A", "B", "B"]), "fold": np.array([1, 0, 0, 0])}
    table = coverage_table(lists, truth, groups, blocks=np.arange(4), seed=0)
    assert table.select("grouping", "group", "num_surveys").rows() == [
        ("all", "all", 4),
        ("country", "A", 2),
        ("country", "B", 2),
        ("fold", "0", 3),
        ("fold", "1", 1),
    ]
    # coverage of the surveys: 1, 1/4, none, 0; false: 1/2, 0, 1, 0; length: 4, 1, 1, 0
    np.testing.assert_allclose(table["coverage"], [1.25 / 3, 1.25 / 2, 0, 0.25 / 2, 1])
    np.testing.assert_allclose(table["false_list_rate"], [1.5 / 4, 0.25, 0.5, 1 / 3, 0.5])
    np.testing.assert_allclose(table["list_length"], [1.5, 2.5, 0.5, 2 / 3, 4])
    assert table.filter(group="1")["coverage_low"].to_list() == [None]


def test_a_group_without_an_observed_species_has_no_coverage() -> None:
    lists, truth = Lists.from_rows([[0], [0]]), Lists.from_rows([[], [0]])
    table = coverage_table(lists, truth, {"half": np.array([0, 1])}, blocks=np.arange(2), seed=0)
    assert table["coverage"].to_list() == [1.0, None, 1.0]


def test_intervals_of_coverage_hold_the_mean_and_are_wider_over_blocks() -> None:
    rng = np.random.default_rng(0)
    blocks = np.repeat(np.arange(40), 25)
    good = rng.random(40)[blocks] > rng.random(1000)
    lists = Lists.from_rows([[0] if hit else [1] for hit in good])
    truth = Lists.from_rows([[0]] * 1000)
    widths = []
    for given in (np.arange(1000), blocks):
        row = coverage_table(lists, truth, {}, blocks=given, seed=0).row(0, named=True)
        assert row["coverage"] == pytest.approx(good.mean())
        assert row["coverage_low"] < row["coverage"] < row["coverage_high"]
        assert row["false_list_rate"] == pytest.approx(1 - good.mean())
        widths.append(row["coverage_high"] - row["coverage_low"])
    assert 0.05 < widths[0] < 0.07  # 2 x 1.96 x sqrt(.25 / 1000)
    assert widths[1] > 2 * widths[0]


def test_too_few_surveys_promise_nothing_and_it_is_said(capsys: pytest.CaptureFixture) -> None:
    truth = make_store(12).labels.take(np.arange(6))
    halves = [np.arange(3), np.arange(3, 6)]
    logits = {"network": torch.zeros(6, 8)}
    assert conformal_held_out(logits, truth, halves, DecideConfig(), coverage=0.95) is None
    assert "conformal lists are left out" in capsys.readouterr().err


def test_an_empty_list_of_a_plot_on_which_nothing_grew_stands_among_the_examples() -> None:
    """The first plot has two species, the second none and none predicted: species have names in both."""
    surveys = pl.DataFrame({"survey_id": ["a", "b"], "lon": [5.0, 6.0], "lat": [45.0, 46.0]})
    store = Store.from_tables(surveys, pl.DataFrame({"row": [0, 0], "species_id": [1, 2]}))
    store = replace(store, species=store.species.with_columns(name=pl.Series(["Poa annua", "Carex nigra"])))
    truth, lists = Lists.from_rows([[0, 1], []]), Lists.from_rows([[1], []])
    scores = surveys.with_columns(f1=pl.Series([2 / 3, 1.0]))
    table = example_table(scores, store, np.array([[0.2, 0.6], [0.1, 0.1]]), lists, truth)
    assert table.rows() == [("a", 2, "Carex nigra", 0.6, True, True), ("a", 1, "Poa annua", 0.2, True, False)]
