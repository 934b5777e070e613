"""Write the folder that docs/own-data.md starts from: plots, records and rasters of a valley that does not exist.

    python examples/meadows.py meadows

The tables have the habits of real ones: semicolons, decimal commas, Windows' letters, coordinates in metres.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl
import rasterio
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.transform import from_origin

from releve.simulate.fields import smooth_field

WEST_M, NORTH_M, CELL_M, SIDE = 620_000.0, 5_190_000.0, 200.0, 250
"""A square of 50 km in EPSG:32632, in cells of 200 m."""
CLASSES = {1: "forêt", 2: "prairie", 3: "pâturage", 4: "marais"}
SPECIES = {
    # name: elevation in m, wetness and pH at which it grows best, cover classes it grows in, how common it is
    "Arrhenatherum elatius": (500, 0.0, 6.5, (2,), 1.5),
    "Bromus erectus": (600, -1.0, 7.3, (2, 3), 1.2),
    "Caltha palustris": (700, 1.8, 6.0, (2, 4), 0.5),
    "Carex davalliana": (900, 1.5, 7.2, (4,), 0.8),
    "Carex flacca": (800, 0.0, 7.2, (1, 2, 3), 0.8),
    "Dactylis glomerata": (600, 0.0, 6.3, (1, 2, 3), 1.4),
    "Eriophorum latifolium": (1000, 1.6, 6.8, (4,), 0.6),
    "Fagus sylvatica": (800, 0.0, 6.0, (1,), 2.0),
    "Festuca rubra": (900, 0.0, 5.8, (2, 3), 1.8),
    "Filipendula ulmaria": (600, 1.2, 6.4, (2, 4), 0.9),
    "Gentiana lutea": (1400, -0.5, 6.8, (3,), 0.8),
    "Hippocrepis comosa": (800, -1.3, 7.5, (3,), 0.9),
    "Isoëtes lacustris": (900, 2.2, 5.0, (4,), 0.1),
    "Kœleria pyramidata": (700, -1.2, 7.3, (2, 3), 0.8),
    "Molinia cærulea": (800, 1.3, 5.4, (4,), 1.2),
    "Nardus stricta": (1500, 0.0, 4.7, (3,), 1.5),
    "Oxalis acetosella": (900, 0.3, 5.2, (1,), 1.0),
    "Picea abies": (1300, 0.2, 5.2, (1,), 1.5),
    "Plantago lanceolata": (600, -0.2, 6.3, (2, 3), 1.6),
    "Potentilla erecta": (1100, 0.5, 5.0, (3, 4), 1.1),
    "Ranunculus acris": (800, 0.3, 6.2, (2,), 1.6),
    "Sanguisorba officinalis": (700, 0.8, 6.0, (2, 4), 0.8),
    "Trisetum flavescens": (1000, 0.0, 6.3, (2,), 1.3),
    "Vaccinium myrtillus": (1400, 0.2, 4.5, (1, 3), 1.2),
    "Viola × intersita": (900, 0.4, 5.6, (2, 3), 0.0),
}


def main() -> None:
    """Write the folder named on the command line."""
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/meadows.py FOLDER")
    make_meadows(Path(sys.argv[1]))


def make_meadows(folder: Path, *, num_plots: int = 320, num_records: int = 900, seed: int = 7) -> None:
    """Write plots.csv, records.csv and rasters/*.tif into a new folder.

    Parameters
    ----------
    folder
        Made if it is not there.
    num_plots, num_records
        Rows of places, and of single finds.
    seed
        Of everything random.
    """
    rng = np.random.default_rng(seed)
    (folder / "rasters").mkdir(parents=True, exist_ok=True)
    land = _make_land(rng)
    for name, values in land.items():
        _write_raster(folder / "rasters" / f"{name}.tif", values)
    at = rng.integers(0, SIDE, (2, num_plots))
    x, y = _metres(at, rng)
    present = rng.random((num_plots, len(SPECIES))) < _chances(land, at)
    _write_plots(folder / "plots.csv", x, y, present, rng)
    at = rng.integers(0, SIDE, (2, 12 * num_records))
    near_road = np.exp(-np.abs(at[1] - 0.6 * SIDE - 20 * np.sin(at[0] / 30)) / 15)  # people look along the road
    at = at[:, rng.random(at.shape[1]) < near_road]
    row, species = np.nonzero(rng.random((at.shape[1], len(SPECIES))) < 0.3 * _chances(land, at))
    kept = np.sort(rng.permutation(len(row))[:num_records])
    _write_records(folder / "records.csv", *_metres(at[:, row[kept]], rng), species[kept], rng)


def _make_land(rng: np.random.Generator) -> dict[str, NDArray]:
    """Return elevation (m), temperature (°C), wetness, pH and land cover, (row, column) from the north-west."""
    shape = (SIDE, SIDE)
    elevation = 900 + 380 * smooth_field(shape, 22, rng) + 60 * smooth_field(shape, 4, rng)
    elevation = np.clip(elevation, 250, 2300)
    wetness = smooth_field(shape, 5, rng) - 0.4 * (elevation - 900) / 400
    acidity = np.clip(6.2 + 0.8 * smooth_field(shape, 30, rng), 3.8, 8.2)
    wooded = smooth_field(shape, 6, rng)
    cover = np.where(wooded > 0.5, 1, np.where(wetness > 1.2, 4, np.where(elevation > 1000, 3, 2)))
    return {
        "elevation": elevation.round().astype(np.int16),
        "temperature": (11.5 - 0.0055 * elevation + 0.3 * smooth_field(shape, 10, rng)).astype(np.float32),
        "wetness": wetness.astype(np.float32),
        "soil_ph": acidity.astype(np.float32),
        "landcover": cover.astype(np.uint8),
    }


def _write_raster(path: Path, values: NDArray) -> None:
    settings = {"driver": "GTiff", "width": SIDE, "height": SIDE, "count": 1, "compress": "deflate", "tiled": True}
    place = {"crs": "EPSG:32632", "transform": from_origin(WEST_M, NORTH_M, CELL_M, CELL_M)}
    nodata = {"nodata": 0} if path.stem == "landcover" else {"nodata": -9999}
    with rasterio.open(path, "w", dtype=values.dtype, **settings, **place, **nodata) as file:
        file.write(values, 1)
        if path.stem == "landcover":
            colours = {1: (30, 100, 50), 2: (150, 200, 90), 3: (220, 210, 120), 4: (90, 140, 190)}
            file.write_colormap(1, colours)


def _metres(at: NDArray, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return x and y of places somewhere in the cells of these rows and columns."""
    inside = rng.random(at.shape)
    return np.stack([WEST_M + CELL_M * (at[1] + inside[1]), NORTH_M - CELL_M * (at[0] + inside[0])])


def _chances(land: dict[str, NDArray], at: NDArray) -> NDArray[np.float64]:
    """Return how likely each species grows at the cells of some rows and columns."""
    here = {name: values[at[0], at[1]] for name, values in land.items()}
    chances = []
    for height, wetness, acidity, classes, common in SPECIES.values():
        away = ((here["elevation"] - height) / 350) ** 2 + ((here["wetness"] - wetness) / 0.8) ** 2
        away = away + ((here["soil_ph"] - acidity) / 0.7) ** 2
        scores = common + 1.2 - 0.6 * away - 3.0 * ~np.isin(here["landcover"], classes)
        chances.append(1 / (1 + np.exp(-scores)))
    return np.stack(chances, axis=1)


def _write_plots(path: Path, x: NDArray, y: NDArray, present: NDArray, rng: np.random.Generator) -> None:
    """Write a line a plot and species, as a spreadsheet in France would; plots without any species have one, empty."""
    names, covers = list(SPECIES), ["r", "+", "1", "2a", "2b", "3", "4", "5"]
    years, area = rng.integers(2008, 2024, len(x)), rng.choice([16, 25, 100], len(x))
    lines = ["Relevé;Date;X;Y;Surface_m2;Espèce;Abondance"]
    for i, found in enumerate(present):
        date = f"{rng.integers(1, 29):02d}.{rng.integers(5, 10):02d}.{years[i]}"
        where = f"{x[i]:.1f};{y[i]:.1f}".replace(".", ",")
        start = f"PR-{i + 1:03d};{date};{where};{area[i]}"
        for name in [names[s] for s in np.flatnonzero(found)]:
            cover = covers[min(int(rng.exponential(2.0)), 7)]
            lines.append(f"{start};{name};{cover}")
        if not found.any():
            lines.append(f"{start};;")
    path.write_bytes(("\r\n".join(lines) + "\r\n").encode("cp1252"))


def _write_records(path: Path, x: NDArray, y: NDArray, species: NDArray, rng: np.random.Generator) -> None:
    """Write a line a find, as a portal of records does."""
    lon, lat = Transformer.from_crs("EPSG:32632", "EPSG:4326", always_xy=True).transform(x, y)
    table = {
        "gbifID": 4_000_000_000 + np.arange(len(x)),
        "scientificName": [list(SPECIES)[s] for s in species],
        "decimalLatitude": lat.round(5),
        "decimalLongitude": lon.round(5),
        "coordinateUncertaintyInMeters": rng.choice([10, 30, 100, 5000], len(x), p=[0.5, 0.3, 0.15, 0.05]),
        "eventDate": [f"{year}-{month:02d}-15" for year, month in rng.integers((2000, 4), (2024, 11), (len(x), 2))],
        "occurrenceStatus": "PRESENT",
    }
    pl.DataFrame(table).write_csv(path, separator="\t")


if __name__ == "__main__":
    main()
