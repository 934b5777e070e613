"""Places on the ground: equal-area metres, great-circle distances, spatial blocks."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pyproj import Transformer
from scipy.spatial import cKDTree

EARTH_RADIUS_KM = 6371.0088
EUROPE_LON = (-32.0, 45.0)
EUROPE_LAT = (25.0, 73.0)
_BITS, _SHIFT, _ELSEWHERE = 28, 2**26, 2**60
"""How a cell is numbered: columns of EPSG:3035 may be below 0, and belts elsewhere have numbers of their own."""


def equal_area_crs(lon: ArrayLike, lat: ArrayLike) -> str:
    """Return an equal-area CRS to draw the points in: EPSG:3035 in Europe, else a local Lambert azimuthal.

    It depends on all the points; blocks and cells, which must not, are those of :func:`grid_cells`.

    Parameters
    ----------
    lon, lat
        Degrees (EPSG:4326).

    Returns
    -------
    str
        A definition that pyproj reads; distances in it are metres.

    Examples
    --------
    >>> equal_area_crs([2.35], [48.85])
    'EPSG:3035'
    >>> equal_area_crs([145.0], [-17.0])
    '+proj=laea +lat_0=-17 +lon_0=145 +datum=WGS84 +units=m'
    """
    lon, lat = np.asarray(lon, float), np.asarray(lat, float)
    if in_europe(lon, lat).all():
        return "EPSG:3035"
    # The mean direction, so that points on both sides of the antimeridian have their centre between them.
    centre = unit_vectors(lon, lat).mean(axis=0)
    lat_0 = np.degrees(np.arctan2(centre[2], np.hypot(centre[0], centre[1])))
    lon_0 = np.degrees(np.arctan2(centre[1], centre[0]))
    return f"+proj=laea +lat_0={lat_0:.0f} +lon_0={lon_0:.0f} +datum=WGS84 +units=m"


def project(lon: ArrayLike, lat: ArrayLike, crs: str) -> NDArray[np.float64]:
    """Return (N, 2) metres ``x_m, y_m`` of the points in a projected CRS.

    Examples
    --------
    >>> project([10.0], [52.0], "EPSG:3035").round().astype(int).tolist()  # the projection's centre
    [[4321000, 3210000]]
    """
    x, y = _transformer_to(crs).transform(np.asarray(lon), np.asarray(lat))
    return np.column_stack([x, y])


@lru_cache(maxsize=32)
def _transformer_to(crs: str) -> Transformer:
    return Transformer.from_crs("EPSG:4326", crs, always_xy=True)


def unit_vectors(lon: ArrayLike, lat: ArrayLike) -> NDArray[np.float64]:
    """Return (N, 3) vectors from the Earth's centre, of length 1."""
    lon, lat = np.radians(np.asarray(lon, float)), np.radians(np.asarray(lat, float))
    return np.column_stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


def nearest_km(lon: ArrayLike, lat: ArrayLike, to_lon: ArrayLike, to_lat: ArrayLike) -> NDArray[np.float64]:
    """Return the great-circle distance, in km, from each point to the nearest of the others.

    Infinite where there are no others.

    Examples
    --------
    One degree of latitude is about 111 km:

    >>> nearest_km([0.0], [0.0], [0.0, 5.0], [1.0, 5.0]).round(1).tolist()
    [111.2]
    """
    if np.size(to_lon) == 0:
        return np.full(np.size(lon), np.inf)
    chord, _ = cKDTree(unit_vectors(to_lon, to_lat)).query(unit_vectors(lon, lat), workers=-1)
    return 2 * EARTH_RADIUS_KM * np.arcsin(np.clip(chord / 2, 0, 1))


def in_europe(lon: ArrayLike, lat: ArrayLike) -> NDArray[np.bool_]:
    """Return whether each place lies where EPSG:3035 is used."""
    lon, lat = np.asarray(lon, float), np.asarray(lat, float)
    across = (lon >= EUROPE_LON[0]) & (lon <= EUROPE_LON[1])
    return across & (lat >= EUROPE_LAT[0]) & (lat <= EUROPE_LAT[1])


def grid_cells(lon: ArrayLike, lat: ArrayLike, size_m: float) -> NDArray[np.int64]:
    """Return the number of the equal-area cell that holds each place: a matter of the place alone, anywhere on Earth.

    In Europe cells are squares of EPSG:3035 counted from its origin: with 1000 m, those of the European reference
    grid. Elsewhere the globe is cut into belts of one height, and each belt into as many like cells as its area holds.

    Parameters
    ----------
    lon, lat
        (N,) degrees (EPSG:4326).
    size_m
        Side of a cell, 1 m or more.

    Returns
    -------
    numpy.ndarray
        (N,) int64, not dense; -1 where a place is not a place.

    Examples
    --------
    The origin of EPSG:3035's metres, and a step to the east and to the north:

    >>> cells = grid_cells([10.0, 10.001, 10.0, 10.02], [52.001, 52.001, 52.02, 52.001], 1000)
    >>> (cells == cells[0]).tolist()
    [True, True, False, False]
    >>> bool(grid_cells([100.0], [10.0], 5e4)[0] == grid_cells([100.1, 10.0], [10.1, 52.0], 5e4)[0])
    True
    """
    lon, lat = np.asarray(lon, float), np.asarray(lat, float)
    cells = np.full(lon.shape, -1, np.int64)
    europe = in_europe(lon, lat)
    across, up = np.floor(project(lon[europe], lat[europe], "EPSG:3035").T / size_m).astype(np.int64) + _SHIFT
    cells[europe] = across << _BITS | up
    rest = ~europe & (np.abs(lon) <= 180) & (np.abs(lat) <= 90)
    cells[rest] = _ELSEWHERE + _belt_cells(lon[rest], lat[rest], size_m / (1000 * EARTH_RADIUS_KM))
    return cells


def _belt_cells(lon: NDArray[np.float64], lat: NDArray[np.float64], side: float) -> NDArray[np.int64]:
    """Return cells of ``side`` radians: a cap at each pole, between them belts that are cut into like cells.

    A cell lies across the antimeridian, so that it is no border.
    """
    cap = min(side / np.sqrt(np.pi), np.pi / 2)
    num_belts = max(1, round((np.pi - 2 * cap) / side))
    height = (np.pi - 2 * cap) / num_belts
    from_south = np.radians(lat) + np.pi / 2
    belt = np.floor((from_south - cap) / height).astype(np.int64)
    belt = np.clip(belt, 0, num_belts - 1)
    low = cap + belt * height
    area = 2 * np.pi * (np.cos(low) - np.cos(low + height))
    num_columns = np.maximum(1, np.round(area / side**2)).astype(np.int64)
    column = np.floor((lon + 180) / 360 * num_columns + 0.5).astype(np.int64) % num_columns
    cells = (belt + 1) << _BITS | column
    cells[from_south < cap] = 0
    cells[from_south > np.pi - cap] = (num_belts + 1) << _BITS
    return cells


def block_ids(lon: ArrayLike, lat: ArrayLike, block_size_km: float) -> NDArray[np.int64]:
    """Return the number, 0 and up, of the block of :func:`grid_cells` that holds each place.

    Examples
    --------
    >>> block_ids([10.0, 10.1, 12.0], [52.01, 52.02, 52.01], 50.0).tolist()
    [0, 0, 1]
    """
    return np.unique(grid_cells(lon, lat, 1000 * block_size_km), return_inverse=True)[1]
