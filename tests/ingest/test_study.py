"""A study of one's own is read by its study.toml into the same values as a release."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from releve.ingest.study import Study, load_study
from releve.ingest.surveys import Surveys, read_occurrences, read_surveys


def write_study(folder: Path, toml: str, **files: str) -> Study:
    """Write a study.toml and its files (``_`` in a name stands for the point before the ending) and open it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        stem, _, ending = name.rpartition("_")
        (folder / f"{stem}.{ending}").write_text(content, encoding="utf-8")
    (folder / "study.toml").write_text(toml, encoding="utf-8")
    return load_study(folder / "study.toml")


def lists_of(study: Study, split: str = "train") -> dict[str, set[str]]:
    """Return the names of the species of each plot."""
    found = read_surveys(study, split)
    return named_lists(study, found)


def named_lists(study: Study, found: Surveys) -> dict[str, set[str]]:
    names = dict(study.species.rows()) if study.species is not None else {}
    lists: dict[str, set[str]] = {survey: set() for survey in found.table["survey_id"]}
    for row, species in found.labels.rows():
        lists[found.table["survey_id"][row]].add(names.get(species, str(species)))
    return lists


LONG = """\
plot,lon,lat,year,species,soil_ph
A,10.5,47.5,2019,Poa annua,5.5
A,10.5,47.5,2019,Bellis perennis,5.5
B-2,11.25,47.25,2020,Poa annua,6.5
B-2,11.25,47.25,2020,Carex nigra,6.5
"""
PLOTS = '[study]\n[[study.plots]]\nfile = "plots.csv"\n'


def test_a_long_table_gives_sets_of_species_by_name(tmp_path: Path) -> None:
    study = write_study(tmp_path, PLOTS, plots_csv=LONG)
    assert study.splits == ("train",)
    assert lists_of(study) == {"A": {"Bellis perennis", "Poa annua"}, "B-2": {"Carex nigra", "Poa annua"}}
    assert study.species is not None and study.species["name"].to_list() == [
        "Bellis perennis",
        "Carex nigra",
        "Poa annua",
    ]
    table = read_surveys(study, "train").table
    assert table.select("survey_id", "lon", "lat", "year").rows() == [
        ("A", 10.5, 47.5, 2019),
        ("B-2", 11.25, 47.25, 2020),
    ]


def test_species_that_are_all_numbers_stay_numbers(tmp_path: Path) -> None:
    study = write_study(
        tmp_path,
        PLOTS,
        plots_csv=LONG.replace("Poa annua", "17").replace("Bellis perennis", "4.0").replace("Carex nigra", "250"),
    )
    assert study.species is None
    assert lists_of(study) == {"A": {"4", "17"}, "B-2": {"17", "250"}}


WIDE = """\
plot;x;y;jahr;Poa annua;Bellis perennis;Carex nigra;Abies alba;Fagus sylvatica
1;4321000,0;3210000;2019;0;12,5;;2;0
2;4310000;2710000;2020;0;0;;0;
3;4320000;2720000;2020;1;0;0;1;0
"""


def test_a_wide_table_in_a_projection_with_decimal_commas(tmp_path: Path) -> None:
    study = write_study(tmp_path, PLOTS + 'form = "wide"\ncrs = "EPSG:3035"\n', plots_csv=WIDE)
    assert lists_of(study) == {"1": {"Bellis perennis", "Abies alba"}, "2": set(), "3": {"Poa annua", "Abies alba"}}
    found = read_surveys(study, "train")
    # The origin of EPSG:3035 is 10 E, 52 N by definition; a kilometre further west is west of it.
    assert found.table.select("lon", "lat").row(0) == pytest.approx((10.0, 52.0), abs=1e-9)
    assert found.table["lon"][2] < found.table["lon"][0]
    assert found.table["year"].to_list() == [2019, 2020, 2020]
    assert found.noted["survey without species, kept as an empty list"] == 1


def test_records_have_a_row_each_and_absences_are_none(tmp_path: Path) -> None:
    records = "scientificName,decimalLongitude,decimalLatitude,occurrenceStatus,individualCount\n"
    records += "Poa annua,10.5,47.5,PRESENT,3\nPoa annua,10.5,47.5,ABSENT,\nBellis perennis,10.6,47.5,PRESENT,0\n"
    records += "Bellis perennis,10.7,47.5,PRESENT,\n"
    study = write_study(tmp_path, '[study]\n[[study.records]]\nfile = "records.csv"\n', records_csv=records)
    found = read_occurrences(study, "po")
    assert study.splits == ("po",) and study.species is not None
    names = dict(study.species.rows())
    kept = found.table.select("survey_id", pl.col("species_id").replace_strict(names, return_dtype=pl.String))
    assert kept.rows() == [("1", "Poa annua"), ("4", "Bellis perennis")]
    assert found.dropped == {"recorded as absent": 1, "count of zero": 1}
