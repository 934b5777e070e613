"""Columns are known by what they mean; what could be mistaken is refused or offered, never guessed."""

from __future__ import annotations

import pytest

from releve.errors import TableError
from releve.ingest.columns import PLACE_COLUMNS, Matched, find_columns, match_covariates, match_names


@pytest.mark.parametrize(
    "header",
    [
        ["surveyId", "lon", "lat", "year", "date"],
        ["Plot ID", "Longitude", "Latitude", "Année", "eventDate"],
        ["RELEVE_NR", "decimalLongitude", "decimalLatitude", "Jahr", "Date of recording"],
        ["id", "x", "y", "YEAR", "Datum"],
        ["plot", "lon [°]", "lat [°]", "ano", "survey-date"],
    ],
)
def test_common_names_are_understood_whatever_case_accents_and_separators(header: list[str]) -> None:
    found = find_columns(["notes", *header], PLACE_COLUMNS, origin="t")
    assert found == dict(zip(("survey_id", "lon", "lat", "year", "date"), header, strict=True))


def test_the_better_name_is_taken_where_two_could_mean_the_same() -> None:
    header = ["x", "y", "lon", "lat", "id", "surveyId"]
    assert find_columns(header, PLACE_COLUMNS, origin="t") == {"survey_id": "surveyId", "lon": "lon", "lat": "lat"}


def test_one_name_in_two_spellings_is_refused() -> None:
    with pytest.raises(TableError, match=r"a.csv has several columns for lon: \['lon', 'Lon'\]. expected one"):
        find_columns(["id", "lon", "Lon", "lat"], PLACE_COLUMNS, origin="a.csv")


@pytest.mark.parametrize(
    ("column", "covariate"),
    [
        ("bio_1", "Bio1"),
        ("BIO12", "Bio12"),
        ("bio01", "Bio1"),
        ("wc2.1_30s_bio_12", "Bio12"),
        ("CHELSA_bio5", "Bio5"),
        ("elev", "Elevation"),
        ("Altitude (m)", "Elevation"),
        ("human_footprint_built1994", "HumanFootprint-Built1994"),
        ("soilgrid.clay", "Soilgrid-clay"),
        ("Bio1", "bio_01"),  # the run learned from the other spelling
    ],
)
def test_other_names_of_covariates_are_matched(column: str, covariate: str) -> None:
    assert match_covariates(["z", column], [covariate], origin="t") == Matched({covariate: column}, {})


@pytest.mark.parametrize(
    ("column", "covariate", "offered"),
    [("Bio1", "Bio2", "Bio1"), ("LandCover-1", "LandCover-11", "LandCover-1"), ("bio10_12", "Rain", None)],
)
def test_what_may_be_another_covariate_is_offered_and_not_taken(
    column: str, covariate: str, offered: str | None
) -> None:
    assert match_covariates([column], [covariate], origin="t") == Matched({}, {covariate: offered})


def test_a_name_of_its_own_comes_before_one_that_is_understood_and_two_of_those_are_refused() -> None:
    assert match_covariates(["chelsa_bio1", "Bio1"], ["Bio1"], origin="t").columns == {"Bio1": "Bio1"}
    with pytest.raises(TableError, match=r"covariate Elevation: \['elev', 'dem'\]"):
        match_covariates(["elev", "dem"], ["Elevation"], origin="t")
    with pytest.raises(TableError, match=r"covariate Bio1: \['bio_1', 'BIO1'\]"):
        match_covariates(["bio_1", "BIO1"], ["Bio1"], origin="t")


def test_the_same_name_comes_before_names_that_differ_in_brackets_or_case() -> None:
    depths = ["clay (0-5cm)", "clay (5-15cm)"]
    assert match_covariates(depths, depths, origin="t") == Matched(dict(zip(depths, depths, strict=True)), {})
    assert match_covariates(["N_tot", "n_tot"], ["N_tot"], origin="t").columns == {"N_tot": "N_tot"}
    # Nobody knows which of two depths a third one could be.
    found = match_covariates(["clay (5-15cm)", "clay (15-30cm)"], depths, origin="t")
    assert found == Matched({"clay (5-15cm)": "clay (5-15cm)"}, {"clay (0-5cm)": "clay (15-30cm)"})
    assert match_covariates(["altitude"], ["elev", "Elevation"], origin="t").columns == {}
    with pytest.raises(TableError, match=r"covariate N_tot: \['n_tot', 'N.TOT'\]"):
        match_covariates(["n_tot", "N.TOT"], ["N_tot"], origin="t")


def test_names_are_spelt_as_the_known_ones() -> None:
    known = ["Spain", "ALPINE", "BLACKSEA"]
    assert match_names(["Spain", "SPAIN", "alpine", "Black Sea", "Mars"], known) == {
        "SPAIN": "Spain", "alpine": "ALPINE", "Black Sea": "BLACKSEA",
    }  # fmt: skip
