"""Plots that cannot be where they say are left out by reason, as records are; those of another continent are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from releve.errors import ReleaseError
from releve.ingest.release import open_release
from releve.ingest.rows import AT_ZERO, EQUAL, NO_NUMBER, SWAPPED
from releve.ingest.surveys import Surveys, read_surveys
from releve.store.config import DataConfig
from releve.store.contents import read_contents

from .fakes import PA_COLUMNS, SHARED, write_text

CASES = SHARED.parent / "cases"


def read(root: Path, places: list[str], country: str = "France", split: str = "train") -> Surveys:
    """Return the plots of these places, two species each."""
    rows = [f"{place},2019,10,100,,{country},{s},{i}" for i, place in enumerate(places) for s in (11, 12)]
    header = PA_COLUMNS
    if split == "test":
        header, rows = PA_COLUMNS.replace("speciesId,", ""), [row.replace(",11,", ",") for row in rows[::2]]
    write_text(root / f"GLC24_PA_metadata_{split}.csv", "\n".join([header, *rows]) + "\n")
    return read_surveys(open_release(root), split)


def test_zero_equal_and_exchanged_places_are_left_out_and_counted(tmp_path: Path) -> None:
    surveys = read(tmp_path, ["2.35,48.85", "0,0", "47.5,47.5", "45.31,2.85", "3.1,45.5", "3.2,45.6", "3.3,45.7"])
    assert surveys.table["survey_id"].to_list() == ["0", "4", "5", "6"]
    assert surveys.dropped == {AT_ZERO: 1, EQUAL: 1, SWAPPED: 1}
    assert surveys.examples[SWAPPED] == ("plot 3: lon 45.31, lat 2.85",)
    assert sorted(surveys.labels["species_id"].to_list()) == [11] * 4 + [12] * 4


def test_places_that_are_to_be_predicted_are_kept_whatever_they_are(tmp_path: Path) -> None:
    surveys = read(tmp_path, ["2.35,48.85", "0,0", "45.31,2.85"], split="test")
    assert surveys.table["survey_id"].to_list() == ["0", "1", "2"] and surveys.dropped == {}


def test_degrees_and_minutes_are_read_and_other_text_is_no_number(tmp_path: Path) -> None:
    quoted = ['"2°21\'36""E","48°51\'N"', "2.5,48.5", '"2,5",48.5', "2.6E,48.6N", "2.6N,48.6E"]
    surveys = read(tmp_path, quoted)
    assert surveys.table.select("lon", "lat").rows() == [
        (pytest.approx(2.36), pytest.approx(48.85)), (2.5, 48.5), (2.6, 48.6),
    ]  # fmt: skip
    assert surveys.dropped == {NO_NUMBER["lon"]: 4}
    assert surveys.examples[NO_NUMBER["lon"]][0] == "row 5: 2,5"


def test_a_study_of_another_continent_is_kept_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = ["43.1,31.1", "44.1,32.1", "46.0,33.0"]
    for country in ("Iraq", ""):
        assert len(read(tmp_path, places, country).table) == 3
    read_contents(open_release(tmp_path), DataConfig(modalities=()))
    said = capsys.readouterr().err
    assert "train: 3 of 3 plots lie outside the extent of GeoLifeCLEF 2024 (lon -32.26 to 35.59" in said


def test_a_table_that_is_exchanged_as_a_whole_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="6 of 6 places.*'lon' and 'lat' are exchanged.*Exchange the two"):
        read(tmp_path, ["48.85,2.35", "45.5,3.1", "45.6,3.2"])
    with pytest.raises(ReleaseError, match="6 of 6 places"):
        read(tmp_path, ["48.85,2.35", "45.5,3.1", "45.6,3.2"], country="")


@pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not here")
def test_shared_plots_are_left_out_by_reason_or_read() -> None:
    def plots(name: str) -> Surveys:
        return read_surveys(open_release(CASES / name), "train")

    swapped = plots("09-plot-coordinates/b-eight-swapped")
    assert len(swapped.table) == 12 and swapped.dropped == {SWAPPED: 8} and swapped.table["lat"].min() > 45
    zero = plots("09-plot-coordinates/c-five-at-zero")
    assert len(zero.table) == 15 and zero.dropped == {AT_ZERO: 5}
    degrees = plots("09-plot-coordinates/e-dms")
    assert len(degrees.table) == 20 and degrees.dropped == {}
    assert degrees.table.select("lon", "lat").row(0) == pytest.approx((2.35111, 44.91222), abs=1e-5)
    iraq = plots("20-outside-europe/a-plots-iraq")
    assert len(iraq.table) == 40 and iraq.dropped == {}
