"""Tables of one's own: read as they are written, judged by what a model was trained on, and never changed silently."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from releve.errors import TableError
from releve.ingest.own import OwnTable, Training, read_own_table

from .fakes import SHARED

CASES = SHARED.parent / "cases" / "12-predict-tables"
GOOD = """\
surveyId,lon,lat,year,country,areaInM2,Bio1,Elevation
7,5.5,45.25,2020,Italy,100,2800.5,NA
3.0,-3,40,,NA,,,
"""
TRAINING = Training(
    bounds={"west": -5.0, "south": 40.0, "east": 10.0, "north": 60.0},
    categories={"country": ("Spain", "Belgium", "Czech Republic"), "region": ("ALPINE", "BLACKSEA")},
    quantiles={"Bio1": [2700.0, 2800.0, 2900.0], "Bio12": [4000.0, 7000.0, 12000.0]},
)


def read(tmp_path: Path, text: str, covariates: tuple[str, ...] = (), training: Training | None = None) -> OwnTable:
    file = tmp_path / "places.csv"
    file.write_text(text, encoding="utf-8")
    return read_own_table(file, covariates, training)


def test_places_dates_and_facts_are_read(tmp_path: Path) -> None:
    table = read(tmp_path, GOOD, ("Elevation", "Bio1", "Bio2"))
    assert table.surveys["survey_id"].to_list() == ["7", "3"]
    assert table.surveys["year"].to_list() == [2020, None]
    assert table.surveys["month"].to_list() == [None, None]
    assert table.surveys["country"].to_list() == ["Italy", None]
    assert table.surveys["area_m2"].to_list() == [100.0, None]
    expected = np.array([[np.nan, 2800.5, np.nan], [np.nan] * 3], np.float32)
    np.testing.assert_array_equal(table.covariates.to_numpy(), expected)
    assert table.covariates.columns == ["Elevation", "Bio1", "Bio2"]
    assert "1 of 3 covariates are not there, taken as missing: Bio2" in table.notes[0]


@pytest.mark.parametrize("separator", ["\t", ";", "|"])
def test_separators_decimal_commas_and_common_names_are_read(separator: str, tmp_path: Path) -> None:
    rows = [
        ["Plot ID", "Longitude", "Latitude", "bio_1"],
        ["0001", "5,5", "45,25", "2800,5"],
        ["FR-2", "-3", "40", "na"],
    ]
    table = read(tmp_path, "\ufeff" + "\n".join(separator.join(row) for row in rows), ("Bio1",))
    assert table.surveys.select("survey_id", "lon", "lat").rows() == [("0001", 5.5, 45.25), ("FR-2", -3.0, 40.0)]
    np.testing.assert_array_equal(table.covariates["Bio1"].to_numpy(), np.array([2800.5, np.nan], np.float32))


def test_a_parquet_table_keeps_its_types_and_a_date_in_the_year_gives_the_year(tmp_path: Path) -> None:
    days = [date(2021, 6, 15), None]
    columns = {"surveyId": [1, 2], "lon": [2.0, 3], "lat": [50, 51], "year": days, "Bio1": [2800, None]}
    pl.DataFrame(columns).write_parquet(tmp_path / "a [1].parquet")
    table = read_own_table(tmp_path / "a [1].parquet", ("Bio1",))
    assert table.surveys.select("survey_id", "year", "month", "day").rows() == [
        ("1", 2021, 6, 15), ("2", None, None, None),
    ]  # fmt: skip
    assert table.covariates["Bio1"].to_list() == [2800.0, pytest.approx(float("nan"), nan_ok=True)]


def test_a_file_with_brackets_in_its_name_is_read_and_not_another(tmp_path: Path) -> None:
    (tmp_path / "places 1.csv").write_text("surveyId,lon,lat\nother,2,50\n")
    (tmp_path / "places [1].csv").write_text("surveyId,lon,lat\nthis,2,50\n")
    assert read_own_table(tmp_path / "places [1].csv", ()).surveys["survey_id"].to_list() == ["this"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("surveyId,lon,lat\n", "no row"),
        ("plant,lon,let\n1,2,50\n", r"lacks columns \['lat'\]; it has \['plant', 'lon', 'let'\]"),
        ("surveyId,lon,lot\n1,2,50\n", r"lacks columns \['lat'\].*did you mean 'lot'"),
        ("surveyId,lon,lat,lon\n1,2,50,3\n", r"several columns called \['lon'\]"),
        ("surveyId,lon,Lon,lat\n1,2,3,50\n", r"several columns for lon: \['lon', 'Lon'\]"),
        ("surveyId,lon,lat,bio_1,BIO1\n1,2,50,3,4\n", r"several columns for covariate Bio1: \['bio_1', 'BIO1'\]"),
        ("surveyId,lon,lat\n,2,50\n", "1 of 1 rows have no id"),
        ("surveyId,lon,lat\na,2,50\na,3,50\nb,2,50\n", r"1 ids are repeated, such as \['a'\]"),
        (
            "surveyId,lon,lat\n1,2,95\n2,2,50\n",
            r"1 places have no usable coordinates, such as \['1'\], whose lat is \[95",
        ),
        ("surveyId,lon,lat\n1,,50\n", "no usable coordinates"),
        ("surveyId,lon,lat\n1,NaN,50\n", "no usable coordinates"),
        ("surveyId,lon,lat\n1,2 east,50\n", r"lon are no numbers, such as \['2 east'\]. expected degrees, such as"),
        ("surveyId,lon,lat,Bio1\n1,2,50,warm\n", r"1 values of Bio1 are no numbers, such as \['warm'\]"),
        ("surveyId,lon,lat,year\n1,2,50,last year\n", r"such as '1' \(year last year\): text that is no date"),
        ("surveyId,lon,lat,year\n1,2,50,20199\n", r"\(year 20199\): number that is no date"),
        ("surveyId,lon,lat,year\n1,2,50,1066\n", r"no such year \(1600 to 2199\)"),
        ("surveyId,lon,lat,year,month\n1,2,50,2019,13\n", r"\(year 2019, month 13\): no such month or day"),
        ("surveyId,lon,lat,date\n1,2,50,2019-02-31\n", "no such month or day"),
    ],
)
def test_a_bad_table_is_refused_with_what_was_found(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(TableError, match=message):
        read(tmp_path, text, ("Bio1",))


def test_a_missing_or_foreign_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="cannot read"):
        read_own_table(tmp_path / "none.csv", ())
    (tmp_path / "x.parquet").write_text("no parquet")
    with pytest.raises(TableError, match="cannot be read"):
        read_own_table(tmp_path / "x.parquet", ())


def test_dates_in_doubt_are_known_as_far_as_they_are_and_noted(tmp_path: Path) -> None:
    table = read(tmp_path, "id,lon,lat,date\na,2,50,05/06/2019\nb,2,51,2019-05-03/2019-05-09\nc,2,52,1950/1993\n")
    assert table.surveys.select("year", "month").rows() == [(2019, None), (2019, 5), (None, None)]
    assert [note.partition(": ")[2] for note in table.notes] == [
        "1 of 3 places, such as 'a' (date 05/06/2019): date with day and month in doubt, year kept",
        "1 of 3 places, such as 'c' (date 1950/1993): interval over several years",
    ]


def test_impossible_values_are_masked_as_in_a_release_and_counted(tmp_path: Path) -> None:
    """Of the official ranges; 1e9 of a column that no release has is possible, and 31.75 is a fill of HFP."""
    text = """surveyId,lon,lat,Bio1,Bio12,Elevation,HumanFootprint-HFP2009,LandCover,Own
1,2,50,2800,65535,-9999,31.75,127,1e9
2,2,51,-9999,9000,100,31,inf,inf
3,2,52,,9000,9999,-3.4e38,17,
"""
    names = ("Bio1", "Bio12", "Elevation", "HumanFootprint-HFP2009", "LandCover", "Own")
    table = read(tmp_path, text, names)
    nan = np.nan
    expected = [[2800, nan, nan, nan, nan, 1e9], [nan, 9000, 100, 31, nan, nan], [nan, 9000, nan, nan, 17, nan]]
    np.testing.assert_array_equal(table.covariates.to_numpy(), np.array(expected, np.float32))
    counts = "Bio1 1, Bio12 1, Elevation 2, HumanFootprint-HFP2009 2, LandCover 2, ..."
    assert f"impossible values in 6 covariates, taken as missing: {counts}" in table.notes[0]


def test_an_impossible_area_or_uncertainty_is_missing_and_counted(tmp_path: Path) -> None:
    """As in a release; a place that is known exactly has an uncertainty of 0."""
    text = """surveyId,lon,lat,areaInM2,geoUncertaintyInM
a,2,50,-9999,-1
b,2,51,0,inf
c,2,52,inf,0
d,2,53,100,5
"""
    table = read(tmp_path, text)
    assert table.surveys.select("area_m2", "uncertainty_m").rows() == [(None, None), (None, None), (None, 0), (100, 5)]
    assert [note.partition(": ")[2] for note in table.notes] == [
        "3 area infinite or not positive, taken as missing, such as 'a' (-9999.0)",
        "2 uncertainty of the place infinite or negative, taken as missing, such as 'a' (-1.0)",
    ]


def test_countries_and_regions_are_spelt_as_in_training_or_noted(tmp_path: Path) -> None:
    names = [
        ("spain", "Alpine"),
        ("ES", "black sea"),
        ("BEL", ""),
        ("Czechia", "ALPINE"),
        ("Mordor", "Steppe"),
        ("", ""),
    ]
    rows = [f"{i},2,5{i},{country},{region}" for i, (country, region) in enumerate(names)]
    table = read(tmp_path, "id,lon,lat,country,region\n" + "\n".join(rows), (), TRAINING)
    assert table.surveys["country"].to_list() == ["Spain", "Spain", "Belgium", "Czech Republic", "Mordor", None]
    assert table.surveys["region"].to_list() == ["ALPINE", "BLACKSEA", None, "ALPINE", "Steppe", None]
    assert len(table.notes) == 2
    assert (
        "country of 1 of 6 places is none that the run was trained on, taken as unknown: ['Mordor']" in table.notes[0]
    )
    assert "region of 1 of 6 places" in table.notes[1] and "ALPINE, BLACKSEA" in table.notes[1]


def test_whole_columns_in_another_unit_are_noted_and_not_changed(tmp_path: Path) -> None:
    table = read(tmp_path, "id,lon,lat,Bio1,Bio12\n1,2,50,10.5,812.5\n2,2,51,8.0,604\n", ("Bio1", "Bio12"), TRAINING)
    assert table.covariates["Bio12"].to_list() == [812.5, 604.0]
    assert "Bio1 lies outside what the run was trained on (8 to 10.5, in training 2,700 to 2,900)" in table.notes[0]
    assert "; plus 273.15 and times 10, as from °C to K x 10 it would not" in table.notes[0]
    assert "(604 to 812.5, in training 4,000 to 12,000); times 10 it would not" in table.notes[1]
    assert "impossible values in 1 covariates, taken as missing: Bio1 2" in table.notes[2]


@pytest.mark.parametrize(
    ("places", "refused"),
    [
        (["50,2", "51,3", "2,50"], True),  # two of three, exchanged, in the Indian Ocean
        (["50,2", "2,50"], False),  # just half
        (["2,50", "3,51"], False),
        (["120,-30", "121,-31"], False),  # elsewhere, either way
    ],
)
def test_lon_and_lat_exchanged_are_refused(places: list[str], refused: bool, tmp_path: Path) -> None:
    text = "surveyId,lon,lat\n" + "".join(f"{i},{place}\n" for i, place in enumerate(places))
    assert len(read(tmp_path, text).surveys) == len(places)
    if not refused:
        assert len(read(tmp_path, text, (), TRAINING).surveys) == len(places)
        return
    with pytest.raises(TableError, match="2 of 3 places .* exchanged. expected lon -5.0 to 10.0 and lat 40.0 to 60.0"):
        read(tmp_path, text, (), TRAINING)


def test_another_continent_is_not_taken_for_an_exchange(tmp_path: Path) -> None:
    """Southern Arabia: exchanged, its places would lie on the Balkans."""
    text = "id,lon,lat,country\n" + "".join(f"{i},4{i},15.{i},Yemen\n" for i in range(4, 8))
    bounds = TRAINING.bounds | {"east": 36.0}
    assert len(read(tmp_path, text, (), Training(bounds=bounds)).surveys) == 4


def test_another_continent_whose_mirror_is_on_land_is_not_taken_for_an_exchange(tmp_path: Path) -> None:
    """Somalia and France, on land both: the other places decide, and none of them is exchanged for sure."""
    text = "id,lon,lat\na,45.3,3.1\nb,46.0,4.9\nc,44.5,2.6\n"
    france = Training(bounds={"west": -5.0, "south": 42.0, "east": 8.0, "north": 51.0})
    assert len(read(tmp_path, text, (), france).surveys) == 3


@pytest.mark.parametrize("rows", ["1,2,3,4,5\n", ",,\n,,\n"])
def test_a_table_of_which_no_row_is_left_is_refused_with_the_reasons(rows: str, tmp_path: Path) -> None:
    reason = "more cells than the header has, left out" if "5" in rows else "row without any value"
    with pytest.raises(TableError, match=f"no row that can be used: [12] {reason} \\(row 1"):
        read(tmp_path, "id,lon,lat\n" + rows)


@pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not here")
@pytest.mark.parametrize(
    "name",
    [
        "f-tabs.csv",
        "k-header-long.csv",
        "p-id-leading-zeros.csv",
        "zf-date-not-year.csv",
        "zr-parquet-date-in-year.parquet",
    ],
)
def test_shared_tables_are_read_as_the_plain_one(name: str) -> None:
    plain, other = read_own_table(CASES / "a-plain.csv", ()).surveys, read_own_table(CASES / name, ()).surveys
    assert other.drop("survey_id", "month", "day").equals(plain.drop("survey_id", "month", "day"))
    ids = ["0001", "0002", "0003", "0004"] if name.startswith("p-") else ["1", "2", "3", "4"]
    assert other["survey_id"].to_list() == ids


@pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not here")
def test_shared_duplicate_columns_are_refused_and_countries_spelt() -> None:
    with pytest.raises(TableError, match=r"several columns called \['lon'\]"):
        read_own_table(CASES / "zi-duplicate-columns.csv", ())
    known = Training(
        categories={"country": ("Belgium", "Spain", "Österreich"), "region": ("ALPINE", "ATLANTIC", "CONTINENTAL")}
    )
    plain, lower = (read_own_table(CASES / name, (), known) for name in ("a-plain.csv", "ze-country-lower.csv"))
    assert lower.surveys.equals(plain.surveys) and lower.notes == plain.notes == ()


def test_classes_by_name_are_the_codes_of_training_and_others_are_unknown(tmp_path):
    (tmp_path / "p.csv").write_text("id,lon,lat,use\na,9,47,Mown\nb,9,47,fallow\nc,9,47,\nd,9,47,grazed\n")
    training = Training(codes={"use": [0.0, 3.0]}, classes={"use": {0: "grazed", 3: "mown"}})
    table = read_own_table(tmp_path / "p.csv", ["use"], training)
    assert table.covariates["use"].fill_nan(None).to_list() == [3.0, None, None, 0.0]
    assert any("use of 1 of 4 places is no class that the run was trained on" in note for note in table.notes)


def test_a_variable_in_another_unit_than_a_release_is_not_masked_for_its_name(tmp_path):
    """bio5 of a release is in K x 10, at least 2,000; a study has it in degrees Celsius."""
    (tmp_path / "p.csv").write_text("id,lon,lat,bio5\na,9,47,31.5\nb,9,47,-9999\n")
    table = read_own_table(tmp_path / "p.csv", ["bio5"], Training(quantiles={"bio5": [12.0, 25.0, 36.0]}))
    assert table.covariates["bio5"].fill_nan(None).to_list() == [31.5, None]
