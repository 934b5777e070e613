"""A small study of one's own: plots and records whose species have names, over three rasters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import rasterio
from rasterio.transform import from_origin

NAMES = ("Abies alba", "Carex flacca", "Fagus sylvatica", "Quercus robur", "Stipa × gallica", "Viola odorata")
WEST, NORTH, CELL = 5.0, 48.0, 0.02


def write_layer(path: Path, values: np.ndarray, *, nodata: float | None = None) -> Path:
    """Write a raster of cells of 0.02 degrees."""
    settings = {"driver": "GTiff", "height": values.shape[0], "width": values.shape[1], "count": 1, "nodata": nodata}
    place = {"crs": "EPSG:4326", "transform": from_origin(WEST, NORTH, CELL, CELL)}
    with rasterio.open(path, "w", dtype=values.dtype, **settings, **place) as file:
        file.write(values, 1)
    return path


def make_study(folder: Path, *, num_plots: int = 60, num_records: int = 0, seed: int = 0, side: int = 100) -> Path:
    """Write warmth.tif, wetness.tif, soil.tif, plots.csv (with a column pH) and records.csv; return study.toml.

    Even species like warmth, odd ones shun it. Some plots have no species at all.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    across, down = np.meshgrid(np.linspace(0, 3, side), np.linspace(0, 2, side))
    warmth = (np.sin(2 * across) + np.cos(3 * down) + 10).astype(np.float32)
    wetness = (np.cos(across * down) * 100).astype(np.float32)
    wetness[:3] = -9999
    soil = ((across > 1).astype(np.uint8) + (down > 1)).astype(np.uint8)
    write_layer(folder / "warmth.tif", warmth)
    write_layer(folder / "wetness.tif", wetness, nodata=-9999)
    write_layer(folder / "soil.tif", soil)

    def found_at(num: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows, columns = rng.integers(4, side, num), rng.integers(0, side, num)
        liked = np.where(np.arange(len(NAMES)) % 2 == 0, 2.5, -2.5) * (warmth[rows, columns] - 10)[:, None]
        present = rng.random((num, len(NAMES))) < 1 / (1 + np.exp(-(liked - 1)))
        return WEST + CELL * (columns + 0.5), NORTH - CELL * (rows + 0.5), present

    lines = ["[study]", 'title = "a small study"']
    if num_plots:
        lon, lat, present = found_at(num_plots)
        acidity = rng.uniform(4, 8, num_plots).round(2)
        header = pl.DataFrame({"plot": [f"P-{i:03d}" for i in range(num_plots)], "lon": lon, "lat": lat, "pH": acidity})
        rows = [
            {**header.row(i, named=True), "species": name}
            for i in range(num_plots)
            for name in [NAMES[s] for s in np.flatnonzero(present[i])] or [None]
        ]
        pl.DataFrame(rows).write_csv(folder / "plots.csv")
        lines += ["[[study.plots]]", 'file = "plots.csv"', 'covariates = ["pH"]']
    if num_records:
        lon, lat, present = found_at(num_records)
        at, species = np.nonzero(present)
        records = {"lon": lon[at], "lat": lat[at], "species": [NAMES[s] for s in species], "year": [2015] * len(at)}
        pl.DataFrame(records).write_csv(folder / "records.csv")
        lines += ["[[study.records]]", 'file = "records.csv"']
    lines += ["[[study.rasters]]", 'file = ["warmth.tif", "wetness.tif"]']
    lines += ["[[study.rasters]]", 'file = "soil.tif"', "categorical = true"]
    (folder / "study.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "study.toml"
