"""Slope, aspect and roughness of elevations, each from a cell and the eight around it."""

# H W cells of a window

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from releve.errors import pick


def derive(
    what: str,
    elevation_HW: NDArray[np.floating],
    across_m: NDArray[np.float64],
    along_m: NDArray[np.float64],
    *,
    south_up: bool = False,
) -> NDArray[np.float32]:
    """Return a quantity of the ground from elevations in metres; NaN where the elevation is missing.

    A missing neighbour, as at the raster's edge, goes on as the opposite one came: a plane stays a plane.

    Parameters
    ----------
    what
        ``slope``: degrees, 0 to 90; ``northness`` and ``eastness``: cosine and sine of the direction that the ground
        faces, clockwise from north, 0 where it is level; ``roughness``: the largest elevation less the least.
    elevation_HW
        Window of elevations.
    across_m, along_m
        (H,) metres from a cell to the next in the row, and in the column.
    south_up
        Whether rows go from south to north.

    References
    ----------
    Horn (1981), Hill shading and the reflectance map, doi:10.1109/PROC.1981.11918: the gradient is the mean of three
    central differences, of which the middle one counts twice. Wilson et al. (2007), doi:10.1080/01490410701295962:
    roughness.

    Examples
    --------
    Ground that falls by 1 m for each metre to the south:

    >>> import numpy as np
    >>> plane = np.repeat(np.array([[20.0], [10.0], [0.0]]), 3, axis=1)
    >>> size = np.full(3, 10.0)
    >>> [round(float(derive(what, plane, size, size)[1, 1]), 3) for what in ("slope", "northness", "roughness")]
    [45.0, -1.0, 20.0]
    """
    around = _neighbours(elevation_HW.astype(np.float64))
    with np.errstate(invalid="ignore"):
        made = pick({"slope": _slope, "northness": _northness, "eastness": _eastness, "roughness": _roughness}, what)
        sign = 1.0 if south_up else -1.0
        result = made(around, across_m[:, None], sign * along_m[:, None])
    return np.where(np.isfinite(elevation_HW), result, np.nan).astype(np.float32)


def _neighbours(elevation_HW: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (3, 3, H, W): the cells above, beside and below each."""
    height, width = elevation_HW.shape
    padded = np.pad(elevation_HW, 1, constant_values=np.nan)
    around = np.stack([[padded[i : i + height, j : j + width] for j in range(3)] for i in range(3)])
    opposite = 2 * elevation_HW - around[::-1, ::-1]
    filled = np.where(np.isfinite(around), around, opposite)
    return np.where(np.isfinite(filled), filled, elevation_HW)


def _gradient(around: NDArray, across_m: NDArray, north_m: NDArray) -> tuple[NDArray, NDArray]:
    """Return the rise towards the east and towards the north, metres a metre."""
    weights = np.array([1.0, 2.0, 1.0])
    east = np.einsum("i,ihw->hw", weights, around[:, 2] - around[:, 0]) / (8 * across_m)
    north = np.einsum("j,jhw->hw", weights, around[2] - around[0]) / (8 * north_m)
    return east, north


def _slope(around: NDArray, across_m: NDArray, north_m: NDArray) -> NDArray:
    return np.degrees(np.arctan(np.hypot(*_gradient(around, across_m, north_m))))


def _northness(around: NDArray, across_m: NDArray, north_m: NDArray) -> NDArray:
    east, north = _gradient(around, across_m, north_m)
    steep = np.hypot(east, north)
    return np.where(steep > 0, -north / np.where(steep > 0, steep, 1.0), 0.0)


def _eastness(around: NDArray, across_m: NDArray, north_m: NDArray) -> NDArray:
    east, north = _gradient(around, across_m, north_m)
    steep = np.hypot(east, north)
    return np.where(steep > 0, -east / np.where(steep > 0, steep, 1.0), 0.0)


def _roughness(around: NDArray, across_m: NDArray, north_m: NDArray) -> NDArray:
    flat = around.reshape(9, *around.shape[2:])
    return flat.max(axis=0) - flat.min(axis=0)
