from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from releve.errors import ReleaseError
from releve.ingest.covariates import read_covariates
from releve.ingest.layouts import HUMAN_FOOTPRINT, LAYOUTS
from releve.ingest.release import open_release

from .fakes import STYLES, write_release, write_rows, write_text

IDS = pl.Series(["3018575", "500", "1", "642"])


def values(table: pl.DataFrame, name: str) -> list[float]:
    return table[name].to_list()


def same(found: list[float], expected: list[float]) -> bool:
    return bool(np.array_equal(np.array(found), np.array(expected, dtype=np.float32), equal_nan=True))


nan = float("nan")


@pytest.mark.parametrize("style", ["glc24", "glc24-seafile"])
def test_values_follow_the_order_of_the_surveys_asked_for(style: str, tmp_path: Path) -> None:
    covariates = read_covariates(open_release(write_release(tmp_path, style)), "train", IDS)
    table = covariates.table
    assert table["survey_id"].to_list() == IDS.to_list()
    assert set(table.schema.dtypes()[1:]) == {pl.Float32}
    assert same(values(table, "Bio1"), [2702, nan, 2700, 2701])
    assert same(values(table, "Soilgrid-bdod"), [122, nan, 120, 121])
    assert covariates.groups["Bio1"] == "bioclim" and covariates.groups["Soilgrid-bdod"] == "soil"
    assert covariates.units["Bio1"] == "K x 10" and covariates.units["Elevation"] == "m"
    assert covariates.categorical == ("LandCover",)
    assert covariates.missing == ()


def test_fills_mixtures_and_infinities_are_masked_and_counted(tmp_path: Path) -> None:
    """Pitfall 5: a mean over the human footprint's fill values is 2e8."""
    covariates = read_covariates(open_release(write_release(tmp_path, "glc24")), "train", IDS)
    table = covariates.table
    assert same(values(table, "HumanFootprint-Built1994"), [nan, nan, 10.0, nan])
    assert same(values(table, "HumanFootprint-Railways"), [nan, nan, 0.0, nan])
    assert same(values(table, "HumanFootprint-HFP2009"), [nan, nan, 29.0, nan])
    assert same(values(table, "Elevation"), [nan, nan, 24.0, nan])
    assert same(values(table, "LandCover"), [17.0, nan, 9.0, nan])
    assert covariates.masked == {
        "Elevation": 1,
        "LandCover": 1,
        "HumanFootprint-Built1994": 2,
        "HumanFootprint-Railways": 2,
        "HumanFootprint-HFP2009": 1,
    }
    assert covariates.masked_rows == {"elevation": 1, "landcover": 1, "human_footprint": 2}


@pytest.mark.parametrize(
    ("column", "value", "valid"),
    [
        ("HumanFootprint-Built2009", 2147483647.0, False),
        ("HumanFootprint-Built2009", 536870911.75, False),
        ("HumanFootprint-Lights2009", 127.0, False),
        ("HumanFootprint-Lights2009", 33.5, False),
        ("HumanFootprint-Roads", -8.507057651842741e37, False),
        ("HumanFootprint-Roads", 1.75, True),
        ("HumanFootprint-HFP1993", 31.75, False),
        ("HumanFootprint-HFP1993", 31.5, True),
        ("HumanFootprint-HFP1993", 32.0, True),
        ("HumanFootprint-HFP1993", 63.5, False),
        ("HumanFootprint-building-copernicus", 40.0, True),
    ],
)
def test_what_counts_as_a_fill_in_the_human_footprint(column: str, value: float, valid: bool, tmp_path: Path) -> None:
    write_release(tmp_path, "glc24")
    path = tmp_path / STYLES["glc24"].covariates["human_footprint"].format("PA-train")
    write_rows(path, [{"surveyId": 1, column: value}])
    found = read_covariates(open_release(tmp_path), "train", pl.Series(["1"])).table[column][0]
    assert (found == pytest.approx(value)) if valid else np.isnan(found)


def test_every_official_column_has_a_range() -> None:
    assert all(rule.low < rule.high for layout in LAYOUTS.values() for g in layout.covariates for rule in g.ranges)
    assert HUMAN_FOOTPRINT.ranges[0].fills == (31.75,)


def test_an_unnamed_index_column_and_extra_rows_are_left_out(tmp_path: Path) -> None:
    release = open_release(write_release(tmp_path, "glc25"))
    covariates = read_covariates(release, "test", pl.Series(["642", "1"]))
    names = [name for name, group in covariates.groups.items() if group == "landcover"]
    assert names == [f"LandCover-{layer}" for layer in range(1, 14)]
    assert [f"LandCover-{n}" in covariates.categorical for n in (1, 5, 6, 7, 8, 9, 13)] == [
        True,
        True,
        False,
        False,
        False,
        True,
        True,
    ]
    facts = {fact.group: fact for fact in covariates.facts}
    assert (facts["landcover"].num_rows, facts["landcover"].num_found, facts["landcover"].num_extra) == (4, 2, 2)


def test_both_versions_of_the_human_footprint_add_their_columns(tmp_path: Path) -> None:
    covariates = read_covariates(open_release(write_release(tmp_path, "geoplant26")), "train", IDS)
    names = {name for name, group in covariates.groups.items() if group == "human_footprint"}
    assert {"HumanFootprint-Built1994", "HumanFootprint-dump-site"} <= names


def test_the_newer_version_of_a_table_wins_and_a_legacy_one_comes_last(tmp_path: Path) -> None:
    write_release(tmp_path, "geoplant26")
    values_folder = tmp_path / "EnvironmentalValues"
    write_text(
        values_folder / "SoilGrids/v1/PA-train-soilgrids.csv",
        "surveyId,Soilgrid-bdod,Soilgrid-phh2o\n1,99,50\n500,99,50\n",
    )
    columns = ",".join(f"Bio{n}" for n in range(1, 20))
    old = ",".join(["2600"] * 19)
    write_text(values_folder / "Climate/legacy/PA-train-bioclimatic-average.csv", f"surveyId,{columns}\n1,{old}\n")
    covariates = read_covariates(open_release(tmp_path), "train", IDS)
    assert same(values(covariates.table, "Soilgrid-bdod"), [122, nan, 120, 121])
    assert same(values(covariates.table, "Bio1"), [2702, nan, 2700, 2701])
    assert [fact.path for fact in covariates.facts if fact.group == "soil"] == [
        "EnvironmentalValues/SoilGrids/v2/PA-train-soilgrids.csv"
    ]


def test_a_table_that_several_tests_share_serves_each_of_them(tmp_path: Path) -> None:
    write_release(tmp_path, "geoplant26")
    folder = tmp_path / "EnvironmentalValues" / "Elevation"
    (folder / "PA-test-ood-elevation.csv").unlink()
    write_text(folder / "PA-test-elevation.csv", "surveyId,Elevation\n642,7\n1,8\n")
    release = open_release(tmp_path)
    assert values(read_covariates(release, "test_ood", pl.Series(["1", "642"])).table, "Elevation") == [8, 7]
    # the split's own table comes first, but what it lacks is taken from the shared one
    write_text(folder / "PA-test-iid-elevation.csv", "surveyId,Elevation\n642,9\n")
    assert values(read_covariates(release, "test_iid", pl.Series(["1", "642"])).table, "Elevation") == [8, 9]


def test_repeated_and_foreign_ids_are_counted_and_the_first_row_counts(tmp_path: Path) -> None:
    write_release(tmp_path, "glc24")
    path = tmp_path / STYLES["glc24"].covariates["elevation"].format("PA-train")
    write_text(path, "surveyId,Elevation\n1,5\n1,6\nNA,7\n,8\n642,9km\n")
    covariates = read_covariates(open_release(tmp_path), "train", IDS)
    assert same(values(covariates.table, "Elevation"), [nan, nan, 5, nan])
    fact = next(fact for fact in covariates.facts if fact.group == "elevation")
    assert (fact.num_rows, fact.num_found, fact.num_duplicates, fact.num_without_id) == (5, 2, 1, 2)
    assert fact.not_numbers == {"Elevation": 1}


def test_a_group_without_a_table_is_listed(tmp_path: Path) -> None:
    write_release(tmp_path, "glc24")
    for path in tmp_path.rglob("*soilgrids*"):
        path.unlink()
    covariates = read_covariates(open_release(tmp_path), "train", IDS)
    assert covariates.missing == ("soil",)
    assert "Soilgrid-bdod" not in covariates.table.columns


def test_glc23_has_no_covariates(tmp_path: Path) -> None:
    covariates = read_covariates(open_release(write_release(tmp_path, "glc23")), "po", np.array([1, 2]))
    assert covariates.table.columns == ["survey_id"] and len(covariates.table) == 2


def test_a_table_without_ids_is_an_error(tmp_path: Path) -> None:
    write_release(tmp_path, "glc24")
    path = tmp_path / STYLES["glc24"].covariates["elevation"].format("PA-train")
    write_text(path, "id,Elevation\n1,5\n")
    with pytest.raises(ReleaseError, match="no column of ids"):
        read_covariates(open_release(tmp_path), "train", IDS)
