"""Square cells of equal area, anywhere on Earth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS
from pyproj.exceptions import CRSError

from releve.errors import ConfigError
from releve.geo import project, wide_equal_area_crs

GLOBAL_CRS = "EPSG:6933"


def assign_cells(
    lon: NDArray[np.float64], lat: NDArray[np.float64], size_m: float, *, crs: str | None = None
) -> NDArray[np.int64]:
    """Return the number, 0 and up, of the equal-area cell that holds each place; -1 outside the CRS's area of use.

    Numbers are not dense. Cells are squares of ``size_m`` in the CRS, counted from its origin: with EPSG:3035 and
    1000 m they are the cells of the European reference grid. In a projection centred on the records a cell lies about
    its centre. With the global EPSG:6933 they are rectangles of equal
    area, nearly ``size_m`` squared, that divide the globe without a remainder, so that no cell is cut by the
    antimeridian or at a pole; they are narrow and high far from 30 degrees of latitude.

    Parameters
    ----------
    lon, lat
        (N,) degrees.
    size_m
        Side of a cell.
    crs
        Equal-area CRS; by default chosen by ``releve.geo.wide_equal_area_crs``.

    Raises
    ------
    ConfigError
        If the CRS is unknown, or is not an equal-area one in metres.

    Examples
    --------
    >>> cells = assign_cells(np.array([10.001, 10.002, 10.02]), np.full(3, 52.001), 1000)
    >>> (cells[1:] == cells[:-1]).tolist()
    [True, False]
    """
    if len(lon) == 0:
        return np.empty(0, np.int64)
    if crs is None:
        crs, valid = wide_equal_area_crs(lon, lat), np.ones(len(lon), bool)
    else:
        valid = _in_area_of_use(lon, lat, _read_equal_area(crs))
    if crs == GLOBAL_CRS:
        return np.where(valid, _global_cells(lon, lat, size_m), -1)
    xy_m = project(lon, lat, crs)
    valid &= np.isfinite(xy_m).all(axis=1)
    shift = 0.5 if crs.startswith("+proj") else 0.0  # the middle of a projection made for the records is no border
    cells = np.floor(xy_m[valid] / size_m + shift).astype(np.int64)
    cells -= cells.min(axis=0, initial=0)
    found = np.full(len(lon), -1, np.int64)
    found[valid] = cells[:, 0] * (cells[:, 1].max(initial=0) + 1) + cells[:, 1]
    return found


def _global_cells(lon: NDArray[np.float64], lat: NDArray[np.float64], size_m: float) -> NDArray[np.int64]:
    """Return cells of the cylindrical projection, with the antimeridian in the middle of a column."""
    east, north = project([180.0, 0.0], [0.0, 90.0], GLOBAL_CRS).max(axis=0)
    num_columns, num_rows = max(1, round(2 * east / size_m)), max(1, round(2 * north / size_m))
    x, y = project(np.where(np.abs(lat) == 90, 0.0, lon), lat, GLOBAL_CRS).T
    column = np.floor((x / (2 * east) + 0.5) * num_columns + 0.5).astype(np.int64) % num_columns
    row = np.floor((y / (2 * north) + 0.5) * num_rows).astype(np.int64).clip(0, num_rows - 1)
    return column * num_rows + row


def _read_equal_area(crs: str) -> CRS:
    try:
        found = CRS.from_user_input(crs)
    except CRSError as error:
        raise ConfigError(f"pseudoplots.crs {crs!r} is unknown", expected="such as 'EPSG:3035'") from error
    method = found.coordinate_operation.method_name if found.coordinate_operation else "no projection"
    unit = found.axis_info[0].unit_name if found.axis_info else "none"
    if not ("equal area" in method.lower() or method in ("Mollweide", "Sinusoidal")) or unit != "metre":
        raise ConfigError(
            f"pseudoplots.crs {crs!r} has the projection {method!r} and the unit {unit!r}",
            expected="an equal-area projection in metres",
            action="Leave crs out, or set EPSG:3035 (Europe), EPSG:5070 (United States) or EPSG:6933 (the world)",
        )
    return found


def _in_area_of_use(lon: NDArray[np.float64], lat: NDArray[np.float64], crs: CRS) -> NDArray[np.bool_]:
    area = crs.area_of_use
    if area is None or crs == CRS(GLOBAL_CRS):  # whose equations hold to the poles
        return np.ones(len(lon), bool)
    east = area.east if area.east >= area.west else area.east + 360
    across = (lon - area.west) % 360 <= east - area.west
    return across & (lat >= area.south) & (lat <= area.north)
