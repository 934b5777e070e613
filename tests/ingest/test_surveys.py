from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from releve.errors import ReleaseError
from releve.ingest.places import BAD_SIZES
from releve.ingest.release import open_release
from releve.ingest.rows import NO_ID, OCCURRENCE_SCHEMA, SURVEY_SCHEMA
from releve.ingest.surveys import UNKNOWN_SURVEY, read_occurrences, read_surveys
from releve.ingest.text import LONG, SHORT

from .fakes import LABELS, PA_COLUMNS, STYLES, labels_of, write_release, write_text


def glc24(root: Path, rows: str, columns: str = PA_COLUMNS) -> Path:
    write_text(root / "GLC24_PA_metadata_train.csv", f"{columns}\n{rows}\n")
    return root


@pytest.mark.parametrize("style", ["glc24", "glc24-seafile", "glc25", "geoplant26"])
def test_every_species_of_a_survey_is_kept_and_broken_rows_are_counted(style: str, tmp_path: Path) -> None:
    """Pitfall 1: duplicates dropped by survey before the labels are built leave one species per survey."""
    surveys = read_surveys(open_release(write_release(tmp_path, style)), "train")
    assert surveys.table.schema == SURVEY_SCHEMA
    assert surveys.table["survey_id"].to_list() == [str(i) for i in sorted(LABELS)]
    assert labels_of(surveys) == LABELS
    assert surveys.labels.equals(surveys.labels.unique().sort("row", "species_id"))
    assert surveys.dropped == {
        "no survey id": 2,
        "no coordinates": 1,
        "coordinates out of range": 1,
        "survey id used at another place": 1,
        "no species": 1,
        "duplicate survey-species pair": 1,
    }
    assert surveys.examples["coordinates out of range"] == ("row 12",)
    assert surveys.examples["no coordinates"] == ("row 13",)


def test_area_is_the_first_valid_one_and_infinities_are_noted(tmp_path: Path) -> None:
    surveys = read_surveys(open_release(write_release(tmp_path, "glc24")), "train")
    assert surveys.table["area_m2"].to_list() == [25.0, 100.0, None, 100.0]
    assert surveys.noted == {"area infinite or not positive": 1, "several areas in one survey, first kept": 1}


def test_what_the_release_does_not_say_is_null(tmp_path: Path) -> None:
    table = read_surveys(open_release(write_release(tmp_path, "glc24")), "train").table
    row = table.filter(pl.col("survey_id") == "642").row(0, named=True)
    assert row == {
        "survey_id": "642",
        "lon": 8.25,
        "lat": 47.5,
        "year": 2019,
        "month": None,
        "day": None,
        "country": None,
        "region": "ALPINE",
        "publisher": None,
        "area_m2": None,
        "uncertainty_m": None,
        "series_id": "642",
        "patch_id": "642",
    }


def test_test_surveys_need_no_species(tmp_path: Path) -> None:
    surveys = read_surveys(open_release(write_release(tmp_path, "glc24")), "test")
    assert surveys.table["survey_id"].to_list() == ["1", "642"]
    assert len(surveys.labels) == 0 and surveys.labels.schema == {
        "row": pl.Int64,
        "species_id": pl.Int64,
    }
    assert surveys.dropped == {}


@pytest.mark.parametrize(
    "content",
    ["surveyId,speciesId\n642,5\n642,5.0\n1,7\n642,4\n99,1\n", "surveyId,predictions\n642,4 5\n1,7\n99,1\n"],
)
def test_labels_of_a_test_split_may_lie_in_a_table_of_their_own(content: str, tmp_path: Path) -> None:
    write_release(tmp_path, "geoplant26")
    write_text(tmp_path / "PresenceAbsenceSurveys" / "test_labels_iid.csv", content)
    release = open_release(tmp_path)
    assert labels_of(read_surveys(release, "test_iid")) == {1: [7], 642: [4, 5]}
    assert len(read_surveys(release, "test_ood").labels) == 0


def test_occurrences_keep_publisher_rank_and_date(tmp_path: Path) -> None:
    release = open_release(write_release(tmp_path, "glc24"))
    table = read_occurrences(release, "po").table
    assert table.schema == OCCURRENCE_SCHEMA
    assert table["survey_id"].to_list() == ["1", "1", "642", "3018575"]
    assert table["species_id"].to_list() == [10, 11, 12, 13]
    assert table["publisher"][2] == "Botanic Garden, Berlin"
    assert table["date"].to_list() == [date(2019, 6, 17), date(2019, 6, 17), date(2020, 1, 2), None]
    assert table["month"].to_list() == [6, 6, 1, 8] and table["day"].to_list() == [17, 17, 2, None]
    assert table["uncertainty_m"].to_list() == [5.0, 5.0, 25.0, None]
    surveys = read_surveys(release, "po")
    assert labels_of(surveys) == {1: [10, 11], 642: [12], 3018575: [13]}
    assert surveys.table["month"].to_list() == [6, 1, 8]


def test_glc23_rows_of_one_plot_and_day_form_one_survey(tmp_path: Path) -> None:
    release = open_release(write_release(tmp_path, "glc23"))
    surveys = read_surveys(release, "train")
    assert labels_of(surveys) == {10: [10, 11], 30: [12]}
    assert surveys.table.select("series_id", "patch_id").rows() == [("81", "91"), ("82", "92")]
    assert read_surveys(release, "po").table.select("survey_id", "series_id", "patch_id").rows() == [
        ("1", "3018575", "642"),
        ("2", "642", "1"),
    ]


def test_glc23_dates_are_text_or_seconds(tmp_path: Path) -> None:
    release = open_release(write_release(tmp_path, "glc23"))
    assert read_occurrences(release, "train").table["date"].to_list()[0] == date(2020, 4, 26)
    assert read_surveys(release, "po").table.select("year", "month", "day").row(0) == (2018, 6, 17)


def test_swapped_coordinates_are_an_error_that_names_the_columns(tmp_path: Path) -> None:
    rows = "\n".join(f"{lat},{lon},2018,,,,,5,{i}" for i, (lon, lat) in enumerate([(10, 57), (8, 47), (-3, 40)]))
    with pytest.raises(ReleaseError, match="3 of 3 places.*'lon' and 'lat' are exchanged.*Exchange the two"):
        read_surveys(open_release(glc24(tmp_path, rows)), "train")


def test_places_outside_europe_are_not_taken_for_swapped(tmp_path: Path) -> None:
    rows = "-83.5,9.9,2018,,,,,5,1\n-84,10,2018,,,,,5,2"
    assert len(read_surveys(open_release(glc24(tmp_path, rows)), "train").table) == 2


def test_a_table_without_a_needed_column_is_an_error(tmp_path: Path) -> None:
    release = open_release(glc24(tmp_path, "1,50,5", "lon,latitude,speciesId"))
    with pytest.raises(ReleaseError, match=r"lacks columns \['surveyId'\].*'latitude'"):
        read_surveys(release, "train")


def test_an_empty_table_is_an_error(tmp_path: Path) -> None:
    write_text(tmp_path / "GLC24_PA_metadata_train.csv", "")
    with pytest.raises(ReleaseError, match="is empty"):
        read_surveys(open_release(tmp_path), "train")


def test_a_label_table_without_species_is_an_error(tmp_path: Path) -> None:
    write_release(tmp_path, "geoplant26")
    write_text(tmp_path / "PresenceAbsenceSurveys" / "test_labels_iid.csv", "surveyId,plants\n1,2\n")
    with pytest.raises(ReleaseError, match="expected a survey and a species column"):
        read_surveys(open_release(tmp_path), "test_iid")


def test_a_header_without_rows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="a header and no row"):
        read_surveys(open_release(glc24(tmp_path, "")), "train")


def test_quoted_numbers_are_read_and_rows_of_another_length_counted(tmp_path: Path) -> None:
    rows = '"10.5","57",2018,,,,,"5","7"\n10.5,57,2018\n10.5,57,2018,,,,,5,8,extra,cells'
    surveys = read_surveys(open_release(glc24(tmp_path, rows)), "train")
    assert surveys.table["survey_id"].to_list() == ["7"]
    assert surveys.dropped == {LONG: 1, "no survey id": 1} and surveys.noted == {SHORT: 1}


@pytest.mark.parametrize("style", STYLES)
def test_order_of_rows_does_not_change_the_labels(style: str, tmp_path: Path) -> None:
    write_release(tmp_path, style)
    path = tmp_path / STYLES[style].metadata["po"][0]
    before = read_surveys(open_release(tmp_path), "po")
    header, *rows = path.read_text().splitlines()
    write_text(path, "\n".join([header, *reversed(rows)]) + "\n")
    after = read_surveys(open_release(tmp_path), "po")
    assert after.labels.equals(before.labels) and after.table.equals(before.table)


@pytest.mark.parametrize(("ids", "one"), [("759", "5"), (("A7", "A5", "A9"), "A5"), (("A7", "0009", "5"), "5")])
def test_rows_of_one_place_and_day_are_one_survey_whatever_its_ids_are(
    ids: tuple[str, ...], one: str, tmp_path: Path
) -> None:
    """The first id in order: numbers by size, then the others by their letters."""
    rows = [f"{name};2.5;48.5;3;2019;120;{species}" for name, species in zip(ids, (11, 12, 13), strict=True)]
    header = "glcID;lon;lat;patchID;year;dayOfYear;speciesId"
    write_text(tmp_path / "Presences_Absences_train.csv", "\n".join([header, *rows, ""]))
    surveys = read_surveys(open_release(tmp_path), "train")
    assert surveys.table["survey_id"].to_list() == [one]
    assert surveys.labels.rows() == [(0, 11), (0, 12), (0, 13)]


@pytest.mark.parametrize(
    ("separator", "cell", "species"),
    [
        (";", "3018575,0", [3018575]),
        (";", "12,0 14,00", [12, 14]),
        ("\t", "12,0|14", [12, 14]),
        (";", "12,5,14", [5, 12, 14]),
        (";", "12, 0", [0, 12]),
        (",", '"12,0"', [0, 12]),  # where commas separate columns, none is decimal
        (",", '"12.0,14.0"', [12, 14]),
    ],
)
def test_a_decimal_comma_of_an_id_is_no_second_species(
    separator: str, cell: str, species: list[int], tmp_path: Path
) -> None:
    columns = ["surveyId", "lon", "lat", "speciesId"]
    rows = [columns, ["1", "2.5", "48.5", cell]]
    write_text(tmp_path / "GLC24_PA_metadata_train.csv", "\n".join(separator.join(row) for row in rows) + "\n")
    assert labels_of(read_surveys(open_release(tmp_path), "train")) == {1: species}


def test_an_impossible_uncertainty_is_counted_as_an_area_is(tmp_path: Path) -> None:
    header = "surveyId,lon,lat,speciesId,areaInM2,geoUncertaintyInM"
    rows = ["1,2.5,48.5,7,-9999,-1", "2,2.5,48.5,7,9,inf", "3,2.5,48.5,7,9,0"]
    write_text(tmp_path / "GLC24_PA_metadata_train.csv", "\n".join([header, *rows, ""]))
    surveys = read_surveys(open_release(tmp_path), "train")
    assert surveys.table.select("area_m2", "uncertainty_m").rows() == [(None, None), (9, None), (9, 0)]
    assert surveys.noted == {BAD_SIZES["area_m2"]: 1, BAD_SIZES["uncertainty_m"]: 2}
    assert surveys.examples[BAD_SIZES["uncertainty_m"]] == ("row 1", "row 2")


def test_what_is_left_out_of_a_table_of_labels_is_counted(tmp_path: Path) -> None:
    write_release(tmp_path, "geoplant26")
    content = "surveyId,speciesId\n642,5\n1,7,8\n642,4\n99,1\n99,2\n,3\n1,7\n"
    write_text(tmp_path / "PresenceAbsenceSurveys" / "test_labels_iid.csv", content)
    surveys = read_surveys(open_release(tmp_path), "test_iid")
    assert labels_of(surveys) == {1: [7], 642: [4, 5]}
    assert surveys.dropped == {f"labels, {LONG}": 1, f"labels, {NO_ID}": 1, UNKNOWN_SURVEY: 2}
    assert surveys.examples[UNKNOWN_SURVEY] == ("row 4: 99", "row 5: 99")
    assert surveys.examples[f"labels, {LONG}"] == ("row 2",)
