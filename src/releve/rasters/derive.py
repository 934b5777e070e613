"""Slope, aspect and roughness of elevations, each from a cell and the eight around it."""

# H W cells of a window

from __future__ import annotations

from collections.abc import Iterator

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

    The gradient is that of the plane through the cell which fits its neighbours best, the four nearest counting twice:
    Horn's where all eight are there. Where some are missing, as at the raster's edge, it is fitted to the others.

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
    elevation = elevation_HW.astype(np.float64)
    if what == "roughness":
        return _roughness(elevation).astype(np.float32)
    shape = pick({"slope": _slope, "northness": _northness, "eastness": _eastness}, what, what="derived layer")
    across, down = _gradient(elevation)
    result = shape(across / across_m[:, None], down / along_m[:, None] * (1 if south_up else -1))
    return np.where(np.isfinite(elevation), result, np.nan).astype(np.float32)


def _neighbours(elevation_HW: NDArray[np.float64]) -> Iterator[tuple[int, int, NDArray[np.float64]]]:
    """Yield steps down and across, and the cell there, of each neighbour; NaN beyond the window."""
    height, width = elevation_HW.shape
    padded = np.pad(elevation_HW, 1, constant_values=np.nan)
    for down in (-1, 0, 1):
        for across in (-1, 0, 1):
            if down or across:
                yield down, across, padded[1 + down : 1 + down + height, 1 + across : 1 + across + width]


def _gradient(elevation_HW: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the rise along the row and down the column, in metres a cell, by weighted least squares."""
    across_2, down_2, both, across_z, down_z = np.zeros((5, *elevation_HW.shape))
    for down, across, there in _neighbours(elevation_HW):
        rise = there - elevation_HW
        weight = np.where(np.isfinite(rise), 1.0 if down and across else 2.0, 0.0)
        rise = np.where(np.isfinite(rise), rise, 0.0)
        across_2 += weight * across**2
        down_2 += weight * down**2
        both += weight * across * down
        across_z += weight * across * rise
        down_z += weight * down * rise
    determinant = across_2 * down_2 - both**2
    solved = determinant > 0
    scale = np.where(solved, determinant, 1.0)
    # Where all neighbours lie on one line, the least gradient that fits them.
    trace = np.maximum(across_2 + down_2, 1.0)
    gradient_across = np.where(solved, (down_2 * across_z - both * down_z) / scale, across_z / trace)
    gradient_down = np.where(solved, (across_2 * down_z - both * across_z) / scale, down_z / trace)
    return gradient_across, gradient_down


def _slope(east: NDArray[np.float64], north: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.degrees(np.arctan(np.hypot(east, north)))


def _northness(east: NDArray[np.float64], north: NDArray[np.float64]) -> NDArray[np.float64]:
    steep = np.hypot(east, north)
    return np.where(steep > 0, -north / np.where(steep > 0, steep, 1.0), 0.0)


def _eastness(east: NDArray[np.float64], north: NDArray[np.float64]) -> NDArray[np.float64]:
    return _northness(north, east)


def _roughness(elevation_HW: NDArray[np.float64]) -> NDArray[np.float64]:
    highest, lowest = elevation_HW.copy(), elevation_HW.copy()
    for _, _, there in _neighbours(elevation_HW):
        known = np.where(np.isfinite(there), there, elevation_HW)
        highest, lowest = np.maximum(highest, known), np.minimum(lowest, known)
    return highest - lowest
