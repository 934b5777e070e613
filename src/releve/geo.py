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
MAX_LOCAL_DEG = 60.0


def equal_area_crs(lon: ArrayLike, lat: ArrayLike) -> str:
    """Return an equal-area CRS that suits the points: EPSG:3035 in Europe, else a local Lambert azimuthal.

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
    inside = (lon >= EUROPE_LON[0]) & (lon <= EUROPE_LON[1]) & (lat >= EUROPE_LAT[0]) & (lat <= EUROPE_LAT[1])
    if inside.all():
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


def block_ids(xy_m: NDArray[np.float64], block_size_km: float) -> NDArray[np.int64]:
    """Return the number, 0 and up, of the square block that holds each point.

    Parameters
    ----------
    xy_m
        (N, 2) projected metres.
    block_size_km
        Side of a block.

    Examples
    --------
    >>> block_ids(np.array([[0.0, 0.0], [900.0, 900.0], [1500.0, 0.0]]), 1.0).tolist()
    [0, 0, 1]
    """
    cells = np.floor(xy_m / (block_size_km * 1000)).astype(np.int64)
    cells -= cells.min(axis=0)
    one_number = cells[:, 0] * (cells[:, 1].max() + 1) + cells[:, 1]  # ten times faster than unique rows
    return np.unique(one_number, return_inverse=True)[1]


def wide_equal_area_crs(lon: ArrayLike, lat: ArrayLike) -> str:
    """Return an equal-area CRS that is valid for all the points, be they spread over the whole globe.

    EPSG:3035 in Europe; a Lambert azimuthal about the points where all lie within 60 degrees of their centre, so
    that lengths are off by at most 15 %; else the cylindrical EPSG:6933.

    Parameters
    ----------
    lon, lat
        Degrees (EPSG:4326).

    Examples
    --------
    >>> wide_equal_area_crs([2.35, 24.94], [48.85, 60.17])
    'EPSG:3035'
    >>> wide_equal_area_crs([-179.9, 179.9], [-17, -17])
    '+proj=laea +lat_0=-17 +lon_0=180 +datum=WGS84 +units=m'
    >>> wide_equal_area_crs([-70.0, 145.0], [-30.0, -17.0])
    'EPSG:6933'
    """
    lon, lat = np.asarray(lon, float), np.asarray(lat, float)
    if ((lon >= EUROPE_LON[0]) & (lon <= EUROPE_LON[1]) & (lat >= EUROPE_LAT[0]) & (lat <= EUROPE_LAT[1])).all():
        return "EPSG:3035"
    vectors = unit_vectors(lon, lat)
    centre = vectors.mean(axis=0)
    length = np.linalg.norm(centre)
    if length < 1e-6 or (vectors @ centre).min() < np.cos(np.radians(MAX_LOCAL_DEG)) * length:
        return "EPSG:6933"
    # Rounded twice: the mean depends in its last digits on the order of the points, the definition must not.
    lat_0 = np.round(np.degrees(np.arctan2(centre[2], np.hypot(centre[0], centre[1]))), 6)
    lon_0 = np.round(np.round(np.degrees(np.arctan2(centre[1], centre[0])), 6)) + 0.0
    lon_0 = 180.0 if lon_0 == -180 else lon_0
    return f"+proj=laea +lat_0={np.round(lat_0) + 0.0:.0f} +lon_0={lon_0:.0f} +datum=WGS84 +units=m"


def lon_lat_of(vectors: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return longitude and latitude, in degrees, of the directions of (N, 3) vectors.

    Examples
    --------
    >>> [axis.round(6).tolist() for axis in lon_lat_of(unit_vectors([179.0, -3.5], [-17.0, 90.0]) * 2.5)]
    [[179.0, -3.5], [-17.0, 90.0]]
    """
    x, y, z = vectors.T
    return np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(z, np.hypot(x, y)))


def shift_places(
    lon: ArrayLike, lat: ArrayLike, distance_m: ArrayLike, bearing_rad: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the places at a distance from others, in a direction counted clockwise from north.

    Valid at the poles and across the antimeridian.

    Examples
    --------
    111.195 km to the east of a point on the equator:

    >>> [axis.round(3).tolist() for axis in shift_places([179.5], [0.0], [111_195.0], [np.pi / 2])]
    [[-179.5], [0.0]]
    """
    lon, lat = np.radians(np.asarray(lon, float)), np.radians(np.asarray(lat, float))
    angle, bearing = np.asarray(distance_m, float) / (1000 * EARTH_RADIUS_KM), np.asarray(bearing_rad, float)
    here = np.column_stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    north = np.column_stack([-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)])
    east = np.column_stack([-np.sin(lon), np.cos(lon), np.zeros_like(lon)])
    ahead = np.cos(bearing)[:, None] * north + np.sin(bearing)[:, None] * east
    return lon_lat_of(np.cos(angle)[:, None] * here + np.sin(angle)[:, None] * ahead)
