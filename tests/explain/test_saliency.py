"""Integrated gradients: shares add up, lie where the network looks, and skip what is missing or not yet seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from releve.errors import RunError
from releve.explain.saliency import find_plot, integrated_gradients, measure_saliency, score_of
from releve.models.model import SpeciesModel
from releve.runs.folder import Run
from releve.runs.predict import gatherer_for
from stores import SPECS, make_store

from .runs import TABLES, known_run, train_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    sizes = {"embedding_dim": 8, "hidden_dim": 8, "series_width": 4, "patch_backbone": "test_resnet"}
    content = {
        "split": {"num_folds": 3},
        "model": {"modalities": ["covariates", "landsat", "climate", "patch"], **sizes},
        "train": {"num_folds": 2, "epochs": 3, "batch_size": 32, "device": "cpu"},
    }
    return train_run(make_store(120, missing=0.1), tmp_path_factory.mktemp("run"), content)


def plot_with(run: Run, *names: str) -> int:
    rows = np.arange(len(run.store))
    return next(int(row) for row in rows if run.store.all_have(np.array([row]), names))


@pytest.mark.parametrize("name", ["patch", "landsat", "climate"])
@pytest.mark.parametrize("subject", [1, None])
def test_shares_add_up_to_what_the_score_gains_over_the_mean(run: Run, name: str, subject: int | None) -> None:
    model, row = run.models[0], plot_with(run, name)
    assert isinstance(model, SpeciesModel)
    batch = gatherer_for(model, run.store).batch(np.array([row]))
    share, raw = integrated_gradients(model, batch, name, subject, num_steps=200)
    known = model.statistics.arrays[name]
    mean = torch.tensor(known.mean).reshape(-1, 1, 1).expand_as(raw)
    blank = torch.where(raw.isnan(), float(known.fill or 0.0), mean)[None]
    with torch.no_grad():
        asked = type(batch)({**batch.values, name: blank}, batch.places, batch.year, batch.month)
        gain = score_of(model(batch), subject) - score_of(model(asked), subject)
    assert float(share.sum()) == pytest.approx(float(gain), abs=max(2e-3, 0.05 * abs(float(gain))))
    assert bool((share[raw.isnan()] == 0).all()) and float(share.abs().max()) > 0


def test_steps_after_the_survey_have_no_share(run: Run) -> None:
    row = plot_with(run, "landsat", "climate", "patch")
    found = {each.modality: each for each in measure_saliency(run, run.store, row, 0, num_steps=8)}
    assert set(found) == {"landsat", "climate", "patch"}
    year = run.store.surveys["year"][row]
    first, num_years = SPECS["landsat"]["first_year"], SPECS["landsat"]["shape"][1]
    later = [at for at in range(num_years) if first + at > year]
    assert found["landsat"].first_year == first and found["landsat"].channels == ("red", "nir")
    assert (found["landsat"].share[:, later] == 0).all()
    earlier = found["landsat"].share[:, [at for at in range(num_years) if first + at < year]]
    assert np.abs(earlier).max() > 0


def test_a_plot_without_what_networks_look_at_is_refused(run: Run, tmp_path: Path) -> None:
    row = find_plot(run.store, str(run.store.surveys["survey_id"][7]))
    assert row == 7
    with pytest.raises(RunError, match="no survey '99'. expected one of 120"):
        find_plot(run.store, "99")
    tables = known_run(make_store(60), tmp_path)
    with pytest.raises(RunError, match="nothing to show of survey .* networks look at"):
        measure_saliency(tables, tables.store, 0, None)
    assert TABLES
