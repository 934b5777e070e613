from __future__ import annotations

import numpy as np
import pytest

from releve.geo import (
    EARTH_RADIUS_KM,
    block_ids,
    equal_area_crs,
    nearest_km,
    project,
    shift_places,
    wide_equal_area_crs,
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
    crs = equal_area_crs(widths, heights)
    blocks = block_ids(project(widths, heights, crs), 300)
    counts, centres = np.bincount(blocks), np.bincount(blocks, heights) / np.bincount(blocks)
    full = counts > 0.9 * np.quantile(counts, 0.9)  # not cut by the border
    assert np.corrcoef(counts[full], centres[full])[0, 1] ** 2 < 0.3
    assert counts[full].std() / counts[full].mean() < 0.05


def test_block_numbers_are_dense_and_borders_belong_to_the_upper_block() -> None:
    xy = np.array([[0.0, 0.0], [999.9, 0.0], [1000.0, 0.0], [-0.1, 0.0], [0.0, 5000.0]])
    blocks = block_ids(xy, 1.0)
    assert blocks[0] == blocks[1] and len(set(blocks.tolist())) == 4 and blocks.max() == 3


@pytest.mark.parametrize(
    ("lon", "lat", "expected"),
    [
        ([10.0, 30.0], [40.0, 60.0], "EPSG:3035"),
        ([10.0, -61.5], [40.0, 16.2], "+proj=laea"),  # Europe and Guadeloupe
        ([0.0, 180.0], [0.0, 0.0], "EPSG:6933"),  # opposite sides: no centre
        ([0.0, 120.0, -120.0], [89.0, 89.0, 89.0], "+proj=laea +lat_0=90 "),
        ([-180.0], [10.0], "+proj=laea +lat_0=10 +lon_0=180 "),
    ],
)
def test_the_projection_is_valid_for_all_points(lon: list[float], lat: list[float], expected: str) -> None:
    crs = wide_equal_area_crs(lon, lat)
    assert crs.startswith(expected)
    assert np.isfinite(project(lon, lat, crs)).all()


def test_shifted_places_lie_at_the_distance_in_the_direction() -> None:
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(-180, 180, 200), np.degrees(np.arcsin(rng.uniform(-1, 1, 200)))
    distance_m = rng.uniform(0, 5000, 200)
    to_lon, to_lat = shift_places(lon, lat, distance_m, rng.uniform(0, 2 * np.pi, 200))
    found = [haversine_km(*there)[0] for there in zip(lon, lat, to_lon[:, None], to_lat[:, None], strict=True)]
    np.testing.assert_allclose(1000 * np.array(found), distance_m, atol=1e-3)
    assert shift_places([5.0], [45.0], [1000.0], [0.0])[1][0] == pytest.approx(45 + 1000 / 111_195.08)
    assert shift_places([5.0], [90.0], [1000.0], [0.0])[1][0] == pytest.approx(90 - 1000 / 111_195.08)  # from the pole
