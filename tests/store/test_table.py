from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from releve.errors import TableError
from releve.store.table import read_table_store

GOOD = """\
surveyId,lon,lat,year,country,areaInM2,Bio1,Elevation
7,5.5,45.25,2020,Italy,100,2800.5,NA
3.0,-3,40,,NA,,,
"""


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "places.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_table_of_places_is_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = read_table_store(write(tmp_path, GOOD), ("Elevation", "Bio1", "Bio2"))
    assert store.surveys["survey_id"].to_list() == [7, 3]
    assert store.surveys["year"].to_list() == [2020, None]
    assert store.surveys["month"].to_list() == [None, None]
    assert store.surveys["country"].to_list() == ["Italy", None]
    assert store.surveys["area_m2"].to_list() == [100.0, None]
    array = store.arrays["covariates"]
    np.testing.assert_array_equal(array.values[0], np.array([np.nan, 2800.5, np.nan], np.float32))
    assert array.row_of.tolist() == [0, -1]  # the second has no covariate at all
    assert store.labels.lengths().tolist() == [0, 0] and len(store.species_ids) == 0
    assert "lacks 1 of 3 covariates, taken as missing: Bio2" in " ".join(capsys.readouterr().err.split())


def test_parquet_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    pl.DataFrame({"surveyId": [1], "lon": [2.0], "lat": [50]}).write_parquet(tmp_path / "a.parquet")
    assert len(read_table_store(tmp_path / "a.parquet", ())) == 1
    assert len(read_table_store(write(tmp_path, "\ufeff" + GOOD), ())) == 2


def test_a_table_without_covariates_has_none(tmp_path: Path) -> None:
    assert read_table_store(write(tmp_path, "surveyId,lon,lat\n1,2,50\n"), ("Bio1",)).arrays == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        ("surveyId,lon,lat\n", "no row"),
        ("id,lon,lat\n1,2,50\n", r"lacks columns \['surveyId'\]; it has \['id', 'lon', 'lat'\]"),
        ("surveyId;lon;lat\n1;2,5;50\n", "with semicolons. expected commas"),
        ("surveyId,lon,lat\n1.5,2,50\n", "1 values that are no integers"),
        ("surveyId,lon,lat\n,2,50\n", "1 values that are no integers"),
        ("surveyId,lon,lat\nplot1,2,50\n", r"surveyId are no numbers, such as \['plot1'\]"),
        ("surveyId,lon,lat\n1,2,50\n1,3,50\n", "1 that are repeated"),
        ("surveyId,lon,lat\n1,2,95\n2,2,50\n", r"1 surveys have no usable coordinates, such as \[1\]"),
        ("surveyId,lon,lat\n1,,50\n", "no usable coordinates"),
        ("surveyId,lon,lat\n1,NaN,50\n", "no usable coordinates"),
        ("surveyId,lon,lat\n1,2°E,50\n", r"lon are no numbers, such as \['2°E'\]"),
        ("surveyId,lon,lat,Bio1\n1,2,50,warm\n", r"1 values of Bio1 are no numbers, such as \['warm'\]"),
        ("surveyId,lon,lat,year\n1,2,50,last year\n", "year are no numbers"),
    ],
)
def test_a_bad_table_is_refused_with_what_was_found(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(TableError, match=message):
        read_table_store(write(tmp_path, text), ("Bio1",))


def test_a_missing_or_foreign_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no table at"):
        read_table_store(tmp_path / "none.csv", ())
    (tmp_path / "x.parquet").write_text("no parquet")
    with pytest.raises(TableError, match="cannot be read"):
        read_table_store(tmp_path / "x.parquet", ())


def test_impossible_values_are_masked_as_in_a_release_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the official ranges; 1e9 of a column that no release has is possible, and 31.75 is a fill of HFP."""
    text = """surveyId,lon,lat,Bio1,Bio12,Elevation,HumanFootprint-HFP2009,LandCover,Own
1,2,50,2800,65535,-9999,31.75,127,1e9
2,2,51,-9999,9000,100,31,inf,inf
3,2,52,,9000,9999,-3.4e38,17,
"""
    names = ("Bio1", "Bio12", "Elevation", "HumanFootprint-HFP2009", "LandCover", "Own")
    store = read_table_store(write(tmp_path, text), names)
    nan = np.nan
    expected = [[2800, nan, nan, nan, nan, 1e9], [nan, 9000, 100, 31, nan, nan], [nan, 9000, nan, nan, 17, nan]]
    np.testing.assert_array_equal(store.arrays["covariates"].values, np.array(expected, np.float32))
    said = " ".join(capsys.readouterr().err.split())
    counts = "Bio1 1, Bio12 1, Elevation 2, HumanFootprint-HFP2009 2, LandCover 2, ..."
    assert f"impossible values in 6 covariates, taken as missing: {counts}" in said


BOUNDS = {"west": -5.0, "south": 40.0, "east": 10.0, "north": 60.0}


@pytest.mark.parametrize(
    ("places", "refused"),
    [
        (["50,2", "51,3", "2,50"], True),  # two of three, exchanged
        (["50,2", "2,50"], False),  # just half
        (["2,50", "3,51"], False),
        (["120,-30", "121,-31"], False),  # elsewhere, either way
    ],
)
def test_lon_and_lat_exchanged_are_refused(places: list[str], refused: bool, tmp_path: Path) -> None:
    file = write(tmp_path, "surveyId,lon,lat\n" + "".join(f"{i},{place}\n" for i, place in enumerate(places)))
    assert len(read_table_store(file, ())) == len(places)
    if not refused:
        assert len(read_table_store(file, (), bounds=BOUNDS)) == len(places)
        return
    with pytest.raises(TableError, match="2 of 3 surveys .* exchanged. expected lon -5.0 to 10.0 and lat 40.0 to 60.0"):
        read_table_store(file, (), bounds=BOUNDS)
