from __future__ import annotations

import os
from pathlib import Path

import pytest

from releve.errors import ReleaseError
from releve.ingest.files import index_files
from releve.ingest.release import open_release
from releve.ingest.surveys import read_surveys

from .fakes import STYLES, write_release, write_text


@pytest.mark.parametrize("style", STYLES)
def test_each_style_is_recognised_with_its_splits(style: str, tmp_path: Path) -> None:
    release = open_release(write_release(tmp_path, style))
    assert release.layout == style.removesuffix("-seafile")
    assert set(release.splits) == set(STYLES[style].metadata)
    metadata = {path for path, _ in STYLES[style].metadata.values()}
    assert metadata <= {path.relative_to(tmp_path).as_posix() for path in release.files}


def test_files_hold_every_table_that_is_used(tmp_path: Path) -> None:
    release = open_release(write_release(tmp_path, "glc24-seafile"))
    # 3 metadata + (5 covariates + 6 bands + 1 climate) x 3 splits
    assert len(release.files) == 3 + 12 * 3
    assert all(path.is_file() for path in release.files)


@pytest.mark.parametrize("name", ["glc24_pa-METADATA_train.CSV", "GLC24-PA metadata-train.csv"])
def test_spelling_of_names_does_not_matter(name: str, tmp_path: Path) -> None:
    write_release(tmp_path, "glc24")
    (tmp_path / "GLC24_PA_metadata_train.csv").rename(tmp_path / name)
    assert "train" in open_release(tmp_path).splits


def test_po_may_be_written_with_a_zero_or_an_o(tmp_path: Path) -> None:
    write_release(tmp_path, "glc25")
    (tmp_path / "GLC25_P0_metadata_train.csv").rename(tmp_path / "GLC25_PO_metadata_train.csv")
    assert "po" in open_release(tmp_path).splits


def test_undoubled_kaggle_folders_are_found(tmp_path: Path) -> None:
    write_release(tmp_path, "glc24")
    before = open_release(tmp_path).files
    (tmp_path / "EnvironmentalRasters").rename(tmp_path / "x")
    (tmp_path / "x" / "EnvironmentalRasters").rename(tmp_path / "EnvironmentalRasters")
    assert len(open_release(tmp_path).files) == len(before)


def test_no_such_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="nowhere does not exist"):
        open_release(tmp_path / "nowhere")
    write_text(tmp_path / "file.csv", "a\n")
    with pytest.raises(ReleaseError, match="is a file"):
        open_release(tmp_path / "file.csv")


def test_folder_of_something_else_says_what_was_found_and_looked_for(tmp_path: Path) -> None:
    write_text(tmp_path / "butterflies.csv", "a,b\n1,2\n")
    with pytest.raises(ReleaseError, match="butterflies.csv.*glc24-pa-metadata-train.csv"):
        open_release(tmp_path)
    write_text(tmp_path / "metadata.csv", "id,subset_name\n1,2\n")
    with pytest.raises(ReleaseError, match="not a known release"):
        open_release(tmp_path)


def test_several_releases_in_one_folder_are_an_error(tmp_path: Path) -> None:
    write_release(tmp_path / "a", "glc24")
    write_release(tmp_path / "b", "glc23")
    with pytest.raises(ReleaseError, match="several releases"):
        open_release(tmp_path)


def test_unknown_split_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"no split 'val'.*\['train', 'test', 'po'\]"):
        read_surveys(open_release(write_release(tmp_path, "glc24")), "val")


def test_survey_files_are_found_by_listing_folders_not_by_asking_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = open_release(write_release(tmp_path, "glc24"))
    listed: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(str(path)) or scandir(path))
    monkeypatch.setattr(os, "stat", lambda *_, **__: pytest.fail("a survey's file was asked for"))
    pattern = release.pattern("train", release.rules.patches[0].parts[0][0])
    index = index_files(tmp_path, release.tree, pattern)
    assert index.ids.tolist() == [1, 642, 3018575]
    assert len(listed) == len(set(listed))


def test_padded_and_unpadded_paths_lead_to_the_same_survey(tmp_path: Path) -> None:
    write_text(tmp_path / "GLC25_PA_metadata_train.csv", "lon,lat,speciesId,surveyId\n1,50,1,642\n")
    for path in ("42/6/642", "01/00/0001", "7/7", "x/00/00/10000"):
        write_text(tmp_path / f"SatelitePatches/PA-train/{path}.tiff", "")
    write_text(tmp_path / "SatelitePatches/PA-test/11/11/1111.tiff", "")
    release = open_release(tmp_path)
    index = index_files(tmp_path, release.tree, release.pattern("train", release.rules.patches[0].parts[0][0]))
    assert index.ids.tolist() == [1, 7, 642, 10000]
    paths = [index.path(at) for at in range(4)]
    assert paths[0] == "SatelitePatches/PA-train/01/00/0001.tiff"
    assert all((tmp_path / path).is_file() for path in paths)
    assert index.positions([642, 5, 1]).tolist() == [2, -1, 0]


def test_train_and_test_cubes_unpacked_into_one_folder_are_told_apart(tmp_path: Path) -> None:
    write_text(tmp_path / "GLC24_PA_metadata_train.csv", "lon,lat,speciesId,surveyId\n1,50,1,642\n")
    for name in (
        "GLC24-PA-train-landsat-time-series_5_cube.pt",
        "GLC24-PA-test-landsat_time_series_6_cube.pt",
    ):
        write_text(tmp_path / "cubes" / name, "")
    release = open_release(tmp_path)
    index = index_files(tmp_path, release.tree, release.pattern("train", release.rules.series[0].files))
    assert index.ids.tolist() == [5]
