from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rasterio import Affine

from rasters.fakes import CENTRE, LAEA, write_raster
from releve.errors import ConfigError
from releve.ingest.config import RasterConfig
from releve.rasters.derive import derive
from releve.rasters.grid import Grid, cell_sizes_m
from releve.rasters.layers import open_layers
from releve.rasters.sample import Sampled, sample_layers

ALL = ("slope", "northness", "eastness", "roughness")


def plane(east: float, north: float, cell: float = 30.0, size: int = 5) -> np.ndarray:
    """Return elevations that rise by so many metres a metre, rows from north to south."""
    at = np.arange(size) * cell
    return (500 + east * at[None, :] - north * at[:, None]).astype("float32")


def sample(folder: Path, **options: object) -> Sampled:
    layers = open_layers([RasterConfig(file="dem.tif", derive=ALL)], folder)
    return sample_layers(layers, [10.00001], [51.99999])


@pytest.mark.parametrize(
    ("east", "north", "expected"),
    [
        (0.0, 0.0, (0.0, 0.0, 0.0, 0.0)),
        (1.0, 0.0, (45.0, 0.0, -1.0, 60.0)),  # rises to the east: it faces west
        (0.0, 1.0, (45.0, -1.0, 0.0, 60.0)),  # rises to the north: it faces south
        (-0.3, 0.4, (np.degrees(np.arctan(0.5)), -0.8, 0.6, 0.7 * 60)),
    ],
)
@pytest.mark.parametrize("at", ["middle", "corner"])
def test_a_plane_has_its_slope_and_direction_everywhere(east: float, north: float, expected: tuple, at: str) -> None:
    size = np.full(5, 30.0)
    found = [derive(what, plane(east, north), size, size) for what in ALL[: 4 if at == "middle" else 3]]
    place = (2, 2) if at == "middle" else (0, 4)
    np.testing.assert_allclose([each[place] for each in found], expected[: len(found)], atol=2e-4)


def test_a_missing_neighbour_bends_no_plane_and_a_missing_cell_stays_missing() -> None:
    elevation = plane(0.2, 0.1)
    elevation[1, 1] = np.nan
    size = np.full(5, 30.0)
    slope = derive("slope", elevation, size, size)
    assert np.isnan(slope[1, 1]) and np.isfinite(slope).sum() == 24
    np.testing.assert_allclose(slope[np.isfinite(slope)], np.degrees(np.arctan(np.hypot(0.2, 0.1))), rtol=1e-4)


def test_the_cell_between_counts_twice() -> None:
    """Horn's gradient of a single peak beside the cell: 2 x 8 m of 8 cells of 10 m; at the corner half of it."""
    elevation, size = np.zeros((3, 3)), np.full(3, 10.0)
    elevation[1, 2] = 8.0
    assert derive("slope", elevation, size, size)[1, 1] == pytest.approx(np.degrees(np.arctan(0.2)))
    elevation[1, 2], elevation[0, 2] = 0.0, 8.0
    assert derive("eastness", elevation, size, size)[1, 1] == pytest.approx(-np.sqrt(0.5))
    assert derive("northness", elevation, size, size)[1, 1] == pytest.approx(-np.sqrt(0.5))


def test_neighbours_on_one_line_tell_the_slope_along_it() -> None:
    elevation, size = np.full((3, 3), np.nan), np.full(3, 10.0)
    elevation[1] = 5.0, 10.0, 15.0
    found = [float(derive(what, elevation, size, size)[1, 1]) for what in ALL]
    np.testing.assert_allclose(found, [np.degrees(np.arctan(0.5)), 0.0, -1.0, 10.0], atol=1e-6)
    elevation[1] = np.nan, 10.0, np.nan
    assert [float(derive(what, elevation, size, size)[1, 1]) for what in ALL] == [0.0, 0.0, 0.0, 0.0]


def test_an_unknown_quantity_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown"):
        derive("curvature", np.zeros((3, 3)), np.ones(3), np.ones(3))


def test_slopes_at_places_of_a_projected_raster(tmp_path: Path) -> None:
    x, y = CENTRE
    write_raster(tmp_path / "dem.tif", plane(-0.3, 0.4), crs=LAEA, west=x - 75, north=y + 75, cell=30.0)
    sampled = sample(tmp_path)
    assert sampled.names == ("dem", "dem_slope", "dem_northness", "dem_eastness", "dem_roughness")
    np.testing.assert_allclose(sampled.values[0, 1:], [np.degrees(np.arctan(0.5)), -0.8, 0.6, 42.0], rtol=1e-4)


def test_slopes_do_not_depend_on_the_order_of_the_rows(tmp_path: Path) -> None:
    x, y = CENTRE
    transform = Affine(30.0, 0.0, x - 75, 0.0, 30.0, y - 75)
    write_raster(tmp_path / "dem.tif", plane(-0.3, 0.4)[::-1].copy(), crs=LAEA, transform=transform)
    np.testing.assert_allclose(sample(tmp_path).values[0, 2:4], [-0.8, 0.6], rtol=1e-4)


def test_metres_of_degrees_and_of_mercator_are_those_on_the_ground(tmp_path: Path) -> None:
    """At 52 north a degree of longitude is 68.68 km, one of latitude 111.27 km; Mercator stretches both."""
    rise = np.tile(np.arange(5) * 1000.0, (5, 1))
    write_raster(tmp_path / "dem.tif", rise.astype("float32"), west=7.5, north=54.5)
    assert sample(tmp_path).values[0, 1] == pytest.approx(np.degrees(np.arctan(1000 / 68_678)), rel=1e-3)
    write_raster(tmp_path / "dem.tif", rise.T.astype("float32").copy(), west=7.5, north=54.5)
    assert sample(tmp_path).values[0, 1] == pytest.approx(np.degrees(np.arctan(1000 / 111_267)), rel=1e-3)
    mercator = Grid("EPSG:3857", (1000.0, 0.0, 1_113_000.0, 0.0, -1000.0, 6_801_000.0), 2, 2, 1, 2)
    across, along = cell_sizes_m(mercator)
    np.testing.assert_allclose(across, 1000 * np.cos(np.radians(52)), rtol=5e-3)
    np.testing.assert_allclose(along, 1000 * np.cos(np.radians(52)), rtol=5e-3)
    feet = Grid("EPSG:2263", (100.0, 0.0, 0.0, 0.0, -100.0, 0.0), 2, 2, 1, 2)
    np.testing.assert_allclose(cell_sizes_m(feet)[0], 30.48, rtol=1e-4)
