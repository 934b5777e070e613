"""Small folders of maps, packed without a run: what is made of maps is tested on these."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pyogrio
import shapely
from numpy.typing import NDArray

from releve.files import write_json, write_text
from releve.predict.maps.draw import _finish
from releve.predict.maps.facts import Facts
from releve.predict.maps.grid import tiles_of
from releve.predict.maps.manifest import MANIFEST_FILE, SPECIES_FILE, TILES_FOLDER, Manifest
from releve.predict.maps.pack import pack_empty, pack_tile
from releve.predict.maps.read import Maps
from releve.predict.maps.sparse import cut_for, likely_species, places_of_species
from releve.progress import quiet_progress
from releve.rasters.grid import Grid

UTM = Grid("EPSG:32632", (1000.0, 0.0, 500_000.0, 0.0, -1000.0, 5_300_000.0), 20, 36, 16, 16)
"""Twenty rows of 36 cells of 1 km in tiles of 16 x 16."""


def write_maps(
    path: Path,
    probs_HWS: NDArray[np.float32],
    *,
    grid: Grid = UTM,
    names: tuple[str, ...] = (),
    arrays: Mapping[str, NDArray] | None = None,
    lists: NDArray[np.int64] | None = None,
    groups: Mapping[str, tuple[int, ...]] | None = None,
    **manifest: object,
) -> Maps:
    """Return maps of these probabilities; cells with NaN are not mapped. ``arrays`` are (H, W) by name."""
    height, width, num_species = probs_HWS.shape
    assert (height, width) == (grid.height, grid.width)
    names = names or tuple(f"Species {letter}" for letter in "abcdefghijklmnopqrstuvwxyz"[:num_species])
    mapped_HW = np.isfinite(probs_HWS).all(axis=-1)
    filled_HWS = np.nan_to_num(probs_HWS).astype(np.float32)
    every: dict[str, NDArray] = {"richness": filled_HWS.sum(axis=-1)}
    every |= {"richness_low": every["richness"] // 2, "richness_high": every["richness"] * 2}
    every |= {"list_length": np.rint(every["richness"]) if lists is None else lists}
    every |= dict(arrays or {})
    (path / TILES_FOLDER).mkdir(parents=True)
    table = pl.DataFrame({"species": names, "num_positives": [2 ** (num_species - i) for i in range(num_species)]})
    write_text(path / SPECIES_FILE, table.with_row_index("species_index").write_csv())
    content: dict = {"identity": {"run": "a run"}, "title": "a small world", "facts": Facts(100.0, None, 2020)}
    content |= {"rule": "expected_f1", "settings": {}, "notes": ("a note",), "groups": dict(groups or {})} | manifest
    whole = Manifest(releve="0", grid=grid, num_species=num_species, **content)
    write_json(path / MANIFEST_FILE, whole.model_dump(mode="json"))
    maps = Maps(path, whole)
    for tile in tiles_of(grid):
        at = slice(tile.row, tile.row + tile.height), slice(tile.column, tile.column + tile.width)
        mapped = mapped_HW[at].ravel()
        probs = np.ascontiguousarray(filled_HWS[at].reshape(-1, num_species))
        cut = cut_for(probs[mapped]) if mapped.any() else 0.01
        likely, places = likely_species(probs), places_of_species(probs, cut)
        kept = {name: _of_cells(name, values[at].ravel(), mapped) for name, values in every.items()}
        blob = pack_tile(likely, places, kept, num_species) if mapped.any() else pack_empty(len(probs))
        maps.tile_path(tile).write_bytes(blob)
    with quiet_progress():
        return _finish(maps)


def write_zones(path: Path, *shapes: shapely.Geometry, crs: str | None = "EPSG:32632", **columns: list) -> Path:
    wkb = np.array([None if shape is None else shapely.to_wkb(shape) for shape in shapes], object)
    values = [np.array(column, object if isinstance(column[0], str) else None) for column in columns.values()]
    driver = "GPKG" if path.suffix == ".gpkg" else "GeoJSON"
    pyogrio.raw.write(path, wkb, values, list(columns), driver=driver, geometry_type="Unknown", crs=crs)
    return path


def box_km(left: float, top: float, right: float, bottom: float) -> shapely.Geometry:
    """Return a box, in km from the map's north-west corner to the right and down."""
    west, north = UTM.transform[2], UTM.transform[5]
    return shapely.box(west + 1000 * left, north - 1000 * bottom, west + 1000 * right, north - 1000 * top)


def _of_cells(name: str, values: NDArray, mapped: NDArray[np.bool_]) -> NDArray:
    if name == "list_length":
        return np.where(mapped, values, 65_535).astype(np.uint16)
    if name == "outside":
        return np.where(mapped, values, 255).astype(np.uint8)
    if name == "most_dissimilar" or name.startswith("top_"):
        return np.where(mapped, values, -1).astype(np.int32)
    return np.where(mapped, values, np.nan).astype(np.float32)
