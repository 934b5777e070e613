from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pyproj import Transformer

from releve.errors import RasterError
from releve.predict.maps.grid import Bounds, Tile, cell_centres, grid_for, tile_size, tiles_of
from releve.rasters.grid import Grid, locate, project_places
from releve.rasters.layer import Layer

DEGREES = Grid("EPSG:4326", (0.5, 0.0, 4.0, 0.0, -0.5, 52.0), 20, 30, 16, 16)
"""From 4 to 19 east, from 42 to 52 north."""
WORLD = Grid("EPSG:4326", (1.0, 0.0, -180.0, 0.0, -1.0, 90.0), 180, 360, 64, 64)
FROM_ZERO = Grid("EPSG:4326", (1.0, 0.0, 0.0, 0.0, -1.0, 90.0), 180, 360, 64, 64)
METRES = Grid("EPSG:3035", (1000.0, 0.0, 4_200_000.0, 0.0, -1000.0, 3_300_000.0), 200, 300, 64, 64)


def layer(grid: Grid, name: str = "warmth") -> Layer:
    return Layer(name, f"{name}.tif", 1, grid, "float32")


def all_centres(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return cell_centres(grid, Tile(0, 0, grid.height, grid.width))


def test_by_default_a_map_has_the_cells_of_its_rasters() -> None:
    grid = grid_for([layer(DEGREES)], tile_size=64)
    assert grid == replace(DEGREES, block_height=64, block_width=64)


def test_the_grid_is_that_of_most_layers() -> None:
    grid = grid_for([layer(METRES, "soil"), layer(DEGREES), layer(DEGREES, "rain")])
    assert (grid.crs, grid.height, grid.width) == ("EPSG:4326", 20, 30)


def test_bounds_take_the_cells_whose_area_they_meet() -> None:
    """From 6.2 to 8.5 east lie the cells from 6.0 to 8.5, from 45 to 46.1 north those from 45 to 46.5."""
    grid = grid_for([layer(DEGREES)], Bounds(6.2, 45.0, 8.5, 46.1))
    assert grid.transform == pytest.approx((0.5, 0.0, 6.0, 0.0, -0.5, 46.5))
    assert (grid.height, grid.width) == (3, 5)


@pytest.mark.parametrize(
    ("west", "east", "first", "width"),
    [(-10, 5, 4, 2), (18, 60, 18, 2), (-170, 170, 4, 30), (-180, 180, 4, 30), (100, 5, 4, 2), (18, -170, 18, 2)],
)
def test_bounds_that_reach_beyond_the_rasters_end_with_them(west: int, east: int, first: int, width: int) -> None:
    grid = grid_for([layer(DEGREES)], Bounds(west, 40.0, east, 60.0))
    assert (grid.transform[2], grid.transform[5]) == (first, 52.0) and (grid.height, grid.width) == (20, width)


@pytest.mark.parametrize("bounds", [Bounds(30, 45, 31, 46), Bounds(5, 10, 6, 11), Bounds(19, 45, 20, 46)])
def test_a_region_beside_the_rasters_is_refused(bounds: Bounds) -> None:
    with pytest.raises(RasterError, match=r"does not overlap the rasters.*4 to 19 by 42 to 52.*order of the bounds"):
        grid_for([layer(DEGREES)], bounds)


def test_every_cell_of_a_window_is_a_cell_of_the_rasters() -> None:
    grid = grid_for([layer(METRES)], Bounds(10.0, 51.0, 10.5, 51.4))
    lon, lat = all_centres(grid)
    at = locate(METRES, *project_places(lon, lat, METRES.crs))
    assert at.inside.all() and np.allclose(at.row_positions % 1, 0.5, atol=1e-6)
    assert np.unique(at.rows * 1000 + at.columns).size == grid.height * grid.width
    inside = (lon > 10) & (lon < 10.5) & (lat > 51) & (lat < 51.4)
    assert 0.6 < inside.mean() < 1
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:3035", always_xy=True).transform([10, 10.5], [51, 51.4])
    west, north = grid.transform[2], grid.transform[5]
    assert west <= min(x) and north >= max(y) and west + 1000 * grid.width >= max(x)


def test_a_raster_from_south_to_north_keeps_its_rows() -> None:
    turned = Grid("EPSG:4326", (0.5, 0.0, 4.0, 0.0, 0.5, 42.0), 20, 30, 16, 16)
    grid = grid_for([layer(turned)], Bounds(6.2, 45.0, 8.5, 46.1))
    assert grid.transform == pytest.approx((0.5, 0.0, 6.0, 0.0, 0.5, 45.0)) and (grid.height, grid.width) == (3, 5)
    _, lat = all_centres(grid)
    assert lat[[0, 14]].tolist() == [45.25, 46.25]


@pytest.mark.parametrize(
    "transform", [(0.5, 0.1, 4.0, 0.1, -0.5, 52.0), (-0.5, 0.0, 19.0, 0.0, -0.5, 52.0)], ids=["turned", "from the east"]
)
def test_a_turned_grid_is_refused_and_mapped_on_a_grid_of_its_own(transform: Any) -> None:
    turned = replace(DEGREES, transform=transform)
    with pytest.raises(RasterError, match=r"turned or runs from east to west.*--crs and --resolution"):
        grid_for([layer(turned)])
    grid = grid_for([layer(turned)], Bounds(6, 45, 8, 46), resolution_m=10_000)
    assert grid.transform[0] == pytest.approx(10_000 / 111_319.49079327357)


class TestAntimeridian:
    BOUNDS = Bounds(178.0, -20.0, -179.0, -17.0)

    @pytest.mark.parametrize("source", [WORLD, FROM_ZERO], ids=["from -180", "from 0"])
    def test_a_global_grid_is_cut_across_it(self, source: Grid) -> None:
        grid = grid_for([layer(source)], self.BOUNDS)
        assert (grid.height, grid.width) == (3, 3)
        lon, lat = all_centres(grid)
        assert lon.tolist() == [178.5, 179.5, -179.5] * 3 and lat[[0, 8]].tolist() == [-17.5, -19.5]
        assert locate(source, lon, lat).inside.all()

    @pytest.mark.parametrize("source", [WORLD, FROM_ZERO], ids=["from -180", "from 0"])
    def test_so_it_is_across_longitude_0(self, source: Grid) -> None:
        grid = grid_for([layer(source)], Bounds(-2.0, 40.0, 3.0, 41.0))
        lon, _ = all_centres(grid)
        assert lon.tolist() == [-1.5, -0.5, 0.5, 1.5, 2.5] and locate(source, lon, np.full(5, 40.5)).inside.all()

    def test_a_grid_of_its_own_reaches_across_it(self) -> None:
        grid = grid_for([], self.BOUNDS, resolution_m=111_319.49079327357, crs="EPSG:4326")
        lon, lat = all_centres(grid)
        assert lon.reshape(grid.height, grid.width)[0].tolist() == pytest.approx([178.5, 179.5, -179.5])
        assert grid.height == 3

    def test_a_projection_that_holds_it_has_both_sides(self) -> None:
        """EPSG:3832 is Mercator around 150 east."""
        grid = grid_for([], self.BOUNDS, resolution_m=50_000, crs="EPSG:3832")
        lon, lat = all_centres(grid)
        assert (lon > 177).any() and (lon < -178.5).any() and (np.abs(lon) > 177).all()
        assert grid.width in (7, 8)  # 3 degrees are 334 km

    def test_the_whole_world_by_name_is_every_cell_once(self) -> None:
        for source in (WORLD, FROM_ZERO):
            grid = grid_for([layer(source)], Bounds(-180, -90, 180, 90))
            lon, lat = all_centres(grid)
            assert (grid.height, grid.width) == (180, 360)
            assert np.unique(np.round(lon * 1000) * 1000 + lat).size == 180 * 360


class TestPoles:
    def test_degrees_reach_to_the_pole(self) -> None:
        grid = grid_for([layer(WORLD)], Bounds(-180, 88, 180, 90))
        assert (grid.height, grid.width, grid.transform[5]) == (2, 360, 90.0)

    def test_a_polar_projection_covers_the_pole(self) -> None:
        grid = grid_for([], Bounds(-180, 80, 180, 90), resolution_m=100_000, crs="EPSG:3995")
        lon, lat = all_centres(grid)
        assert lat.max() > 89 and (grid.height, grid.width) == (22, 22)  # 80 north is 1,086 km away
        quadrant = np.unique(np.floor(lon[lat > 85] / 90))
        assert quadrant.tolist() == [-2, -1, 0, 1]

    def test_the_far_side_of_the_earth_has_no_place_in_a_view_of_it(self) -> None:
        with pytest.raises(RasterError, match=r"south -60.*has no place in \+proj=ortho.*narrower --bounds"):
            grid_for([], Bounds(170, -60, 180, -50), resolution_m=100_000, crs="+proj=ortho +lat_0=45")


class TestOwnGrid:
    def test_cells_begin_at_multiples_of_their_size(self) -> None:
        grid = grid_for([layer(METRES)], Bounds(10.0, 51.0, 10.5, 51.4), resolution_m=2_500)
        size, _, west, _, step, north = grid.transform
        assert (size, step, west % 2_500, north % 2_500, grid.crs) == (2500.0, -2500.0, 0.0, 0.0, "EPSG:3035")

    def test_two_maps_of_neighbouring_bounds_have_the_same_cells(self) -> None:
        one, other = (
            grid_for([layer(DEGREES)], Bounds(west, 45.0, west + 1, 46.0), resolution_m=3_000) for west in (6.0, 6.7)
        )
        size = one.transform[0]
        assert (other.transform[2] - one.transform[2]) / size == pytest.approx(
            round((other.transform[2] - one.transform[2]) / size), abs=1e-6
        )

    def test_without_bounds_it_covers_the_rasters_and_no_more_than_a_cell_around(self) -> None:
        grid = grid_for([layer(DEGREES)], resolution_m=20_000)
        size, _, west, _, _, north = grid.transform
        assert west <= 4 < west + size and north - size < 52 <= north
        assert west + size * grid.width == pytest.approx(19, abs=size) and grid.width == math.ceil(19 / size) - 22

    def test_another_crs_has_cells_of_the_rasters_size(self) -> None:
        grid = grid_for([layer(DEGREES)], Bounds(6, 45, 7, 46), crs="EPSG:3035")
        assert grid.crs == "EPSG:3035" and grid.transform[0] == pytest.approx(0.5 * 111_319.49)
        lon, lat = all_centres(grid)
        assert lon.min() < 6.6 and lon.max() > 6.4

    def test_feet_are_no_metres(self) -> None:
        """EPSG:2263 is counted in US survey feet."""
        grid = grid_for([], Bounds(-74.1, 40.6, -73.9, 40.8), resolution_m=304.8006096, crs="EPSG:2263")
        assert grid.transform[0] == pytest.approx(1_000)

    def test_the_same_crs_by_another_name_is_the_rasters_own_grid(self) -> None:
        grid = grid_for([layer(METRES)], crs="epsg:3035")
        assert grid.transform == METRES.transform

    @pytest.mark.parametrize("resolution", [0.0, -5.0, math.nan, math.inf])
    def test_a_resolution_is_metres_above_0(self, resolution: float) -> None:
        with pytest.raises(RasterError, match="metres above 0"):
            grid_for([layer(DEGREES)], resolution_m=resolution)

    def test_cells_that_cannot_be_counted_are_refused(self) -> None:
        with pytest.raises(RasterError, match="coarser --resolution"):
            grid_for([layer(DEGREES)], resolution_m=1e-4)

    def test_a_run_without_rasters_needs_bounds_and_a_resolution(self) -> None:
        for options in ({}, {"resolution_m": 1000.0}, {"bounds": Bounds(5, 45, 6, 46)}):
            with pytest.raises(RasterError, match=r"--bounds W S E N.*--resolution METRES"):
                grid_for([], **options)  # type: ignore[arg-type]

    def test_what_is_no_crs_is_told(self) -> None:
        with pytest.raises(RasterError, match=r"--crs laea is no coordinate system.*EPSG:3035"):
            grid_for([layer(DEGREES)], crs="laea")


@pytest.mark.parametrize(
    "numbers",
    [
        (5, 46, 6, 45),
        (5, 45, 5, 46),
        (5, 45, 6, 45),
        (5, 45, 361, 46),
        (-181, 45, 6, 46),
        (5, -91, 6, 46),
        (5, 45, 6, 91),
        (5, math.nan, 6, 46),
        (5, 45, math.inf, 46),
    ],
)
def test_impossible_bounds_are_refused(numbers: tuple[float, float, float, float]) -> None:
    with pytest.raises(RasterError, match="west south east north in degrees"):
        Bounds(*numbers)


def test_tiles_cover_every_cell_once() -> None:
    for height, width in ((1, 1), (16, 16), (17, 33), (40, 50)):
        grid = Grid("EPSG:4326", (0.1, 0.0, 5.0, 0.0, -0.1, 50.0), height, width, 16, 16)
        count = np.zeros((height, width), int)
        for tile in tiles_of(grid):
            count[tile.row : tile.row + tile.height, tile.column : tile.column + tile.width] += 1
        assert (count == 1).all() and len({tile.name for tile in tiles_of(grid)}) == len(tiles_of(grid))


def test_a_tile_holds_few_enough_cells_that_16_bits_count_them() -> None:
    assert all(tile_size(num) ** 2 <= 2**16 for num in (1, 4_096, 4_097, 200_000))


def test_centres_where_a_projection_has_no_place_on_earth_are_not_finite() -> None:
    """The corners of an orthographic view of the Earth lie beside it."""
    view = Grid("+proj=ortho +lat_0=45 +lon_0=10", (2e6, 0.0, -7e6, 0.0, -2e6, 7e6), 7, 7, 16, 16)
    lon, lat = all_centres(view)
    assert not np.isfinite(lon[0]) and np.isfinite(lon[24]) and lat[24] == pytest.approx(45)
