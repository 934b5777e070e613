"""Names of species travel from the tables of a study to everything that a run writes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from releve import pipeline
from releve.config import make_config
from releve.evaluate.submission import read_submission
from releve.predict.tables import store_for_prediction
from releve.runs.folder import Run, open_run

NAMES = ["Poa annua", "Carex nigra (L.) Reichard", "Bellis perennis", "Rosa 'Alba', cult."]
CONTENT = {
    "data": {"modalities": ["covariates"]},
    "split": {"num_folds": 3, "block_size_km": 20, "buffer_km": 1},
    "model": {"modalities": ["covariates", "location"], "embedding_dim": 8, "hidden_dim": 8},
    "train": {"num_folds": 2, "epochs": 1, "batch_size": 32, "device": "cpu"},
}
STUDY = """\
[study]
title = "Meadows"
[[study.plots]]
file = "meadows.csv"
covariates = ["ph", "use"]
[[study.plots]]
file = "held out.csv"
split = "test"
covariates = ["ph", "use"]
"""


def write_plots(file: Path, first: int, number: int, rng: np.random.Generator) -> None:
    rows = ["plot,lon,lat,ph,use,species"]
    for plot in range(first, first + number):
        ph = rng.uniform(4, 8)
        place = f"P{plot},{rng.uniform(8, 10):.4f},{rng.uniform(47, 49):.4f},{ph:.2f},{['mown', 'grazed'][plot % 2]}"
        rows += [f'{place},"{name}"' for at, name in enumerate(NAMES) if rng.random() < (0.8 if ph > 4.5 + at else 0.2)]
        rows.append(f'{place},"{NAMES[plot % 4]}"')
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder, rng = tmp_path_factory.mktemp("names"), np.random.default_rng(0)
    write_plots(folder / "meadows.csv", 0, 90, rng)
    write_plots(folder / "held out.csv", 90, 12, rng)
    (folder / "study.toml").write_text(STUDY, encoding="utf-8")
    config = make_config(CONTENT, origin="test")
    store = pipeline.prepare(config, folder / "study.toml", folder / "store")
    return pipeline.train(config, store, folder / "run")


def test_the_store_and_the_model_know_the_names(run: Run) -> None:
    assert run.store.species_names == sorted(NAMES) == run.species.tolist()
    assert run.store.manifest.arrays["covariates"].classes == {"use": {0: "grazed", 1: "mown"}}
    table = run.models[0].statistics.tables["covariates"]
    assert table.classes == {"use": {0: "grazed", 1: "mown"}} and table.codes == {"use": [0.0, 1.0]}


def test_predictions_tables_and_report_name_the_species(run: Run, tmp_path: Path) -> None:
    study = run.path.parent / "study.toml"
    pipeline.predict(run, study, "test", tmp_path / "p.csv", probabilities=tmp_path / "p.parquet")
    lists = read_submission(tmp_path / "p.csv")
    assert lists["surveyId"].to_list() == sorted(f"P{plot}" for plot in range(90, 102))
    listed = {name for names in lists["species"] for name in names}
    assert listed and listed <= set(NAMES)
    likelier = pl.read_parquet(tmp_path / "p.parquet")
    assert likelier.columns == ["surveyId", "species", "probability"] and set(likelier["species"]) <= set(NAMES)
    tables = pipeline.evaluate(run).tables
    assert tables["species"]["species"].to_list() == sorted(NAMES)
    ids = dict(tables["species"].select("species_id", "species").rows())
    assert all(ids[row["species_id"]] == row["species"] for row in tables["examples"].iter_rows(named=True))
    report = (run.path / "report.html").read_text(encoding="utf-8")
    assert (
        "Carex nigra (L.) Reichard" in report and "by the names in the tables" in (run.path / "odmap.html").read_text()
    )


def test_a_run_without_its_store_still_knows_the_names(run: Run, tmp_path: Path) -> None:
    shutil.copytree(run.path, tmp_path / "moved")
    assert open_run(tmp_path / "moved").species.tolist() == sorted(NAMES)


def test_places_of_a_table_are_predicted_by_names_of_classes_and_of_seen_species(run: Run, tmp_path: Path) -> None:
    (tmp_path / "places.csv").write_text(
        "site,lon,lat,ph,use,seen\nhere,9.1,48.1,6.5,Mown,Bellis perennis;Poa  annua\nthere,9.2,48.2,6.5,GRAZED,\n"
    )
    pipeline.predict(run, tmp_path / "places.csv", "test", tmp_path / "p.csv", seen="seen")
    lists = dict(read_submission(tmp_path / "p.csv").rows())
    assert {"Bellis perennis", "Poa annua"} <= set(lists["here"]) and lists.keys() == {"here", "there"}


def test_grouped_records_name_their_species(tmp_path: Path) -> None:
    rows = ["species;lon;lat;year"]
    rows += [f"{name};{9 + at / 10:.5f};{48 + at / 7:.5f};2019" for at in range(6) for name in NAMES[: 1 + at % 3]]
    (tmp_path / "finds.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (tmp_path / "study.toml").write_text('[study]\n[[study.records]]\nfile = "finds.csv"\n', encoding="utf-8")
    config = make_config({"clean": {"drop": ["duplicate"]}}, origin="test")
    out = pipeline.group(config, tmp_path / "study.toml", "po", tmp_path / "grouped")
    lists = pl.read_parquet(out / "species.parquet").group_by("plot_id", maintain_order=True).agg("species")
    assert [set(names) for names in lists["species"]] == [set(NAMES[: 1 + at % 3]) for at in range(6)]
    members = pl.read_parquet(out / "members.parquet")
    assert members.height == 12 and set(members["species"]) == set(NAMES[:3])


def test_another_studys_covariates_are_called_and_coded_as_the_run_knows_them(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """In words, by their order, the other study's classes are 0 arable, 1 grazed and 2 mown; the run's 0 and 1."""
    use = ["mown", "Grazed", "arable", "mown", "Grazed", "arable"]
    rows = ["plot,lon,lat,PH,use,species"]
    rows += [f"N{at},9.{at},48.{at},{60 + at},{word},Poa annua" for at, word in enumerate(use)]
    (tmp_path / "new.csv").write_text("\n".join(rows) + "\n")
    toml = '[study]\n[[study.plots]]\nfile = "new.csv"\nsplit = "test"\ncovariates = ["PH", "use"]\n'
    (tmp_path / "study.toml").write_text(toml)
    store = store_for_prediction(run, tmp_path / "study.toml", "test")
    spec = store.arrays["covariates"].spec
    assert set(spec.channels) == {"ph", "use"} and spec.classes == {"use": {0: "grazed", 1: "mown"}}
    values = store.arrays["covariates"].gather(np.arange(6))
    np.testing.assert_array_equal(values[:, spec.channels.index("use")], [1, 0, np.nan, 1, 0, np.nan])
    np.testing.assert_array_equal(values[:, spec.channels.index("ph")], np.arange(60.0, 66))
    said = capsys.readouterr().err.replace("\n", " ")
    assert "use of 2 places is no class that the run knows" in said and "divided by 10 it would not" in said
