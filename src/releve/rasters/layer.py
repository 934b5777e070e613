"""A layer: one quantity, or classes, over the grid of a raster, and what the numbers in its file mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from releve.ingest.layouts import LARGEST, USUAL_FILLS
from releve.rasters.classes import Classes
from releve.rasters.grid import Grid


@dataclass(frozen=True)
class Layer:
    """One quantity, or classes, over a grid; small enough to be sent to another process."""

    name: str
    source: str
    """What GDAL opens."""
    band: int
    """From 1."""
    grid: Grid
    dtype: str
    nodata: float | None = None
    """None: the file names none. NaN, infinities and magnitudes from 1e38 on are never data."""
    masked: bool = False
    """Whether a mask in the file says where data are."""
    scale: float = 1.0
    offset: float = 0.0
    units: str = ""
    categorical: bool = False
    found_by: str = ""
    """How classes were found: declared, a table of the file, or whole numbers without order."""
    classes: Classes = ()
    """Codes and names that are known; of ``share`` all codes."""
    method: str = "nearest"
    radius_m: float | None = None
    group: str = "rasters"
    derived: str = ""
    """slope, northness, eastness or roughness, of the elevations in ``band``."""
    derived_from: str = ""
    """Name of the layer of elevations."""

    @property
    def fills(self) -> tuple[float, ...]:
        """What stands for no data."""
        return fills_of(self.nodata)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of its values at a place: one, or of ``share`` one for each class."""
        if self.method == "share":
            return tuple(f"{self.name}={code}" for code, _ in self.classes)
        return (self.name,)

    @property
    def gives_codes(self) -> bool:
        """Whether its values at a place are codes of classes; a share of a class is a number."""
        return self.categorical and self.method != "share"


def fills_of(nodata: float | None) -> tuple[float, ...]:
    """Return what stands for no data: what a file names, or, where it names nothing, what commonly does."""
    return USUAL_FILLS if nodata is None else (nodata,)


def to_numbers(raw: NDArray, layer: Layer) -> NDArray[np.float32]:
    """Return what numbers in the file mean: scaled, NaN where there is no data.

    Where the file names no value for no data, those that commonly stand for it are (-9999 and the like).
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if (layer.scale, layer.offset) == (1.0, 0.0):
            values = raw.astype(np.float32)
        else:
            values = (raw.astype(np.float64) * layer.scale + layer.offset).astype(np.float32)
        if raw.dtype.kind == "f":
            values[~(np.abs(raw) < LARGEST)] = np.nan
        for fill in layer.fills:
            missing = _equal(raw, fill)
            if missing is not None:
                values[missing] = np.nan
    return values


def _equal(raw: NDArray, number: float) -> NDArray[np.bool_] | None:
    """Return where cells hold a number, as far as their type can hold it; None if it cannot."""
    if raw.dtype.kind == "f":
        return raw == raw.dtype.type(number)
    bounds = np.iinfo(raw.dtype)
    if not (float(number).is_integer() and bounds.min <= number <= bounds.max):
        return None
    return raw == raw.dtype.type(int(number))
