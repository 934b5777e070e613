"""Response curves and limiting factors of members whose answer is known by heart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.special import expit

from releve.errors import RunError
from releve.explain.limiting import limiting_factors, limiting_table, typical_values
from releve.explain.response import (
    MIN_PRESENCES,
    NUM_VALUES,
    measure_pair,
    measure_responses,
    training_places,
    values_to_try,
)
from releve.explain.subjects import COMMUNITY, find_species
from releve.explain.variables import find_variable, list_variables
from releve.lists import Lists
from releve.runs.folder import Run
from stores import make_store

from .runs import known_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return known_run(make_store(150), tmp_path_factory.mktemp("known"))


def variables(run: Run, *names: str) -> list:
    return [find_variable(list_variables(run), name) for name in names]


def column(run: Run, name: str, rows: np.ndarray) -> np.ndarray:
    array = run.store.arrays["covariates"]
    return array.gather(rows)[:, array.spec.channels.index(name)].astype(np.float64)


def test_the_curve_of_a_species_is_its_mean_probability_at_each_value(run: Run) -> None:
    found = measure_responses(run, variables(run, "warmth"), [0, 1, None], num_places=40)
    curves = {name: part for (name,), part in found.curves.filter("is_asked").group_by("subject")}
    values = curves["500"]["value"].to_numpy()
    known = column(run, "warmth", np.flatnonzero(run.store.arrays["covariates"].row_of >= 0))
    known = known[np.isfinite(known)]
    assert len(values) == NUM_VALUES and (np.diff(values) > 0).all()
    assert [values[0], values[-1]] == pytest.approx(np.quantile(known, [0.01, 0.99]).tolist())
    np.testing.assert_allclose(curves["500"]["response"], expit(2 * values), atol=1e-6)
    np.testing.assert_allclose(curves["503"]["response"], expit(-(values**2)), atol=1e-6)
    np.testing.assert_allclose(curves["500"]["low"], curves["500"]["high"])  # nothing else counts for it
    cover = np.nan_to_num(column(run, "cover", training_places(run, 40, 0)))
    richness = (
        expit(2 * values) + expit(-(values**2)) + expit(-1) + expit(-1 + 3.0 * (cover == 2)).mean() + 4 * expit(-4)
    )
    np.testing.assert_allclose(curves[COMMUNITY]["response"], richness, atol=1e-5)
    np.testing.assert_allclose(curves[COMMUNITY]["high"] - curves[COMMUNITY]["low"], expit(2) - expit(-1), atol=1e-5)
    assert found.lines.filter(subject="500")["survey_id"].n_unique() == 40


def test_species_that_respond_most_are_told_beside_those_asked_for_and_rare_ones_are_not(run: Run) -> None:
    store = run.store
    sets = [[each for each in store.labels.row(i) if each != 1] for i in range(len(store))]
    rare = replace(store, labels=Lists.from_rows(sets))
    for used, most in ((store, ["500", "503"]), (rare, ["500"])):
        again = replace(run)
        again.__dict__.update(run.__dict__ | {"store": used})
        found = measure_responses(again, variables(run, "warmth"), [None], num_places=10)
        told = found.curves.filter(~pl.col("is_asked"))["subject"].unique(maintain_order=True).to_list()
        assert told == most
    counts = np.bincount(store.labels.indices)
    assert counts.min() >= MIN_PRESENCES
    optima = {row["species"]: row for row in found.optima.to_dicts()}
    assert optima["500"]["shape"] == "rising" and "503" not in optima and optima["506"]["shape"] == "flat"
    assert optima["500"]["highest"] == pytest.approx(expit(2 * optima["500"]["at"]), abs=1e-6)


def test_classes_are_tried_one_by_one_and_few_whole_values_as_they_are(run: Run) -> None:
    cover, year, area = variables(run, "cover", "year of the survey", "plot area")
    found = measure_responses(run, [cover], [3], num_places=20)
    own = found.curves.filter("is_asked")
    assert own.select("value", "label").rows() == [(0.0, "0"), (1.0, "1"), (2.0, "2")]
    np.testing.assert_allclose(own["response"], expit([-1, -1, 2]), atol=1e-6)
    known = column(run, "cover", np.flatnonzero(run.store.arrays["covariates"].row_of >= 0))
    assert found.distribution["num_surveys"].to_list() == [int((known == code).sum()) for code in range(3)]
    rows = np.arange(len(run.store))
    assert values_to_try(run, year, rows).tolist() == [2017, 2018, 2019, 2020]
    assert values_to_try(run, area, rows) == pytest.approx(np.log10([25, 100]))


def test_the_counts_under_a_curve_are_those_of_the_training_surveys(run: Run) -> None:
    found = measure_responses(run, variables(run, "rain"), [None], num_places=5)
    known = column(run, "rain", np.flatnonzero(run.store.arrays["covariates"].row_of >= 0))
    low, high = found.distribution["low"].to_numpy(), found.distribution["high"].to_numpy()
    inside = np.isfinite(known) & (known >= low[0]) & (known <= high[-1])
    assert found.distribution["num_surveys"].sum() == inside.sum()
    assert found.curves["response"].std() == pytest.approx(0, abs=1e-9)  # nobody looks at rain


def test_two_variables_are_tried_together(run: Run) -> None:
    pair = measure_pair(run, *variables(run, "warmth", "cover"), [3, 0], num_places=8)
    assert pair.height == 10 * 3 * 2
    for row in pair.to_dicts():
        logit = -1 + 3.0 * (row["second_value"] == 2) if row["subject"] == "509" else 2 * row["first_value"]
        assert row["response"] == pytest.approx(expit(logit), abs=1e-6)


def test_the_limiting_covariate_is_the_one_whose_usual_value_helps_most(run: Run) -> None:
    """Species 0 wants warmth alone, species 3 cover 2 alone; where they have it, nothing limits."""
    store, rows = run.store, np.flatnonzero(run.store.arrays["covariates"].row_of >= 0)
    typical = typical_values(run, [0, 3, None])
    names = [each.name for each in typical.variables]
    assert names == ["warmth", "rain", "soil", "cover"]
    has = store.labels.to_csr(8).toarray()[rows, 0].astype(bool)
    warmth = column(run, "warmth", rows)
    usual = np.sort(warmth[has & np.isfinite(warmth)])
    assert typical.values_VT[0, 0] == usual[(len(usual) - 1) // 2]
    found = limiting_factors(run, store, rows, [0, 3, None], typical=replace(typical, values_VT=typical.values_VT))
    cold = np.nan_to_num(warmth) < typical.values_VT[0, 0]
    np.testing.assert_array_equal(found.factor_NT[:, 0], np.where(cold, 0, -1))
    np.testing.assert_allclose(found.response_NT[:, 0], expit(2 * np.nan_to_num(warmth)), atol=1e-6)
    np.testing.assert_allclose(found.raised_NT[cold, 0], expit(2 * typical.values_VT[0, 0]), atol=1e-6)
    np.testing.assert_array_equal(found.raised_NT[~cold, 0], found.response_NT[~cold, 0])
    gains = found.factor_NT[:, 1] >= 0
    assert set(found.factor_NT[gains, 1]) <= {3} and (found.raised_NT >= found.response_NT).all()
    table = limiting_table(run, store, rows, found)
    assert table.filter(subject="500")["factor"].to_list() == ["warmth" if each else "nothing" for each in cold]
    first = table.filter(subject="500", factor="warmth").row(0, named=True)
    assert first["usual"] == typical.values_VT[0, 0] and first["value"] is None or first["value"] < first["usual"]


def test_of_two_changes_that_help_the_one_that_helps_more_is_limiting(run: Run) -> None:
    """The expected number of species follows warmth, by two species, and cover, by one."""
    rows = np.flatnonzero(run.store.arrays["covariates"].row_of >= 0)
    typical = typical_values(run, [None])
    values_VT = np.array([[0.6], [np.nan], [np.nan], [2.0]])  # cover 2 adds 0.6 species, warmth up to 0.9
    found = limiting_factors(run, run.store, rows, [None], typical=replace(typical, values_VT=values_VT))
    warmth, cover = (np.nan_to_num(column(run, name, rows)) for name in ("warmth", "cover"))

    def richness(warmth: np.ndarray, cover: np.ndarray) -> np.ndarray:
        return expit(2 * warmth) + expit(-(warmth**2)) + expit(-1 + 3.0 * (cover == 2))

    gains = np.stack([richness(np.full_like(warmth, 0.6), cover), richness(warmth, np.full_like(cover, 2))])
    gains = gains - richness(warmth, cover)
    both = (gains > 0.01).all(axis=0)
    expected = np.array([0, 3])[gains.argmax(axis=0)]
    assert set(expected[both]) == {0, 3}
    np.testing.assert_array_equal(found.factor_NT[both, 0], expected[both])


def test_what_is_usual_of_a_class_is_the_commonest_and_of_the_community_counts_each_species(run: Run) -> None:
    typical = typical_values(run, [3, None])
    store, rows = run.store, np.flatnonzero(run.store.arrays["covariates"].row_of >= 0)
    cover = column(run, "cover", rows)
    has = store.labels.to_csr(8).toarray()[rows, 3].astype(bool)
    values, counts = np.unique(cover[has & np.isfinite(cover)], return_counts=True)
    assert typical.values_VT[3, 0] == values[counts.argmax()]
    warmth, weight = column(run, "warmth", rows), store.labels.lengths()[rows]
    each = np.sort(np.repeat(warmth[np.isfinite(warmth)], weight[np.isfinite(warmth)]))
    assert typical.values_VT[0, 1] == pytest.approx(each[(len(each) - 1) // 2])


def test_a_species_that_grows_nowhere_has_no_usual_value_and_is_limited_by_nothing(tmp_path: Path) -> None:
    store = make_store(60)
    sets = [[each for each in store.labels.row(i) if each != 0] or [1] for i in range(60)]
    run = known_run(replace(store, labels=Lists.from_rows(sets)), tmp_path)
    found = limiting_factors(run, run.store, np.arange(60), [0])
    assert np.isnan(found.typical.values_VT).all() and (found.factor_NT == -1).all()


def test_unknown_species_are_refused_with_the_nearest(run: Run) -> None:
    assert find_species(run, ["503", " 500", "503"]) == [1, 0]
    with pytest.raises(RunError, match="no species '5033'. expected one of its 8. did you mean '503'"):
        find_species(run, ["5033"])
    with pytest.raises(RunError, match="no species 'Poa'. expected one of its 8. such as 500, 503, 506"):
        find_species(run, ["Poa"])
