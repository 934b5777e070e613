"""Whole runs in one process: all kinds of member together, other releases at prediction, unseen species."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from releve import pipeline
from releve.config import make_config
from releve.decide.stretch import FoldStretch
from releve.errors import RunError, StoreError
from releve.evaluate.submission import read_submission
from releve.lists import Lists
from releve.predict.tables import store_for_prediction
from releve.runs import predict
from releve.runs.claim import remove_run
from releve.runs.folder import Run, open_run
from releve.runs.predict import gatherer_for, predict_held_out, predict_probs
from releve.train.rows import fold_rows

CONTENT = {
    "data": {"modalities": ["covariates", "landsat"]},
    "split": {"num_folds": 3},
    "model": {"modalities": ["covariates", "location", "landsat"], "embedding_dim": 16, "hidden_dim": 16},
    "train": {"num_folds": 2, "kinds": ["network", "forest", "booster"], "epochs": 2, "batch_size": 64},
    "forest": {"num_trees": 10},
    "evaluate": {"references": ["frequency"]},
}


@pytest.fixture(scope="module")
def run(labelled_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("pipeline") / "run"
    pipeline.run(make_config(CONTENT, origin="test"), labelled_release, out, seed=1)
    return open_run(out)


def test_all_kinds_are_trained_on_each_fold_and_share_the_prediction(run: Run) -> None:
    assert [(member.fold, member.kind) for member in run.members] == [
        (0, "network"),
        (0, "forest"),
        (0, "booster"),
        (1, "network"),
        (1, "forest"),
        (1, "booster"),
    ]
    shares = [kind.share for kind in run.decision.kinds.values()]
    assert set(run.decision.kinds) == {"network", "forest", "booster"}
    assert sum(shares) == pytest.approx(1.0)


def test_held_out_rows_are_those_of_the_trained_folds_each_predicted_by_its_own_members(run: Run) -> None:
    rows, logits = predict_held_out(run)
    assert sorted(rows.tolist()) == np.flatnonzero(run.store.folds < 2).tolist()
    fold_one = run.store.folds[rows] == 1
    for member, model in zip(run.members[3:], run.models[3:], strict=True):
        expected = model(gatherer_for(model, run.store).batch(rows[fold_one]))
        np.testing.assert_allclose(logits[member.kind][fold_one].numpy(), expected.detach().numpy(), atol=1e-4)


def test_a_prediction_is_the_mean_over_members_by_share_of_their_kind(run: Run) -> None:
    rows, probs = next(predict_probs(run, run.store))
    means = {kind: torch.zeros(probs.shape) for kind in run.decision.kinds}
    for member, model in zip(run.members, run.models, strict=True):
        logits = model(gatherer_for(model, run.store).batch(rows)).detach()
        means[member.kind] += run.decision.calibrated(member.kind, logits) / 2
    expected = sum(kind.share * kind.stretch.apply(means[name], 2) for name, kind in run.decision.kinds.items())
    np.testing.assert_allclose(probs.numpy(), expected.numpy(), atol=1e-5)


def test_a_place_is_predicted_alone_as_among_others(run: Run) -> None:
    """By all kinds of member and all modalities, calibrated, averaged and stretched; and so is its list."""
    together = torch.cat([probs for _, probs in predict_probs(run, run.store)])
    for row in (0, 7, 101, len(run.store) - 1):
        ((_, alone),) = predict_probs(run, run.store.take(np.array([row])))
        np.testing.assert_allclose(alone[0], together[row], rtol=1e-4, atol=1e-6)
        assert run.decision.lists(alone).row(0).tolist() == run.decision.lists(together).row(row).tolist()


def test_the_mean_over_folds_is_judged_on_surveys_that_two_folds_predict_untrained(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def watched(first: torch.Tensor, second: torch.Tensor, truth: Lists) -> FoldStretch:
        asked.append((first, second, truth))
        return FoldStretch(slope_of_two=1.1)

    monkeypatch.setattr(predict, "fit_stretch", watched)
    rows, logits = predict_held_out(run)
    stretches = predict.fit_stretches(run, run.decision, rows, logits)
    assert stretches == {"network": FoldStretch(slope_of_two=1.1)}  # other kinds select nothing
    ((first, second, truth),) = asked
    shared, theirs = [], []
    for member, model in zip(run.members, run.models, strict=True):
        if member.kind != "network":
            continue
        share = {"selection_share": run.config.train.selection_share, "seed": member.seed}
        used = fold_rows(run.store, member.fold, run.config.split, **share)
        both = np.intersect1d(used.selection, rows)
        assert len(both) and not set(both) & {*used.plots} and (run.store.folds[both] != member.fold).all()
        shared.append(both)
        found = model(gatherer_for(model, run.store).batch(both)).detach()
        theirs.append(run.decision.calibrated("network", found))
    shared = np.concatenate(shared)
    np.testing.assert_array_equal(truth.indices, run.store.labels.take(shared).indices)
    np.testing.assert_allclose(second, torch.cat(theirs), atol=1e-5)
    at = [rows.tolist().index(row) for row in shared]
    np.testing.assert_allclose(first, run.decision.calibrated("network", logits["network"][at]), atol=1e-6)


def test_the_same_seed_writes_the_same_lists(run: Run, labelled_release: Path, tmp_path: Path) -> None:
    pipeline.run(run.config, labelled_release, tmp_path / "again", seed=1)
    assert (tmp_path / "again" / "predictions.csv").read_bytes() == (run.path / "predictions.csv").read_bytes()


def test_a_release_without_one_table_is_predicted_with_its_columns_missing(
    run: Run, labelled_release: Path, tmp_path: Path
) -> None:
    other = tmp_path / "release"
    shutil.copytree(labelled_release, other)
    for file in other.rglob("*elevation.csv"):
        file.unlink()
    pipeline.predict(run, other, "test", tmp_path / "lists.csv")
    whole, without = read_submission(run.path / "predictions.csv"), read_submission(tmp_path / "lists.csv")
    assert whole["surveyId"].to_list() == without["surveyId"].to_list()
    assert (without["species"].list.len() > 0).all()
    (model,) = run.models[:1]
    store = store_for_prediction(run, other, "test")
    columns = model.statistics.tables["covariates"].columns
    values = gatherer_for(model, store).batch(np.arange(3)).values["covariates"].numpy()
    assert np.isnan(values[:, columns.index("Elevation")]).all()
    raw = pl.concat([pl.read_csv(file) for file in other.rglob("*test-bioclimatic.csv")]).sort("surveyId")
    assert values[:, columns.index("Bio1")].tolist() == raw["Bio1"].head(3).to_list()


@pytest.mark.parametrize("differs", ["shape", "fill", "first_year", "channels"])
def test_series_of_another_form_are_taken_as_missing_and_a_model_left_with_nothing_refuses(
    run: Run, differs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    array = run.store.arrays["landsat"]
    assert "landsat" in gatherer_for(run.models[0], run.store).batch(np.arange(4)).values
    others = {
        "shape": (6, 20, 4),
        "fill": 7.0,
        "first_year": (array.spec.first_year or 0) + 1,
        "channels": array.spec.channels[::-1],
    }
    other = dataclasses.replace(array, spec=array.spec.model_copy(update={differs: others[differs]}))
    store = dataclasses.replace(run.store, arrays=run.store.arrays | {"landsat": other})
    assert "landsat" not in gatherer_for(run.models[0], store).batch(np.arange(4)).values
    assert f"its {differs.replace('_', ' ')} is" in " ".join(capsys.readouterr().err.split())
    model = run.models[0]
    alone = SimpleNamespace(modalities=("landsat",), statistics=model.statistics)
    with pytest.raises(RunError, match=r"has none of the modalities \['landsat'\]"):
        gatherer_for(alone, store)


def test_a_store_that_was_prepared_again_is_not_evaluated_on(run: Run, labelled_release: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run.path, copy)
    pipeline.prepare(run.config, labelled_release, copy / "store", seed=9, overwrite=True)
    with pytest.raises(StoreError, match="prepared again"):
        pipeline.evaluate(open_run(copy))


def test_several_seeds_of_a_fold_are_averaged_the_same_way_for_scores_and_for_lists(
    labelled_release: Path, tmp_path: Path
) -> None:
    content = CONTENT | {"train": {"num_folds": 1, "kinds": ["network", "network"], "epochs": 1}}
    config = make_config(content, origin="test")
    store = pipeline.prepare(config, labelled_release, tmp_path / "store")
    run = pipeline.train(config, store, tmp_path / "run")
    rows, logits = predict_held_out(run)
    probs = np.concatenate([part.numpy() for _, part in predict_probs(run, store)])
    np.testing.assert_allclose(probs[rows], run.decision.probs(logits).numpy(), atol=1e-5)


def test_a_run_of_trees_alone_is_whole(labelled_release: Path, tmp_path: Path) -> None:
    """It has no epochs and no learning curves; new places are predicted by all members, those of all rows too."""
    trees = {"num_folds": 2, "kinds": ["forest", "booster", "booster"], "refit": True}
    config = make_config(CONTENT | {"train": trees}, origin="test")
    pipeline.run(config, labelled_release, tmp_path / "run", seed=1)
    run = open_run(tmp_path / "run")
    assert [member.kind for member in run.members if member.fold is None] == ["forest", "booster", "booster"]
    assert set(run.decision.kinds) == {"forest", "booster"}
    assert all((run.path / name).is_file() for name in ("report.html", "odmap.csv", "model_card.md", "predictions.csv"))
    rows, probs = next(predict_probs(run, run.store))
    means = {kind: torch.zeros(probs.shape) for kind in run.decision.kinds}
    for fold in (0, 1, None):
        for kind in means:
            pairs = zip(run.members, run.models, strict=True)
            chosen = [model for member, model in pairs if (member.fold, member.kind) == (fold, kind)]
            logits = [model(gatherer_for(model, run.store).batch(rows)) for model in chosen]
            means[kind] += run.decision.calibrated(kind, torch.stack(logits).mean(dim=0)) / 3
    expected = sum(decided.share * means[kind] for kind, decided in run.decision.kinds.items())
    np.testing.assert_allclose(probs.numpy(), expected.numpy(), atol=1e-5)


def test_a_folder_of_something_else_is_refused_before_anything_is_written(
    run: Run, labelled_release: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="holds no run but"):
        pipeline.run(run.config, labelled_release, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(RunError, match="both given"):
        pipeline.run(run.config, labelled_release, run.path, resume=True, overwrite=True)


def test_overwriting_a_run_keeps_files_that_are_not_its_own(run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run.path, copy)
    (copy / "predictions_mine.csv").write_text("mine")
    remove_run(copy)
    assert sorted(path.name for path in copy.iterdir()) == ["predictions_mine.csv", "store"]


def test_run_json_says_what_each_step_took_and_wrote(run: Run) -> None:
    provenance = json.loads((run.path / "run.json").read_text(encoding="utf-8"))
    assert provenance["steps"]["predict test"]["file"] == "predictions.csv"
    assert provenance["steps"]["evaluate"]["seconds"] >= 0
    assert provenance["inputs"]["release"] == run.store.manifest.fingerprint


def test_a_training_stopped_before_the_decision_goes_on_with_resume(
    run: Run, labelled_release: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run.path, copy)
    decision = (copy / "decision.json").read_text(encoding="utf-8")
    (copy / "decision.json").unlink()
    with pytest.raises(RunError, match="not trained to its end"):
        open_run(copy)
    pipeline.run(run.config, labelled_release, copy, seed=1, resume=True)
    assert json.loads((copy / "decision.json").read_text(encoding="utf-8")) == json.loads(decision)


@pytest.mark.slow
def test_the_demo_shows_that_all_modalities_find_more_than_each_alone(tmp_path: Path) -> None:
    from releve.demo import run_demo
    from releve.simulate.config import SimulateConfig

    world = SimulateConfig(num_plots=600, num_test_plots=150, num_records=500, num_species=120)
    page = run_demo(tmp_path / "demo", world=world)
    assert "oracle" in page.read_text(encoding="utf-8")
    scores = pl.read_csv(tmp_path / "demo" / "scores.csv").group_by("kind", "model").agg(pl.col("sample_f1").mean())
    by_kind = {kind: scores.filter(pl.col("kind") == kind)["sample_f1"].max() for kind in scores["kind"].unique()}
    assert by_kind["reference"] < by_kind["fused"] < by_kind["oracle"]
    assert by_kind["modality"] < by_kind["fused"]
