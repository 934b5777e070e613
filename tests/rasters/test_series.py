from __future__ import annotations

import itertools
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import rasterio
import rasterio.shutil

from rasters.fakes import write_raster
from releve.errors import RasterError
from releve.ingest.config import RasterConfig, SeriesConfig
from releve.rasters.layers import open_layers
from releve.rasters.sample import sample_layers
from releve.rasters.series import RasterSeries, raster_series

PLACES = pl.DataFrame({"survey_id": ["a", "b", "far"], "lon": [10.5, 12.5, 50.0], "lat": [51.5, 50.5, 51.5]})
"""On the first cell, the last cell and outside of rasters of 2 x 3 degrees at 10 east, 52 north."""
CELL = np.arange(6).reshape(2, 3)


def series(folder: Path, file: Any, **facts: Any) -> RasterSeries:
    given = {"modality": "landsat", "channels": ("red",), "first_year": 2000, "last_year": 2001}
    return raster_series(SeriesConfig(file=file, **(given | facts)), folder, "train", PLACES)


def only_chunk(source: RasterSeries) -> dict[int, np.ndarray]:
    (chunk,) = source.chunks()
    return dict(zip(chunk.rows.tolist(), chunk.values, strict=True))


@pytest.mark.parametrize("name", ["{channel}_{year}_{season}.tif", "{year}/Q{season:02d} {channel}.tif"])
def test_dated_rasters_are_series_and_a_missing_one_is_the_fill(tmp_path: Path, name: str) -> None:
    for c, year, q in itertools.product((0, 1), (1999, 2000, 2001), (1, 2, 3, 4)):
        value = CELL + 1000 * c + 100 * (year - 2000) + 10 * q
        if (c, year, q) != (1, 2001, 3):
            file = name.format(channel=("red", "nir")[c], year=year, season=q)
            write_raster(tmp_path / file, value.astype("int16"), nodata=-1)
    source = series(tmp_path, name, channels=("red", "nir"))
    assert source.shape == (2, 2, 4) and source.channel_names == ("red", "nir") and source.first_year == 2000
    assert (source.dtype, source.fill, source.seasons_per_year) == (np.int16, -1, 4)
    assert source.has.tolist() == [True, True, False]
    found = only_chunk(pickle.loads(pickle.dumps(source)))
    expected = np.array([[[10, 20, 30, 40], [110, 120, 130, 140]], [[1010, 1020, 1030, 1040], [1110, 1120, -1, 1140]]])
    np.testing.assert_array_equal(found[0], expected)
    np.testing.assert_array_equal(found[1], np.where(expected < 0, -1, expected + 5))


def test_numbers_of_seasons_may_have_two_digits_in_the_names_of_files(tmp_path: Path) -> None:
    for month in range(1, 13):
        write_raster(tmp_path / f"tas_2000_{month:02d}.tif", (CELL + 10 * month).astype("float32"))
    facts = {"modality": "climate", "channels": ("tas",), "last_year": 2000}
    source = series(tmp_path, "{channel}_{year}_{season}.tif", **facts)
    assert source.shape == (1, 1, 12) and (source.dtype, source.fill) == (np.float32, -(2.0**100))
    assert only_chunk(source)[0].ravel().tolist() == [10.0 * month for month in range(1, 13)]


def test_what_names_do_not_say_is_told_by_the_order_of_the_bands(tmp_path: Path) -> None:
    value = np.arange(16)[:, None, None] * 10 + CELL
    write_raster(tmp_path / "all.tif", value.astype("int32"))
    both = series(tmp_path, "all.tif", channels=("red", "nir"))
    assert only_chunk(both)[0].ravel().tolist() == [10 * step for step in range(16)]
    for year in (2000, 2001):
        write_raster(tmp_path / f"red {year}.tif", (value[:4] + year).astype("int32"))
    years = series(tmp_path, "{channel} {year}.tif")
    assert only_chunk(years)[0].tolist() == [[[2000, 2010, 2020, 2030], [2001, 2011, 2021, 2031]]]
    with pytest.raises(RasterError, match="16 bands.*expected 8: 1 channels x 2 years x 4 seasons"):
        series(tmp_path, "all.tif")


def test_impossible_values_are_missing_and_counted_and_a_survey_without_any_is_a_problem(tmp_path: Path) -> None:
    values = np.stack([CELL * 50.0 - 1] * 8).astype("float32")
    values[3] = np.nan
    write_raster(tmp_path / "all.tif", values)
    (chunk,) = series(tmp_path, "all.tif", low=0.0, high=1000.0).chunks()
    assert chunk.rows.tolist() == [1] and chunk.counts == {"values out of range": 7}
    assert chunk.values[0, 0, 0].tolist() == [249.0, 249.0, 249.0, -(2.0**100)]
    assert [(p.survey_id, p.what) for p in chunk.problems] == [("a", "no value at all. expected a series")]


def zarr_array(folder: Path, name: str, values: np.ndarray, dimensions: list[str], **facts: str) -> None:
    """Write an array as Zarr, version 2, in one chunk."""
    place = folder / name
    place.mkdir(parents=True)
    header = {"zarr_format": 2, "shape": values.shape, "chunks": values.shape, "dtype": values.dtype.str}
    header |= {"compressor": None, "fill_value": None, "filters": None, "order": "C"}
    (place / ".zarray").write_text(json.dumps(header))
    (place / ".zattrs").write_text(json.dumps({"_ARRAY_DIMENSIONS": dimensions, **facts}))
    (place / ".".join("0" * values.ndim)).write_bytes(values.tobytes())


def cube(folder: Path, *variables: str, days: list[float]) -> None:
    folder.mkdir()
    (folder / ".zgroup").write_text('{"zarr_format": 2}')
    zarr_array(folder, "time", np.array(days), ["time"], units="days since 2000-01-01", standard_name="time")
    zarr_array(folder, "lat", np.array([51.5, 50.5]), ["lat"], units="degrees_north", standard_name="latitude")
    zarr_array(folder, "lon", np.array([10.5, 11.5, 12.5]), ["lon"], units="degrees_east", standard_name="longitude")
    for number, name in enumerate(variables):
        values = 1000 * number + 10 * np.arange(len(days))[:, None, None] + CELL
        zarr_array(folder, name, values.astype("float32"), ["time", "lat", "lon"])


def test_a_zarr_cube_says_when_its_steps_were(tmp_path: Path) -> None:
    days = [-40.0, 15.0, 45.0, 380.0, 400.0, 800.0]  # November 1999, January, February 2000, January, February 2001
    cube(tmp_path / "cube.zarr", "pr", "tas", days=days)
    facts = {"modality": "climate", "channels": ("tas", "pr"), "crs": "EPSG:4326"}
    found = only_chunk(series(tmp_path, "cube.zarr", **facts))[1]
    fill = -(2.0**100)
    assert found.shape == (2, 2, 12)
    assert found[:, :, :2].tolist() == [[[1015.0, 1025.0], [1035.0, 1045.0]], [[15.0, 25.0], [35.0, 45.0]]]
    assert (found[:, :, 2:] == fill).all()
    one = series(tmp_path, 'ZARR:"cube.zarr":/tas', modality="climate", channels=("tas",), crs="EPSG:4326")
    assert only_chunk(one)[1][0, :, :2].tolist() == [[1015.0, 1025.0], [1035.0, 1045.0]]
    with pytest.raises(RasterError, match="no variable 'tos'.*did you mean 'tas'"):
        series(tmp_path, "cube.zarr", **(facts | {"channels": ("tos",)}))
    with pytest.raises(RasterError, match="two bands in one season.*Average them first"):
        series(tmp_path, "cube.zarr", crs="EPSG:4326", channels=("tas",))


def test_a_netcdf_cube_says_when_its_steps_were(tmp_path: Path) -> None:
    cube(tmp_path / "cube.zarr", "tas", days=[15.0, 45.0, 380.0])
    with rasterio.open('ZARR:"' + str(tmp_path / "cube.zarr") + '":/tas') as dataset:
        profile, values = dataset.profile, dataset.read()
    path = write_raster(tmp_path / "plain.tif", values, transform=profile["transform"])
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(**{"NETCDF_DIM_EXTRA": "{time}", "NETCDF_DIM_time_DEF": "{3,6}"})
        dataset.update_tags(**{"NETCDF_DIM_time_VALUES": "{15,45,380}", "time#units": "days since 2000-01-01"})
    rasterio.shutil.copy(path, tmp_path / "tas.nc", driver="netCDF")
    found = only_chunk(series(tmp_path, "tas.nc", modality="climate", channels=("tas",)))[1]
    assert found[0, :, :2].tolist() == [[5.0, 15.0], [25.0, -(2.0**100)]]


@pytest.mark.parametrize(
    ("file", "facts", "said"),
    [
        ("{channel}_{year}_{season}.tif", {}, "no raster of .*files such as 'red_2000_1.tif'"),
        ("{band}_{year}.tif", {}, r"has \{band\}"),
        ("none.tif", {}, "no raster .*none.tif"),
    ],
)
def test_a_series_without_rasters_is_one_clear_error(tmp_path: Path, file: str, facts: dict, said: str) -> None:
    with pytest.raises(RasterError, match=said):
        series(tmp_path, file, **facts)


def test_a_cube_of_other_years_is_one_clear_error(tmp_path: Path) -> None:
    cube(tmp_path / "cube.zarr", "tas", days=[15.0])
    facts = {"modality": "climate", "channels": ("tas",), "crs": "EPSG:4326", "first_year": 1950, "last_year": 1960}
    with pytest.raises(RasterError, match="none of the rasters of climate lies in 1950 to 1960"):
        series(tmp_path, "cube.zarr", **facts)


def test_a_chunk_of_a_zarr_array_that_changes_is_noticed(tmp_path: Path) -> None:
    cube(tmp_path / "cube.zarr", "tas", days=[15.0])
    layers = open_layers([RasterConfig(file='ZARR:"cube.zarr":/tas', crs="EPSG:4326")], tmp_path)
    assert [layer.name for layer in layers] == ["tas"]
    lon, lat = PLACES["lon"].to_numpy()[:2], PLACES["lat"].to_numpy()[:2]
    first = sample_layers(layers, lon, lat, work=tmp_path / "work").values
    assert first.ravel().tolist() == [0.0, 5.0]
    (tmp_path / "cube.zarr" / "tas" / "0.0.0").write_bytes((CELL + 100.0).astype("float32").tobytes())
    assert sample_layers(layers, lon, lat, work=tmp_path / "work").values.ravel().tolist() == [100.0, 105.0]
