"""Our readers against others' (csv, PIL, rasterio, torch) on real files; skipped where the files are not."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import rasterio
import torch
from PIL import Image

from releve.ingest.covariates import read_covariates
from releve.ingest.cubes import series_source
from releve.ingest.patches import patch_source
from releve.ingest.release import Release, open_release
from releve.ingest.surveys import read_occurrences, read_surveys

from .fakes import BANDS, SHARED, labels_of

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="the real samples are not here")


def rows_of(path: Path, separator: str = ",") -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle, delimiter=separator))


def release_of(name: str) -> Release:
    return open_release(SHARED / name)


def test_geoplant_mini_surveys_equal_the_file() -> None:
    expected: dict[int, set[int]] = {}
    for row in rows_of(SHARED / "geoplant-mini/GLC24_PA_metadata_train.csv"):
        expected.setdefault(int(row["surveyId"]), set()).add(int(float(row["speciesId"])))
    surveys = read_surveys(release_of("geoplant-mini"), "train")
    found = {survey_id: set(species) for survey_id, species in labels_of(surveys).items()}
    assert found == expected
    assert surveys.table["survey_id"].to_list() == [str(i) for i in sorted(expected)]
    assert surveys.labels["species_id"].n_unique() == 2668
    assert surveys.dropped == {"duplicate survey-species pair": 76701 - 69947}
    assert surveys.noted == {"area infinite or not positive": 2782}
    assert surveys.table["area_m2"].drop_nulls().is_finite().all()


def test_geoplant_mini_test_surveys_have_no_labels() -> None:
    surveys = read_surveys(release_of("geoplant-mini"), "test")
    assert (len(surveys.table), len(surveys.labels)) == (865, 0)


@pytest.mark.parametrize("split", ["train", "test"])
def test_geoplant_mini_covariates_equal_the_files(split: str) -> None:
    release = release_of("geoplant-mini")
    ids = read_surveys(release, split).table["survey_id"]
    covariates = read_covariates(release, split, ids)
    num_masked: dict[str, int] = {}
    seen = set()
    for fact in covariates.facts:
        table = {int(row.pop("surveyId")): row for row in rows_of(release.root / fact.path)}
        for name in next(iter(table.values())):
            high = 50 if "HFP" in name else 10 if name.startswith("Human") else 1e5
            text = [table.get(int(i), {}).get(name, "") for i in ids]
            raw = np.array([float(value) if value else np.nan for value in text])
            bad = ~np.isnan(raw) & ~((raw >= 0) & (raw <= high))
            expected = np.where(bad, np.nan, raw).astype(np.float32)
            np.testing.assert_array_equal(covariates.table[name].to_numpy(), expected, err_msg=name)
            seen.add(name)
            if bad.any():
                num_masked[name] = int(bad.sum())
    assert len(seen) == 19 + 1 + 1 + 16 + 9
    assert covariates.masked == num_masked and len(num_masked) == 12
    assert covariates.masked_rows == {"human_footprint": {"train": 518, "test": 28}[split]}


def test_known_landsat_values_of_survey_1322301() -> None:
    release = release_of("geoplant-mini")
    table = read_surveys(release, "train").table
    source = series_source(release, "train", "landsat", table)
    assert source is not None
    (chunk,) = source.chunks()
    assert table["survey_id"][int(chunk.rows[0])] == "1322301"
    # band x quarter of the year 2000
    assert chunk.values[0, :, 0].tolist() == [
        [17, 12, 14, 13],
        [18, 17, 15, 15],
        [9, 9, 6, 6],
        [69, 71, 77, 73],
        [53, 54, 58, 51],
        [27, 24, 28, 23],
    ]


@pytest.mark.parametrize("name", ["geoplant-mini", "glc25-sample"])
@pytest.mark.parametrize(("modality", "axes"), [("landsat", (0, 2, 1)), ("climate", (0, 1, 2))])
def test_cubes_equal_what_torch_loads(name: str, modality: str, axes: tuple[int, int, int]) -> None:
    release = release_of(name)
    source = series_source(release, "train", modality, read_surveys(release, "train").table)
    assert source is not None and source.kind == "files"
    (chunk,) = source.chunks()
    word = {"landsat": "landsat", "climate": "bioclim"}[modality]
    (path,) = (p for p in (SHARED / name).rglob("*train*.pt") if word in p.name)
    expected = torch.load(path, weights_only=True).numpy().transpose(axes)
    np.testing.assert_array_equal(chunk.values[0], expected)
    assert chunk.counts == {} and chunk.problems == []


def test_jpeg_patches_equal_what_pil_decodes() -> None:
    release = release_of("geoplant-mini")
    table = read_surveys(release, "train").table
    source = patch_source(release, "train", table)
    assert source is not None and source.kind == "jpeg" and source.has.sum() == 18
    (chunk,) = source.chunks()
    for row, patch in zip(chunk.rows, chunk.values, strict=True):
        survey_id = str(table["survey_id"][int(row)])
        at = f"{survey_id[-2:]}/{survey_id[-4:-2]}/{survey_id}.jpeg"
        for part, bands in (("RGB", patch[:3]), ("NIR", patch[3])):
            folder = SHARED / f"geoplant-mini/PA_Train_SatellitePatches_{part}/pa_train_patches_{part.lower()}"
            pixels = np.asarray(Image.open(folder / at))
            np.testing.assert_array_equal(bands, np.moveaxis(pixels, -1, 0) if part == "RGB" else pixels)


@pytest.mark.parametrize("split", ["train", "test"])
def test_tiff_patches_equal_what_rasterio_reads(split: str) -> None:
    release = release_of("glc25-sample")
    source = patch_source(release, split, read_surveys(release, split).table)
    assert source is not None and source.kind == "tiff"
    (chunk,) = source.chunks()
    (path,) = (SHARED / f"glc25-sample/SatelitePatches/PA-{split}").rglob("*.tiff")
    with rasterio.open(path) as image:
        np.testing.assert_array_equal(chunk.values[0], image.read())
    assert (chunk.values.min(), chunk.values.max()) == (202, 5308)


def test_glc25_sample_splits_come_from_its_subset_column() -> None:
    release = release_of("glc25-sample")
    assert release.splits == ("train", "test")
    rows = rows_of(SHARED / "glc25-sample/metadata.csv")
    for split in release.splits:
        expected = {row["surveyId"] for row in rows if row["subset"] == split}
        surveys = read_surveys(release, split)
        assert set(surveys.table["survey_id"]) == expected
        assert {surveys.table["survey_id"][row] for row in surveys.labels["row"]} == expected


def test_glc23_presence_only_records_equal_the_file() -> None:
    release = release_of("glc23-po-sample")
    rows = rows_of(SHARED / "glc23-po-sample/Presence_only_occurrences/Presences_only_train_sample.csv", ";")
    table = read_occurrences(release, "po").table
    assert table["survey_id"].to_list() == [row["glcID"] for row in rows]
    assert table["species_id"].to_list() == [int(row["speciesId"]) for row in rows]
    assert table["publisher"].to_list() == [row["datasetName"] or None for row in rows]
    assert table["date"].cast(pl.String).to_list() == [row["date"] for row in rows]
    assert table["patch_id"].to_list() == [row["patchID"] for row in rows]


def test_glc23_series_and_patches_equal_the_files() -> None:
    release = release_of("glc23-po-sample")
    table = read_surveys(release, "po").table
    series, patches = series_source(release, "po", "landsat", table), patch_source(release, "po", table)
    assert series is not None and patches is not None
    assert series.has.all() and patches.has.all()
    values = np.concatenate([chunk.values for chunk in series.chunks(chunk_size=30)])
    for at, band in enumerate(BANDS):
        rows = rows_of(SHARED / f"glc23-po-sample/SatelliteTimeSeries/time_series_{band}.csv", ";")
        by_id = {row.pop("timeSerieID"): list(row.values()) for row in rows}
        expected = [[-1 if v == "eos" else int(v) for v in by_id[i]] for i in table["series_id"]]
        np.testing.assert_array_equal(values[:, at].reshape(100, -1), expected)
    chunk = next(patches.chunks(chunk_size=5))
    for row, patch in zip(chunk.rows, chunk.values, strict=True):
        (path,) = (SHARED / "glc23-po-sample/SatelliteImages/rgb").rglob(f"{table['patch_id'][int(row)]}.jpeg")
        np.testing.assert_array_equal(patch[:3], np.asarray(Image.open(path)).transpose(2, 0, 1))
