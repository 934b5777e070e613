"""What the commands do, from Python, with frames of several libraries."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from tests.commands import Commands
from tests.study.studies import NAMES, make_study
from tests.study.test_run import QUICK

import releve
from releve.api import to_polars
from releve.errors import ConfigError, RunError, TableError
from releve.ingest.surveys import read_surveys

SETTINGS = QUICK[1::2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("api é")
    make_study(folder, num_plots=90)
    return folder


def frames_of(folder: Path) -> dict[str, Any]:
    """Return the study of a folder as a dictionary, its plots a frame."""
    return {
        "title": "a small study",
        "plots": {"file": pl.read_csv(folder / "plots.csv", glob=False), "covariates": ["pH"]},
        "rasters": [
            {"file": [str(folder / "warmth.tif"), str(folder / "wetness.tif")]},
            {"file": folder / "soil.tif", "categorical": True},
        ],
    }


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> releve.Run:
    out = tmp_path_factory.mktemp("run")
    store = releve.prepare_study(releve.read_study(frames_of(folder)), out / "store", settings=SETTINGS)
    return releve.train_run(store, out / "run")


def test_frames_give_the_lists_and_probabilities_that_files_give(
    commands: Commands, folder: Path, run: releve.Run
) -> None:
    """One path: a study of frames is the same to the last bit as one of files, from its tables to its predictions."""
    done = commands.run("prepare", "--data", folder / "study.toml", "--out", folder / "store", *QUICK)
    assert done.code == 0, done.stderr
    done = commands.run("train", _recipe(folder), "--store", folder / "store", "--out", folder / "run")
    assert done.code == 0, done.stderr
    places = pl.read_csv(folder / "plots.csv", glob=False).unique("plot", maintain_order=True).head(8)
    places = places.select("plot", "lon", "lat")
    places.write_csv(folder / "places.csv")
    outs = {"--out": folder / "lists.csv", "--probabilities": folder / "probabilities.parquet"}
    options = [part for pair in outs.items() for part in pair]
    done = commands.run("predict", folder / "run", "--data", folder / "places.csv", *options)
    assert done.code == 0, done.stderr
    found = releve.predict_places(run, places)
    assert found.columns == ["surveyId", "species", "probability", "listed"]
    theirs = pl.read_parquet(folder / "probabilities.parquet", glob=False)
    ours = found.filter(pl.col("probability") >= 0.001).sort("surveyId", "species").drop("listed")
    assert len(ours) > 8
    assert_frame_equal(ours, theirs.sort("surveyId", "species"), rel_tol=1e-5)  # sums by several threads
    lists = pl.read_csv(folder / "lists.csv", glob=False)
    told = dict(lists.with_columns(pl.col("species").fill_null("")).rows())
    listed = found.filter("listed").group_by("surveyId").agg(pl.col("species").sort())
    assert {survey: ";".join(names) for survey, names in listed.rows()} == {k: v for k, v in told.items() if v}
    first = found.filter(pl.col("surveyId") == places["plot"][0])["probability"]
    assert first.is_sorted(descending=True) and found["surveyId"].unique(maintain_order=True).equals(
        places["plot"].alias("surveyId")
    )
    again = releve.predict_places(run, folder / "places.csv")
    assert again.equals(found)


def _recipe(folder: Path) -> Path:
    """Write the recipe that the store of a folder was prepared by."""
    import json

    from releve.report.run import write_toml

    config = json.loads((folder / "store" / "run.json").read_text(encoding="utf-8"))["config"]
    (folder / "recipe.toml").write_text(write_toml(config), encoding="utf-8")
    return folder / "recipe.toml"


def test_what_is_seen_is_listed_however_unlikely(run: releve.Run) -> None:
    places = pl.DataFrame({"lon": [5.5, 6.0], "lat": [47.5, 47.0], "found": ["; ".join(NAMES), None]})
    found = releve.predict_places(run, places, seen="found")
    listed = found.filter("listed")
    assert listed.filter(pl.col("surveyId") == "1")["species"].sort().to_list() == sorted(NAMES)
    bare = releve.predict_places(run, places.drop("found"))
    second = pl.col("surveyId") == "2"
    assert found.filter(second).equals(bare.filter(second))


def test_scores_are_those_of_the_command_and_the_report_is_written(run: releve.Run) -> None:
    scores = releve.evaluate_run(run)
    assert scores["model"].to_list()[0] == "a small study" and (run.path / "report.html").is_file()


def test_pandas_and_geopandas_go_in_and_come_out(folder: Path, run: releve.Run) -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"plot": ["a", 7], "lon": [5.51, 6.01], "lat": [47.51, 47.01], "pH": [5.0, float("nan")]})
    found = releve.predict_places(run, table)
    assert isinstance(found, pandas.DataFrame) and list(found["surveyId"].unique()) == ["a", "7"]
    expected = releve.predict_places(run, to_polars(table))
    assert pl.DataFrame({name: found[name].tolist() for name in found.columns}, schema=expected.schema).equals(expected)
    geopandas = pytest.importorskip("geopandas")
    points = geopandas.GeoDataFrame(
        table[["plot", "pH"]], geometry=geopandas.points_from_xy(table["lon"], table["lat"]), crs="EPSG:4326"
    )
    assert releve.predict_places(run, points).equals(found)
    moved = releve.predict_places(run, points.to_crs("EPSG:32631"))
    assert moved["species"].equals(found["species"]) and abs(moved["probability"] - found["probability"]).max() < 1e-6
    shapes = points.set_geometry(points.to_crs("EPSG:3035").buffer(10))
    with pytest.raises(TableError, match="Polygon.*expected points"):
        releve.predict_places(run, shapes)


def test_columns_of_pandas_keep_what_is_missing_and_what_is_text() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "id": ["a", 1],
            "n": pandas.array([1, None], dtype="Int64"),
            "x": [1.5, float("nan")],
            "kind": pandas.Categorical(["wet", None]),
            "day": pandas.to_datetime(["2020-05-01", None]),
        }
    )
    found = to_polars(frame)
    assert found.schema["n"] == pl.Int64 and found.schema["day"] == pl.Datetime("us")
    rows = [("a", 1, 1.5, "wet", pl.datetime(2020, 5, 1)), ("1", None, None, None, None)]
    assert found.drop("day").rows() == [row[:4] for row in rows]
    assert found["day"].dt.date().cast(pl.String).to_list() == ["2020-05-01", None]


def test_a_study_of_pandas_reads_as_that_of_polars(folder: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frames = frames_of(folder)
    ours = releve.read_study(frames)
    plots = frames["plots"]["file"]
    frames["plots"]["file"] = pandas.DataFrame({name: plots[name].to_list() for name in plots.columns})
    theirs = releve.read_study(frames)
    assert ours.species is not None and ours.species.equals(theirs.species)
    assert read_surveys(ours, "train").table.equals(read_surveys(theirs, "train").table)


def test_a_folder_is_read_with_or_without_its_file(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    assert releve.read_study(folder).path == releve.read_study(str(folder / "study.toml")).path
    make_study(tmp_path / "bare", num_plots=30)
    (tmp_path / "bare" / "study.toml").unlink()
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    found = releve.read_study("bare")
    assert found.splits == ("train",) and not found.path.is_relative_to(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
    monkeypatch.chdir(folder)
    assert len(read_surveys(found, "train").table) == 30
    kept = releve.read_study(frames_of(folder), folder=tmp_path / "kept")
    assert sorted(file.name for file in (tmp_path / "kept").iterdir()) == ["plots.parquet", "study.toml"]
    assert kept.path == tmp_path / "kept" / "study.toml"


def test_temporary_folders_are_gone_when_python_ends(tmp_path: Path) -> None:
    code = "import polars, releve; frame = polars.DataFrame({'lon': [5.0], 'lat': [45.0], 'species': ['Poa annua']});"
    code += "print(releve.read_study({'plots': frame}).path)"
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert Path(done.stdout.strip()).parent.parent == tmp_path and not list(tmp_path.iterdir())


def test_what_is_wrong_is_told(folder: Path, run: releve.Run) -> None:
    with pytest.raises(TableError, match="a table is a int. expected a frame of polars, pandas or geopandas"):
        releve.read_study({"plots": 5})
    with pytest.raises(ConfigError, match="raster"):
        releve.read_study({"plots": pl.DataFrame({"lon": [1.0]}), "raster": "a.tif"})
    with pytest.raises(RunError, match="no table of places"):
        releve.predict_places(run, folder)
