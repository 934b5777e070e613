from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from releve.errors import ReleveError
from releve.predict.maps.geotiff import image_writer
from releve.predict.maps.grid import tiles_of
from releve.rasters.grid import Grid

GRID = Grid("EPSG:3035", (100.0, 0.0, 4_000_000.0, 0.0, -100.0, 3_000_000.0), 1_300, 1_100, 256, 256)


def write(file: Path, bands: NDArray, *, nodata: float, resampling: str = "average", skip: int = -1) -> None:
    """Write (bands, H, W) numbers tile by tile, but for one tile."""
    names = [f"band {number}" for number in range(len(bands))]
    facts = {"nodata": nodata, "resampling": resampling, "tags": {"unit": "species", "reading": "How many há."}}
    with image_writer(file, GRID, bands.dtype.name, names, **facts) as writer:  # type: ignore[arg-type]
        for number, tile in enumerate(tiles_of(GRID)):
            if number == skip:
                continue
            at = slice(tile.row, tile.row + tile.height), slice(tile.column, tile.column + tile.width)
            for band, values in enumerate(bands, 1):
                writer.write(tile, band, values[at].ravel())


def numbers(dtype: str, nodata: float) -> NDArray:
    values = np.random.default_rng(0).integers(0, 200, (2, GRID.height, GRID.width)).astype(dtype)
    values[:, :400, :300] = nodata
    return values


@pytest.mark.parametrize(("dtype", "nodata"), [("float32", np.nan), ("uint16", 65535), ("int32", -1), ("uint8", 255)])
def test_an_image_is_cloud_optimised_and_holds_what_was_written(dtype: str, nodata: float, tmp_path: Path) -> None:
    file, bands = tmp_path / "a map.tif", numbers(dtype, nodata)
    write(file, bands, nodata=nodata, resampling="average" if dtype == "float32" else "mode")
    with rasterio.open(file) as image:
        assert image.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert image.profile["tiled"] and image.block_shapes == [(512, 512)] * 2
        assert all(image.overviews(band) == [2, 4] for band in (1, 2))
        assert image.compression.name == "deflate"
        assert (image.crs, image.transform) == (rasterio.CRS.from_epsg(3035), GRID.affine)
        assert image.nodata == nodata or (np.isnan(image.nodata) and np.isnan(nodata))
        assert image.descriptions == ("band 0", "band 1")
        assert (image.tags()["unit"], image.tags()["reading"]) == ("species", "How many há.")
        np.testing.assert_array_equal(image.read(), bands)
        small = image.read(1, out_shape=(325, 275))
        assert np.isnan(small[:80, :60]).all() if dtype == "float32" else (small[:80, :60] == nodata).all()
    assert [each.name for each in tmp_path.iterdir()] == ["a map.tif"]


def test_overviews_are_means_of_the_cells_with_a_value_or_one_of_the_codes(tmp_path: Path) -> None:
    bands = np.zeros((1, GRID.height, GRID.width), np.float32)
    bands[0, ::2] = 10
    bands[0, :, ::2] = np.nan
    write(tmp_path / "mean.tif", bands, nodata=np.nan)
    with rasterio.open(tmp_path / "mean.tif", overview_level=0) as image:
        assert (image.read(1) == 5).all()
    codes = np.full((1, GRID.height, GRID.width), 7, np.uint16)
    codes[0, ::2, ::2] = 90
    write(tmp_path / "codes.tif", codes, nodata=65535, resampling="mode")
    with rasterio.open(tmp_path / "codes.tif", overview_level=0) as image:
        assert (image.read(1) == 7).all()


def test_a_tile_that_is_not_written_has_no_value(tmp_path: Path) -> None:
    bands = np.ones((1, GRID.height, GRID.width), np.float32)
    write(tmp_path / "part.tif", bands, nodata=np.nan, skip=0)
    with rasterio.open(tmp_path / "part.tif") as image:
        assert np.isnan(image.read(1)).sum() == 256 * 256 and np.isnan(image.read(1)[:256, :256]).all()


def test_the_same_numbers_make_the_same_bytes(tmp_path: Path) -> None:
    bands = numbers("float32", np.nan)
    for name in ("one.tif", "two.tif"):
        write(tmp_path / name, bands, nodata=np.nan)
    assert (tmp_path / "one.tif").read_bytes() == (tmp_path / "two.tif").read_bytes()


def test_nothing_is_left_of_an_image_that_was_interrupted_and_an_earlier_one_stays(tmp_path: Path) -> None:
    file, facts = tmp_path / "a.tif", {"nodata": -1.0, "resampling": "mode", "tags": {}}
    file.write_text("earlier")
    with pytest.raises(KeyboardInterrupt), image_writer(file, GRID, "int32", ["codes"], **facts):  # type: ignore[arg-type]
        raise KeyboardInterrupt
    assert [each.name for each in tmp_path.iterdir()] == ["a.tif"] and file.read_text() == "earlier"


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ReleveError, match=r"a\.tif cannot be written"):
        write(tmp_path / "absent" / "a.tif", numbers("uint8", 255), nodata=255)
