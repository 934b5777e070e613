from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from releve.ingest.inventory import Finding, Inventory, Row, check_release, render_inventory
from releve.ingest.release import open_release

from .fakes import PA_COLUMNS, SHARED, STYLES, write_release, write_text, write_tiff


def row_of(inventory: Inventory, split: str, modality: str) -> Row:
    return next(row for row in inventory.rows if (row.split, row.modality) == (split, modality))


def finding_of(inventory: Inventory, split: str, modality: str, code: str) -> Finding:
    return next(finding for finding in row_of(inventory, split, modality).findings if finding.code == code)


def counts(row: Row) -> tuple[int, int, int, int]:
    return row.num_surveys, row.num_present, row.num_missing, row.num_corrupt


@pytest.mark.parametrize("style", STYLES)
def test_a_release_with_broken_rows_does_not_break_a_run(style: str, tmp_path: Path) -> None:
    inventory = check_release(open_release(write_release(tmp_path, style)))
    assert not inventory.breaks_run
    assert json.loads(json.dumps(inventory.to_dict()))["breaks_run"] is False
    assert {row.split for row in inventory.rows} == {"all", *STYLES[style].metadata}


def test_counts_add_up_for_each_modality(tmp_path: Path) -> None:
    inventory = check_release(open_release(write_release(tmp_path, "glc24")))
    for modality in ("bioclim", "soil", "landsat", "climate", "patch"):
        assert counts(row_of(inventory, "train", modality)) == (4, 3, 1, 0)
        assert counts(row_of(inventory, "test", modality)) == (2, 2, 0, 0)
    assert counts(row_of(inventory, "train", "elevation")) == (4, 1, 3, 0)


def test_findings_count_and_give_examples(tmp_path: Path) -> None:
    inventory = check_release(open_release(write_release(tmp_path, "glc24")))
    masked = finding_of(inventory, "train", "human_footprint", "masked")
    assert (masked.severity, masked.count) == ("warning", 2)
    assert "HumanFootprint-Built1994: 2" in masked.examples
    extra = finding_of(inventory, "train", "soil", "extra-rows")
    assert (extra.severity, extra.count) == ("note", 1)
    dropped = {f.message: f for f in row_of(inventory, "train", "surveys").findings if f.code == "dropped"}
    assert dropped["survey id used at another place"].examples == ("row 7",)
    assert dropped["duplicate survey-species pair"].examples == ("survey 1, species 10",)


def test_corrupt_files_are_found_and_named(tmp_path: Path) -> None:
    write_release(tmp_path, "glc25")
    tiff = tmp_path / "SatelitePatches/PA-train/42/6/642.tiff"
    tiff.write_bytes(tiff.read_bytes()[:500])
    (tmp_path / STYLES["glc25"].landsat_cube["train"].format(id=1)).write_bytes(b"PK")
    inventory = check_release(open_release(tmp_path))
    assert counts(row_of(inventory, "train", "patch")) == (4, 3, 1, 1)
    assert counts(row_of(inventory, "train", "landsat")) == (4, 3, 1, 1)
    assert "642.tiff" in finding_of(inventory, "train", "patch", "corrupt").examples[0]
    assert not inventory.breaks_run


def test_a_missing_modality_and_its_zip_are_said(tmp_path: Path) -> None:
    write_text(tmp_path / "GLC24-PA-metadata-train.csv", f"{PA_COLUMNS}\n10,50,2018,,,,,1,1\n")
    zips = {
        "patch": "SatellitePatches/PA_Train_SatellitePatches-RGB.zip",
        "landsat": "SatelliteTimeSeries/cubes/GLC24-PA-train-landsat-time-series.zip",
        "elevation": "EnvironmentalRasters/Elevation/GLC24-PA-train-elevation.zip",
    }
    for path in zips.values():
        write_text(tmp_path / path, "")
    inventory = check_release(open_release(tmp_path))
    for modality, path in zips.items():
        assert counts(row_of(inventory, "train", modality)) == (1, 0, 1, 0)
        assert f"found {path}: unpack it beside" == finding_of(inventory, "train", modality, "zipped").message
    assert finding_of(inventory, "train", "climate", "missing").severity == "warning"
    assert not inventory.breaks_run


def test_decoding_is_sampled_evenly_above_a_limit_and_said(tmp_path: Path) -> None:
    ids = range(10000, 10200)
    rows = "\n".join(f"10,50,2018,,,,,1,{i}" for i in ids)
    write_text(tmp_path / "GLC25_PA_metadata_train.csv", f"{PA_COLUMNS}\n{rows}\n")
    for i in ids:
        write_text(tmp_path / f"SatelitePatches/PA-train/{i % 100:02d}/{i // 100 % 100:02d}/{i}.tiff", "")
    write_tiff(tmp_path / "SatelitePatches/PA-train/00/00/10000.tiff", np.zeros((4, 64, 64), dtype=np.int16))
    release = open_release(tmp_path)
    inventory = check_release(release, max_files=128)
    sampled = finding_of(inventory, "train", "patch", "sampled")
    # chunks of 64: the first (64 surveys) and the last (200 - 3 x 64 = 8)
    assert sampled.count == 72 and "72 of 200" in sampled.message
    assert row_of(inventory, "train", "patch").num_corrupt == 71
    assert row_of(check_release(release), "train", "patch").num_corrupt == 199


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("57,10,2018,,,,,1,1\n50,9,2018,,,,,1,2", "exchanged"),
        ("10,95,2018,,,,,7,1", "no valid survey"),
    ],
)
def test_swapped_coordinates_and_no_survey_break_a_run(rows: str, message: str, tmp_path: Path) -> None:
    write_text(tmp_path / "GLC24_PA_metadata_train.csv", f"{PA_COLUMNS}\n{rows}\n")
    inventory = check_release(open_release(tmp_path))
    assert inventory.breaks_run
    assert any(message in finding.message for finding in row_of(inventory, "train", "surveys").findings)


def test_a_release_with_test_surveys_only_breaks_a_run(tmp_path: Path) -> None:
    write_text(tmp_path / "GLC24_PA_metadata_test.csv", "lon,lat,surveyId\n10,50,1\n")
    inventory = check_release(open_release(tmp_path))
    assert inventory.breaks_run
    assert finding_of(inventory, "all", "release", "no-training-split").severity == "error"
    assert finding_of(inventory, "all", "release", "split-absent").examples == ("train", "po")


def test_presence_only_records_alone_are_nothing_to_learn_from(tmp_path: Path) -> None:
    write_release(tmp_path, "glc23")
    (tmp_path / STYLES["glc23"].metadata["train"][0]).unlink()
    inventory = check_release(open_release(tmp_path))
    assert row_of(inventory, "po", "surveys").num_surveys and inventory.breaks_run
    finding = finding_of(inventory, "all", "release", "no-training-split")
    assert (finding.severity, finding.message) == ("error", "no labelled plots: split 'train' is not here")


def test_unreadable_tables_of_values_break_a_run(tmp_path: Path) -> None:
    write_release(tmp_path, "glc24-seafile")
    write_text(tmp_path / STYLES["glc24-seafile"].covariates["elevation"].format("PA-train"), "id,Elevation\n1,2\n")
    write_text(tmp_path / STYLES["glc24-seafile"].landsat_table.format("PA-train", band="red"), "id,2000_1\n1,2\n")
    inventory = check_release(open_release(tmp_path))
    assert inventory.breaks_run
    assert finding_of(inventory, "train", "covariates", "unreadable").severity == "error"
    assert finding_of(inventory, "train", "landsat", "unreadable").severity == "error"


def test_suspicious_places_species_units_channels_and_tables(tmp_path: Path) -> None:
    write_release(tmp_path, "glc24-seafile")
    write_text(
        tmp_path / "PresenceAbsenceSurveys/GLC24_PA_metadata_train.csv", f"{PA_COLUMNS}\n-84,10,,,,,,7627473,1\n"
    )
    columns = ",".join(f"Bio{n}" for n in range(1, 20))
    celsius = ",".join(["8.25"] * 19)
    path = tmp_path / STYLES["glc24-seafile"].covariates["bioclim"].format("PA-train")
    write_text(path, f"surveyId,{columns}\n1,{celsius}\n1,{celsius}\n,{celsius}\n")
    (tmp_path / STYLES["glc24-seafile"].landsat_table.format("PA-train", band="nir")).unlink()
    inventory = check_release(open_release(tmp_path))
    assert finding_of(inventory, "train", "surveys", "outside-extent").examples == ("survey 1",)
    assert finding_of(inventory, "train", "surveys", "species-id").examples == ("species 7627473",)
    assert finding_of(inventory, "train", "surveys", "no-year").count == 1
    assert "Bio1" in finding_of(inventory, "train", "bioclim", "other-units").examples
    assert finding_of(inventory, "train", "bioclim", "duplicate-ids").count == 1
    assert finding_of(inventory, "train", "bioclim", "no-ids").count == 1
    assert finding_of(inventory, "train", "landsat", "missing-channels").examples == ("nir",)
    assert finding_of(inventory, "all", "release", "several-tables").count == 2


def test_patches_with_a_part_missing_or_twice(tmp_path: Path) -> None:
    write_release(tmp_path, "glc24")
    nir = tmp_path / "PA_Train_SatellitePatches_NIR/pa_train_patches_nir"
    (nir / "42/6/642.jpeg").unlink()
    (nir / "01/00").mkdir(parents=True)
    (nir / "01/00/0001.jpeg").write_bytes((nir / "1/1.jpeg").read_bytes())
    inventory = check_release(open_release(tmp_path))
    assert finding_of(inventory, "train", "patch", "incomplete").examples == ("survey 642",)
    assert finding_of(inventory, "train", "patch", "duplicate-files").count == 1


def test_patches_without_near_infrared_are_said(tmp_path: Path) -> None:
    write_release(tmp_path, "glc24")
    for path in (tmp_path / "PA_Train_SatellitePatches_NIR").rglob("*.jpeg"):
        path.unlink()
    inventory = check_release(open_release(tmp_path))
    assert finding_of(inventory, "train", "patch", "missing-channels").examples == ("nir",)


def test_the_tables_for_people_hold_the_counts_and_the_verdict(tmp_path: Path) -> None:
    inventory = check_release(open_release(write_release(tmp_path / "[red]", "glc24")))
    console = Console(width=200, record=True, file=(tmp_path / "out.txt").open("w"))
    console.print(render_inventory(inventory))
    text = console.export_text()
    for part in ("GeoLifeCLEF 2024", "[red]", "human_footprint", "HumanFootprint-Railways: 2", "A run can start."):
        assert part in text


@pytest.mark.skipif(not (SHARED / "geoplant-mini").is_dir(), reason="the real samples are not here")
def test_what_is_known_of_the_real_sample_is_found() -> None:
    inventory = check_release(open_release(SHARED / "geoplant-mini"))
    assert not inventory.breaks_run
    assert counts(row_of(inventory, "train", "surveys")) == (3869, 3869, 0, 0)
    assert counts(row_of(inventory, "train", "bioclim")) == (3869, 3851, 18, 0)
    assert counts(row_of(inventory, "train", "patch")) == (3869, 18, 3851, 0)
    assert counts(row_of(inventory, "train", "landsat")) == (3869, 1, 3868, 0)
    assert counts(row_of(inventory, "train", "climate")) == (3869, 1, 3868, 0)
    assert counts(row_of(inventory, "test", "patch")) == (865, 0, 865, 0)
    masked = finding_of(inventory, "train", "human_footprint", "masked")
    assert masked.count == 518 and "HumanFootprint-Railways: 508" in masked.examples
    messages = {f.message: f.count for f in row_of(inventory, "train", "surveys").findings}
    assert messages["area infinite or not positive"] == 2782
    assert messages["duplicate survey-species pair"] == 76701 - 69947
