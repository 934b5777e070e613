"""What changes between two maps on one grid: species gained and lost, and how much of the list is another one.

A map keeps no probability that is too small (see ``sparse``): all that is known of it is that it lies below the lowest
one that the tile keeps. Of all values that it may have, the one that is nearest to the other map's is taken, so that
nothing changes but what the two maps show: gain, loss and turnover are lower bounds. They are short of the truth by at
most .01 for each species that only one of the maps keeps in a cell, and by 1 % of the expected number of species.
"""

# C cells of a tile

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import releve
from releve.errors import RunError
from releve.files import file_sha256, make_way, write_json
from releve.predict.maps.facts import Facts
from releve.predict.maps.geotiff import ImageWriter, image_writer
from releve.predict.maps.grid import Tile
from releve.predict.maps.manifest import CHANGE_FILE, MANIFEST_FILE, Change, Product, Side
from releve.predict.maps.pack import PackedTile
from releve.predict.maps.products import Image
from releve.predict.maps.read import Maps
from releve.predict.maps.sparse import PROBS_OF_CODES
from releve.progress import progress_bar
from releve.runs.provenance import write_provenance

IMAGES = (
    Image(
        "gain",
        ("gain",),
        "Species gained",
        "species on a plot",
        "How many species a plot gains, at least: the rises of probability, summed over species.",
    ),
    Image(
        "loss",
        ("loss",),
        "Species lost",
        "species on a plot",
        "How many species a plot loses, at least: the falls of probability, summed over species.",
    ),
    Image(
        "richness_difference",
        ("richness_difference",),
        "Change of the expected number of species",
        "species on a plot",
        "The expected number of species of the second map less that of the first: gains and losses may cancel out.",
    ),
    Image(
        "turnover",
        ("bray_curtis", "expected_sorensen"),
        "Turnover of species",
        "0: the same species, 1: none in common",
        "How much of the list is another one: the Bray-Curtis dissimilarity of the two maps' probabilities. The second "
        "band is Sørensen's dissimilarity to expect of two lists found independently of each other, one of each map: "
        "chance makes it more than 0 even where nothing changes.",
    ),
    Image(
        "outside",
        ("outside",),
        "Outside the area of applicability in either map",
        "1: outside",
        "Where it is 1, one of the two maps guesses, and the change is a guess.",
        "mode",
    ),
)
"""What is written of a change; ``outside`` if both maps have it."""


@dataclass(frozen=True)
class Kept:
    """What one map keeps of a tile: the probabilities, and from which one on it keeps them."""

    packed: PackedTile
    cut: float

    def bounds(self, species: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return (C,) the lowest and the highest probability that a species may have in each cell."""
        low_C = np.zeros(self.packed.num_cells, np.float32)
        cells, codes = self.packed.species(species)
        low_C[cells] = PROBS_OF_CODES[codes]
        return low_C, np.where(low_C > 0, low_C, np.float32(self.cut))


def compare_maps(first: Maps, second: Maps, out: Path, *, overwrite: bool = False) -> Change:
    """Return what changes from one map to another, written into a folder as images with a manifest.

    Parameters
    ----------
    first, second
        Maps of the same species on the same grid: of two years, or from two stacks of rasters.
    out
        The folder.
    overwrite
        Replace an earlier comparison.

    Raises
    ------
    RunError
        If the grids or the species differ, no cell is mapped in both, or the folder holds something else.
    ReleveError
        If the disk is full.

    References
    ----------
    Bray & Curtis (1957), An ordination of the upland forest communities of southern Wisconsin, Ecological Monographs
    27, 325-349, doi:10.2307/1942268.
    """
    started = time.monotonic()
    check_alike(first, second)
    make_way(Path(out), "map change", overwrite=overwrite)
    Path(out).mkdir(parents=True, exist_ok=True)
    images = [image for image in IMAGES if image.name != "outside" or _have_outside(first, second)]
    num_cells = _write_images(first, second, Path(out), images)
    change = Change(
        releve=releve.__version__,
        first=_side(first),
        second=_side(second),
        grid=first.grid,
        num_species=first.manifest.num_species,
        notes=tuple(_notes(first, second)),
        citations=tuple(dict.fromkeys((*first.manifest.citations, *second.manifest.citations))),
        num_cells=num_cells,
        products={image.name: _product(image, Path(out)) for image in images},
    )
    write_json(Path(out) / CHANGE_FILE, change.model_dump(mode="json"))
    entries = [CHANGE_FILE, "maps.html", *(product.file for product in change.products.values())]
    paths = [str(each.path) for each in (first, second)]
    write_provenance(Path(out), "map change", started, maps=paths, entries=entries)
    return change


def check_alike(first: Maps, second: Maps) -> None:
    """Make sure that two maps can be compared cell by cell and species by species.

    Raises
    ------
    RunError
        Saying what differs.
    """
    both = f"{first.path} and {second.path}"
    a, b = first.grid, second.grid
    sizes = [
        f"{grid.height} x {grid.width} cells of {grid.transform[0]:g} from {grid.transform[2]:g}, "
        f"{grid.transform[5]:g} ({grid.crs[:20]})"
        for grid in (a, b)
    ]
    near = np.allclose(a.transform, b.transform, rtol=1e-9, atol=1e-9 * abs(a.transform[0]))
    if (a.crs, a.height, a.width) != (b.crs, b.height, b.width) or not near:
        raise RunError(
            f"{both} have different grids: {sizes[0]}, and {sizes[1]}",
            expected="the same cells",
            action="Draw both with the same --bounds or --region, --resolution and --crs",
        )
    if a.block_height != b.block_height or first.species["species"].to_list() != second.species["species"].to_list():
        raise RunError(
            f"{both} are of different species ({first.species.height} and {second.species.height})",
            expected="the same species in the same order",
            action="Draw both from one run",
        )


def change_of(first: Kept, second: Kept, richness: tuple[NDArray, NDArray]) -> dict[str, NDArray[np.float32]]:
    """Return by name (C,) numbers of a tile's change; NaN where either map has none.

    Parameters
    ----------
    first, second
        What the two maps keep of the tile.
    richness
        (C,) expected numbers of species of both, over all species.
    """
    sums = np.zeros((3, first.packed.num_cells), np.float64)
    for species in np.union1d(first.packed.species_found, second.packed.species_found).tolist():
        low_a, high_a = first.bounds(species)
        low_b, high_b = second.bounds(species)
        sums[0] += np.maximum(low_b - high_a, 0)
        sums[1] += np.maximum(low_a - high_b, 0)
        sums[2] += low_a * low_b
    gain, loss, shared = sums
    total = np.float64(richness[0]) + np.float64(richness[1])
    found = {"gain": gain, "loss": loss, "richness_difference": np.float64(richness[1]) - richness[0]}
    with np.errstate(invalid="ignore", divide="ignore"):
        found |= {"bray_curtis": (gain + loss) / total, "expected_sorensen": 1 - 2 * shared / total}
    return {name: np.where(np.isfinite(total), values, np.nan).astype(np.float32) for name, values in found.items()}


def _write_images(first: Maps, second: Maps, out: Path, images: list[Image]) -> int:
    """Write the images tile by tile, and return in how many cells both maps have a value."""
    num_cells = 0
    with ExitStack() as stack:
        writers = {image.name: stack.enter_context(_writer(image, out, first)) for image in images}
        with progress_bar() as bar:
            for tile in bar.track(first.tiles, description="change"):
                numbers = _change_in(first, second, tile)
                if numbers is None:
                    continue
                num_cells += int(np.isfinite(numbers["gain"]).sum())
                for image in images:
                    for band, name in enumerate(image.arrays, 1):
                        writers[image.name].write(tile, band, numbers[name])
        if not num_cells:
            raise RunError(
                f"no cell is mapped in both {first.path} and {second.path}", action="Draw both over the same land"
            )
    return num_cells


def _writer(image: Image, out: Path, maps: Maps) -> AbstractContextManager[ImageWriter]:
    is_code = image.name == "outside"
    return image_writer(
        out / f"{image.name}.tif",
        maps.grid,
        "uint8" if is_code else "float32",
        image.arrays,
        nodata=255 if is_code else float("nan"),
        resampling=image.resampling,
        tags={"title": image.title, "unit": image.unit, "reading": image.reading},
    )


def _change_in(first: Maps, second: Maps, tile: Tile) -> Mapping[str, NDArray] | None:
    """Return a tile's numbers; None where one of the maps has nothing."""
    with first.tile_path(tile).open("rb") as a, second.tile_path(tile).open("rb") as b:
        packed = PackedTile(a), PackedTile(b)
        if packed[0].is_empty or packed[1].is_empty:
            return None
        kept = Kept(packed[0], lowest_kept(packed[0])), Kept(packed[1], lowest_kept(packed[1]))
        richness = packed[0].array("richness"), packed[1].array("richness")
        found: dict[str, NDArray] = dict(change_of(*kept, richness))
        if _have_outside(first, second):
            either = [each.array("outside") for each in packed]
            known = np.isfinite(found["gain"])
            found["outside"] = np.where(known, (either[0] == 1) | (either[1] == 1), 255).astype(np.uint8)
        return found


def lowest_kept(packed: PackedTile) -> float:
    """Return the lowest probability of a species that a tile keeps: one that it lacks somewhere is not above it."""
    codes = [packed.species(int(species))[1].min() for species in packed.species_found]
    return float(PROBS_OF_CODES[min(codes)]) if codes else 0.0


def _have_outside(*maps: Maps) -> bool:
    return all("outside" in each.manifest.products for each in maps)


def _side(maps: Maps) -> Side:
    return Side(
        path=str(maps.path),
        title=maps.manifest.title,
        facts=maps.manifest.facts,
        sha256=file_sha256(maps.path / MANIFEST_FILE),
        num_cells=maps.manifest.num_cells,
    )


def _notes(first: Maps, second: Maps) -> list[str]:
    """Return what there is to know of the comparison, a sentence each."""
    a, b = first.manifest, second.manifest
    notes = []
    if a.identity.get("run") != b.identity.get("run"):
        notes.append("The maps are of different runs: what differs between two models is shown as change, too")
    ours, theirs = _told(a.facts), _told(b.facts)
    for name in ours:
        if ours[name] != theirs[name]:
            notes.append(f"{name} differs: {ours[name]} in the first map, {theirs[name]} in the second")
    if a.identity.get("rasters") != b.identity.get("rasters"):
        notes.append("The maps are drawn from different rasters")
    if a.num_cells != b.num_cells:
        notes.append(f"{a.num_cells:,} cells are mapped in the first map and {b.num_cells:,} in the second")
    if not _have_outside(first, second):
        notes.append("Where the models guess is not known of both maps: nothing is marked as outside")
    notes += [f"Of both maps: {note}" for note in a.notes if note in b.notes]
    notes += [f"Of the first map: {note}" for note in a.notes if note not in b.notes]
    return notes + [f"Of the second map: {note}" for note in b.notes if note not in a.notes]


def _told(facts: Facts) -> dict[str, str]:
    names = {"area_m2": "The plot area in m²", "uncertainty_m": "The location uncertainty in m", "year": "The year"}
    return {names[name]: "not set" if value is None else f"{value:g}" for name, value in asdict(facts).items()}


def _product(image: Image, out: Path) -> Product:
    file = out / f"{image.name}.tif"
    return Product(
        file=file.name,
        title=image.title,
        unit=image.unit,
        bands=image.arrays,
        reading=image.reading,
        nodata=255 if image.name == "outside" else None,
        num_bytes=file.stat().st_size,
        sha256=file_sha256(file),
    )
