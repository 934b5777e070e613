"""The type that numbers cut from rasters are stored in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from releve.rasters.layer import Layer

FLOAT_FILL = -(2.0**100)
"""Stands for missing among floats; exact in float32, and no quantity of nature."""
WIDER = {"uint8": "int16", "int8": "int16", "int16": "int16", "uint16": "int32", "int32": "int32"}
"""Whole numbers -> a type that has room for a fill, which is its least number."""


def stored_type(layers: Sequence[Layer]) -> tuple[np.dtype, float]:
    """Return the type that holds the numbers of all layers, and what stands for missing in it.

    Whole numbers stay as they are, with the files' own value for no data where all have the same one; others, and
    scaled ones, are float32.
    """
    types = {layer.dtype for layer in layers}
    scaled = any((layer.scale, layer.offset) != (1.0, 0.0) for layer in layers)
    if scaled or any(np.dtype(dtype).kind == "f" for dtype in types):
        return np.dtype("float32"), FLOAT_FILL
    common = np.result_type(*types)
    nodata = {layer.nodata for layer in layers}
    if len(types) == len(nodata) == 1 and _holds(common, next(iter(nodata))):
        return common, int(next(iter(nodata)) or 0)
    wide = np.dtype(WIDER.get(common.name, "int64"))
    return wide, int(np.iinfo(wide).min)


def _holds(dtype: np.dtype, number: float | None) -> bool:
    bounds = np.iinfo(dtype)
    return number is not None and float(number).is_integer() and bounds.min <= number <= bounds.max


def encode(values: NDArray[np.floating], dtype: np.dtype, fill: float) -> NDArray:
    """Return values as they are stored: NaN as the fill, between whole numbers the nearest.

    Examples
    --------
    >>> encode(np.array([1.6, np.nan]), np.dtype("int16"), -32768).tolist()
    [2, -32768]
    """
    with np.errstate(invalid="ignore"):  # NaN is no integer
        stored = (np.rint(values) if dtype.kind != "f" else values).astype(dtype)
    stored[np.isnan(values)] = fill
    return stored
