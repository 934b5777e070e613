"""Small rasters of known numbers for the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

LAEA = "EPSG:3035"
CENTRE = 4_321_000.0, 3_210_000.0
"""x and y, in EPSG:3035, of 10 east, 52 north."""


def write_raster(
    path: Path,
    values: NDArray,
    *,
    west: float = 10.0,
    north: float = 52.0,
    cell: float = 1.0,
    crs: str | None = "EPSG:4326",
    names: tuple[str, ...] = (),
    scales: tuple[float, ...] = (),
    offsets: tuple[float, ...] = (),
    units: tuple[str, ...] = (),
    **options: Any,
) -> Path:
    """Write (H, W) or (bands, H, W) values as a raster whose upper left corner is west, north."""
    values = values[None] if values.ndim == 2 else values
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {
        "driver": "GTiff",
        "count": values.shape[0],
        "height": values.shape[1],
        "width": values.shape[2],
        "dtype": values.dtype,
        "crs": crs,
        "transform": Affine(cell, 0.0, west, 0.0, -cell, north),
    }
    with rasterio.open(path, "w", **(facts | options)) as dataset:
        dataset.write(values)
        for attribute, given in (("descriptions", names), ("scales", scales), ("offsets", offsets), ("units", units)):
            if given:
                setattr(dataset, attribute, given)
    return path


def centres(rows: list[int], columns: list[int], *, west: float = 10.0, north: float = 52.0) -> tuple[list, list]:
    """Return lon and lat of the centres of cells of one degree."""
    return [west + column + 0.5 for column in columns], [north - row - 0.5 for row in rows]


def counting(height: int, width: int, dtype: str = "float32") -> NDArray:
    """Return 0.5, 1.5, 2.5, ... row by row: no two cells are alike, and no number is whole."""
    return (np.arange(height * width).reshape(height, width) + 0.5).astype(dtype)
