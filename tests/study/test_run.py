"""A study from its folder to predictions where only coordinates are known, by the commands."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.commands import Commands
from tests.study.studies import make_study

from releve.geo import block_ids
from releve.metrics.intervals import bootstrap_interval

QUICK = [
    *("--set", "train.epochs=2", "--set", "train.kinds=['network', 'forest']", "--set", "train.refit=false"),
    *("--set", "forest.num_trees=10", "--set", "evaluate.references=['frequency']", "--set", "split.num_folds=2"),
    *("--set", "train.num_folds=2", "--set", "model.embedding_dim=16", "--set", "model.hidden_dim=16"),
]


@pytest.fixture(scope="module")
def folder(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("a study é")
    path = make_study(folder, num_plots=90)
    path.write_text(path.read_text().replace("[study]", '[study]\ncitation = "Rossi (2020), plots of the hills"', 1))
    done = commands.run("run", "--data", folder / "study.toml", "--out", folder / "run", *QUICK)
    assert done.code == 0, done.stderr
    assert "Trained on 90 plots" in done.stderr.replace("\n", " ")
    return folder


def test_what_was_chosen_is_recorded(folder: Path) -> None:
    made = json.loads((folder / "run" / "store" / "run.json").read_text(encoding="utf-8"))
    assert any("90 plots" in reason for reason in made["reasons"])
    assert made["config"]["train"]["regime"] == "pa" and made["rasters"]["root"] == str(folder.resolve())
    assert not (folder / "run" / "store.rasters").exists()
    page = (folder / "run" / "report.html").read_text(encoding="utf-8")
    assert "Rossi (2020), plots of the hills" in page and "--data study.toml" in page


def test_coordinates_alone_give_what_the_covariates_give(commands: Commands, folder: Path) -> None:
    """Places that the rasters cover, one of them twice, and one outside them."""
    plots = pl.read_csv(folder / "plots.csv", glob=False).unique("plot", maintain_order=True).head(5)
    bare = plots.select("lon", "lat")
    bare = pl.concat([bare, bare.head(1), pl.DataFrame({"lon": [40.0], "lat": [47.0]})])
    bare.write_csv(folder / "bare.csv")
    done = commands.run("predict", folder / "run", "--data", folder / "bare.csv", "--out", folder / "bare.out.csv",
                        "--probabilities", folder / "bare.parquet")  # fmt: skip
    assert done.code == 0, done.stderr
    said = done.stderr.replace("\n", " ")
    assert "1 of 7 places lie outside all rasters" in said and "pH" in said
    import rasterio

    values = {}
    for name in ("warmth", "wetness", "soil"):
        with rasterio.open(folder / f"{name}.tif") as file:
            values[name] = [float(value[0]) for value in file.sample(bare.head(6).rows())]
    told = bare.head(6).with_columns(**{name: pl.Series(found) for name, found in values.items()})
    told.write_csv(folder / "told.csv")
    done = commands.run("predict", folder / "run", "--data", folder / "told.csv", "--out", folder / "told.out.csv",
                        "--probabilities", folder / "told.parquet")  # fmt: skip
    assert done.code == 0, done.stderr
    ours = pl.read_parquet(folder / "bare.parquet", glob=False)
    first = ours.filter(pl.col("surveyId") != "7")
    theirs = pl.read_parquet(folder / "told.parquet", glob=False)
    assert len(first) and first.equals(theirs)
    alone, twice = (ours.filter(pl.col("surveyId") == each)["probability"].to_numpy() for each in ("1", "6"))
    np.testing.assert_allclose(alone, twice, rtol=1e-5)


def test_a_projected_table_is_read_when_its_system_is_given(commands: Commands, folder: Path) -> None:
    from pyproj import Transformer

    places = pl.DataFrame({"id": ["a"], "lon": [5.5], "lat": [47.5]})
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:32631", always_xy=True).transform(5.5, 47.5)
    places.write_csv(folder / "degrees.csv")
    pl.DataFrame({"id": ["a"], "x": [x], "y": [y]}).write_csv(folder / "metres.csv")
    outs = []
    for name, more in (("degrees", []), ("metres", ["--crs", "EPSG:32631"])):
        out = folder / f"{name}.out.csv"
        done = commands.run("predict", folder / "run", "--data", folder / f"{name}.csv", "--out", out, *more)
        assert done.code == 0, done.stderr
        outs.append(out.read_text(encoding="utf-8"))
    assert outs[0] == outs[1]
    done = commands.run("predict", folder / "run", "--data", folder / "metres.csv", "--out", folder / "x.csv")
    assert done.code == 2 and "no usable coordinates" in done.stderr.replace("\n", " ")


def test_rasters_elsewhere_are_matched_by_name_and_a_lost_study_is_told(commands: Commands, folder: Path) -> None:
    other = folder / "other rasters"
    make_study(other, num_plots=5, seed=3)
    (other / "warmth.tif").rename(other / "WARMTH.tif")
    place = folder / "place.csv"
    pl.DataFrame({"lon": [5.5], "lat": [47.5]}).write_csv(place)
    here = commands.run("predict", folder / "run", "--data", place, "--out", folder / "here.csv")
    there = commands.run("predict", folder / "run", "--data", place, "--out", folder / "there.csv", "--rasters", other)
    assert (here.code, there.code) == (0, 0), there.stderr
    assert (folder / "here.csv").read_text() == (folder / "there.csv").read_text()
    moved = folder / "warmth.tif"
    moved.rename(folder / "moved.tif")
    try:
        lost = commands.run("predict", folder / "run", "--data", place, "--out", folder / "lost.csv")
    finally:
        (folder / "moved.tif").rename(moved)
    assert lost.code == 2 and "warmth.tif" in lost.stderr and "--rasters" in lost.stderr


def test_a_study_that_moved_with_its_run_is_found_and_without_rasters_a_whole_table_is_enough(
    commands: Commands, folder: Path, tmp_path: Path
) -> None:
    pl.DataFrame({"lon": [5.5], "lat": [47.5]}).write_csv(folder / "bare.csv")
    whole = {"lon": [5.5], "lat": [47.5], "pH": [6.0], "warmth": [9.0], "wetness": [50.0], "soil": [1]}
    pl.DataFrame(whole).write_csv(folder / "whole.csv")
    moved = folder.with_name("moved é")
    before = commands.run("predict", folder / "run", "--data", folder / "bare.csv", "--out", tmp_path / "before.csv")
    assert before.code == 0, before.stderr
    folder.rename(moved)
    try:
        after = commands.run("predict", moved / "run", "--data", moved / "bare.csv", "--out", tmp_path / "after.csv")
        assert after.code == 0, after.stderr
        assert (tmp_path / "after.csv").read_text() == (tmp_path / "before.csv").read_text()
        alone = tmp_path / "alone"
        shutil.copytree(moved / "run", alone)
        found = commands.run("predict", alone, "--data", moved / "whole.csv", "--out", tmp_path / "whole.out.csv")
        assert found.code == 0, found.stderr
        lost = commands.run("predict", alone, "--data", moved / "bare.csv", "--out", tmp_path / "lost.csv")
        assert lost.code == 2 and "--rasters" in lost.stderr
    finally:
        moved.rename(folder)


def test_a_release_needs_a_recipe(commands: Commands, tmp_path: Path) -> None:
    done = commands.run("run", "--data", tmp_path, "--out", tmp_path / "run")
    assert done.code == 2 and "not a known release" in done.stderr.replace("\n", " ")


def test_a_test_table_is_predicted_and_scored_beside_reference_models(commands: Commands, tmp_path: Path) -> None:
    path = make_study(tmp_path, num_plots=90)
    make_study(tmp_path / "apart", num_plots=40, seed=9)
    apart = pl.read_csv(tmp_path / "apart" / "plots.csv", glob=False)
    apart.with_columns(pl.col("plot").str.replace("P", "T")).write_csv(tmp_path / "test.csv")
    for name in ("warmth", "wetness", "soil"):
        (tmp_path / "apart" / f"{name}.tif").unlink()
    text = path.read_text().replace(
        '["pH"]\n', '["pH"]\n[[study.plots]]\nfile = "test.csv"\nsplit = "test"\ncovariates = ["pH"]\n'
    )
    path.write_text(text)
    references = ["--set", "evaluate.references=['frequency', 'logistic']"]
    done = commands.run("run", "--data", path, "--out", tmp_path / "run", *QUICK, *references)
    assert done.code == 0, done.stderr
    scores = pl.read_csv(tmp_path / "run" / "evaluation" / "test.csv", glob=False)
    assert set(scores["model"]) == {"a small study", "frequency", "logistic"}
    assert (scores["num_surveys"] == 40).all() and scores.filter("is_model")["gain"][0] is None
    # Plots beside those that were learned from are told: the same formula of distance, on a plane.
    near_km = scores["near_km"][0]
    places = [pl.read_csv(tmp_path / name, glob=False).unique("plot") for name in ("plots.csv", "test.csv")]
    (x, y), (to_x, to_y) = ((t["lon"].to_numpy(), t["lat"].to_numpy()) for t in reversed(places))
    east = 111.195 * np.cos(np.radians((y[:, None] + to_y) / 2)) * (x[:, None] - to_x)
    km = np.hypot(east, 111.195 * (y[:, None] - to_y)).min(axis=1)
    assert 0 < near_km < 50 and (np.abs(km - near_km) > 1e-3).all()
    num_near = int((km < near_km).sum())
    assert 0 < num_near < 40 and (scores["num_near"] == num_near).all()
    assert f"{num_near} of 40 plots lie within {near_km:g} km" in done.stderr.replace("\n", " ")
    # What was written as lists is what was scored.
    lists = pl.read_csv(tmp_path / "run" / "predictions.csv", glob=False)
    named = dict(zip(*lists.select(lists.columns[0], lists.columns[1]).get_columns(), strict=True))
    found = pl.read_csv(tmp_path / "test.csv", glob=False)
    f1 = []
    for (plot,), rows in found.group_by("plot"):
        truth = set(rows["species"].drop_nulls())
        listed = {name.strip() for name in (named[plot] or "").split(";") if name.strip()}
        f1.append(1.0 if not truth | listed else 2 * len(truth & listed) / (len(truth) + len(listed)))
    assert scores.filter("is_model")["sample_f1"][0] == pytest.approx(np.mean(f1), abs=1e-6)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert (
        f"{num_near} of them lie within" in page
        and "On the test split" in page
        and "Settings were chosen from the data" in page
    )


def test_records_of_few_species_are_told_by_rank(commands: Commands, tmp_path: Path) -> None:
    path = make_study(tmp_path, num_plots=0, num_records=80)
    make_study(tmp_path / "apart", num_plots=30, seed=9)
    plots = pl.read_csv(tmp_path / "apart" / "plots.csv", glob=False)
    plots.select("plot", "lon", "lat", "species").write_csv(tmp_path / "test.csv")
    text = path.read_text().replace("[study]", "[study]\nbackground = 300", 1)
    path.write_text(text + '[[study.plots]]\nfile = "test.csv"\nsplit = "test"\n')
    done = commands.run("run", "--data", path, "--out", tmp_path / "run", *QUICK, "--set",
                        "evaluate.references=['frequency', 'logistic']")  # fmt: skip
    assert done.code == 0, done.stderr
    assert "AUC" in done.stdout and "sF1" not in done.stdout
    said = done.stderr.replace("\n", " ")
    assert "split test: AUC" in said and "go by the order of the places" in said
    scores = pl.read_csv(tmp_path / "run" / "evaluation" / "scores.csv", glob=False)
    ours = scores.filter("is_model").row(0, named=True)
    other = scores.filter(pl.col("model") == "logistic").row(0, named=True)
    assert other["auc_gain"] == pytest.approx(ours["auc_macro"] - other["auc_macro"], abs=1e-9)
    assert other["auc_gain_low"] <= other["auc_gain"] <= other["auc_gain_high"]
    assert scores["auc_macro"].to_list() == sorted(scores["auc_macro"], reverse=True)
    surveys = pl.read_csv(tmp_path / "run" / "evaluation" / "surveys.csv", glob=False)
    assert not surveys["survey_id"].cast(pl.String).str.starts_with("random").any()
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    of_test = page[page.index("On the test split") : page.index("What was learned from what")]
    assert "sF1" not in of_test and "AUC" in of_test
    assert "how suitable a place is" in page and "300 random places" in page and "small data" in page
    order = re.findall(r'<th scope="row">([^<]+)</th>', page)
    assert [name for name in order if name in scores["model"].to_list()][:3] == scores["model"].to_list()
    card = (tmp_path / "run" / "model_card.md").read_text(encoding="utf-8")
    assert f"| logistic | {other['auc_macro']:.3f} |" in card


def test_intervals_are_of_blocks_as_small_as_those_of_the_folds(folder: Path) -> None:
    made = json.loads((folder / "run" / "run.json").read_text(encoding="utf-8"))
    side_km = made["config"]["split"]["block_size_km"]
    assert side_km < 50
    page = (folder / "run" / "report.html").read_text(encoding="utf-8")
    assert f"whole blocks of {side_km:g} km" in page
    scores = pl.read_csv(folder / "run" / "evaluation" / "scores.csv", glob=False).filter("is_model")
    surveys = pl.read_csv(folder / "run" / "evaluation" / "surveys.csv", glob=False)
    blocks = block_ids(surveys["lon"].to_numpy(), surveys["lat"].to_numpy(), side_km)
    expected = bootstrap_interval(surveys["f1"].to_numpy(), blocks, np.random.default_rng(0))
    assert scores.select("sample_f1_low", "sample_f1_high").row(0) == pytest.approx(expected, abs=1e-9)
