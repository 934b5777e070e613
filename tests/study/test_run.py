"""A study from its folder to predictions where only coordinates are known, by the commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.commands import Commands
from tests.study.studies import make_study

QUICK = [
    *("--set", "train.epochs=2", "--set", "train.kinds=['network', 'forest']", "--set", "train.refit=false"),
    *("--set", "forest.num_trees=10", "--set", "evaluate.references=['frequency']", "--set", "split.num_folds=2"),
    *("--set", "train.num_folds=2", "--set", "model.embedding_dim=16", "--set", "model.hidden_dim=16"),
]


@pytest.fixture(scope="module")
def folder(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("a study é")
    make_study(folder, num_plots=90)
    done = commands.run("run", "--data", folder / "study.toml", "--out", folder / "run", *QUICK)
    assert done.code == 0, done.stderr
    assert "Trained on 90 plots" in done.stderr.replace("\n", " ")
    return folder


def test_what_was_chosen_is_recorded(folder: Path) -> None:
    made = json.loads((folder / "run" / "store" / "run.json").read_text(encoding="utf-8"))
    assert any("90 plots" in reason for reason in made["reasons"])
    assert made["config"]["train"]["regime"] == "pa" and made["rasters"]["root"] == str(folder.resolve())
    assert not (folder / "run" / "store.rasters").exists()


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


def test_a_release_needs_a_recipe(commands: Commands, tmp_path: Path) -> None:
    done = commands.run("run", "--data", tmp_path, "--out", tmp_path / "run")
    assert done.code == 2 and "not a known release" in done.stderr.replace("\n", " ")
