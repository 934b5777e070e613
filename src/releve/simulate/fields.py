"""Random fields on a grid: the clay of the virtual world."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Raster = NDArray[np.float32]


def smooth_field(shape: tuple[int, int], scale_cells: float, rng: np.random.Generator) -> Raster:
    """Return a Gaussian field with mean 0, standard deviation 1 and the given correlation length.

    Examples
    --------
    >>> field = smooth_field((40, 50), 3.0, np.random.default_rng(0))
    >>> field.shape, bool(abs(field.mean()) < 1e-5)
    ((40, 50), True)
    """
    field = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), max(scale_cells, 0.3), mode="reflect")
    return standardise(field)


def fractal_field(shape: tuple[int, int], scale_cells: float, rng: np.random.Generator, octaves: int = 4) -> Raster:
    """Return a rough field: octaves of ``smooth_field``, each half as wide and 0.55 as strong as the last."""
    field = np.zeros(shape, np.float32)
    for octave in range(octaves):
        field += 0.55**octave * smooth_field(shape, scale_cells / 2**octave, rng)
    return standardise(field)


def standardise(values: NDArray[np.floating], where: NDArray[np.bool_] | None = None) -> Raster:
    """Return values shifted and scaled to mean 0 and standard deviation 1 over ``where``."""
    inside = values if where is None else values[where]
    mean, std = float(inside.mean()), float(inside.std())
    return ((values - mean) / max(std, 1e-9)).astype(np.float32)


def quantile_field(shape: tuple[int, int], scale_cells: float, rng: np.random.Generator) -> Raster:
    """Return a smooth field uniform on (0, 1), so that ``field < c`` covers a share ``c``."""
    field = smooth_field(shape, scale_cells, rng).ravel()
    ranks = np.empty(field.size, np.float32)
    ranks[np.argsort(field, kind="stable")] = (np.arange(field.size, dtype=np.float32) + 0.5) / field.size
    return ranks.reshape(shape)
