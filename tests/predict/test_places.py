"""What is said of each predicted place: how far it is from training, on the ground and in its covariates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from commands import Commands
from ingest.fakes import SHARED
from releve import pipeline
from releve.config import make_config
from releve.errors import RunError
from releve.predict.novelty import read_novelty
from releve.predict.places import AT_ZERO, OUTSIDE, SWAPPED, describe_places, places_file
from releve.predict.tables import store_for_prediction
from releve.predict.training import training_of
from releve.runs.folder import Run, open_run
from releve.simulate.config import SimulateConfig
from releve.simulate.write import simulate_release

CASES = SHARED.parent / "cases"
CONTENT = {
    "data": {"modalities": ["covariates"]},
    "split": {"num_folds": 3},
    "model": {"modalities": ["covariates", "survey"], "embedding_dim": 16, "hidden_dim": 16},
    "train": {"num_folds": 2, "epochs": 1, "batch_size": 64, "device": "cpu"},
}


@pytest.fixture(scope="module")
def run(labelled_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("places")
    config = make_config(CONTENT, origin="test")
    return pipeline.train(config, pipeline.prepare(config, labelled_release, folder / "store"), folder / "run")


def predict(run: Run, folder: Path, text: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the predictions and the places of a table."""
    (folder / "table.csv").write_text(text, encoding="utf-8")
    pipeline.predict(run, folder / "table.csv", "test", folder / "p.csv", probabilities=folder / "p.parquet")
    read = [pl.read_csv(file, infer_schema=False) for file in (folder / "p.csv", places_file(folder / "p.csv"))]
    return read[0], read[1].cast({"nearest_training_km": pl.Float64, "mess": pl.Float64})


def test_places_tell_distance_novelty_and_what_is_wrong(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A place of training, one a degree of latitude (111.195 km) north of the northernmost, one exchanged, one at 0."""
    lon, lat = (values[run.store.lat.argmax()] for values in (run.store.lon, run.store.lat))
    novelty = read_novelty(run)
    bio1 = novelty.quantiles_NQ[novelty.numbers.index("Bio1")]
    low, high = float(bio1[0]), float(bio1[-1])
    rows = [
        f"0001,{lon},{lat},{low},",
        f"0002,{lon},{lat + 1},{high + (high - low) / 4},{np.nan}",
        f"0003,{lat},{lon},{low},",
        "0004,0,0,,",
    ]
    predicted, places = predict(run, tmp_path, "plot,longitude,latitude,bio_1,elev\n" + "\n".join(rows) + "\n")
    ids = ["0001", "0002", "0003", "0004"]
    assert predicted["surveyId"].to_list() == ids and predicted.columns == ["surveyId", "predictions"]
    assert pl.read_parquet(tmp_path / "p.parquet")["surveyId"].unique().sort().to_list() == ids
    assert places["surveyId"].to_list() == ids
    assert places["nearest_training_km"][0] == pytest.approx(0, abs=1e-3)
    assert places["nearest_training_km"][1] == pytest.approx(111.195, abs=0.01)
    assert places["most_dissimilar"].to_list() == ["Bio1", "Bio1", "Bio1", None]
    assert places["mess"][1] == pytest.approx(-25, abs=0.1) and places["mess"][0] >= 0 and places["mess"][3] is None
    assert places["inside_area"].to_list()[1::2] == ["false", "false"]
    assert places["remark"].to_list() == [None, OUTSIDE, SWAPPED, AT_ZERO]
    said = capsys.readouterr().err
    assert f"1 of 4 places lie {SWAPPED}: 0003 (lon {lat:g}, lat {lon:g})" in said
    assert f"1 of 4 places lie {AT_ZERO}: 0004" in said and "places are unlike any that the run" in said


def test_training_is_that_of_all_members_and_of_the_store(run: Run) -> None:
    training = training_of(run)
    plots = run.store
    assert training.bounds == {
        "west": plots.lon.min(), "south": plots.lat.min(), "east": plots.lon.max(), "north": plots.lat.max(),
    }  # fmt: skip
    assert training.categories["country"] == ("Italy",) and training.categories["region"] == ("ALPINE",)
    values = plots.arrays["covariates"]
    bio1 = values.values[:, values.spec.channels.index("Bio1")]
    assert (training.quantiles["Bio1"][0], training.quantiles["Bio1"][-1]) == (bio1.min(), bio1.max())


def test_a_run_whose_store_is_gone_still_predicts_and_leaves_the_distance_open(run: Run, tmp_path: Path) -> None:
    alone = open_run(run.path)
    provenance = (run.path / "run.json").read_text()
    folder = tmp_path / "moved"
    folder.mkdir()
    for file in run.path.rglob("*"):
        if file.is_file() and "stores" not in file.parts:
            (folder / file.relative_to(run.path)).parent.mkdir(parents=True, exist_ok=True)
            (folder / file.relative_to(run.path)).write_bytes(file.read_bytes())
    (folder / "run.json").write_text(provenance.replace(str(alone.store.path), str(tmp_path / "nowhere")))
    predicted, places = predict(open_run(folder), tmp_path, "id,lon,lat\na,6,46\n")
    assert len(predicted) == 1 and places["nearest_training_km"].to_list() == [None]
    assert training_of(open_run(folder)).bounds is None


def test_a_release_has_its_places_told_too_and_earlier_ones_are_kept(
    run: Run, labelled_release: Path, tmp_path: Path
) -> None:
    store = store_for_prediction(run, labelled_release, "test")
    table = describe_places(run, store)
    assert table["surveyId"].to_list() == store.surveys["survey_id"].to_list()
    assert table["nearest_training_km"].is_between(0, 200).all()
    assert (table["mess"] <= 100).all() and (table["dissimilarity"] >= 0).all()
    found = read_novelty(run).of(run, store, np.arange(len(store)))
    assert table["inside_area"].to_list() == found.inside.tolist()
    np.testing.assert_allclose(table["mess"], found.mess, atol=0.005)
    places_file(tmp_path / "p.csv").write_text("earlier")
    with pytest.raises(RunError, match=r"p\.places\.csv exists"):
        pipeline.predict(run, labelled_release, "test", tmp_path / "p.csv")


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on a small world of the default extent, for which the shared tables are written."""
    folder = tmp_path_factory.mktemp("simulated")
    sizes = {"num_plots": 240, "num_test_plots": 60, "num_records": 500, "num_species": 40}
    simulate_release(SimulateConfig(**sizes, modalities=("covariates",)), folder / "release")
    config = make_config(CONTENT, origin="test")
    store = pipeline.prepare(config, folder / "release", folder / "store")
    return pipeline.train(config, store, folder / "run")


@pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not here")
def test_shared_tables_are_predicted_and_what_is_odd_is_said(
    simulated: Run, commands: Commands, tmp_path: Path
) -> None:
    def predicted(table: str) -> tuple[pl.DataFrame, pl.DataFrame, str]:
        out = tmp_path / f"{Path(table).stem}.csv"
        done = commands.run("predict", simulated.path, "--data", CASES / table, "--out", out)
        assert done.code == 0, done.stderr
        return *(pl.read_csv(file, infer_schema=False) for file in (out, places_file(out))), done.stderr

    plain, places, _ = predicted("12-predict-tables/a-plain.csv")
    assert places["remark"].null_count() == 4 and plain["surveyId"].to_list() == ["1", "2", "3", "4"]
    _, places, said = predicted("12-predict-tables/w2-one-swapped.csv")
    assert places["remark"].to_list() == [SWAPPED, None, None, None]
    assert "1 of 4 places lie" in said and "1 (lon 56.2483, lat 27.2172)" in said
    for name in ("f-tabs.csv", "k-header-long.csv", "ze-country-lower.csv"):
        assert predicted(f"12-predict-tables/{name}")[0].equals(plain)
    zeros = predicted("12-predict-tables/p-id-leading-zeros.csv")[0]
    assert zeros["surveyId"].to_list() == ["0001", "0002", "0003", "0004"]
    assert zeros["predictions"].equals(plain["predictions"])
    for name in ("zf-date-not-year.csv", "zr-parquet-date-in-year.parquet"):
        assert predicted(f"12-predict-tables/{name}")[0]["predictions"].equals(plain["predictions"])

    right, _, said = predicted("10-nodata/a-right.csv")
    assert "times" not in said and "not there" not in said
    rain = predicted("10-nodata/k-rain-in-mm-only.csv")[2]
    assert "Bio12" in rain and "outside what the run was trained on" in rain and "times 10 they would not" in rain
    other, _, said = predicted("10-nodata/n-other-names.csv")
    assert other.equals(right) and "not there" not in said
    assert predicted("10-nodata/q-lowercase-na.csv")[1]["mess"].null_count() == 0
