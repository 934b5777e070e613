from __future__ import annotations

import time

import numpy as np
import pytest
import shapely

from releve.predict.maps.coverage import outline_of
from releve.predict.maps.grid import Tile, tiles_of
from releve.rasters.grid import Grid

GRID = Grid("EPSG:32632", (10.0, 0.0, 500.0, 0.0, -10.0, 900.0), 20, 36, 16, 16)
WHOLE = Tile(0, 0, 20, 36)


def by_shapely(polygon: shapely.Geometry, grid: Grid = GRID) -> np.ndarray:
    """Return the shares by cutting every cell."""
    a, _, c, _, e, f = grid.transform
    rows, columns = np.mgrid[: grid.height, : grid.width]
    x, y = c + a * columns, f + e * rows
    cells = shapely.box(np.minimum(x, x + a), np.minimum(y, y + e), np.maximum(x, x + a), np.maximum(y, y + e))
    return shapely.area(shapely.intersection(cells, polygon)) / abs(a * e)


def test_a_rectangle_over_two_and_a_half_cells() -> None:
    """From a quarter of column 2 to three quarters of column 4, and half of row 3: 2.5 cells across, .5 high."""
    coverage = outline_of(shapely.box(522.5, 865, 547.5, 870), GRID).coverage(WHOLE)
    expected = np.zeros((20, 36))
    expected[3, 2:5] = 0.375, 0.5, 0.375
    np.testing.assert_allclose(coverage, expected, atol=1e-12)


def test_a_triangle_by_hand() -> None:
    """Half of a square of two cells: the diagonal halves two cells, one is whole."""
    coverage = outline_of(shapely.Polygon([(500, 900), (500, 880), (520, 880)]), GRID).coverage(WHOLE)
    np.testing.assert_allclose(coverage[:3, :3], [[0.5, 0, 0], [1, 0.5, 0], [0, 0, 0]], atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_shares_are_those_of_cut_cells_with_holes_islands_and_parts_off_the_grid(seed: int) -> None:
    rng = np.random.default_rng(seed)
    circles = shapely.buffer(
        shapely.points(rng.uniform(480, 880, 12), rng.uniform(680, 920, 12)), rng.uniform(5, 60, 12)
    )
    polygon = shapely.difference(shapely.union_all(circles[:8]), shapely.union_all(circles[8:]))
    outline = outline_of(polygon, GRID)
    expected = by_shapely(polygon)
    np.testing.assert_allclose(outline.coverage(WHOLE), expected, atol=1e-9)
    for tile in tiles_of(GRID):
        part = expected[tile.row : tile.row + tile.height, tile.column : tile.column + tile.width]
        np.testing.assert_allclose(outline.coverage(tile), part, atol=1e-9)


def test_edges_on_the_lines_between_cells_and_rasters_that_run_upwards() -> None:
    polygon = shapely.box(510, 720, 560, 900)
    np.testing.assert_allclose(outline_of(polygon, GRID).coverage(WHOLE), by_shapely(polygon), atol=1e-12)
    upwards = Grid("EPSG:32632", (10.0, 0.0, 500.0, 0.0, 10.0, 700.0), 20, 36, 16, 16)
    triangle = shapely.Polygon([(503, 707), (555, 760), (520, 890)])
    np.testing.assert_allclose(outline_of(triangle, upwards).coverage(WHOLE), by_shapely(triangle, upwards), atol=1e-12)


def test_degrees_are_the_same_a_turn_further() -> None:
    across = Grid("EPSG:4326", (1.0, 0.0, 170.0, 0.0, -1.0, 10.0), 20, 36, 16, 16)
    fiji = shapely.MultiPolygon([shapely.box(178.5, 0, 180, 2), shapely.box(-180, 0, -178.5, 2)])
    coverage = outline_of(fiji, across).coverage(WHOLE)
    np.testing.assert_allclose(coverage[8, 7:13], [0, 0.5, 1, 1, 0.5, 0], atol=1e-12)
    assert coverage.sum() == pytest.approx(6)


def test_a_polygon_elsewhere_covers_nothing() -> None:
    assert outline_of(shapely.box(0, 0, 10, 10), GRID).coverage(WHOLE).sum() == 0


def test_a_million_vertices_take_a_second_or_so() -> None:
    angle = np.linspace(0, 2 * np.pi, 1_000_000, endpoint=False)
    radius = 60 + 20 * np.sin(40 * angle)
    star = shapely.Polygon(np.column_stack([680 + radius * np.cos(angle), 800 + radius * np.sin(angle)]))
    started = time.perf_counter()
    total = outline_of(star, GRID).coverage(WHOLE).sum()
    assert time.perf_counter() - started < 15 and total == pytest.approx(star.area / 100, rel=1e-9)
