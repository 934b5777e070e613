"""Random places on land that rasters cover: the background of records that no other records can be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer

from releve.errors import RasterError
from releve.rasters.grid import Grid, is_geographic
from releve.rasters.layer import Layer
from releve.rasters.sample import sample_layers

MOST_ROUNDS = 30
"""Draws before it is said that hardly anything is covered."""


def draw_places(layers: Sequence[Layer], num: int, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
    """Return longitudes and latitudes of places drawn evenly by area, at each of which all layers have a value.

    Parameters
    ----------
    layers
        Layers that overlap; places are drawn within the one whose grid has the smallest extent.
    num
        Number of places.
    rng
        Draws them.

    Returns
    -------
    lon, lat
        (num,) degrees.

    Raises
    ------
    RasterError
        If there is hardly a place at which all layers have a value.
    """
    grid = min((layer.grid for layer in layers), key=lambda grid: _area(grid.crs, _bounds(grid)))
    west, south, east, north = _bounds(grid)
    to_degrees = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)
    lons, lats, num_found, num_drawn = [], [], 0, 0
    for _ in range(MOST_ROUNDS):
        wanted = int(np.clip(1.2 * (num - num_found) * max(num_drawn, 1) / max(num_found, 1), 1_000, 4 * num + 1_000))
        x, y = rng.uniform(west, east, wanted), rng.uniform(south, north, wanted)
        if is_geographic(grid.crs):  # as many per degree of latitude as there is ground
            low, high = np.sin(np.radians([max(south, -90), min(north, 90)]))
            y = np.degrees(np.arcsin(rng.uniform(low, high, wanted)))
        lon, lat = to_degrees.transform(x, y)
        covered = np.isfinite(sample_layers(layers, lon, lat).values).all(axis=1)
        lons.append(lon[covered])
        lats.append(lat[covered])
        num_found, num_drawn = num_found + int(covered.sum()), num_drawn + wanted
        if num_found >= num:
            return np.concatenate(lons)[:num], np.concatenate(lats)[:num]
    raise RasterError(
        f"{num_found} of {num_drawn:,} random places have a value in all of {[layer.name for layer in layers]}",
        expected="layers that cover the same region",
        action="Leave out the rasters that do not, or set background = 0 under [study]",
    )


def _bounds(grid: Grid) -> tuple[float, float, float, float]:
    """Return west, south, east, north in the grid's own units."""
    corners = [grid.affine @ (column, row) for column in (0, grid.width) for row in (0, grid.height)]
    x, y = zip(*corners, strict=True)
    return min(x), min(y), max(x), max(y)


def _area(crs: str, bounds: tuple[float, float, float, float]) -> float:
    """Return the area of bounds in square degrees."""
    west, south, east, north = bounds
    if not is_geographic(crs):
        transformer = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
        west, south, east, north = transformer.transform_bounds(west, south, east, north)
    return (east - west) * (north - south)
