from __future__ import annotations

import math
import os
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from pyproj import Transformer
from rasterio import warp
from rasterio.io import DatasetReader

from rasters.fakes import CENTRE, LAEA, centres, counting, write_raster
from releve.errors import RasterError
from releve.ingest.config import RasterConfig
from releve.rasters import plan
from releve.rasters.layer import Layer
from releve.rasters.layers import open_layers
from releve.rasters.sample import Sampled, sample_layers

NAN = float("nan")


def open_all(folder: Path, file: Any = "*.tif", **facts: Any) -> tuple[Layer, ...]:
    return open_layers([RasterConfig(file=file, **facts)], folder)


def values_of(sampled: Sampled) -> list:
    return [[None if math.isnan(x) else round(x, 4) for x in row] for row in sampled.values.tolist()]


def places(number: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return places in and around a raster of 60 x 80 degrees at 10 east, 52 north."""
    rng = np.random.default_rng(seed)
    return rng.uniform(5, 95, number), rng.uniform(-12, 56, number)


@pytest.mark.parametrize("blocks", [{}, {"tiled": True, "blockxsize": 16, "blockysize": 16}, {"blockysize": 7}])
@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_the_nearest_cell_is_the_one_that_rasterio_samples(tmp_path: Path, blocks: dict, interleave: str) -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(3, 60, 80)).astype("float32")
    values[:, rng.random((60, 80)) < 0.1] = -3.4e38
    path = write_raster(tmp_path / "a.tif", values, nodata=-3.4e38, compress="deflate", interleave=interleave, **blocks)
    lon, lat = places(3000)
    lon[:200], lat[:200] = np.round(lon[:200]), np.round(lat[:200])  # on the borders of cells
    sampled = sample_layers(open_all(tmp_path), lon, lat, num_workers=3)
    with rasterio.open(path) as dataset:
        expected = np.ma.stack(list(dataset.sample(zip(lon, lat, strict=True), masked=True)))
        bounds = dataset.bounds
    np.testing.assert_array_equal(sampled.values, expected.astype("float32").filled(np.nan))
    outside = int(((lon < bounds.left) | (lon >= bounds.right) | (lat <= bounds.bottom) | (lat > bounds.top)).sum())
    assert sampled.names == ("a_1", "a_2", "a_3")
    assert outside > 0 and sampled.outside == dict.fromkeys(sampled.names, outside)
    assert sampled.num_outside_all == outside
    assert sampled.on_nodata["a_1"] == int(np.isnan(sampled.values[:, 0]).sum()) - outside > 0


def test_values_do_not_depend_on_windows_units_or_other_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    write_raster(
        tmp_path / "dem.tif", rng.normal(100, 30, (60, 80)).astype("float32"), tiled=True, blockxsize=16, blockysize=16
    )
    rasters = [
        RasterConfig(file="dem.tif", derive=("slope", "northness", "eastness", "roughness")),
        RasterConfig(file="dem.tif", names=("between",), method="bilinear", derive=("slope",)),
        RasterConfig(file="dem.tif", names=("around",), method="mean", radius_m=250_000.0, derive=("slope",)),
    ]
    layers = open_layers(rasters, tmp_path)
    lon, lat = places(500)
    whole = sample_layers(layers, lon, lat)
    monkeypatch.setattr(plan, "WINDOW_BYTES", 1)
    monkeypatch.setattr(plan, "UNIT_PLACES", 10)
    np.testing.assert_array_equal(sample_layers(layers, lon, lat).values, whole.values)
    alone = np.concatenate([sample_layers(layers, lon[[i]], lat[[i]]).values for i in range(40)])
    np.testing.assert_allclose(alone, whole.values[:40], rtol=1e-6)
    assert np.isfinite(whole.values).any(axis=0).all()


def test_every_block_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_raster(tmp_path / "tiles.tif", np.stack([counting(64, 80)] * 2), tiled=True, blockxsize=16, blockysize=16)
    write_raster(tmp_path / "strips.tif", np.stack([counting(64, 80)] * 2), blockysize=1)
    monkeypatch.setattr(plan, "WINDOW_BYTES", 16 * 16 * 8 * 3)
    monkeypatch.setattr(plan, "UNIT_BYTES", 16 * 16 * 8 * 3)
    layers = open_all(tmp_path)
    read = Counter[tuple[str, int, int]]()

    class Counting(DatasetReader):
        def read(self, indexes: Any = None, *, window: Any = None, **kwargs: Any) -> np.ndarray:
            height, width = self.block_shapes[0]
            for row in range(window.row_off // height, -(-(window.row_off + window.height) // height)):
                for column in range(window.col_off // width, -(-(window.col_off + window.width) // width)):
                    read[self.name, row, column] += 1
            return super().read(indexes, window=window, **kwargs)

    monkeypatch.setattr(rasterio, "open", lambda source: Counting(rasterio._path._parse_path(source)))
    lon, lat = places(5000)
    sample_layers(layers, lon, lat)
    assert set(read.values()) == {1}
    assert Counter(Path(name).name for name, _, _ in read) == {"tiles.tif": 4 * 5, "strips.tif": 64}


def test_numbers_are_scaled_and_what_stands_for_no_data_is_missing(tmp_path: Path) -> None:
    values = np.array([[2731, 2831, -32768, 0]], "int16")
    write_raster(tmp_path / "kelvin.tif", values, scales=(0.1,), offsets=(-273.15,), nodata=-32768)
    lon, lat = centres([0] * 4, [0, 1, 2, 3])
    sampled = sample_layers(open_all(tmp_path), lon, lat)
    np.testing.assert_allclose(sampled.values[:, 0], [-0.05, 9.95, NAN, -273.15], rtol=1e-5)
    assert sampled.on_nodata == {"kelvin": 1} and sampled.outside == {"kelvin": 0}


@pytest.mark.parametrize(
    ("dtype", "cells", "nodata", "given", "expected"),
    [
        ("float64", [-1.7e308, 1.5, 2.5], -1.7e308, None, [None, 1.5, 2.5]),
        ("float64", [1e300, 1.5, float("inf")], None, None, [None, 1.5, None]),
        ("float32", [-3.4028234663852886e38, 1.5, NAN], -3.4e38, None, [None, 1.5, None]),
        ("float32", [NAN, 1.5, -9999.0], NAN, None, [None, 1.5, -9999.0]),
        ("float32", [-9999.0, 1.5, -1.0], None, None, [None, 1.5, -1.0]),
        ("int16", [-9999, -32768, -1], None, None, [None, None, -1.0]),
        ("int16", [-9999, -32768, -1], None, "-1", [-9999.0, -32768.0, None]),
        ("uint8", [255, 0, 1], None, -9999.0, [255.0, 0.0, 1.0]),
        ("uint8", [255, 0, 1], None, NAN, [255.0, 0.0, 1.0]),
        ("uint8", [255, 0, 1], 255, None, [None, 0.0, 1.0]),
        ("int32", [2**31 - 1, 7, 1], None, 2.0**31, [2.0**31, 7.0, 1.0]),
    ],
)
def test_no_data_of_every_kind_is_missing(
    tmp_path: Path, dtype: str, cells: list, nodata: Any, given: Any, expected: list
) -> None:
    options = {} if nodata is None else {"nodata": nodata}
    write_raster(tmp_path / "a.tif", np.array([cells], dtype), **options)
    lon, lat = centres([0] * 3, [0, 1, 2])
    sampled = sample_layers(open_all(tmp_path, nodata=given, categorical=False), lon, lat)
    assert values_of(sampled) == [[each] for each in expected]


def test_a_mask_in_the_file_hides_cells(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", counting(1, 3))
    with rasterio.open(path, "r+") as dataset:
        dataset.write_mask(np.array([[True, False, True]]))
    lon, lat = centres([0] * 3, [0, 1, 2])
    assert values_of(sample_layers(open_all(tmp_path), lon, lat)) == [[0.5], [None], [2.5]]
    between = sample_layers(open_all(tmp_path, method="bilinear"), [11.25], [51.5])
    assert values_of(between) == [[0.5]]  # a quarter of the way to the hidden cell: all of the known one


def test_between_four_cells_by_hand(tmp_path: Path) -> None:
    write_raster(tmp_path / "a.tif", np.array([[10.5, 20.5, -1], [30.5, 40.5, -1]], "float32"), nodata=-1)
    layers = open_all(tmp_path, method="bilinear")
    lon = [11.0, 10.75, 10.5, 10.1, 12.25, 12.9, 11.75]
    lat = [51.0, 51.25, 51.5, 51.9, 51.25, 51.0, 51.25]
    sampled = sample_layers(layers, lon, lat)
    assert values_of(sampled) == [
        [25.5],  # the middle of four
        [10.5 * 0.5625 + 20.5 * 0.1875 + 30.5 * 0.1875 + 40.5 * 0.0625],  # a quarter of the way right and down
        [10.5],  # a centre
        [10.5],  # beyond the outer centres there is nothing else
        [20.5 * 0.75 + 40.5 * 0.25],  # the cell itself is missing: those to the left count, a quarter of the way down
        [None],  # none of the four
        [20.5 * 0.75 + 40.5 * 0.25],  # a quarter of the way to missing cells
    ]
    assert sampled.on_nodata == {"a": 1}


def test_means_and_shares_within_a_radius_by_hand(tmp_path: Path) -> None:
    cells = np.array([[1, 1, 2, 2, 9], [1, 3, 3, 2, 9], [1, 3, 3, 3, 9], [5, 5, 5, 5, 9]], "uint8")
    x, y = CENTRE
    write_raster(tmp_path / "cover.tif", cells, crs=LAEA, west=x - 200, north=y + 200, cell=100.0, nodata=9)
    away = np.array([(-50, 50), (150, -50), (250, 0), (40, 0), (150, 150)])
    to_degrees = Transformer.from_crs(LAEA, "EPSG:4326", always_xy=True)
    lon, lat = to_degrees.transform(x + away[:, 0], y + away[:, 1])
    shares = sample_layers(open_all(tmp_path, method="share", radius_m=110.0), lon, lat)
    assert shares.names == ("cover=1", "cover=2", "cover=3", "cover=5")
    assert values_of(shares) == [
        [0.4, 0.0, 0.6, 0.0],  # its cell is a 3; a 1 above and to the left, 3s to the right and below
        [0.0, 0.25, 0.5, 0.25],  # a 3; a 2 above, a 3 to the left, a 5 below, no data to the right
        [None] * 4,  # centres with data are 111.8 m away
        [0.0, 0.0, 1.0, 0.0],  # four 3s at 51 and 103 m; the next centre is 120.8 m away
        [0.0, 1.0, 0.0, 0.0],  # in the first row: 2s, and no data to the right
    ]
    assert shares.on_nodata == {"cover": 1} and shares.outside == {"cover": 0}
    means = sample_layers(open_all(tmp_path, method="mean", radius_m=110.0, categorical=False), lon, lat)
    assert values_of(means) == [[2.2], [3.25], [None], [3.0], [2.0]]
    tiny = sample_layers(open_all(tmp_path, method="mean", radius_m=1.0, categorical=False), lon, lat)
    assert values_of(tiny) == [[3.0], [3.0], [None], [3.0], [2.0]]  # no centre so near but its own


def test_a_radius_is_metres_on_the_ground_in_degrees_as_well(tmp_path: Path) -> None:
    """At 60 north half a degree is 27.9 km along the row and 55.7 km along the column."""
    values = counting(9, 9) ** 2
    write_raster(tmp_path / "a.tif", values, west=0.0, north=62.25, cell=0.5)
    sampled = sample_layers(open_all(tmp_path, method="mean", radius_m=60_000.0), [2.25], [60.0])
    expected = np.mean([*values[4, 2:7], values[3, 4], values[5, 4]])
    np.testing.assert_allclose(sampled.values, [[expected]], rtol=1e-6)


def test_classes_keep_their_codes(tmp_path: Path) -> None:
    write_raster(tmp_path / "cover.tif", np.array([[311, 111, 523]], "int32"))
    lon, lat = centres([0] * 3, [0, 1, 2])
    sampled = sample_layers(open_all(tmp_path, categorical=True), lon, lat)
    assert sampled.values.ravel().tolist() == [311.0, 111.0, 523.0]


def test_places_are_projected_to_each_crs(tmp_path: Path) -> None:
    x, y = CENTRE
    write_raster(tmp_path / "laea.tif", counting(20, 30), crs=LAEA, west=x - 1500, north=y + 1000, cell=100.0)
    write_raster(tmp_path / "utm.tif", counting(4000, 4), crs="EPSG:32632", west=568_400, north=5_962_000, cell=100.0)
    sampled = sample_layers(open_all(tmp_path), [10.0005], [52.0001])
    # 34 m east and 11 m north of the centre of EPSG:3035
    assert sampled.values[0, 0] == (9 * 30 + 15) + 0.5
    to_utm = Transformer.from_crs("EPSG:4326", "EPSG:32632", always_xy=True)
    east, north = to_utm.transform(10.0005, 52.0001)
    assert sampled.values[0, 1] == int((5_962_000 - north) / 100) * 4 + int((east - 568_400) / 100) + 0.5


def test_longitudes_may_be_counted_from_0_to_360(tmp_path: Path) -> None:
    write_raster(tmp_path / "world.tif", counting(18, 36), west=0.0, north=90.0, cell=10.0)
    sampled = sample_layers(open_all(tmp_path), [5.0, -5.0, 185.0, -175.0, -180.0], [85.0] * 5)
    assert sampled.values.ravel().tolist() == [0.5, 35.5, 18.5, 18.5, 18.5]
    write_raster(tmp_path / "europe.tif", counting(2, 2), west=-10.0, north=90.0, cell=10.0)
    sampled = sample_layers(open_all(tmp_path, "europe.tif"), [355.0, -5.0, 100.0], [85.0] * 3)
    assert values_of(sampled) == [[0.5], [0.5], [None]]


def test_what_there_is_to_say_is_counted(tmp_path: Path) -> None:
    write_raster(tmp_path / "gone.tif", np.full((2, 3), -1.0, "float32"), nodata=-1)
    write_raster(tmp_path / "same.tif", np.full((2, 3), 4.25, "float32"))
    write_raster(tmp_path / "small.tif", counting(2, 1))
    lon, lat = centres([0, 0, 1, 5], [0, 1, 2, 0])
    sampled = sample_layers(open_all(tmp_path), [*lon, NAN], [*lat, 50.0])
    assert sampled.outside == {"gone": 2, "same": 2, "small": 4}
    assert sampled.on_nodata == {"gone": 3, "same": 0, "small": 0}
    assert sampled.empty == ("gone",) and sampled.constant == ("same",) and sampled.num_outside_all == 2
    assert sampled.values.shape == (5, 3)


def test_layers_that_tell_the_same_are_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    heat = rng.normal(285, 5, (20, 20)).astype("float32")
    write_raster(tmp_path / "kelvin.tif", heat)
    write_raster(tmp_path / "celsius.tif", heat - 273.15)
    write_raster(tmp_path / "nearly.tif", heat + rng.normal(0, 0.1, (20, 20)).astype("float32"))
    write_raster(tmp_path / "same.tif", np.full((20, 20), 1.5, "float32"))
    lon, lat = rng.uniform(10, 30, 100), rng.uniform(32, 52, 100)
    assert sample_layers(open_all(tmp_path), lon, lat).correlated == (("celsius", "kelvin"),)
    assert sample_layers(open_all(tmp_path), lon[:2], lat[:2]).correlated == ()


def test_a_turned_raster_is_read_as_it_lies(tmp_path: Path) -> None:
    a, b, c, d, e, f = 0.8, 0.6, 20.0, 0.6, -0.8, 40.0
    write_raster(tmp_path / "turned.tif", counting(10, 10), transform=rasterio.Affine(a, b, c, d, e, f))
    rows, columns = np.array([0, 9, 4]), np.array([0, 5, 9])
    lon, lat = a * (columns + 0.5) + b * (rows + 0.5) + c, d * (columns + 0.5) + e * (rows + 0.5) + f
    sampled = sample_layers(open_all(tmp_path), lon, lat)
    assert sampled.values.ravel().tolist() == (rows * 10 + columns + 0.5).tolist()


def test_no_place_and_no_layer_are_empty_tables(tmp_path: Path) -> None:
    write_raster(tmp_path / "a.tif", counting(2, 3))
    assert sample_layers(open_all(tmp_path), [], []).values.shape == (0, 1)
    assert sample_layers((), [10.5], [51.5]).values.shape == (1, 0)


def test_rasters_that_go_from_south_to_north_are_read_as_they_lie(tmp_path: Path) -> None:
    transform = rasterio.Affine(1.0, 0.0, 10.0, 0.0, 1.0, 50.0)
    write_raster(tmp_path / "up.tif", counting(2, 2), transform=transform)
    assert values_of(sample_layers(open_all(tmp_path), [10.5, 10.5], [50.5, 51.5])) == [[0.5], [2.5]]


def test_a_raster_that_was_cut_short_is_an_error_that_names_it(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(64, 64)).astype("float32")
    path = write_raster(tmp_path / "a.tif", values, compress="deflate")
    layers = open_all(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(RasterError, match="a.tif cannot be read"):
        sample_layers(layers, *centres(list(range(64)), [3] * 64))
    path.unlink()
    with pytest.raises(RasterError, match="no raster .*a.tif.*moved or removed"):
        sample_layers(layers, *centres([1], [1]))


def test_what_is_finished_is_kept_and_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_raster(tmp_path / "a.tif", counting(60, 80))
    write_raster(tmp_path / "b.tif", counting(60, 80))
    monkeypatch.setattr(plan, "WINDOW_BYTES", 1)
    monkeypatch.setattr(plan, "UNIT_PLACES", 1)
    layers, (lon, lat) = open_all(tmp_path), places(1000)
    whole = sample_layers(layers, lon, lat)
    counted: list[tuple[int, int]] = []
    work = tmp_path / "work"
    first = sample_layers(layers, lon, lat, work=work, advance=lambda *done: counted.append(done))
    total = counted[-1][1]
    assert counted == [(done, total) for done in range(total + 1)] and total == 6
    assert len(list(work.iterdir())) == total
    assert first.values.tobytes() == whole.values.tobytes()
    (tmp_path / "a.tif").rename(tmp_path / "away.tif")
    write_raster(tmp_path / "a.tif", counting(60, 80) + 1000)  # another file of this name is read anew
    with monkeypatch.context() as patch:
        read: list[str] = []
        kept = plan.Unit.read
        patch.setattr(plan.Unit, "read", lambda unit: read.append(unit.layers[0].name) or kept(unit))
        again = sample_layers(layers, lon, lat, work=work)
    assert set(read) == {"a"}
    np.testing.assert_array_equal(again.values[:, 0], whole.values[:, 0] + 1000)
    assert again.values[:, 1].tobytes() == whole.values[:, 1].tobytes()


def test_whole_windows_of_small_numbers_are_worked_on_in_little_memory(tmp_path: Path) -> None:
    cover = np.random.default_rng(0).integers(1, 4, (3000, 3000)).astype("uint8")
    write_raster(tmp_path / "cover.tif", cover, west=10.0, north=40.0, cell=0.01, blockysize=1)
    rng = np.random.default_rng(1)
    lon, lat = rng.uniform(11, 39, 20_000), rng.uniform(11, 39, 20_000)
    rasters = [RasterConfig(file="cover.tif", method="share", radius_m=3000.0)]
    rasters += [RasterConfig(file="cover.tif", names=("height",), derive=("slope",))]
    layers = open_layers(rasters, tmp_path)
    tracemalloc.start()
    sample_layers(layers, lon, lat, num_workers=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150e6, f"{peak / 1e6:.0f} MB"


@pytest.mark.parametrize("crs", ["EPSG:32632", "EPSG:3035", "EPSG:31467", "EPSG:3857"])
def test_places_lie_within_a_hundredth_of_a_cell_in_other_projections(tmp_path: Path, crs: str) -> None:
    """Rasters of their own x and y, in cells of 100 m; GDAL's own transformation says where the places are."""
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(9.9, 10.1, 200), rng.uniform(51.95, 52.05, 200)
    x, y = (np.array(each) for each in warp.transform("EPSG:4326", crs, lon.tolist(), lat.tolist()))
    west, north = x.min() - 1000.5, y.max() + 1000.5
    columns, rows = int(np.ptp(x) / 100) + 30, int(np.ptp(y) / 100) + 30
    at = np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5)
    write_raster(tmp_path / "at.tif", np.stack(at).astype("float32"), crs=crs, west=west, north=north, cell=100.0)
    found = sample_layers(open_all(tmp_path, method="bilinear"), lon, lat).values
    np.testing.assert_allclose(found, np.stack([(x - west) / 100, (north - y) / 100], axis=1), atol=0.01)


@pytest.mark.parametrize("name", ["a.vrt", "a.grd"])
def test_a_change_in_a_file_behind_the_raster_is_noticed(tmp_path: Path, name: str) -> None:
    source = write_raster(tmp_path / "source.tif", counting(4, 4))

    def make(source: Path) -> None:
        driver = {"vrt": "VRT", "grd": "RRASTER"}[name[2:]]
        rasterio.shutil.copy(source, tmp_path / name, driver=driver)

    make(source)
    header = (tmp_path / name).stat()
    lon, lat = centres([0, 3], [1, 2])
    first = sample_layers(open_all(tmp_path, name), lon, lat, work=tmp_path / "work").values.ravel()
    write_raster(tmp_path / "source.tif", counting(4, 4) + 100)
    make(source)
    os.utime(tmp_path / name, ns=(header.st_atime_ns, header.st_mtime_ns))
    again = sample_layers(open_all(tmp_path, name), lon, lat, work=tmp_path / "work").values.ravel()
    assert again.tolist() == (first + 100).tolist()
