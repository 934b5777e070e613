from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pyproj import Transformer

from rasters.fakes import CENTRE, LAEA, write_raster
from releve.errors import RasterError
from releve.ingest.config import PatchConfig
from releve.rasters.patches import RasterPatches, raster_patches


def surveys(away_m: Sequence[tuple[float, float]]) -> pl.DataFrame:
    """Return places so many metres east and north of the centre of EPSG:3035."""
    x, y = (CENTRE[i] + np.array(away_m)[:, i] for i in (0, 1))
    lon, lat = Transformer.from_crs(LAEA, "EPSG:4326", always_xy=True).transform(x, y)
    return pl.DataFrame({"survey_id": [f"plot {i}" for i in range(len(lon))], "lon": lon, "lat": lat})


def image(path: Path, values: np.ndarray, cell: float = 10.0, **options: Any) -> Path:
    """Write a raster whose middle is the centre of EPSG:3035."""
    x, y = CENTRE
    height, width = values.shape[-2:]
    return write_raster(
        path, values, crs=LAEA, west=x - width * cell / 2, north=y + height * cell / 2, cell=cell, **options
    )


def patches(folder: Path, places: pl.DataFrame, file: Any = "image.tif", **facts: Any) -> RasterPatches:
    return raster_patches(PatchConfig(file=file, **facts), folder, "train", places)


def values_of(source: RasterPatches, chunk_size: int = 256) -> dict[int, np.ndarray]:
    return {
        int(row): patch
        for chunk in source.chunks(chunk_size)
        for row, patch in zip(chunk.rows, chunk.values, strict=True)
    }


def test_cells_as_large_as_pixels_are_cut_as_they_are(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (4, 60, 70)).astype("uint8")
    image(tmp_path / "image.tif", values)
    source = patches(tmp_path, surveys([(0, 0), (-100, 50), (500, 0)]), size_m=80.0, size_px=8)
    assert source.channel_names == ("red", "green", "blue", "nir") and source.shape == (4, 8, 8)
    assert (source.dtype, source.fill) == (np.int16, -32768) and source.modality == "patch"
    assert source.has.tolist() == [True, True, False]
    found = values_of(source)
    assert sorted(found) == [0, 1]
    np.testing.assert_array_equal(found[0], values[:, 26:34, 31:39])
    np.testing.assert_array_equal(found[1], values[:, 21:29, 21:29])


def test_what_lies_outside_or_has_no_data_is_the_fill(tmp_path: Path) -> None:
    values = np.full((20, 20), 7, "uint16")
    values[8:12, 8:12] = 9999
    image(tmp_path / "image.tif", values, nodata=9999)
    source = patches(tmp_path, surveys([(0, 0), (90, 0)]), size_m=80.0, size_px=8)
    assert (source.dtype, source.fill) == (np.uint16, 9999)
    found = values_of(source)
    expected = np.full((8, 8), 7)
    expected[2:6, 2:6] = 9999
    np.testing.assert_array_equal(found[0][0], expected)
    expected = np.full((8, 8), 7)
    expected[:, 5:] = 9999
    np.testing.assert_array_equal(found[1][0], expected)


def test_a_plane_stays_a_plane_at_any_size_of_cells(tmp_path: Path) -> None:
    for cell, size in ((10.0, 80), (3.0, 300), (37.0, 40)):
        at = (np.arange(size) + 0.5) * cell - size * cell / 2
        image(tmp_path / "image.tif", (at[None, :] - 2 * at[:, None]).astype("float32"), cell=cell)
        source = patches(tmp_path, surveys([(13.0, -21.0)]), size_m=320.0, size_px=16)
        assert (source.dtype, source.fill) == (np.float32, -(2.0**100)) and source.channel_names == ("red",)
        east = 13.0 + (np.arange(16) - 7.5) * 20
        south = 21.0 + (np.arange(16) - 7.5) * 20
        expected = east[None, :] - 2 * south[:, None]
        np.testing.assert_allclose(values_of(source)[0][0], expected, atol=0.01 if cell >= 20 else 0.1)


def test_patches_of_a_raster_in_degrees_are_as_large_on_the_ground(tmp_path: Path) -> None:
    """East of 10, 52: a pixel of 80 m is 80 / 68,678 degrees of longitude and 80 / 111,267 of latitude."""
    lon = 9.9 + (np.arange(400) + 0.5) * 0.0005
    lat = 52.1 - (np.arange(400) + 0.5) * 0.0005
    grid = np.stack([np.tile(lon, (400, 1)), np.tile(lat[:, None], (1, 400))])
    write_raster(
        tmp_path / "image.tif", ((grid - [[[10]], [[52]]]) * 1000).astype("float32"), west=9.9, north=52.1, cell=0.0005
    )
    places = pl.DataFrame({"survey_id": ["a"], "lon": [10.0], "lat": [52.0]})
    patch = values_of(patches(tmp_path, places, size_m=1280.0, size_px=16))[0]
    offset = (np.arange(16) - 7.5) * 80
    np.testing.assert_allclose(patch[0], np.tile(offset / 68.678, (16, 1)), atol=0.03)
    np.testing.assert_allclose(patch[1], np.tile(-offset[:, None] / 111.267, (1, 16)), atol=0.03)


def test_larger_pixels_are_means_and_not_single_cells(tmp_path: Path) -> None:
    values = np.indices((128, 128)).sum(0) % 2 * 100.0
    image(tmp_path / "image.tif", values.astype("float32"), cell=5.0)
    patch = values_of(patches(tmp_path, surveys([(0, 0)]), size_m=320.0, size_px=8))[0]
    np.testing.assert_allclose(patch, 50.0, atol=1.0)


def test_bands_of_several_files_follow_one_another_and_are_named(tmp_path: Path) -> None:
    image(tmp_path / "rgb.tif", np.stack([np.full((40, 40), value) for value in (1, 2, 3)]).astype("uint8"))
    image(tmp_path / "nir.tif", np.full((80, 80), 400, "uint16"), cell=5.0)
    facts = {"size_m": 80.0, "size_px": 8}
    source = patches(tmp_path, surveys([(0, 0)]), ("rgb.tif", "nir.tif"), **facts)
    assert source.channel_names == ("red", "green", "blue", "nir") and source.dtype == np.int32
    assert values_of(source)[0][:, 3, 3].tolist() == [1, 2, 3, 400]
    one = patches(tmp_path, surveys([(0, 0)]), "rgb.tif", bands=(3,), names=("b",), **facts)
    assert one.channel_names == ("b",) and values_of(one)[0][0, 0, 0] == 3
    with pytest.raises(RasterError, match="3 bands and names holds 1"):
        patches(tmp_path, surveys([(0, 0)]), "rgb.tif", names=("b",), **facts)


def test_a_survey_without_any_data_is_left_out_with_a_problem(tmp_path: Path) -> None:
    values = np.ones((40, 40), "float32")
    values[:, :20] = np.nan
    image(tmp_path / "image.tif", values)
    (chunk,) = patches(tmp_path, surveys([(-150, 0), (150, 0)]), size_m=80.0, size_px=8).chunks()
    assert chunk.rows.tolist() == [1] and chunk.values.shape == (1, 1, 8, 8)
    (problem,) = chunk.problems
    assert (problem.survey_id, problem.split, problem.modality) == ("plot 0", "train", "patch")
    assert "image.tif" in problem.path


def test_chunks_hold_neighbours_and_are_the_same_in_another_process(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    values = rng.integers(1, 200, (2, 300, 300)).astype("uint8")
    image(tmp_path / "image.tif", values, tiled=True, blockxsize=64, blockysize=64)
    places = surveys(rng.uniform(-1600, 1600, (200, 2)).tolist())
    source = patches(tmp_path, places, size_m=160.0, size_px=16)
    assert sorted(source.rows.tolist()) == np.flatnonzero(source.has).tolist()
    assert source.num_chunks(16) == -(-len(source.rows) // 16)
    whole, other = values_of(source), values_of(pickle.loads(pickle.dumps(source)), chunk_size=16)
    assert list(whole) == source.rows[np.argsort(source.rows)].tolist() and set(other) == set(whole)
    assert all((whole[row] == other[row]).all() for row in whole)
    for chunk in source.chunks(16):
        assert (np.diff(chunk.rows) > 0).all()
    first = next(source.chunks(16))
    height = places["lat"].to_numpy()[first.rows]
    assert np.ptp(height) < 0.1 * np.ptp(places["lat"].to_numpy()) + 0.01
