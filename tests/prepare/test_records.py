"""Presence-only records from a release's files to trained, compared and selected models, by the real command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from commands import Commands, strict_json
from releve.config import Config
from releve.errors import ReleaseError
from releve.evaluate.select import plan_candidates, select_settings
from releve.ingest.release import open_release
from releve.ingest.surveys import read_occurrences
from releve.prepare.config import CleanConfig, PseudoplotConfig, SplitConfig
from releve.prepare.records import prepare_records
from releve.simulate.config import SimulateConfig
from releve.simulate.write import simulate_release
from releve.store.build import build_store
from releve.store.config import DataConfig
from releve.store.contents import read_contents
from releve.store.read import open_store
from stores import make_store

WORLD = SimulateConfig(
    num_plots=240, num_test_plots=60, num_records=4000, num_species=40, modalities=("covariates",), cell_size_deg=0.1
)
RECIPE = """\
title = "tiny"

[data]
modalities = ["covariates"]
records = "po"

[split]
num_folds = 3

[model]
modalities = ["covariates", "survey", "location"]
embedding_dim = 16
hidden_dim = 16

[records]
pretrain_epochs = 1
rows_per_plot = 2

[train]
regime = "presence"
epochs = 2
batch_size = 64
device = "cpu"

[evaluate]
references = ["frequency"]
"""


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "release"
    simulate_release(WORLD, folder)
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    file.write_text(RECIPE)
    return file


@pytest.fixture(scope="module")
def runs(commands: Commands, release: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One run of each regime."""
    folder = tmp_path_factory.mktemp("runs")
    plain = folder / "plain.toml"
    plain.write_text(RECIPE.replace('records = "po"\n', "").replace("presence", "pa"))
    for regime in ("pa", "po", "presence", "classes"):
        file = plain if regime == "pa" else recipe
        out = ["--data", release, "--out", folder / regime]
        done = commands.run("run", file, *out, "--set", f"train.regime={regime}")
        assert done.code == 0, done.stderr
    return {regime: folder / regime for regime in ("pa", "po", "presence", "classes")}


def build(release: Path, out: Path, **changes: object):
    data = DataConfig(modalities=("covariates",), records="po", **changes)
    return build_store(read_contents(open_release(release), data), SplitConfig(num_folds=3), out)


def test_the_store_holds_plots_and_then_pseudo_plots_with_their_covariates(release: Path, tmp_path: Path) -> None:
    store = build(release, tmp_path / "store")
    assert store.is_plot[:240].all() and not store.is_plot[240:].any() and len(store) > 500
    records = read_occurrences(open_release(release), "po").table
    kept = store.surveys["num_records"].sum()
    dropped = sum(store.manifest.dropped["po"].values())
    assert kept + dropped == len(records) == 4000
    assert sum(row["count"] for row in store.manifest.dropped_by_publisher) <= dropped
    # a pseudo-plot's covariates are those of the survey that stands for it
    table = pl.read_csv(next(release.rglob("*PO-train-bioclimatic*.csv")))
    by_id = dict(table.select("surveyId", "Bio1").iter_rows())
    array = store.arrays["covariates"]
    column = array.spec.channels.index("Bio1")
    some = np.arange(240, len(store), 37)
    values = array.gather(some)[:, column]
    ids = store.surveys["survey_id"][some.tolist()]
    expected = [by_id[int(i)] if by_id[int(i)] is not None else np.nan for i in ids]
    np.testing.assert_allclose(values, expected)
    assert store.labels.lengths()[240:].tolist() == store.surveys["num_species"][240:].to_list()


def test_folds_of_plots_are_those_of_a_store_without_records(release: Path, tmp_path: Path) -> None:
    both = build(release, tmp_path / "both")
    contents = read_contents(open_release(release), DataConfig(modalities=("covariates",)))
    alone = build_store(contents, SplitConfig(num_folds=3), tmp_path / "alone")
    np.testing.assert_array_equal(both.folds[both.is_plot], alone.folds)
    far = both.folds == -1  # blocks without plots are never validated on, so their records always train
    assert far.any() and not both.is_plot[far].any()


def test_every_record_its_own_row(release: Path, tmp_path: Path) -> None:
    data = DataConfig(modalities=("covariates",), records="po")
    single = PseudoplotConfig(method="single")
    contents = read_contents(open_release(release), data, pseudoplots=single)
    store = build_store(contents, SplitConfig(num_folds=3), tmp_path / "s")
    assert (store.labels.lengths()[~store.is_plot] == 1).all()
    assert open_store(tmp_path / "s").manifest.recipe["pseudoplots"]["method"] == "single"


def test_effort_counts_the_records_around(release: Path) -> None:
    made = prepare_records(open_release(release), "po", CleanConfig(), PseudoplotConfig())
    table = made.surveys.table
    around = np.expm1(table["log1p_cell_records"].to_numpy())
    assert (around >= table["num_records"].to_numpy() - 0.5).all()  # ten cells of 1 km make one of 10 km
    assert 10 < around.max() <= 4000
    assert made.table["country"].null_count() == 0 and made.surveys.table["country"].null_count() == len(table)


def test_when_no_record_is_left_it_says_what_was_dropped(release: Path) -> None:
    strict = PseudoplotConfig(min_species=400)
    with pytest.raises(ReleaseError, match=r"no record of split 'po'.*is left.*clean.drop or the pseudoplots"):
        prepare_records(open_release(release), "po", CleanConfig(), strict)


def test_every_regime_runs_from_files_to_lists(runs: dict[str, Path]) -> None:
    for regime, path in runs.items():
        record = json.loads((path / "run.json").read_text())
        assert record["config"]["train"]["regime"] == regime
        scores = json.loads((path / "evaluation/scores.json").read_text())
        assert {row["model"] for row in scores} == {"tiny", "frequency"}
        assert all("auc_gain" not in row for row in scores)  # plots calibrate every one of them: lists are compared
        surveys = pl.read_csv(path / "evaluation/surveys.csv")
        assert len(surveys) <= 240  # only plots are scored
        assert len((path / "predictions.csv").read_text().splitlines()) == 61
        assert (path / "report.html").is_file()


def test_compare_puts_regimes_into_one_table(commands: Commands, runs: dict[str, Path], release: Path) -> None:
    solution = release / "truth" / "test_solution.csv"
    done = commands.run("compare", *runs.values(), "--solution", solution, "--json")
    assert done.code == 0, done.stderr
    rows = {row["run"]: row for row in strict_json(done.stdout)["runs"]}
    assert set(rows) == set(runs)
    assert rows["pa"]["gain"] == 0 and rows["pa"]["records"] == "" and rows["po"]["records"] == "grid"
    assert len({row["num_plots"] for row in rows.values()}) == 1
    assert all(0 < row["test_sample_f1"] < 1 for row in rows.values())
    done = commands.run("compare", *runs.values())
    assert done.code == 0
    lines = [line.split() for line in done.stdout.splitlines()]
    shown = {line[0]: line for line in lines if line and line[0] in runs}
    assert set(shown) == set(runs) and shown["pa"][3] == "reference"
    for name in ("po", "presence", "classes"):
        gain = rows[name]["gain"]
        assert shown[name][4] == f"{gain:+.3f}".replace("0.", ".") and shown[name][6].endswith(")")
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_group_writes_tables_that_add_up_and_a_picture(commands: Commands, release: Path, tmp_path: Path) -> None:
    out = tmp_path / "grouped"
    settings = ["--set", "pseudoplots.method=radius", "--set", "pseudoplots.size_m=2000"]
    done = commands.run("group", release, "--out", out, *settings)
    assert done.code == 0, done.stderr
    assert Path(done.stdout.strip()) == out / "diagnostics.png" and (out / "diagnostics.png").stat().st_size > 10_000
    plots, species, members = (pl.read_parquet(out / f"{n}.parquet") for n in ("pseudoplots", "species", "members"))
    facts = json.loads((out / "diagnostics.json").read_text())
    assert len(members) + sum(facts["dropped"].values()) == 4000
    counted = members.group_by("plot_id").agg(pl.len(), pl.col("species_id").n_unique().alias("n")).sort("plot_id")
    assert counted["len"].to_list() == plots["num_records"].to_list()
    assert counted["n"].to_list() == plots["num_species"].to_list()
    assert set(species.iter_rows()) == set(members.select("plot_id", "species_id").iter_rows())
    assert json.loads((out / "run.json").read_text())["config"]["pseudoplots"]["size_m"] == 2000
    again = commands.run("group", release, "--out", out, *settings)
    assert again.code == 2 and "--overwrite" in again.stderr
    assert commands.run("group", release, "--out", out, "--overwrite").code == 0
    wrong = commands.run("group", release, "--out", tmp_path / "x", "--set", "pseudoplots.size_m=-5")
    assert wrong.code == 2 and "expected metres from 1 to 1,000,000" in wrong.stderr.replace("\n", " ")
    lacking = commands.run("group", release, "--out", tmp_path / "x", "--split", "presence")
    assert lacking.code == 2 and "presence" in lacking.stderr and not (tmp_path / "x").exists()


def test_select_ranks_backgrounds_on_held_out_target_group_sites(
    commands: Commands, runs: dict[str, Path], recipe: Path, tmp_path: Path
) -> None:
    arguments = ["--store", runs["po"] / "store", "--try", "records.background=random,target_group", "--folds", 2]
    settings = ["--set", "train.regime=po", "--json", "--out", tmp_path / "table.csv"]
    done = commands.run("select", recipe, *arguments, *settings)
    assert done.code == 0, done.stderr
    rows = strict_json(done.stdout)["candidates"]
    assert {row["records.background"] for row in rows} == {"random", "target_group"}
    assert [row["auc"] for row in rows] == sorted((row["auc"] for row in rows), reverse=True)
    assert all(0.3 < row["auc"] < 1 and 0 < row["random_auc"] < 1 for row in rows)
    assert pl.read_csv(tmp_path / "table.csv").height == 2


def test_a_candidate_without_a_score_is_last(monkeypatch: pytest.MonkeyPatch) -> None:
    def score(config: Config, *_: object, **__: object) -> dict[str, float]:
        auc = {3: 0.6, 5: float("nan"), 7: 0.7}[config.train.epochs]
        return {"auc": auc, "ap": 0.1, "sample_f1": 0.1}

    monkeypatch.setattr("releve.evaluate.select.score_fold", score)
    table = select_settings(Config(), make_store(30), ["train.epochs=3,5,7"], num_folds=2)
    assert table["train.epochs"].to_list() == ["7", "3", "5"] and table["auc"].to_list() == [0.7, 0.6, None]


def test_candidates_are_all_combinations_and_lists_stay_whole() -> None:
    trials = ["model.modalities=['covariates'],['covariates','location']", "train.epochs=3,5"]
    planned = list(plan_candidates(Config(), trials))
    assert [(config.model.modalities, config.train.epochs) for _, config in planned] == [
        (("covariates",), 3),
        (("covariates",), 5),
        (("covariates", "location"), 3),
        (("covariates", "location"), 5),
    ]
    assert planned[2][0] == {"model.modalities": "['covariates','location']", "train.epochs": "3"}


@pytest.mark.parametrize(
    ("trial", "message"),
    [
        ("records.background", "--try"),
        ("pseudoplots.method=grid,radius", "of the sections model, records, train"),
        ("forest.num_trees=5,500", "but none of ['train.regime'"),
        ("train.num_folds=1,3", "but none of ['train.regime'"),
        ("records.backgrund=random", "did you mean 'background'"),
        ("records.background=nearest", "input should be"),
    ],
)
def test_a_trial_that_cannot_be_is_refused(
    commands: Commands, runs: dict[str, Path], recipe: Path, trial: str, message: str
) -> None:
    done = commands.run("select", recipe, "--store", runs["po"] / "store", "--try", trial, "--set", "train.regime=po")
    assert done.code == 2 and message in done.stderr.replace("\n", " ")


def test_a_regime_without_records_is_refused_before_anything_is_read(
    commands: Commands, recipe: Path, tmp_path: Path
) -> None:
    plain = tmp_path / "plain.toml"
    plain.write_text(RECIPE.replace('records = "po"\n', ""))
    done = commands.run("run", plain, "--data", tmp_path, "--out", tmp_path / "out")
    assert done.code == 2 and "data.records" in done.stderr
    plain.write_text(RECIPE.replace('records = "po"', 'records = "train"'))
    done = commands.run("run", plain, "--data", tmp_path, "--out", tmp_path / "out")
    assert done.code == 2 and "'train' is in splits and is records" in done.stderr.replace("\n", " ")
