"""Tables of random places: below the records, without species, with what both know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from releve.ingest.study import load_study
from releve.prepare.config import CleanConfig, PseudoplotConfig, SplitConfig
from releve.store.build import build_store
from releve.store.config import DataConfig
from releve.store.contents import Contents, read_contents
from releve.store.random_places import num_random_places
from releve.store.read import FEW_SPECIES, Store
from releve.train.config import RecordsConfig
from releve.train.rows import FoldRows, weigh_silence
from releve.train.sampler import Sampler

TOML = """
[[study.records]]
file = "records.csv"
covariates = ["wet", "only_records"]
[[study.random_places]]
file = "random.csv"
covariates = ["wet", "only_random"]
"""


def make_study(folder: Path, num_species: int, *, num_random: int = 40) -> Path:
    """Write 200 records at places of their own, wet = 1 to 200, and random places with wet from -1 down."""
    at = np.arange(200)
    pl.DataFrame(
        {
            "lon": 10 + at % 20 * 0.1,
            "lat": 47 + at // 20 * 0.1,
            "species": [f"Planta s{i % num_species:02d}" for i in at],
            "year": 2000 + at % 5,
            "wet": at + 1.0,
            "only_records": at,
        }
    ).write_csv(folder / "records.csv")
    at = np.arange(num_random)
    pl.DataFrame(
        {"lon": 10.05 + at * 0.01, "lat": 47.05 + at * 0.01, "species": "pseudo", "wet": -1.0 - at, "only_random": at}
    ).write_csv(folder / "random.csv")
    (folder / "study.toml").write_text(TOML)
    return folder / "study.toml"


def read(path: Path) -> Contents:
    data = DataConfig(splits=(), records="po", modalities=("covariates",))
    return read_contents(
        load_study(path),
        data,
        clean=CleanConfig(drop=()),
        pseudoplots=PseudoplotConfig(size_m=100, uncertainty="ignore"),
    )


def stored(tmp_path: Path, num_species: int) -> Store:
    return build_store(read(make_study(tmp_path, num_species)), SplitConfig(num_folds=2), tmp_path / "store")


def test_random_places_of_a_table_stand_below_the_records_with_what_both_know(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    contents = read(make_study(tmp_path, 4))
    found, table = contents.surveys["po"], contents.covariates["po"].table
    assert set(contents.surveys) == {"po"} and len(found.table) == len(table) == 240
    assert found.table["survey_id"].str.starts_with("random ").to_list() == [False] * 200 + [True] * 40
    assert sorted(table["wet"].to_list()) == [*range(-40, 0), *range(1, 201)]
    assert (table["wet"][200:] < 0).all() and found.labels["row"].max() == 199
    assert table.columns == ["survey_id", "wet"]
    assert found.table["year"].null_count() == 0 and set(found.table["year"][200:]) <= {2000, 2001, 2002, 2003, 2004}
    assert "only_random, only_records: not known of both" in capsys.readouterr().err.replace("\n", " ")
    assert contents.species is not None and len(contents.species) == 4  # what a random place is called is no species


def test_beside_plots_random_places_are_not_needed(tmp_path: Path) -> None:
    study = load_study(make_study(tmp_path, 4))
    assert num_random_places(study, (), 4, has_plots=False) == 40
    assert num_random_places(study, (), 4, has_plots=True) == 0


def test_scores_compare_with_random_places_only_where_species_are_few(tmp_path: Path) -> None:
    (tmp_path / "few").mkdir()
    (tmp_path / "many").mkdir()
    few, many = stored(tmp_path / "few", 4), stored(tmp_path / "many", FEW_SPECIES)
    assert few.is_random.sum() == many.is_random.sum() == 40
    assert few.is_scored.all() and (many.is_scored == ~many.is_random).all()


def test_a_step_has_random_places_by_their_share_and_epochs_go_over_the_records(tmp_path: Path) -> None:
    store = stored(tmp_path, FEW_SPECIES)
    rows, none = np.arange(len(store)), np.zeros(0, np.int64)
    sampler = Sampler(store, FoldRows(none, rows, none, none), RecordsConfig(thinning=0.0), 50)
    steps = list(sampler.steps(np.random.default_rng(0)))
    assert len(steps) == 4 and all(len(step.records) == 50 for step in steps)
    assert sorted(np.concatenate([step.records for step in steps])) == np.flatnonzero(~store.is_random).tolist()
    assert all(len(step.background) == 15 and store.is_random[step.background].all() for step in steps)  # .3 of 50
    trust = weigh_silence(store, none, rows, "richness")
    assert (trust == 1).all()  # a species a place: the richness of all


def test_a_table_of_random_places_needs_no_column_of_species(tmp_path: Path) -> None:
    path = make_study(tmp_path, 4)
    pl.read_csv(tmp_path / "random.csv").drop("species").write_csv(tmp_path / "random.csv")
    assert len(read(path).surveys["po"].table) == 240
