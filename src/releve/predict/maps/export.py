"""Images of single species, from what a folder of maps kept of its cells."""

# C cells of a tile

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from releve.errors import RunError, TableError, nearest
from releve.files import file_sha256
from releve.predict.maps.geotiff import image_writer
from releve.predict.maps.manifest import MANIFEST_FILE, Product
from releve.predict.maps.pack import PackedTile
from releve.predict.maps.read import Maps
from releve.predict.maps.sparse import LIKELY, LOWEST, PROBS_OF_CODES
from releve.progress import progress_bar

SPECIES_FOLDER = "species"
"""In a folder of maps, the images that were asked for when they were drawn."""
RANKED_RULES = ("expected_f1", "top_k", "threshold", "conformal")
"""Rules whose lists are the most probable species of a cell: a list is known by its length."""
OPEN_IMAGES = 32
"""Images that are written in one pass over the tiles; of more there are several passes."""


def species_of(maps: Maps, names: Sequence[str], groups: Sequence[str] = ()) -> list[int]:
    """Return the ``species_index`` of species, and of all species of groups, each once.

    Raises
    ------
    TableError
        Naming the nearest ones, if the maps have no species or no group of a name.
    """
    found = [maps.find_species(name) for name in names]
    for name in groups:
        found += group_called(name, maps.manifest.groups)
    return list(dict.fromkeys(found))


def group_called(name: str, groups: Mapping[str, Sequence[int]]) -> Sequence[int]:
    """Return the species of a group.

    Raises
    ------
    TableError
        If there is none of this name.
    """
    if name in groups:
        return groups[name]
    tip = nearest(name, groups) if groups else "Name a table of groups with --groups FILE when the maps are drawn"
    raise TableError(f"the map has no group {name!r}", action=tip)


def export_species(maps: Maps, species: Sequence[int], out: Path, *, overwrite: bool = False) -> list[Product]:
    """Return the images of some species, written into a folder: each a cloud-optimised GeoTIFF.

    The first band is the probability, as it was kept: to 3 % of itself, and 0 where it was too small to be kept (below
    ``LIKELY`` at most). The second band, if the run makes lists of the most probable species, is 1 where the species is
    in the cell's list. Both are NaN where nothing is mapped.

    Parameters
    ----------
    maps
        Drawn maps.
    species
        ``species_index`` of each.
    out
        The folder; it is made.
    overwrite
        Replace images that are there.

    Raises
    ------
    RunError
        If no species is given, or an image is there already.
    ReleveError
        If the disk is full.
    """
    files = {index: Path(out) / f"{stem}.tif" for index, stem in _stems(maps, species).items()}
    if not files:
        raise RunError("no species was named", action="Give --species NAME or --group NAME")
    there = [file.name for file in files.values() if file.exists()]
    if there and not overwrite:
        raise RunError(f"{out} holds {', '.join(there[:3])}", action="Give another --out, or --overwrite")
    Path(out).mkdir(parents=True, exist_ok=True)
    for first in range(0, len(files), OPEN_IMAGES):
        _write(maps, dict(list(files.items())[first : first + OPEN_IMAGES]))
    return [_product(maps, index, file) for index, file in files.items()]


def _stems(maps: Maps, species: Sequence[int]) -> dict[int, str]:
    """Return what the file of each species is called: its name, as every disk can hold it."""
    names = [str(name) for name in maps.species["species"].to_list()]
    stems: dict[int, str] = {}
    for index in species:
        stem = re.sub(r"[^\w-]+", "_", names[index]).strip("_")[:100] or str(index)
        taken = stem.casefold() in {each.casefold() for each in stems.values()}
        stems[index] = f"{stem}_{index}" if taken else stem
    return stems


def _write(maps: Maps, files: dict[int, Path]) -> None:
    """Write several images in one pass over the tiles."""
    listed = _has_lists(maps)
    with ExitStack() as stack:
        writers = {}
        for index, file in files.items():
            product = _words(maps, index)
            writers[index] = stack.enter_context(
                image_writer(
                    file,
                    maps.grid,
                    "float32",
                    product.bands,
                    nodata=float("nan"),
                    resampling="average",
                    tags=_tags(maps, index, product),
                )
            )
        with progress_bar() as bar:
            for tile in bar.track(maps.tiles, description="species"):
                with maps.tile_path(tile).open("rb") as handle:
                    packed = PackedTile(handle)
                    if packed.is_empty:
                        continue
                    mapped = np.isfinite(packed.array("richness"))
                    in_list = dict(_in_lists(packed, list(files))) if listed else {}
                    for index, writer in writers.items():
                        writer.write(tile, 1, _probs(packed, index, mapped))
                        if listed:
                            writer.write(tile, 2, np.where(mapped, in_list[index], np.nan))


def _probs(packed: PackedTile, index: int, mapped: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return (C,) probabilities of a species, NaN where nothing is mapped."""
    probs_C = np.where(mapped, np.float32(0), np.float32(np.nan))
    cells, codes = packed.species(index)
    probs_C[cells] = PROBS_OF_CODES[codes]
    return probs_C


def _in_lists(packed: PackedTile, species: Sequence[int]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield each species and (C,) whether it is among the first of a cell, as many as its list is long."""
    counts, found, _ = packed.cells()
    cell = np.arange(packed.num_cells).repeat(counts)
    rank = np.arange(len(found)) - (np.cumsum(counts) - counts)[cell]
    listed = rank < packed.array("list_length")[cell]
    cell, found = cell[listed], found[listed]
    for index in species:
        in_list = np.zeros(packed.num_cells, np.float32)
        in_list[cell[found == index]] = 1
        yield index, in_list


def _has_lists(maps: Maps) -> bool:
    return maps.manifest.rule in RANKED_RULES and "list_length" in maps.manifest.products


def _words(maps: Maps, index: int) -> Product:
    """Return what the image of a species is, in words."""
    name = str(maps.species["species"][index])
    reading = (
        f"How probable it is that a survey of the stated plot area finds {name}; 0 where it is less probable than "
        f"{LIKELY:g} and too improbable to be kept."
    )
    listed = " The second band is 1 where it is in the cell's list." if _has_lists(maps) else ""
    bands = ("probability", "in the cell's list") if listed else ("probability",)
    return Product(file="", title=name, unit="probability", bands=bands, reading=reading + listed)


def _tags(maps: Maps, index: int, product: Product) -> dict[str, str]:
    facts = maps.manifest.facts
    known = {"area_m2": facts.area_m2, "year": facts.year, "rule": maps.manifest.rule or None}
    tags = {"species": product.title, "species_index": index, "unit": product.unit, "reading": product.reading}
    tags |= {"scale": "none: values are probabilities", "lowest_probability": LOWEST, "title": maps.manifest.title}
    tags |= {"maps": file_sha256(maps.path / MANIFEST_FILE)}
    return {name: str(value) for name, value in (tags | known).items() if value is not None}


def _product(maps: Maps, index: int, file: Path) -> Product:
    update = {"file": file.name, "num_bytes": file.stat().st_size, "sha256": file_sha256(file)}
    return _words(maps, index).model_copy(update=update)
