from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import shapely
from numpy.typing import NDArray

from releve.errors import RasterError
from releve.predict.maps.grid import Bounds, Tile, cell_centres, tiles_of
from releve.predict.maps.region import bounds_of_region, cells_inside, read_region, region_on
from releve.rasters.grid import Grid

DEGREES = Grid("EPSG:4326", (0.01, 0.0, 5.0, 0.0, -0.01, 46.0), 90, 120, 32, 32)
METRES = Grid("EPSG:3035", (500.0, 0.0, 4_000_000.0, 0.0, -500.0, 2_600_000.0), 90, 120, 32, 32)


def write_region(path: Path, *shapes: shapely.Geometry, crs: str = "EPSG:4326") -> Path:
    meta: dict[str, Any] = {"crs": crs, "geometry_type": "Unknown", "driver": "GPKG"}
    pyogrio.raw.write(path, np.array([shapely.to_wkb(shape) for shape in shapes], object), [], [], **meta)
    return path


def write_geojson(path: Path, *shapes: dict[str, Any]) -> Path:
    features = [{"type": "Feature", "properties": {}, "geometry": shape} for shape in shapes]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def mask(region: shapely.Geometry, grid: Grid) -> NDArray[np.bool_]:
    """Return (H, W) of all tiles."""
    found = np.zeros((grid.height, grid.width), bool)
    for tile in tiles_of(grid):
        at = slice(tile.row, tile.row + tile.height), slice(tile.column, tile.column + tile.width)
        found[at] = cells_inside(region, grid, tile)
    return found


def by_point(region: shapely.Geometry, grid: Grid) -> NDArray[np.bool_]:
    """Return (H, W) whether each centre lies in a region of degrees."""
    lon, lat = cell_centres(grid, Tile(0, 0, grid.height, grid.width))
    return shapely.contains_xy(region, lon, lat).reshape(grid.height, grid.width)


def star(x: float, y: float, size: float, num: int = 60, seed: int = 0) -> shapely.Polygon:
    """Return a jagged polygon."""
    angle = np.linspace(0, 2 * np.pi, num, endpoint=False)
    reach = size * np.random.default_rng(seed).uniform(0.4, 1, num)
    return shapely.Polygon(np.stack([x + reach * np.cos(angle), y + reach * np.sin(angle)], axis=1))


def test_the_cells_of_a_polygon_with_a_hole_are_those_whose_centre_lies_in_it(tmp_path: Path) -> None:
    shape = star(5.6, 45.55, 0.43).difference(star(5.6, 45.55, 0.15, seed=1))
    region = read_region(write_region(tmp_path / "region.gpkg", shape))
    inside = mask(region, DEGREES)
    assert (inside == by_point(shape, DEGREES)).all() and 1000 < inside.sum() < 9000
    assert not inside[45, 60]  # in the hole


def test_parts_that_overlap_or_meet_are_one_region(tmp_path: Path) -> None:
    boxes = [shapely.box(5.1, 45.2, 5.5, 45.6), shapely.box(5.3, 45.4, 5.9, 45.8), shapely.box(5.9, 45.4, 6.0, 45.8)]
    region = read_region(write_region(tmp_path / "region.gpkg", *boxes))
    assert (mask(region, DEGREES) == by_point(shapely.union_all(boxes), DEGREES)).all()
    assert region.area == pytest.approx(0.16 + 0.24 - 0.04 + 0.04)


def test_a_polygon_of_a_projected_file_is_read_in_degrees(tmp_path: Path) -> None:
    box = shapely.box(4_010_000, 2_560_000, 4_040_000, 2_590_000)
    region = read_region(write_region(tmp_path / "region.gpkg", box, crs="EPSG:3035"))
    west, south, east, north = shapely.bounds(region)
    assert 5 < west < east < 7 and 45 < south < north < 47


def test_a_region_of_degrees_on_a_projected_grid_has_the_cells_whose_centre_lies_in_it(tmp_path: Path) -> None:
    lon, lat = cell_centres(METRES, Tile(45, 60, 1, 1))
    shape = star(float(lon[0]), float(lat[0]), 0.25)
    file = tmp_path / "region.wkb"
    file.write_bytes(shape.wkb)
    inside = mask(region_on(str(file), METRES.crs), METRES)
    assert (inside == by_point(shape, METRES)).all() and 1000 < inside.sum() < 10_000


def test_straight_lines_of_degrees_are_bent_where_the_projection_bends_them(tmp_path: Path) -> None:
    """A box of four corners, 40 degrees wide: its southern edge is a parallel, not a line of the projection."""
    wide = Grid("EPSG:3035", (20_000.0, 0.0, 2_500_000.0, 0.0, -20_000.0, 4_000_000.0), 100, 180, 64, 64)
    shape = shapely.box(-10, 45, 30, 55)
    file = tmp_path / "wide.wkb"
    file.write_bytes(shape.wkb)
    assert (mask(region_on(str(file), wide.crs), wide) == by_point(shape, wide)).all()


def test_what_crosses_itself_is_mended(tmp_path: Path) -> None:
    """A bow tie is two triangles."""
    tie = shapely.Polygon([(5, 45), (6, 46), (6, 45), (5, 46)])
    region = read_region(write_region(tmp_path / "tie.gpkg", tie))
    assert shapely.is_valid(region) and region.area == pytest.approx(0.5)
    west, north = shapely.Polygon([(5, 45), (5.5, 45.5), (5, 46)]), shapely.Polygon([(6, 45), (5.5, 45.5), (6, 46)])
    centres = by_point(west, DEGREES) | by_point(north, DEGREES)
    assert (mask(region, DEGREES) != centres).sum() <= 100  # centres that lie on an edge


def test_a_million_vertices_take_seconds(tmp_path: Path) -> None:
    angle = np.linspace(0, 2 * np.pi, 1_000_000, endpoint=False)
    reach = 0.4 + 0.02 * np.sin(40 * angle) + np.random.default_rng(0).uniform(0, 1e-7, len(angle))
    shape = shapely.Polygon(np.stack([5.6 + reach * np.cos(angle), 45.55 + reach * np.sin(angle)], axis=1))
    file = write_region(tmp_path / "coast.gpkg", shape)
    started = time.process_time()
    region = read_region(file)
    inside = [cells_inside(region, DEGREES, tile) for tile in tiles_of(DEGREES)]
    assert time.process_time() - started < 20
    assert sum(int(each.sum()) for each in inside) == pytest.approx(shape.area * 1e4, rel=0.01)


class TestAntimeridian:
    EAST, WEST = shapely.box(178, -20, 180, -15), shapely.box(-180, -20, -179, -15)

    def test_parts_on_both_sides_are_near_each_other(self, tmp_path: Path) -> None:
        region = read_region(write_region(tmp_path / "fiji.gpkg", shapely.MultiPolygon([self.EAST, self.WEST])))
        assert bounds_of_region(region) == Bounds(178.0, -20.0, -179.0, -15.0)

    def test_both_sides_are_mapped_on_a_grid_across_it(self) -> None:
        grid = Grid("EPSG:4326", (0.5, 0.0, 177.0, 0.0, -0.5, -14.0), 14, 12, 8, 8)
        inside = mask(shapely.MultiPolygon([self.EAST, self.WEST]), grid)
        assert inside[2:12, 2:8].all() and inside.sum() == 60

    def test_a_polygon_that_counts_on_beyond_180_is_mapped_too(self, tmp_path: Path) -> None:
        region = read_region(write_region(tmp_path / "fiji.gpkg", shapely.box(178, -20, 181, -15)))
        grid = Grid("EPSG:4326", (0.5, 0.0, 177.0, 0.0, -0.5, -14.0), 14, 12, 8, 8)
        inside = mask(region, grid)
        assert inside[2:12, 2:8].all() and inside.sum() == 60
        bounds = bounds_of_region(region)
        assert (bounds.west, bounds.east) == (178.0, -179.0)

    def test_two_distant_parts_that_do_not_meet_it_are_covered_by_plain_bounds(self) -> None:
        region = shapely.MultiPolygon([shapely.box(-120, 30, -110, 40), shapely.box(10, 40, 20, 50)])
        assert bounds_of_region(region) == Bounds(-120.0, 30.0, 20.0, 50.0)

    def test_a_region_around_the_whole_earth_has_all_longitudes(self) -> None:
        assert bounds_of_region(shapely.box(-180, 60, 180, 90)) == Bounds(-180.0, 60.0, 180.0, 90.0)


class TestBadFiles:
    def test_lines_and_points_are_no_region(self, tmp_path: Path) -> None:
        lines = write_region(tmp_path / "rivers.gpkg", shapely.LineString([(5, 45), (6, 46)]), shapely.Point(5, 45))
        with pytest.raises(RasterError, match=r"rivers.gpkg holds 2 shapes and no polygon.*one polygon"):
            read_region(lines)

    def test_nothing_is_no_region(self, tmp_path: Path) -> None:
        with pytest.raises(RasterError, match="holds 0 shapes and no polygon"):
            read_region(write_geojson(tmp_path / "empty.geojson"))
        with pytest.raises(RasterError, match="no polygon"):
            read_region(write_region(tmp_path / "empty.gpkg", shapely.Polygon()))

    def test_polygons_among_lines_are_taken(self, tmp_path: Path) -> None:
        both = shapely.GeometryCollection([shapely.box(5, 45, 6, 46), shapely.LineString([(5, 45), (7, 46)])])
        assert read_region(write_region(tmp_path / "both.gpkg", both)).area == pytest.approx(1)

    def test_a_broken_file_and_a_table_are_told(self, tmp_path: Path) -> None:
        (tmp_path / "a.gpkg").write_bytes(b"SQLite format 3\0" + bytes(80))
        (tmp_path / "b.geojson").write_text('{"type": "FeatureCollection", "features": [{"type": "Fea')
        (tmp_path / "c.txt").write_text("nothing at all")
        for name in ("a.gpkg", "b.geojson", "c.txt", "absent.gpkg"):
            with pytest.raises(RasterError, match=rf"region .*{name} cannot be read.*GeoPackage or GeoJSON"):
                read_region(tmp_path / name)
        (tmp_path / "d.csv").write_text("lon,lat\n5,45\n")
        with pytest.raises(RasterError, match="d.csv"):
            read_region(tmp_path / "d.csv")

    def test_metres_that_name_no_crs_are_told(self, tmp_path: Path) -> None:
        ring = [[4e6, 2e6], [4.1e6, 2e6], [4.1e6, 2.1e6], [4e6, 2e6]]
        file = write_geojson(tmp_path / "m.geojson", {"type": "Polygon", "coordinates": [ring]})
        with pytest.raises(RasterError, match=r"reaches from 4e\+06.*names its coordinate system"):
            read_region(file)

    def test_coordinates_that_are_not_numbers_are_told(self, tmp_path: Path) -> None:
        ring = shapely.Polygon([(5, 45), (6, float("inf")), (6, 45)])
        with pytest.raises(RasterError):
            read_region(write_region(tmp_path / "inf.gpkg", ring))
