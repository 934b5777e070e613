"""Tables as they come from the field: each fault in a small table of its own, and in the files kept elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from releve.errors import ReleaseError
from releve.ingest.covariates import mask_values, read_covariates
from releve.ingest.inventory import check_release
from releve.ingest.layouts import LANDSAT
from releve.ingest.presence import ABSENT, CULTIVATED, FOSSIL, NONE_COUNTED
from releve.ingest.release import open_release
from releve.ingest.surveys import NO_LABELS, SEVERAL_VISITS, Occurrences, Surveys, read_occurrences, read_surveys
from releve.prepare.config import CleanConfig, PseudoplotConfig
from releve.prepare.records import prepare_records
from releve.store.build import build_store
from releve.store.config import DataConfig
from releve.store.contents import read_contents

from .fakes import write_text

CASES = Path(__file__).parents[2].parent / "shared" / "cases"
PLOTS = "lon,lat,year,country,speciesId,surveyId"
RECORDS = "surveyId,lon,lat,speciesId,date"


def plots(root: Path, *rows: str) -> Surveys:
    write_text(root / "GLC24_PA_metadata_train.csv", "\n".join([PLOTS, *rows, ""]))
    return read_surveys(open_release(root), "train")


def records(root: Path, columns: str, *rows: str) -> Occurrences:
    write_text(root / "GLC24_PO_metadata_train.csv", "\n".join([f"{RECORDS},{columns}", *rows, ""]))
    return read_occurrences(open_release(root), "po")


def case(name: str, split: str) -> Surveys | Occurrences:
    if not (CASES / name).is_dir():
        pytest.skip("the files from the field are not here")
    return (read_surveys if split == "train" else read_occurrences)(open_release(CASES / name), split)


def lists_of(surveys: Surveys) -> list[tuple[str, int | None, list[int]]]:
    """Return id, year and species of each survey."""
    found = surveys.table.select("survey_id", "year").rows()
    sets = [surveys.labels.filter(row=row)["species_id"].to_list() for row in range(len(found))]
    return [(*survey, species) for survey, species in zip(found, sets, strict=True)]


# ---- ids -------------------------------------------------------------------------------------------------


def test_ids_are_text_and_stand_in_order(tmp_path: Path) -> None:
    ids = ["FR-001", "0101", "101", "9007199254740993", "9007199254740995", "7.0", "1e+05"]
    rows = [f"{2 + at},48.5,2019,France,{species},{i}" for at, i in enumerate(ids) for species in (11, 12)]
    surveys = plots(tmp_path, *rows)
    expected = ["7", "101", "100000", "9007199254740993", "9007199254740995", "0101", "FR-001"]
    assert lists_of(surveys) == [(i, 2019, [11, 12]) for i in expected] and surveys.dropped == {}


@pytest.mark.parametrize("name", ["d-leading-zeros-distinct", "e-beyond-2-53", "h-plot-codes"])
def test_ids_from_the_field_are_eight_plots(name: str) -> None:
    surveys = case(f"07-ids/{name}", "train")
    assert isinstance(surveys, Surveys)
    assert len(surveys.table) == 8 and surveys.dropped == {}
    assert [species for _, _, species in lists_of(surveys)] == [[11, 12]] * 8


def test_a_place_that_is_visited_again_is_another_survey_with_the_same_covariates(tmp_path: Path) -> None:
    rows = ["2.5,48.5,2018,France,4,100", "2.5,48.5,2005,France,1,100", "2.5,48.5,2005,France,4,100"]
    surveys = plots(tmp_path, *rows, "2.5,48.5,2018,France,7,100", "3.5,48.5,2005,France,1,101")
    assert lists_of(surveys) == [("100", 2005, [1, 4]), ("100", 2018, [4, 7]), ("101", 2005, [1])]
    assert surveys.noted == {SEVERAL_VISITS: 1} and surveys.examples[SEVERAL_VISITS] == ("survey 100",)
    write_text(tmp_path / "GLC24-PA-train-elevation.csv", "surveyId,Elevation\n101,50\n100,40\n")
    covariates = read_covariates(open_release(tmp_path), "train", surveys.table["survey_id"])
    assert covariates.table["Elevation"].to_list() == [40, 40, 50]


def test_a_row_without_a_year_is_of_the_only_visit(tmp_path: Path) -> None:
    surveys = plots(tmp_path, "2.5,48.5,,France,4,100", "2.5,48.5,2005,France,1,100")
    assert lists_of(surveys) == [("100", 2005, [1, 4])] and surveys.noted == {}


def test_plots_from_the_field_that_were_visited_twice_are_sixteen_surveys() -> None:
    surveys = case("07-ids/n-resurvey", "train")
    assert isinstance(surveys, Surveys)
    found = lists_of(surveys)
    assert len(found) == 16
    assert found[:2] == [("100", 2005, [1, 2, 3, 4]), ("100", 2018, [4, 5, 6, 7])]


# ---- species ---------------------------------------------------------------------------------------------


def test_a_plot_without_species_is_an_empty_list(tmp_path: Path) -> None:
    surveys = plots(tmp_path, "2.5,48.5,2019,France,,100", "3.5,48.5,2019,France,11,101", "3.5,48.5,2019,France,12,101")
    assert lists_of(surveys) == [("100", 2019, []), ("101", 2019, [11, 12])]
    assert surveys.noted == {NO_LABELS: 1} and surveys.dropped == {}


def test_the_plot_from_the_field_without_species_is_kept() -> None:
    surveys = case("08-species-column/e-plot-without-species", "train")
    assert isinstance(surveys, Surveys)
    assert lists_of(surveys)[0] == ("100", 2019, []) and len(surveys.table) == 12


@pytest.mark.parametrize("cell", ["11 12 13", '"11, 12, 13"', "11;12;13", "11|12.0|13"])
def test_a_list_in_a_cell_is_read(cell: str, tmp_path: Path) -> None:
    surveys = plots(tmp_path, f"2.5,48.5,2019,France,{cell},100", "3.5,48.5,2019,France,7,101")
    assert lists_of(surveys) == [("100", 2019, [11, 12, 13]), ("101", 2019, [7])]


def test_lists_in_cells_from_the_field_are_read() -> None:
    surveys = case("08-species-column/i-list-in-a-cell", "train")
    assert isinstance(surveys, Surveys)
    assert [species for _, _, species in lists_of(surveys)] == [[11, 12, 13]] * 12


def test_a_column_of_names_and_ids_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"1 ids and 1 cells that are none, such as \['Quercus robur'\] in row 1"):
        plots(tmp_path, "2.5,48.5,2019,France,Quercus robur,100", "3.5,48.5,2019,France,11,101")
    with pytest.raises(ReleaseError, match="12 ids and 12 cells"):
        case("08-species-column/c-some-names-some-ids", "train")


# ---- absences --------------------------------------------------------------------------------------------


def test_absences_gardens_and_fossils_are_no_presences(tmp_path: Path) -> None:
    said = [
        "PRESENT,2,HUMAN_OBSERVATION,", "absent,,HUMAN_OBSERVATION,", "PRESENT,0,HUMAN_OBSERVATION,",
        ",,LivingSpecimen,", ",,PRESERVED_SPECIMEN,managed", ",,Fossil Specimen,", ",,PRESERVED_SPECIMEN,native",
    ]  # fmt: skip
    rows = [f"{100 + at},2.5,48.5,{at},2019-05-01,{words}" for at, words in enumerate(said)]
    found = records(tmp_path, "occurrenceStatus,individualCount,basisOfRecord,establishmentMeans", *rows)
    assert found.table["species_id"].to_list() == [0, 6]
    assert found.dropped == {ABSENT: 1, NONE_COUNTED: 1, CULTIVATED: 2, FOSSIL: 1}
    assert found.examples[FOSSIL] == ("row 6",)


def test_a_plot_on_which_a_species_was_absent_is_a_plot_without_it(tmp_path: Path) -> None:
    header = PLOTS + ",occurrenceStatus"
    rows = ["2.5,48.5,2019,France,11,100,absent", "3.5,48.5,2019,France,12,101,present"]
    write_text(tmp_path / "GLC24_PA_metadata_train.csv", "\n".join([header, *rows, ""]))
    surveys = read_surveys(open_release(tmp_path), "train")
    assert lists_of(surveys) == [("100", 2019, []), ("101", 2019, [12])] and surveys.dropped == {ABSENT: 1}


def test_records_from_the_field_have_ten_presences() -> None:
    found = case("04-absences-as-presences/records", "po")
    assert len(found.table) == 10 and sum(found.dropped.values()) == 16
    assert found.dropped == {ABSENT: 10, CULTIVATED: 3, FOSSIL: 3}


# ---- encodings, quotes -----------------------------------------------------------------------------------


def test_unicode_text_of_a_spreadsheet_is_read(tmp_path: Path) -> None:
    text = "surveyId,lon,lat,speciesId,date,country\n1,14.5,47.5,11,2019-05-01,Österreich\n"
    (tmp_path / "GLC24_PO_metadata_train.csv").write_bytes(text.encode("utf-16"))
    assert read_occurrences(open_release(tmp_path), "po").table["country"].to_list() == ["Österreich"]
    countries = case("06-encodings/d-utf16-bom", "po").table["country"].to_list()
    assert countries == ["Österreich", "Türkiye", "Åland", "France", "Italy", "Austria"]


@pytest.mark.parametrize("name", ["b-lone-quote-start", "c-two-lone-quotes", "k-two-inside"])
def test_quotes_from_the_field_lose_no_record(name: str) -> None:
    found = case(f"03-quotes-and-newlines/{name}", "po")
    assert found.table["species_id"].to_list() == list(range(7, 19)) and found.dropped == {}


def test_numbers_with_a_unit_are_counted_with_an_example(tmp_path: Path) -> None:
    found = records(tmp_path, "geoUncertaintyInM", "1,2.5,48.5,7,2019-05-01,5km", "2,2.5,48.5,7,2019-05-01,10")
    assert found.table["uncertainty_m"].to_list() == [None, 10]
    (reason,) = found.noted
    assert "uncertainty of the place is no number" in reason and found.examples[reason] == ("row 1: 5km",)
    found = records(tmp_path, "geoUncertaintyInM", "1,near Metz,48.5,7,2019-05-01,5", "2,2.5,48.5,7,2019-05-01,10")
    assert found.dropped == {"longitude is no number": 1}
    assert found.examples["longitude is no number"] == ("row 1: near Metz",)


def test_a_decimal_comma_is_read_where_semicolons_separate(tmp_path: Path) -> None:
    write_text(tmp_path / "GLC24_PO_metadata_train.csv", "surveyId;lon;lat;speciesId;date\n1;2,5;48,25;7;2019-05-01\n")
    table = read_occurrences(open_release(tmp_path), "po").table
    assert table.select(pl.col("lon"), pl.col("lat")).rows() == [(2.5, 48.25)]


def test_what_cannot_be_used_at_all_is_told_with_its_reasons(tmp_path: Path) -> None:
    rows = ["2.5,95,2019,France,11,100", "2.5,48.5,2019,France,11,"]
    write_text(tmp_path / "GLC24_PA_metadata_train.csv", "\n".join([PLOTS, *rows, ""]))
    write_text(tmp_path / "GLC24_PO_metadata_train.csv", f"{RECORDS}\n1,2.5,48.5,,2019-05-01\n")
    release = open_release(tmp_path)
    with pytest.raises(ReleaseError, match=r"1 no survey id \(row 2\), 1 coordinates out of range \(row 1\)"):
        read_contents(release, DataConfig(modalities=()))
    with pytest.raises(ReleaseError, match=r"can be used: 1 no species \(row 1\)\. expected a survey id"):
        prepare_records(release, "po", CleanConfig(), PseudoplotConfig())


def test_usual_fills_are_no_values_of_unknown_covariates() -> None:
    values, bad = mask_values("Own", np.array([-9999.0, -3.4e38, 12.0, -32768.0]))
    assert values[2] == 12 and np.isnan(values[[0, 1, 3]]).all() and bad.tolist() == [True, True, False, True]


def test_a_table_that_is_there_but_not_understood_is_named(tmp_path: Path) -> None:
    plots(tmp_path, "2.5,48.5,2019,France,11,100")
    write_text(tmp_path / "GLC24-PA-train-elevation.csv", "surveyId,height\n100,40\n")
    inventory = check_release(open_release(tmp_path))
    (row,) = [row for row in inventory.rows if row.modality == "elevation"]
    (finding,) = [finding for finding in row.findings if finding.code == "not-understood"]
    assert "none of its columns ['surveyId', 'height'] is an official one" in finding.message


def test_what_was_mended_or_masked_reaches_the_store(tmp_path: Path) -> None:
    plots(tmp_path, "2.5,48.5,2019,France,,100", "3.5,48.5,2019,France,11,101")
    write_text(tmp_path / "GLC24-PA-train-elevation.csv", "surveyId,Elevation\n100,40m\n101,-9999\n")
    steps = LANDSAT.column_names("red")
    values = ["300", "12.4", *["7"] * (len(steps) - 2)]
    table = "\n".join([",".join(["surveyId", *steps]), ",".join(["101", *values]), ""])
    write_text(tmp_path / "GLC24-PA-train-landsat-time-series-red.csv", table)
    contents = read_contents(open_release(tmp_path), DataConfig(modalities=("covariates", "landsat")))
    dropped = build_store(contents, None, tmp_path / "store").manifest.dropped
    assert dropped["train, mended"] == {NO_LABELS: 1}
    assert dropped["train covariates"] == {"Elevation": 1, "Elevation is no number": 1}
    assert dropped["train landsat"] == {"values rounded to integers": 1, "values out of range": 1}
