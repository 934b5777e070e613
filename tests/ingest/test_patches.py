from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image

from releve.errors import ConfigError, ReleaseError
from releve.ingest.patches import PatchSource, decode_patch, patch_source, read_patch_chunk
from releve.ingest.release import open_release
from releve.ingest.surveys import read_surveys

from .fakes import STYLES, tiff_array, write_jpeg, write_release, write_tiff


def source_of(root: Path, split: str = "train", **options: Any) -> PatchSource:
    release = open_release(root)
    source = patch_source(release, split, read_surveys(release, split).table, **options)
    assert source is not None
    return source


def jpeg_path(root: Path, path: str, part: str = "rgb") -> Path:
    style = STYLES["glc24"]
    return root / (style.rgb if part == "rgb" else style.nir)["train"].format(path=path)


def tiff_path(root: Path, path: str) -> Path:
    return root / STYLES["glc25"].tiff["train"].format(path=path)


@pytest.mark.parametrize("style", ["glc24", "glc24-seafile"])
def test_jpeg_patches_are_red_green_blue_and_near_infrared(style: str, tmp_path: Path) -> None:
    write_release(tmp_path, style)
    source = source_of(tmp_path)
    assert (source.kind, source.shape, source.dtype, source.fill) == ("jpeg", (4, 128, 128), np.uint8, None)
    assert source.channel_names == ("red", "green", "blue", "nir")
    assert source.has.tolist() == [True, False, True, True]
    (chunk,) = source.chunks()
    assert chunk.rows.tolist() == [0, 2, 3] and chunk.values.dtype == np.uint8
    rgb, nir = (np.asarray(Image.open(tmp_path / path)) for path in source.paths(2))
    np.testing.assert_array_equal(chunk.values[1], np.concatenate([rgb.transpose(2, 0, 1), nir[None]]))


def test_tiff_patches_keep_the_fill(tmp_path: Path) -> None:
    write_release(tmp_path, "glc25")
    source = source_of(tmp_path)
    assert (source.kind, source.shape, source.dtype, source.fill) == ("tiff", (4, 64, 64), np.int16, -1)
    (chunk,) = source.chunks()
    for patch, survey_id in zip(chunk.values, (1, 642, 3018575), strict=True):
        np.testing.assert_array_equal(patch, tiff_array(survey_id))
    assert (chunk.values == -1).sum() == 3


def test_bands_are_put_in_the_official_order_and_other_nodata_becomes_the_fill(tmp_path: Path) -> None:
    write_release(tmp_path, "glc25")
    path = tiff_path(tmp_path, "42/6/642")
    values = tiff_array(642)
    write_tiff(path, values[[3, 2, 1, 0]], order=("nir", "blue", "green", "red"))
    with rasterio.open(path, "r+") as image:
        image.nodata = 9
    expected = np.where(values == 9, -1, values)
    np.testing.assert_array_equal(source_of(tmp_path).chunks(4).__next__().values[1], expected)


@pytest.mark.parametrize("names", [("B8", "B02", "B03", "B04"), ("NIR", "Blue", "Green", "Red")])
def test_bands_with_other_names_for_their_colours_are_not_taken_in_file_order(names: tuple, tmp_path: Path) -> None:
    write_release(tmp_path, "glc25")
    values = tiff_array(642)
    write_tiff(tiff_path(tmp_path, "42/6/642"), values[[3, 2, 1, 0]], order=names)
    np.testing.assert_array_equal(next(source_of(tmp_path).chunks(4)).values[1], values)


def test_bands_of_another_kind_cost_the_survey_its_patch(tmp_path: Path) -> None:
    write_release(tmp_path, "glc25")
    write_tiff(tiff_path(tmp_path, "42/6/642"), tiff_array(642), order=("B5", "B6", "B7", "B8A"))
    chunk = next(source_of(tmp_path).chunks(4))
    (problem,) = chunk.problems
    assert problem.survey_id == "642" and "bands named ['B5', 'B6', 'B7', 'B8A']" in problem.what


@pytest.mark.parametrize(("style", "num_files"), [("glc24", 2), ("glc25", 1)])
def test_bytes_are_those_of_the_files_and_decode_to_the_chunk(style: str, num_files: int, tmp_path: Path) -> None:
    source = source_of(write_release(tmp_path, style))
    blobs = source.read_bytes(3)
    assert blobs == tuple((tmp_path / path).read_bytes() for path in source.paths(3)) and len(blobs) == num_files
    (chunk,) = source.chunks()
    np.testing.assert_array_equal(decode_patch(source.kind, blobs), chunk.values[2])


def test_chunks_resume_and_can_be_read_in_another_process(tmp_path: Path) -> None:
    source = source_of(write_release(tmp_path, "glc25"))
    assert source.num_chunks(1) == 3
    (chunk,) = source.chunks(chunk_size=1, start=2)
    other = read_patch_chunk(pickle.loads(pickle.dumps(source)), 2, 1)
    assert other.rows.tolist() == chunk.rows.tolist() == [3]
    np.testing.assert_array_equal(other.values, chunk.values)


def test_without_near_infrared_there_are_three_channels(tmp_path: Path) -> None:
    write_release(tmp_path, "glc24")
    for path in (tmp_path / "PA_Train_SatellitePatches_NIR").rglob("*.jpeg"):
        path.unlink()
    source = source_of(tmp_path)
    assert source.shape == (3, 128, 128) and source.channel_names == ("red", "green", "blue")
    assert len(source.read_bytes(0)) == 1
    assert next(source.chunks()).values.shape == (3, 3, 128, 128)


def test_a_survey_without_one_of_its_files_has_no_patch(tmp_path: Path) -> None:
    write_release(tmp_path, "glc24")
    jpeg_path(tmp_path, "42/6/642", "nir").unlink()
    assert source_of(tmp_path).has.tolist() == [True, False, False, True]


def rewrite(path: Path, size: tuple[int, int], mode: str, form: str = "JPEG") -> None:
    Image.new(mode, size).save(path, format=form)


BROKEN_JPEGS = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-300]),
    "header": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("<html>404</html>"),
    "size": lambda path: rewrite(path, (64, 64), "RGB"),
    "mode": lambda path: rewrite(path, (128, 128), "L"),
    "png": lambda path: rewrite(path, (128, 128), "RGB", "PNG"),
}


@pytest.mark.parametrize("how", BROKEN_JPEGS)
def test_a_broken_jpeg_costs_one_survey_and_says_which_file(how: str, tmp_path: Path) -> None:
    write_release(tmp_path, "glc24")
    path = jpeg_path(tmp_path, "42/6/642")
    BROKEN_JPEGS[how](path)
    (chunk,) = source_of(tmp_path).chunks()
    assert chunk.rows.tolist() == [0, 3]
    (problem,) = chunk.problems
    assert problem.survey_id == "642" and problem.modality == "patch"
    assert path.relative_to(tmp_path).as_posix() in problem.path
    assert "expected a JPEG of 128 x 128 pixels in mode RGB" in problem.what


BROKEN_TIFFS = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:2000]),
    "header": lambda path: path.write_bytes(path.read_bytes()[:6]),
    "empty": lambda path: path.write_bytes(b""),
    "jpeg": lambda path: write_jpeg(path.with_suffix(".jpeg"), 1, "L") or path.with_suffix(".jpeg").rename(path),
    "size": lambda path: write_tiff(path, np.zeros((4, 32, 64), dtype=np.int16)),
    "bands": lambda path: write_tiff(path, np.zeros((3, 64, 64), dtype=np.int16)),
    "dtype": lambda path: write_tiff(path, np.zeros((4, 64, 64), dtype=np.float32)),
}


@pytest.mark.parametrize("how", BROKEN_TIFFS)
def test_a_broken_tiff_costs_one_survey_and_says_which_file(how: str, tmp_path: Path) -> None:
    write_release(tmp_path, "glc25")
    path = tiff_path(tmp_path, "42/6/642")
    BROKEN_TIFFS[how](path)
    (chunk,) = source_of(tmp_path).chunks()
    assert chunk.rows.tolist() == [0, 3]
    (problem,) = chunk.problems
    assert problem.path == path.relative_to(tmp_path).as_posix()
    assert "expected a TIFF of 4 int16 bands, 64 x 64 pixels" in problem.what


def test_a_file_that_vanished_is_a_problem_not_a_crash(tmp_path: Path) -> None:
    source = source_of(write_release(tmp_path, "glc25"))
    tiff_path(tmp_path, "42/6/642").unlink()
    (chunk,) = source.chunks()
    assert chunk.problems[0].survey_id == "642" and "cannot be read" in chunk.problems[0].what


def test_a_chunk_where_every_file_is_broken_is_empty(tmp_path: Path) -> None:
    write_release(tmp_path, "glc25")
    for path in (tmp_path / "SatelitePatches").rglob("*.tiff"):
        path.write_bytes(b"II*")
    (chunk,) = source_of(tmp_path).chunks()
    assert chunk.values.shape == (0, 4, 64, 64) and chunk.values.dtype == np.int16 and len(chunk.problems) == 3


def test_a_kind_can_be_asked_for_and_an_unknown_one_is_an_error(tmp_path: Path) -> None:
    write_release(tmp_path, "glc24")
    write_tiff(tmp_path / "SatellitePatches/PA-train/42/6/642.tiff", tiff_array(642))
    assert source_of(tmp_path).kind == "jpeg"
    assert source_of(tmp_path, kind="tiff").has.tolist() == [False, False, True, False]
    with pytest.raises(ConfigError, match="unknown kind of patch 'png'"):
        source_of(tmp_path, kind="png")
    with pytest.raises(ConfigError, match="unknown kind of patch 'png'"):
        decode_patch("png", (b"",))


def test_a_release_without_patches_has_none(tmp_path: Path) -> None:
    release = open_release(write_release(tmp_path, "geoplant26"))
    assert patch_source(release, "test_iid", read_surveys(release, "test_iid").table) is None


def test_a_jpeg_that_announces_a_huge_image_is_refused_before_it_is_decoded() -> None:
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "JPEG")
    blob = bytearray(buffer.getvalue())
    at = blob.index(b"\xff\xc0")
    blob[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    with pytest.raises(ReleaseError, match="expected a JPEG of 128 x 128"):
        decode_patch("jpeg", (bytes(blob),))
