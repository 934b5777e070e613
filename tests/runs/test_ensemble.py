"""Several runs as one: weighted on held-out plots, predicting together, refused where they do not belong together."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from commands import Commands, strict_json
from releve import pipeline
from releve.config import make_config
from releve.errors import RunError
from releve.files import write_json
from releve.ingest.release import open_release
from releve.lists import Lists
from releve.metrics.sets import score_sets
from releve.progress import quiet_progress
from releve.runs.ensemble import make_ensemble
from releve.runs.folder import Run, open_run
from releve.runs.predict import models_of, predict_held_out, predict_probs
from releve.simulate.config import SimulateConfig
from releve.simulate.write import simulate_release
from releve.store.build import build_store
from releve.store.contents import read_contents
from releve.store.read import Store
from releve.train.members import Member

WORLD = SimulateConfig(
    num_plots=240, num_test_plots=60, num_records=2000, num_species=40, modalities=("covariates",), cell_size_deg=0.1
)
RECIPE = {
    "data": {"modalities": ["covariates"]},
    "split": {"num_folds": 3},
    "model": {"modalities": ["covariates", "survey", "location"], "embedding_dim": 16, "hidden_dim": 16},
    "train": {"num_folds": 3, "epochs": 3, "batch_size": 64, "device": "cpu"},
    "forest": {"num_trees": 10},
    "evaluate": {"references": ["frequency"]},
}
BLIND = {"model": RECIPE["model"] | {"modalities": ["covariates"]}}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "release"
    simulate_release(WORLD, folder)
    return folder


@pytest.fixture(scope="module")
def runs(release: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A run with forests and refitted members, and one of another seed that sees no coordinates."""
    folder = tmp_path_factory.mktemp("runs")
    both = make_config(
        RECIPE | {"train": RECIPE["train"] | {"kinds": ["network", "forest"], "refit": True}}, origin="test"
    )
    with quiet_progress():
        store = pipeline.prepare(both, release, folder / "store")
        pipeline.train(both, store, folder / "both")
        pipeline.train(make_config(RECIPE | BLIND, origin="test"), store, folder / "blind", seed=1)
    return [folder / "both", folder / "blind"]


@pytest.fixture(scope="module")
def test_store(release: Path, runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Store:
    settings = open_run(runs[0]).config.data.model_copy(update={"splits": ("test",)})
    return build_store(read_contents(open_release(release), settings), None, tmp_path_factory.mktemp("test") / "store")


@pytest.fixture(scope="module")
def made(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_ensemble(runs, tmp_path_factory.mktemp("ensemble") / "joint", seed=5)


def all_probs(run: Run, store: Store) -> torch.Tensor:
    return torch.cat([block for _, block in predict_probs(run, store)])


def test_an_ensemble_predicts_a_place_alone_as_among_others(made: Run, test_store: Store) -> None:
    together = all_probs(made, test_store)
    for row in (0, 3, len(test_store) - 1):
        alone = all_probs(made, test_store.take(np.array([row])))
        np.testing.assert_allclose(alone[0], together[row], rtol=1e-4, atol=1e-6)


def test_refitted_members_train_for_the_mean_of_the_best_epochs(tmp_path: Path) -> None:
    """Best after 3, 4 and 11 epochs of the last phase: 6, neither the longest nor the middle; the first 5 are before.

    A forest has no epochs, and a member that holds out nothing has none to tell.
    """
    recipe = {
        "train": {"regime": "classes", "epochs": 20},
        "records": {"pretrain_epochs": 5},
        "data": {"records": "po"},
    }
    members = [Member(i, i, i) for i in range(3)]
    for member, best in zip(members, (3, 4, 11), strict=True):
        write_json(tmp_path / member.name / "member.json", {"best_epoch": 5 + best - 1})
    plan = [*members, Member(3, 0, 3, "forest"), Member(4, None, 4)]
    assert pipeline.mean_best_epochs(tmp_path, plan, make_config(recipe, origin="test")) == 6


def test_refitted_members_follow_the_folds_and_train_for_their_mean_best_epochs(runs: list[Path]) -> None:
    run = open_run(runs[0])
    assert [(m.fold, m.kind) for m in run.members][-4:] == [
        (2, "network"),
        (2, "forest"),
        (None, "network"),
        (None, "forest"),
    ]
    best = [json.loads((run.path / m.name / "member.json").read_text()) for m in run.members if m.kind == "network"]
    chosen = [member["best_epoch"] + 1 for member in best]
    assert chosen[-1] == round(np.mean(chosen[:-1]))
    rows = [model.statistics.num_rows for model in run.models]
    assert rows[-2] == rows[-1] == len(run.store) > max(rows[:-2])


def test_runs_whose_plots_have_the_same_species_in_other_numbers_are_refused(made: Run) -> None:
    """Two plots with species 0 and 1, or one with both and one with none: one after the other they are the same."""
    ensemble = open_run(made.path)
    rows, _ = predict_held_out(ensemble)
    part, (here, there) = ensemble.placed_parts[1], rows[:2].tolist()
    sets = [part.store.labels.row(i).tolist() for i in range(len(part.store))]
    for run, (first, second) in ((ensemble, ([0], [1])), (part, ([0, 1], []))):
        sets[here], sets[there] = first, second
        run.__dict__["store"] = replace(part.store, labels=Lists.from_rows(sets))
    with pytest.raises(RunError, match="observed other species on the same surveys"):
        predict_held_out(ensemble)


def test_probabilities_are_the_weighted_mean_of_calibrated_members(made: Run, test_store: Store) -> None:
    """By hand: the mean over folds of each kind's calibrated probabilities, times its share."""
    expected = torch.zeros(len(test_store), len(made.species_ids))
    assert set(made.decision.kinds) == {"both/network", "both/forest", "blind/network"}
    for part in made.parts:
        for kind in {member.kind for member in part.members}:
            fitted = made.decision.kinds[f"{part.path.name}/{kind}"]
            members = [i for i, member in enumerate(part.members) if member.kind == kind]
            parts = []
            for i in members:
                alone = Run(part.path, part.config, part.seed, (part.members[i],))
                logits = one_logits(alone, test_store)
                parts.append(fitted.calibration.apply(logits))
            expected += fitted.share * torch.stack(parts).mean(dim=0)
    np.testing.assert_allclose(all_probs(made, test_store), expected, atol=1e-6)
    shares = [fitted.share for fitted in made.decision.kinds.values()]
    assert min(shares) >= 0 and sum(shares) == pytest.approx(1)


def one_logits(run: Run, store: Store) -> torch.Tensor:
    from releve.runs.predict import gatherer_for, mean_logits

    ((_, models),) = models_of(run).items()
    return mean_logits(run, models, [gatherer_for(model, store) for model in models], np.arange(len(store)))


def test_held_out_rows_are_shared_and_each_predicted_as_in_its_own_run(made: Run) -> None:
    rows, logits = predict_held_out(made)
    for part in made.parts:
        own_rows, own = predict_held_out(part)
        where = {row: i for i, row in enumerate(own_rows.tolist())}
        at = [where[row] for row in rows.tolist()]
        for kind, values in own.items():
            assert torch.equal(logits[f"{part.path.name}/{kind}"], values[at])
    assert len(rows) == len(made.store)


def test_an_ensemble_is_likelier_on_held_out_plots_than_the_mean_of_its_runs(made: Run) -> None:
    rows, logits = predict_held_out(made)
    labels = torch.from_numpy(made.store.labels.take(rows).to_csr(len(made.species_ids)).toarray()).double()

    def log_likelihood(probs: torch.Tensor) -> float:
        p = probs.double().clamp(1e-9, 1 - 1e-9)
        return float((labels * p.log() + (1 - labels) * (1 - p).log()).mean())

    alone = [log_likelihood(made.decision.calibrated(kind, values)) for kind, values in logits.items()]
    assert log_likelihood(made.decision.probs(logits)) > np.mean(alone)


def test_an_ensemble_is_evaluated_compared_and_predicted_with_by_the_command(
    commands: Commands, release: Path, runs: list[Path], tmp_path: Path
) -> None:
    done = commands.run("ensemble", *runs, "--out", tmp_path / "joint")
    assert done.code == 0, done.stderr
    assert "both/forest" in done.stdout and "sF1" in done.stdout
    assert (tmp_path / "joint/report.html").is_file()
    done = commands.run("predict", tmp_path / "joint", "--data", release, "--out", tmp_path / "lists.csv")
    assert done.code == 0, done.stderr
    assert len(pl.read_csv(tmp_path / "lists.csv")) == WORLD.num_test_plots
    for path in runs:
        assert commands.run("evaluate", path).code == 0
    done = commands.run("compare", runs[0], tmp_path / "joint", "--json")
    assert {row["run"] for row in strict_json(done.stdout)["runs"]} == {"both", "joint"}
    assert commands.run("ensemble", *runs, "--out", tmp_path / "joint").code == 2  # it holds an ensemble
    assert commands.run("ensemble", *runs, "--out", tmp_path / "joint", "--overwrite").code == 0


def test_the_lists_are_those_of_the_joint_probabilities(made: Run, test_store: Store) -> None:
    probs = all_probs(made, test_store)
    lists = made.decision.lists(probs)
    assert score_sets(lists, lists, len(made.species_ids)).sample_f1 == 1
    assert lists.lengths().min() >= 1


def test_runs_that_do_not_belong_together_are_refused(runs: list[Path], made: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="two or more runs"):
        make_ensemble(runs[:1], tmp_path / "one")
    with pytest.raises(RunError, match="none of them an ensemble itself"):
        make_ensemble([runs[0], made.path], tmp_path / "nested")
    with pytest.raises(RunError, match="share a name"):
        make_ensemble([runs[0], runs[0]], tmp_path / "twice")
    simulate_release(WORLD.model_copy(update={"num_species": 30, "seed": 3}), tmp_path / "release")
    config = make_config(RECIPE | {"train": RECIPE["train"] | {"num_folds": 1, "epochs": 1}}, origin="test")
    with quiet_progress():
        store = pipeline.prepare(config, tmp_path / "release", tmp_path / "store")
        pipeline.train(config, store, tmp_path / "others")
    with pytest.raises(RunError, match=r"both knows 40 species and others 30, \d+ of them the same.*data.records"):
        make_ensemble([runs[0], tmp_path / "others"], tmp_path / "mixed")
    assert not (tmp_path / "mixed").exists()


def test_a_run_that_was_trained_anew_is_not_taken_for_the_old_one(runs: list[Path], tmp_path: Path) -> None:
    for path in runs:
        shutil.copytree(path, tmp_path / path.name)
        provenance = json.loads((tmp_path / path.name / "run.json").read_text())
        provenance["store"] = str((path.parent / "store").resolve())
        (tmp_path / path.name / "run.json").write_text(json.dumps(provenance))
    made = make_ensemble([tmp_path / path.name for path in runs], tmp_path / "joint")
    decision = tmp_path / "blind/decision.json"
    decision.write_text(decision.read_text() + " ")
    with pytest.raises(RunError, match="blind was trained anew since ensemble .* was made"):
        open_run(made.path)


def test_an_ensemble_learns_what_seen_species_say_of_its_own_mean(made: Run, test_store: Store) -> None:
    seen = Lists.from_rows([[0, 3] if i % 2 else [] for i in range(len(test_store))])
    plain = all_probs(made, test_store)
    told = torch.cat([block for _, block in predict_probs(made, test_store, seen)])
    assert torch.equal(told[::2], plain[::2])
    torch.testing.assert_close(told[1::2], made.companions.update(plain[1::2], seen.take(np.arange(1, len(plain), 2))))
