"""A run asked again and again gives what it gives once, and a change changes what it says, no more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from releve.errors import RunError
from releve.explain.places import Places, held_out_rows, unchanged
from releve.explain.variables import find_variable, list_shuffles, list_variables, mixed_with, set_to
from releve.runs.folder import Run
from releve.runs.predict import predict_held_out, predict_probs
from stores import make_store

from .runs import TABLES, known_run, train_run

CONTENT = {
    "split": {"num_folds": 3},
    "model": {
        "modalities": [*TABLES, "landsat", "patch"],
        "embedding_dim": 8,
        "hidden_dim": 8,
        "series_width": 4,
        "patch_backbone": "test_resnet",
    },
    "train": {"num_folds": 2, "epochs": 2, "batch_size": 32, "device": "cpu", "kinds": ["network", "booster"]},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Networks of all modalities and boosters, two folds, some surveys without each modality."""
    return train_run(make_store(120), tmp_path_factory.mktemp("run"), CONTENT)


def test_what_is_not_changed_is_predicted_as_ever(run: Run) -> None:
    rows = np.arange(len(run.store))[::-3]
    expected = torch.cat([probs for _, probs in predict_probs(run, run.store.take(rows))])
    torch.testing.assert_close(Places(run, run.store, rows).probs()[0], expected, atol=1e-6, rtol=1e-5)
    held_out, logits = predict_held_out(run)
    assert sorted(held_out.tolist()) == held_out_rows(run).tolist()
    found = Places(run, run.store, held_out, held_out=True).held_out_probs()[0]
    torch.testing.assert_close(found, run.decision.probs(logits), atol=1e-6, rtol=1e-5)


def test_surveys_get_all_that_another_has_by_shuffling_everything_but_its_date(run: Run) -> None:
    """Every modality from another survey of the same date is that survey."""
    same_date = run.store.surveys.with_columns(year=2019, month=6)
    store = replace(run.store, surveys=same_date.cast(run.store.surveys.schema))
    rows, order = np.arange(40), np.random.default_rng(0).permutation(40)
    places = Places(run, store, rows)
    mixed = places.probs([mixed_with(list_variables(run), order)])[0]
    torch.testing.assert_close(mixed, places.probs()[0, order], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["patches", "Landsat series", "coordinates", "country", "rain"])
def test_each_variable_changes_predictions_and_no_change_is_left_behind(run: Run, name: str) -> None:
    places = Places(run, run.store, np.arange(60))
    before = places.probs()[0]
    change = mixed_with([find_variable(list_variables(run), name)], np.roll(np.arange(60), 7))
    after, as_it_was = places.probs([change, unchanged])
    assert (after - before).abs().max() > 1e-6
    torch.testing.assert_close(as_it_was, before, atol=1e-6, rtol=1e-5)


def test_a_value_is_set_where_a_survey_has_the_table_and_nowhere_else(tmp_path: Path) -> None:
    run = known_run(make_store(60), tmp_path)
    rows = np.arange(60)
    has = run.store.arrays["covariates"].row_of >= 0
    warm = find_variable(list_variables(run), "warmth")
    probs = Places(run, run.store, rows).probs([set_to(warm, 1.5)])[0]
    expected = torch.where(torch.from_numpy(has), torch.tensor(3.0).sigmoid(), torch.tensor(0.5))
    assert has.sum() == 45
    torch.testing.assert_close(probs[:, 0], expected)
    each = np.linspace(-1, 1, 60)
    probs = Places(run, run.store, rows).probs([set_to(warm, each)])[0]
    torch.testing.assert_close(probs[has, 0], torch.from_numpy(1 / (1 + np.exp(-2 * each[has]))).float())


def test_each_row_is_held_out_by_its_own_folds_members_and_predicted_by_all(tmp_path: Path) -> None:
    store = make_store(60)
    run = known_run(store, tmp_path, shifts=(0.0, 1.0, 2.0))
    places = Places(run, store, np.arange(60))
    expected = torch.tensor([-1.0, 0.0, 1.0]).sigmoid()
    torch.testing.assert_close(places.held_out_probs()[0, :, 2], expected[store.folds.astype(int)])
    torch.testing.assert_close(places.probs()[0, :, 2], expected.mean().expand(60))


def test_what_is_looked_at_is_listed_once_in_order_with_groups_and_units(tmp_path: Path) -> None:
    store = make_store(60)
    spec = store.arrays["covariates"].spec.model_copy(
        update={"groups": {"warmth": "climate", "rain": "climate", "soil": "ground"}, "units": {"rain": "mm"}}
    )
    array = replace(store.arrays["covariates"], spec=spec)
    run = known_run(replace(store, arrays=store.arrays | {"covariates": array}), tmp_path)
    variables = list_variables(run)
    names = ["warmth", "rain", "soil", "cover", "plot area", "location uncertainty", "year of the survey"]
    assert [each.name for each in variables] == [*names, "country", "region", "coordinates"]
    assert [(each.group, each.unit, each.is_categorical) for each in variables[:4]] == [
        ("climate", "", False),
        ("climate", "mm", False),
        ("ground", "", False),
        ("", "", True),
    ]
    shuffles = [(each.kind, each.name, len(each.variables)) for each in list_shuffles(variables)[len(variables) :]]
    assert shuffles == [("group", "climate", 2), ("modality", "covariates", 4), ("modality", "facts of the survey", 5)]
    with pytest.raises(RunError, match="no variable 'warmht'. Of its 10, did you mean 'warmth'"):
        find_variable(variables, "warmht")


def test_an_ensemble_of_runs_on_different_stores_is_refused(tmp_path: Path) -> None:
    parts = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(name)
        part = known_run(replace(make_store(60), path=tmp_path / name), tmp_path / name)
        parts.append(part)
    joint = Run(tmp_path, parts[0].config, 0, (), tuple(parts))
    with pytest.raises(RunError, match="trained on 2 stores.*one by one"):
        held_out_rows(joint)
    (tmp_path / "b" / "manifest.json").write_text("a")
    assert len(held_out_rows(joint)) == 60
