"""What a map says of each zone: means over area, cells that a zone's border cuts counted in part, and its species."""

# Z zones, C cells of a tile, S species

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyogrio
import scipy.sparse
from numpy.typing import NDArray

from releve.errors import RunError, TableError
from releve.files import atomic_path, write_text
from releve.predict.maps.engine import nothing_of
from releve.predict.maps.grid import Tile
from releve.predict.maps.pack import PackedTile
from releve.predict.maps.read import Maps
from releve.predict.maps.sparse import LOWEST, PROBS_OF_CODES
from releve.predict.maps.zones import Zones, read_zones
from releve.progress import progress_bar
from releve.rasters.grid import cell_sizes_m

SPECIES_AT_ONCE = 64
"""Species whose probabilities are held together for all cells of a tile."""
CODES = ("most_dissimilar", "top_")
"""Arrays that hold numbers of things: they have no mean."""


@dataclass(frozen=True)
class Summary:
    """What a map says of zones."""

    zones: pl.DataFrame
    """A row for each zone: ``zone`` (from 1, in the order of the file), the file's columns, ``zone_km2``,
    ``mapped_km2`` and ``mapped_share`` (the means are of what is mapped), the mean of each of the map's numbers, and
    ``outside_share``. Numbers are null where nothing of a zone is mapped."""
    species: pl.DataFrame
    """``zone, species, mean_probability, expected_km2``, the likeliest first: species with a mean of ``LOWEST`` or
    more. ``expected_km2`` is the area of the cells, each counted by its probability."""
    notes: tuple[str, ...]
    """What there is to know of the zones, a sentence each."""


def summarise_zones(maps: Maps, file: Path) -> Summary:
    """Return what maps say of the polygons in a file.

    Parameters
    ----------
    maps
        Drawn maps.
    file
        Polygons; see :func:`releve.predict.maps.zones.read_zones`.

    Raises
    ------
    RasterError
        If the file holds no polygons.
    RunError
        If no zone lies on a mapped cell.
    """
    zones = read_zones(file, maps.grid)
    num_zones, num_species = len(zones.outlines), maps.manifest.num_species
    names = _numbers_of(maps)
    sums_NZ, areas_NZ = np.zeros((2, len(names), num_zones))
    mapped_Z, species_SZ = np.zeros(num_zones), np.zeros((num_species, num_zones))
    with progress_bar() as bar:
        for tile, packed in _tiles(maps, bar.track(maps.tiles, description="zones")):
            areas_ZC = _areas_in(zones, maps, tile)
            if areas_ZC is None:
                continue
            mapped_Z += areas_ZC @ np.isfinite(packed.array("richness")).astype(float)
            for at, name in enumerate(names):
                values, known = _known(packed.array(name))
                sums_NZ[at] += areas_ZC @ values
                areas_NZ[at] += areas_ZC @ known
            _add_species(species_SZ, packed, areas_ZC)
    if not mapped_Z.any():
        raise RunError(
            f"none of the {num_zones} zones of {file} lies on a mapped cell of {maps.path}",
            action="Look at the file's coordinate system, and at what the map covers",
        )
    with np.errstate(invalid="ignore", divide="ignore"):
        means_NZ = sums_NZ / areas_NZ
        means_SZ = species_SZ / mapped_Z
    table = _zone_table(zones, mapped_Z, dict(zip(map(_column_of, names), means_NZ, strict=True)))
    return Summary(table, _species_table(maps, means_SZ, mapped_Z), tuple(_notes(zones, mapped_Z)))


def write_summary(summary: Summary, file: Path, out: Path, *, overwrite: bool = False) -> list[Path]:
    """Write a summary, and return the files: a CSV and another of species beside it, or a GeoPackage of two layers.

    Parameters
    ----------
    summary
        The summary.
    file
        The zones, whose shapes a GeoPackage holds.
    out
        ``.csv`` or ``.gpkg``.
    overwrite
        Replace files that are there.

    Raises
    ------
    RunError
        If a file is there already.
    TableError
        If the name ends otherwise.
    """
    out = Path(out)
    kind = out.suffix.lower()
    if kind not in (".csv", ".gpkg"):
        raise TableError(f"--out {out.name}", expected="a name that ends in .csv or .gpkg")
    files = [out, out.with_name(f"{out.stem}_species.csv")] if kind == ".csv" else [out]
    if there := [path.name for path in files if path.exists() and not overwrite]:
        raise RunError(f"{there[0]} exists", action="Give another --out, or --overwrite")
    out.parent.mkdir(parents=True, exist_ok=True)
    if kind == ".csv":
        write_text(files[0], summary.zones.write_csv())
        write_text(files[1], summary.species.write_csv())
    else:
        _write_geopackage(summary, file, out)
    return files


def _tiles(maps: Maps, tiles: Iterable[Tile]) -> Iterator[tuple[Tile, PackedTile]]:
    """Yield the tiles that hold something, open."""
    for tile in tiles:
        with maps.tile_path(tile).open("rb") as handle:
            packed = PackedTile(handle)
            if not packed.is_empty:
                yield tile, packed


def _numbers_of(maps: Maps) -> list[str]:
    """Return the arrays of the maps that have a mean."""
    bands = [band for product in maps.manifest.products.values() for band in product.bands]
    return [name for name in bands if not name.startswith(CODES)]


def _column_of(name: str) -> str:
    return "outside_share" if name == "outside" else name.replace(":", "_")


def _areas_in(zones: Zones, maps: Maps, tile: Tile) -> scipy.sparse.csr_matrix | None:
    """Return (Z, C) the area, in km2, that each zone has in each cell of a tile; None if it has none of them."""
    across, along = cell_sizes_m(maps.grid)
    km2 = (across * along / 1e6)[tile.row : tile.row + tile.height, None]
    rows, cells, values = [], [], []
    for zone, outline in enumerate(zones.outlines):
        if not len(outline.rows) or outline.rows[0] >= tile.row + tile.height or outline.rows[-1] < tile.row:
            continue
        areas_C = (outline.coverage(tile) * km2).ravel()
        found = np.flatnonzero(areas_C)
        rows.append(np.full(len(found), zone))
        cells.append(found)
        values.append(areas_C[found])
    if not any(map(len, values)):
        return None
    where = np.concatenate(rows), np.concatenate(cells)
    shape = len(zones.outlines), tile.height * tile.width
    return scipy.sparse.csr_matrix((np.concatenate(values), where), shape)


def _known(values: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (C,) numbers, 0 where there is none, and (C,) 1 where there is one."""
    nothing = nothing_of(values.dtype)
    known = np.isfinite(values) if values.dtype.kind == "f" else values != nothing
    return np.where(known, values, 0).astype(np.float64), known.astype(np.float64)


def _add_species(species_SZ: NDArray[np.float64], packed: PackedTile, areas_ZC: scipy.sparse.csr_matrix) -> None:
    """Add the expected area of each species in a tile, in km2, to that of each zone."""
    found = packed.species_found
    for first in range(0, len(found), SPECIES_AT_ONCE):
        some = found[first : first + SPECIES_AT_ONCE]
        probs_CK = np.zeros((packed.num_cells, len(some)))
        for column, index in enumerate(some.tolist()):
            cells, codes = packed.species(index)
            probs_CK[cells, column] = PROBS_OF_CODES[codes]
        species_SZ[some] += (areas_ZC @ probs_CK).T


def _zone_table(zones: Zones, mapped_Z: NDArray[np.float64], means: dict[str, NDArray[np.float64]]) -> pl.DataFrame:
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.minimum(mapped_Z / zones.areas_km2, 1.0)
    ours = {"zone_km2": zones.areas_km2, "mapped_km2": mapped_Z, "mapped_share": share} | means
    taken = {"zone", *ours}
    table = {"zone": np.arange(1, len(mapped_Z) + 1)}
    table |= {f"{name}_of_file" if name in taken else name: values for name, values in zones.attributes.items()}
    return pl.DataFrame(table | ours).with_columns(pl.col(list(ours)).fill_nan(None))


def _species_table(maps: Maps, means_SZ: NDArray[np.float64], mapped_Z: NDArray[np.float64]) -> pl.DataFrame:
    index, zone = np.nonzero(np.nan_to_num(means_SZ) >= LOWEST)
    mean = means_SZ[index, zone]
    order = np.lexsort((index, -mean, zone))
    index, zone, mean = index[order], zone[order], mean[order]
    columns = {"zone": zone + 1, "species": maps.species["species"].cast(pl.String)[index]}
    return pl.DataFrame(columns | {"mean_probability": mean, "expected_km2": mean * mapped_Z[zone]})


def _notes(zones: Zones, mapped_Z: NDArray[np.float64]) -> Iterator[str]:
    if zones.num_empty:
        yield f"{zones.num_empty} rows of the zones have no polygon"
    if zones.num_mended:
        yield f"{zones.num_mended} zones cross themselves and were mended"
    if missed := int(((mapped_Z == 0) & (zones.areas_km2 > 0)).sum()):
        yield f"{missed} of {len(mapped_Z)} zones lie on no mapped cell"


def _write_geopackage(summary: Summary, file: Path, out: Path) -> None:
    """Write the zones with their shapes, and the species as a layer without any."""
    meta, _, wkb, _ = pyogrio.raw.read(file, columns=[])
    partial = out.with_name(f".{out.stem}.part.gpkg")
    try:
        for layer, table, shapes in (("zones", summary.zones, wkb), ("species", summary.species, None)):
            pyogrio.raw.write(
                partial,
                shapes,
                [table[name].to_numpy() for name in table.columns],
                table.columns,
                layer=layer,
                driver="GPKG",
                geometry_type="Unknown" if shapes is not None else None,
                crs=(meta.get("crs") or "EPSG:4326") if shapes is not None else None,
                append=layer != "zones",
            )
        with atomic_path(out) as whole:
            shutil.move(partial, whole)
    finally:
        partial.unlink(missing_ok=True)
