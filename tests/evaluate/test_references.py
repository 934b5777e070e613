"""Reference models equal what is worked out by hand, or by scikit-learn, on the training rows alone."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors

from releve.data.gather import Gatherer
from releve.data.statistics import measure_statistics
from releve.evaluate.facts import standardised_covariates
from releve.evaluate.references import (
    REFERENCE_MODELS,
    SAMPLED_REFERENCE_MODELS,
    logistic,
    maxent,
    shares,
    trees,
)
from releve.evaluate.references.design import Design, make_design
from releve.evaluate.references.shares import PRIOR_WEIGHT
from releve.evaluate.references.trees import CONFIG
from releve.geo import unit_vectors
from releve.lists import Lists
from releve.metrics.ranks import rank_scores
from releve.models import boosting
from releve.models.boosting import fit_boosted_trees
from releve.models.config import TABLES, ForestConfig
from releve.models.forest import fit_forest
from releve.store.read import Store
from stores import make_store

TRAIN, ROWS = np.arange(0, 90), np.arange(90, 120)


@pytest.fixture(scope="module")
def store() -> Store:
    return make_store(120)


def design_of(
    store: Store,
    train: np.ndarray = TRAIN,
    rows: np.ndarray = ROWS,
    *,
    modalities: tuple[str, ...] = TABLES,
    seed: int = 0,
) -> Design:
    return make_design(store, train, store, rows, modalities, seed)


def dense(store: Store, rows: np.ndarray) -> np.ndarray:
    labels = np.zeros((len(rows), len(store.species_ids)))
    for i, row in enumerate(rows):
        labels[i, store.labels.row(row)] = 1
    return labels


def shrunk(means: np.ndarray, labels: np.ndarray, num_neighbours: int) -> np.ndarray:
    return (num_neighbours * means + PRIOR_WEIGHT * labels.mean(axis=0)) / (num_neighbours + PRIOR_WEIGHT)


def test_frequency_is_the_share_of_training_rows(store: Store) -> None:
    probs = REFERENCE_MODELS["frequency"](design_of(store), 0)
    np.testing.assert_allclose(probs, np.tile(dense(store, TRAIN).mean(axis=0), (30, 1)), rtol=1e-6)


def test_three_places_by_hand(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "NUM_NEAREST_PLACES", 2)
    four = replace(
        store,
        surveys=pl.DataFrame({"lon": [0.0, 1.0, 5.0, 0.4], "lat": [50.0, 50.0, 50.0, 50.0]}),
        labels=Lists.from_rows([[0, 1], [1], [2], [0]]),
        species=store.species.head(3),
    )
    probs = REFERENCE_MODELS["nearest places"](design_of(four, np.arange(3), np.array([3])), 0)
    # The nearest two hold {0, 1} and {1}: means 1/2, 1, 0. Frequencies 1/3, 2/3, 1/3 weigh 1 of 3.
    np.testing.assert_allclose(probs, [[1 / 3 + 1 / 9, 2 / 3 + 2 / 9, 1 / 9]], rtol=1e-6)


@pytest.mark.parametrize(("name", "k"), [("nearest places", 15), ("nearest environments", 30)])
def test_nearest_neighbours_are_scikit_learns(name: str, k: int) -> None:
    store = make_store(120, missing=0.0)  # surveys without covariates would all be alike: of equals, any
    if name == "nearest places":
        points = [unit_vectors(store.lon[rows], store.lat[rows]) for rows in (TRAIN, ROWS)]
    else:
        points = list(design_of(store).filled(0.0))
    model = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(points[0])
    labels = dense(store, TRAIN)
    expected = shrunk(labels[model.kneighbors(points[1])[1]].mean(axis=1), labels, k)
    found = REFERENCE_MODELS[name](design_of(store), 0)
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
    ours, theirs = (make_design(store, TRAIN, target, ROWS, TABLES) for target in (store, other))
    rain = [name == "covariates.rain" for name in ours.columns]
    assert np.isnan(theirs.asked[:, rain]).all() and not np.isnan(ours.asked[:, rain]).all()
    np.testing.assert_array_equal(np.delete(theirs.asked, rain, axis=1), np.delete(ours.asked, rain, axis=1))


@pytest.mark.parametrize(
    "modalities", [TABLES, ("survey",), ("landsat", "survey", "location"), ("location",), ("covariates", "patch")]
)
def test_a_design_has_the_columns_of_every_table_that_the_run_looks_at_and_no_other(
    store: Store, modalities: tuple[str, ...]
) -> None:
    design = design_of(store, modalities=modalities)
    expected = {
        "covariates": ["warmth", "rain", "soil", "cover=0", "cover=1", "cover=2"],
        "survey": ["log10_area_m2", "log10_uncertainty_m", "year", "country=0", "country=1", "region=0"],
        "location": ["lon", "lat"],
    }
    wanted = [name for name in modalities if name in TABLES]
    assert list(design.columns) == [f"{name}.{column}" for name in wanted for column in expected[name]]
    assert design.known.shape == (90, len(design.columns)) and design.asked.shape == (30, len(design.columns))
    for column, name in enumerate(design.columns):
        assert np.nanstd(design.known[:, column]) > 0, name


def test_a_run_of_images_alone_is_compared_with_models_of_covariates_and_place(store: Store) -> None:
    columns = design_of(store, modalities=("patch",)).columns
    assert {name.partition(".")[0] for name in columns} == {"covariates", "location"}


def test_columns_are_normal_scores_of_ranks_among_training_rows_and_missing_values_are_told(store: Store) -> None:
    """Surveys 20, 40 and 60 of 101 even ranks: the scores are the normal deviates of .2, .4 and .6."""
    years = pl.Series(np.r_[np.arange(1900, 2001), [1920, 1940, 1960]], dtype=pl.Int32)
    kind = replace(make_store(104), surveys=make_store(104).surveys.with_columns(year=years))
    design = design_of(kind, np.arange(101), np.arange(101, 104), modalities=("survey",))
    year = design.columns.index("survey.year")
    np.testing.assert_allclose(design.asked[:, year], [-0.8416, -0.2533, 0.2533], atol=1e-4)
    region = design.columns.index("survey.region=0")
    is_alpine = (kind.surveys["region"] == "ALPINE").fill_null(False).to_numpy()
    np.testing.assert_array_equal(design.known[:, region], is_alpine[:101])
    alone = design_of(store, modalities=("covariates",))
    without = store.arrays["covariates"].row_of[TRAIN] < 0
    assert np.isnan(alone.known[without]).all() and not np.isnan(alone.known[~without]).all(axis=1).any()
    assert (alone.filled(-4.0)[0][without] == -4).all()


@pytest.mark.parametrize("name", ["extra trees", "boosted trees", "logistic", "nearest environments"])
def test_what_only_the_facts_of_the_survey_tell_is_found_where_the_run_looks_at_them(
    store: Store, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Species 0 is found on large plots alone: a model that does not see the area cannot rank it."""
    monkeypatch.setattr(logistic, "EPOCHS", 200)  # of one step each
    large = (store.surveys["area_m2"] > 50).to_numpy()
    rows = [[s for s in store.labels.row(i) if s != 0] + ([0] if large[i] else []) for i in range(120)]
    kind = replace(store, labels=Lists.from_rows(rows))
    aucs = {}
    for modalities in (TABLES, ("covariates", "location")):
        probs = REFERENCE_MODELS[name](design_of(kind, modalities=modalities), 0)
        aucs[modalities] = rank_scores(probs, kind.labels.take(ROWS)).auc_S[0]
    assert aucs[TABLES] > 0.85 and aucs["covariates", "location"] < 0.75


@pytest.mark.parametrize("name", REFERENCE_MODELS)
def test_a_row_is_predicted_alone_as_among_others(store: Store, name: str) -> None:
    together = REFERENCE_MODELS[name](design_of(store), 0)
    for at in (0, 17):
        alone = REFERENCE_MODELS[name](design_of(store, rows=ROWS[[at]]), 0)
        np.testing.assert_allclose(alone, together[[at]], atol=1e-6)


def test_very_many_training_rows_are_drawn_from(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("releve.evaluate.references.design.MOST_ROWS", 40)
    train = design_of(store).train
    assert len(train) == 40 and set(train) < set(TRAIN) and (np.diff(train) > 0).all()


def test_constant_columns_are_left_out(store: Store) -> None:
    array = store.arrays["covariates"]
    values = array.values.copy()
    values[:, 2] = 0.1
    constant = replace(store, arrays={"covariates": replace(array, values=values)})
    assert standardised_covariates(constant, TRAIN, constant, ROWS)[0].shape == (90, 5)


def test_shares_by_region_are_drawn_to_the_country_and_the_country_to_all(store: Store) -> None:
    """Two plots in A: ALPINE with species 0 and without; one of B; weight 10 of the wider share at each step."""
    surveys = pl.DataFrame(
        {
            "country": ["A", "A", "B", "A", "A", "B", "C", None],
            "region": ["ALPINE", None, None, "ALPINE", "STEPPIC", None, "ALPINE", "ALPINE"],
        }
    )
    kind = replace(
        store,
        surveys=surveys,
        labels=Lists.from_rows([[0], [], [1], [], [], [], [], []]),
        species=store.species.head(2),
    )
    probs = REFERENCE_MODELS["frequency by region"](design_of(kind, np.arange(3), np.arange(3, 8)), 0)
    country = (1 + 10 / 3) / 12
    expected = [(1 + 10 * country) / 11, country, (10 / 3) / 11, 1 / 3, 1 / 3]
    np.testing.assert_allclose(probs[:, 0], expected, rtol=1e-6)
    without = replace(kind, surveys=surveys.select("country"))
    by_country = REFERENCE_MODELS["frequency by region"](design_of(without, np.arange(3), np.arange(3, 8)), 0)
    np.testing.assert_allclose(by_country[:2, 0], country, rtol=1e-6)


@pytest.mark.parametrize("name", ["extra trees", "boosted trees"])
def test_trees_are_the_kind_of_member_on_the_tables_of_the_run(store: Store, name: str) -> None:
    found = REFERENCE_MODELS[name](design_of(store, seed=4), 4)
    known = measure_statistics(store, TRAIN, TABLES, rng=np.random.default_rng(4))
    gatherer = Gatherer(store, known.modalities, known.categories)
    if name == "extra trees":
        model = fit_forest(gatherer, TRAIN, known, config=CONFIG, seed=4)
    else:
        model = fit_boosted_trees(gatherer, TRAIN, known, seed=4)
    np.testing.assert_allclose(found, torch.sigmoid(model(gatherer.batch(ROWS))).numpy(), atol=1e-6)


def test_logistic_finds_the_penalised_maximum_that_scikit_learn_finds(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logistic, "EPOCHS", 200)
    found = REFERENCE_MODELS["logistic"](design_of(store), 0)
    known, table = logistic.make_features(*design_of(store).filled(0.0))
    labels = dense(store, TRAIN)
    for species in range(8):
        model = LogisticRegression(C=1 / logistic.PENALTY, max_iter=5000).fit(known, labels[:, species])
        np.testing.assert_allclose(found[:, species], model.predict_proba(table)[:, 1], atol=0.02)


@pytest.mark.parametrize("name", ["logistic", "extra trees", "boosted trees", "nearest environments"])
def test_models_of_the_environment_rank_better_than_chance(store: Store, name: str) -> None:
    design = design_of(store, modalities=("covariates", "location"))
    ranks = rank_scores(REFERENCE_MODELS[name](design, 0), store.labels.take(ROWS))
    assert ranks.auc_macro > 0.68


def test_maxent_scores_its_sample_and_leaves_the_others_undefined(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("elapid")
    monkeypatch.setattr(maxent, "NUM_SAMPLED", 2)
    scores = SAMPLED_REFERENCE_MODELS["MaxEnt"](design_of(store), 0)
    columns = np.flatnonzero(np.isfinite(scores).all(axis=0))
    assert len(columns) == 2 and np.isnan(np.delete(scores, columns, axis=1)).all()
    again = SAMPLED_REFERENCE_MODELS["MaxEnt"](design_of(store, np.arange(10, 90)), 0)
    assert np.flatnonzero(np.isfinite(again).all(axis=0)).tolist() == columns.tolist()
    truth = Lists.from_rows([[int(s) for s in row if s in columns] for row in map(store.labels.row, ROWS)])
    assert np.nanmean(rank_scores(np.nan_to_num(scores), truth).auc_S[columns]) > 0.7


def test_maxent_without_its_package_says_how_to_install_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "elapid", None)
    with pytest.raises(ImportError, match=r"releve\[benchmark\]"):
        SAMPLED_REFERENCE_MODELS["MaxEnt"](design_of(store), 0)


@pytest.mark.parametrize("name", REFERENCE_MODELS)
def test_no_reference_model_looks_at_the_rows_it_predicts(store: Store, name: str) -> None:
    rows = [[7] if i in ROWS else store.labels.row(i) for i in range(120)]
    altered = replace(store, labels=Lists.from_rows(rows))
    expected = REFERENCE_MODELS[name](design_of(store), 0)
    np.testing.assert_array_equal(REFERENCE_MODELS[name](design_of(altered), 0), expected)


@pytest.mark.parametrize("name", REFERENCE_MODELS)
@pytest.mark.parametrize("train", [np.array([5]), np.arange(4), TRAIN])
@pytest.mark.parametrize("covariates", [True, False])
def test_few_rows_and_no_covariates_still_give_probabilities(
    store: Store, name: str, train: np.ndarray, covariates: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trees, "CONFIG", ForestConfig(num_trees=5, min_rows=3))
    monkeypatch.setattr(boosting, "NUM_ROUNDS", 5)
    monkeypatch.setattr(logistic, "EPOCHS", 2)
    kind = store if covariates else replace(store, arrays={})
    probs = REFERENCE_MODELS[name](design_of(kind, train), 0)
    assert probs.shape == (30, 8)
    assert probs.dtype == np.float32
    assert ((probs >= 0) & (probs <= 1)).all()
    assert probs.sum() > 0
