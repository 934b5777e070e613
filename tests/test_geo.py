from __future__ import annotations

import numpy as np
import pytest
from pyproj import Transformer

from releve.geo import (
    EARTH_RADIUS_KM,
    block_ids,
    equal_area_crs,
    grid_cells,
    in_europe,
    nearest_km,
    project,
)


def haversine_km(lon: float, lat: float, to_lon: np.ndarray, to_lat: np.ndarray) -> np.ndarray:
    lon, lat, to_lon, to_lat = map(np.radians, (lon, lat, to_lon, to_lat))
    a = np.sin((to_lat - lat) / 2) ** 2 + np.cos(lat) * np.cos(to_lat) * np.sin((to_lon - lon) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(a))


def test_the_nearest_distance_is_the_least_haversine_anywhere_on_earth() -> None:
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(-180, 180, 50), rng.uniform(-90, 90, 50)
    to_lon, to_lat = rng.uniform(-180, 180, 80), rng.uniform(-90, 90, 80)
    expected = [haversine_km(x, y, to_lon, to_lat).min() for x, y in zip(lon, lat, strict=True)]
    np.testing.assert_allclose(nearest_km(lon, lat, to_lon, to_lat), expected, rtol=1e-9)


def test_the_antimeridian_is_no_border() -> None:
    assert nearest_km([179.9], [0.0], [-179.9], [0.0])[0] == pytest.approx(22.239, abs=1e-3)
    assert equal_area_crs([179.0, -179.0], [0.0, 0.0]).startswith("+proj=laea +lat_0=0 +lon_0=")
    x = project([179.9, -179.9], [-17.0, -17.0], equal_area_crs([179.9, -179.9], [-17.0, -17.0]))[:, 0]
    assert abs(x[0] - x[1]) < 30_000


def test_no_points_are_infinitely_far() -> None:
    assert nearest_km([1.0, 2.0], [3.0, 4.0], [], []).tolist() == [np.inf, np.inf]


@pytest.mark.parametrize(("lon", "lat"), [((-9.0, 30.0), (36.0, 70.0)), ((140.0, 150.0), (-40.0, -12.0))])
def test_blocks_have_the_same_area_everywhere(lon: tuple[float, float], lat: tuple[float, float]) -> None:
    """Points drawn evenly over the ground fall evenly into blocks, in the north as in the south."""
    rng = np.random.default_rng(0)
    heights = np.degrees(np.arcsin(rng.uniform(*np.sin(np.radians(lat)), 200_000)))  # even over a sphere's area
    widths = rng.uniform(*lon, 200_000)
    blocks = block_ids(widths, heights, 300)
    counts, centres = np.bincount(blocks), np.bincount(blocks, heights) / np.bincount(blocks)
    full = counts > 0.9 * np.quantile(counts, 0.9)  # not cut by the border
    assert np.corrcoef(counts[full], centres[full])[0, 1] ** 2 < 0.3
    assert counts[full].std() / counts[full].mean() < 0.05


def test_cells_in_europe_are_those_of_the_reference_grid() -> None:
    """Places a metre inside the corners of a cell of EPSG:3035, found by pyproj alone, and a metre outside."""
    to_degrees = Transformer.from_crs("EPSG:3035", "EPSG:4326", always_xy=True).transform
    inside = grid_cells(*to_degrees([4_000_001, 4_000_999, 4_000_001], [2_999_001, 2_999_999, 2_999_999]), 1000)
    outside = grid_cells(*to_degrees([3_999_999, 4_001_001, 4_000_500], [2_999_500, 2_999_500, 3_000_001]), 1000)
    assert len(set(inside.tolist())) == 1 and len({*inside.tolist(), *outside.tolist()}) == 4


def test_a_place_keeps_its_block_mates_whatever_else_there_is() -> None:
    """One plot in Siberia or in Peru once moved the blocks of all others."""
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(-5, 40, 3000), rng.uniform(38, 68, 3000)
    alone = block_ids(lon, lat, 50)
    for far in ((60.0, 55.0), (-75.0, -12.0)):
        among = block_ids(np.append(lon, far[0]), np.append(lat, far[1]), 50)[:-1]
        assert (
            len(np.unique(alone)) == len(np.unique(among)) == len(set(zip(alone.tolist(), among.tolist(), strict=True)))
        )


def test_points_even_over_the_globe_fall_evenly_into_cells() -> None:
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(-180, 180, 300_000), np.degrees(np.arcsin(rng.uniform(-1, 1, 300_000)))
    counts = np.unique(grid_cells(lon, lat, 1_000_000)[~in_europe(lon, lat)], return_counts=True)[1]
    counts = counts[counts > 0.5 * np.median(counts)]  # less those that Europe's squares cut
    assert counts.mean() == pytest.approx(300_000 / 510, rel=0.05)  # 510 million square kilometres


def test_neither_the_antimeridian_nor_a_pole_is_a_border_and_nowhere_is_minus_one() -> None:
    assert len(set(grid_cells([179.99, -179.99, 180.0, -180.0], [-17.0] * 4, 50_000).tolist())) == 1
    assert len(set(grid_cells([0.0, 120.0, -120.0], [89.999] * 3, 1000).tolist())) == 1
    assert len(set(grid_cells([0.0, 120.0, -120.0], [-90.0] * 3, 1000).tolist())) == 1
    assert grid_cells([np.nan, 181.0, 100.0], [10.0, 10.0, 91.0], 1000).tolist() == [-1, -1, -1]
