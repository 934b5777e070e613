"""A small world to be mapped: three rasters, of which two have nothing in a corner, and plots whose facts differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from pyproj import Transformer

from rasters.fakes import write_raster

WEST, NORTH, CELL, HEIGHT, WIDTH = 5.0, 48.0, 0.02, 40, 50
NAMES = tuple(f"Poa {letter}" for letter in "abcdefghijkl")
NUM_NOWHERE = 20 * 25
"""Cells of the corner in the north-west where only soil is known."""


def warmth_at(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return (np.sin(columns / 9) + np.cos(rows / 7) + 10).astype(np.float32)


def make_rasters(folder: Path) -> Path:
    """Write warmth.tif and wetness.tif (degrees) and soil.tif (classes, in metres of EPSG:3035)."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    warmth, wetness = warmth_at(rows, columns), (np.cos(rows * columns / 300) * 100).astype(np.float32)
    warmth[:20, :25] = wetness[:20, :25] = -9999
    place = {"west": WEST, "north": NORTH, "cell": CELL, "nodata": -9999.0}
    write_raster(folder / "warmth.tif", warmth, **place)
    write_raster(folder / "wetness.tif", wetness, **place)
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:3035", always_xy=True).transform([5.0, 6.0], [48.0, 47.2])
    west, north = min(x) // 2000 * 2000 - 10_000, max(y) // 2000 * 2000 + 10_000
    down, across = np.mgrid[:70, :60]
    soil = (1 + across // 25 + (down // 30) % 2).astype(np.uint8)
    write_raster(folder / "soil.tif", soil, west=west, north=north, cell=2000.0, crs="EPSG:3035", nodata=0)
    return folder


def make_study(folder: Path, *, num_plots: int = 120, seed: int = 0) -> Path:
    """Write rasters, plots.csv (area, uncertainty, year; several species a plot) and study.toml; return it."""
    rng = np.random.default_rng(seed)
    make_rasters(folder)
    rows, columns = rng.integers(20, HEIGHT, num_plots), rng.integers(0, WIDTH, num_plots)
    liked = np.where(np.arange(len(NAMES)) % 2 == 0, 2.0, -2.0) * (warmth_at(rows, columns) - 10)[:, None]
    present = rng.random(liked.shape) < 1 / (1 + np.exp(-(liked - 0.4 * np.arange(len(NAMES)))))
    facts = pl.DataFrame(
        {
            "plot": [f"P{i}" for i in range(num_plots)],
            "lon": WEST + CELL * (columns + rng.random(num_plots)),
            "lat": NORTH - CELL * (rows + rng.random(num_plots)),
            "area_m2": rng.choice([25.0, 100.0], num_plots),
            "uncertainty_m": rng.choice([5.0, 20.0], num_plots),
            "year": rng.integers(2001, 2020, num_plots),
        }
    )
    found = [
        {**facts.row(i, named=True), "species": name}
        for i in range(num_plots)
        for name in [NAMES[s] for s in np.flatnonzero(present[i])] or [None]
    ]
    pl.DataFrame(found).write_csv(folder / "plots.csv")
    text = '[study]\ntitle = "a small world"\n[[study.plots]]\nfile = "plots.csv"\n'
    text += '[[study.rasters]]\nfile = ["warmth.tif", "wetness.tif"]\n'
    text += '[[study.rasters]]\nfile = "soil.tif"\ncategorical = true\n'
    (folder / "study.toml").write_text(text, encoding="utf-8")
    return folder / "study.toml"
