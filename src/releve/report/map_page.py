"""The page of a folder of maps: each product as a picture with a sentence on how to read it, and what to know first."""

# H W rows and columns

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from markupsafe import Markup
from numpy.typing import NDArray

from releve.files import write_text
from releve.predict.maps.facts import Facts
from releve.predict.maps.manifest import Change, Product
from releve.predict.maps.read import Maps
from releve.predict.maps.sparse import LIKELY, PROBS_OF_CODES
from releve.rasters.grid import Grid, cell_sizes_m
from releve.report.figures import CATEGORIES, WARM
from releve.report.map_pictures import Picture, draw_picture, read_thinned, thinned
from releve.report.page import render_page
from releve.report.words import counted

PAGE_FILE = "maps.html"
SIGNED = ("mess", "richness_difference")
"""Products of which 0 is the middle."""
CODES = ("top_species", "most_dissimilar")
"""Products whose numbers stand for things."""
PALE_GREEN = "#cbdcd0"
MOST_NAMED = len(CATEGORIES) - 2
"""Classes that have a colour of their own."""
LOWEST_MESS = -100.0
"""Of the picture of MESS."""
MOST_SPECIES = 12
"""Species that were asked for, as far as they are shown."""


RULES_TOLD = {
    "expected_f1": "of the highest expected F1",
    "top_k": "of one length",
    "threshold": "above one threshold",
    "species_threshold": "above a threshold of each species",
    "conformal": "that miss a stated share at most",
}
"""List rules in words."""


@dataclass(frozen=True, eq=False)
class Shown:
    """A picture and the words beside it."""

    title: str
    reading: str
    svg: Markup | None
    file: str = ""
    """Empty if it is shown on the page alone."""
    num_bytes: int = 0


def write_maps_page(maps: Maps, species: Sequence[int] = ()) -> Path:
    """Write the page of drawn maps into their folder, and return it.

    Parameters
    ----------
    maps
        Drawn maps.
    species
        ``species_index`` of those to be shown; without, a frequent, a middling and a rare one are.
    """
    manifest = maps.manifest
    outside = _outside_of(manifest.products, maps.path)
    page = render_page(
        "maps.html.j2",
        title=manifest.title or "Maps",
        kicker="maps",
        lead=f"{manifest.num_species:,} species in {manifest.num_cells:,} cells of {_cell_text(manifest.grid)}",
        tiles=_facts_told(manifest.facts) | {"lists": RULES_TOLD.get(manifest.rule, "none")},
        notes=_sentences(manifest.notes),
        outside_share=_share_outside(manifest.products, maps.path),
        shown=[
            _shown(product, name, maps.path, manifest.grid, outside, _names_in(maps, name))
            for name, product in manifest.products.items()
        ],
        species=[_species_shown(maps, index, outside) for index in (species or examples_of(maps))[:MOST_SPECIES]],
        are_examples=not species,
        likely_from=LIKELY,
        products=manifest.products.values(),
        citations=_sentences(manifest.citations),
    )
    write_text(maps.path / PAGE_FILE, page)
    return maps.path / PAGE_FILE


def write_change_page(change: Change, folder: Path) -> Path:
    """Write the page of a comparison of two maps into its folder, and return it."""
    outside = _outside_of(change.products, folder)
    titles = list(dict.fromkeys(side.title or "Maps" for side in (change.first, change.second)))
    tiles = {}
    for name, first in _facts_told(change.first.facts).items():
        second = _facts_told(change.second.facts)[name]
        tiles[name] = first if first == second else f"{first} to {second}"
    page = render_page(
        "maps.html.j2",
        title=f"{' and '.join(titles)}: what changes",
        kicker="change between two maps",
        lead=f"{change.num_species:,} species in {change.num_cells:,} cells of {_cell_text(change.grid)}, in the map "
        f"{Path(change.first.path).name} and in the map {Path(change.second.path).name}",
        tiles=tiles,
        notes=_sentences(change.notes),
        outside_share=_share_outside(change.products, folder),
        shown=[_shown(product, name, folder, change.grid, outside, ()) for name, product in change.products.items()],
        species=[],
        are_examples=False,
        likely_from=LIKELY,
        products=change.products.values(),
        citations=_sentences(change.citations),
    )
    write_text(folder / PAGE_FILE, page)
    return folder / PAGE_FILE


def examples_of(maps: Maps) -> list[int]:
    """Return the species of the most, of a middling and of a small number of training rows.

    The last one is that which nine in ten species that were seen at all exceed.
    """
    counts = maps.species["num_positives"].to_numpy()
    order = np.argsort(-counts, kind="stable")[: int((counts > 0).sum())]
    if not len(order):
        return []
    return list(dict.fromkeys(int(order[at]) for at in (0, len(order) // 2, round(0.9 * (len(order) - 1)))))


def _shown(
    product: Product, name: str, folder: Path, grid: Grid, outside: NDArray[np.bool_] | None, names: Sequence[str]
) -> Shown:
    """Return a product's first band as a picture."""
    values = read_thinned(folder / product.file)
    label, small = product.unit, thinned(grid)[0]
    classes: Sequence[str] = ()
    colours: Sequence[str] = CATEGORIES
    if name == "outside":
        classes, colours, outside = ("inside", "outside"), (PALE_GREEN, WARM), None
    elif name in CODES:
        values, classes = named_classes(values, names)
    elif name == "mess":  # a covariate that training knew at one value lies thousands of percents outside of it
        values, label = np.maximum(values, LOWEST_MESS), f"{label}; {LOWEST_MESS:g} also for less"
    elif ";" in label:
        label = label.partition(";")[0]
    picture = Picture(values, small, label, outside, name in SIGNED, classes, colours)
    svg = draw_picture(picture, name, f"Map: {product.title}, {label}")
    return Shown(product.title, product.reading, svg, product.file, product.num_bytes)


def named_classes(values: NDArray[np.float64], names: Sequence[str]) -> tuple[NDArray[np.float64], list[str]]:
    """Return numbers of classes by how frequent they are, from 0, and the names of the most frequent ones.

    Examples
    --------
    >>> found, names = named_classes(np.array([[2.0, 2.0, 0.0, np.nan, -1.0]]), ["ash", "beech", "oak"])
    >>> found.tolist(), names
    ([[0.0, 0.0, 1.0, nan, nan]], ['oak', 'ash'])
    """
    known = np.isfinite(values) & (values >= 0)
    codes, counts = np.unique(values[known].astype(int), return_counts=True)
    order = codes[np.argsort(-counts, kind="stable")]
    rank = np.full(int(codes.max(initial=0)) + 1, np.nan)
    rank[order] = np.arange(len(order))
    found = np.full(values.shape, np.nan)
    found[known] = rank[values[known].astype(int)]
    return found, [names[code] for code in order[:MOST_NAMED].tolist()]


def _species_shown(maps: Maps, index: int, outside: NDArray[np.bool_] | None) -> Shown:
    """Return the map of a species as a picture."""
    small, step = thinned(maps.grid)
    probs = PROBS_OF_CODES[maps.codes_of(index, step=step)].astype(np.float64)
    probs[~np.isfinite(read_thinned(maps.path / maps.manifest.products["richness"].file))] = np.nan
    row = maps.species.row(index, named=True)
    svg = draw_picture(
        Picture(probs, small, "probability on a plot", outside), f"species-{index}", f"Map of {row['species']}"
    )
    return Shown(str(row["species"]), f"{counted(row['num_positives'], 'training row')} with it", svg)


def _names_in(maps: Maps, product: str) -> Sequence[str]:
    """Return what the numbers of a product stand for."""
    return maps.manifest.variables if product == "most_dissimilar" else [str(name) for name in maps.species["species"]]


def _outside_of(products: dict[str, Product], folder: Path) -> NDArray[np.bool_] | None:
    return read_thinned(folder / products["outside"].file) == 1 if "outside" in products else None


def _share_outside(products: dict[str, Product], folder: Path) -> float | None:
    """Return the share of the mapped cells that lie outside, of all cells; None if it is not known."""
    if "outside" not in products:
        return None
    counts = np.zeros(256, np.int64)
    with rasterio.open(folder / products["outside"].file) as dataset:
        for _, window in dataset.block_windows(1):
            counts += np.bincount(dataset.read(1, window=window).ravel(), minlength=256)
    return float(counts[1] / max(counts[:2].sum(), 1))


def _facts_told(facts: Facts) -> dict[str, str]:
    """Return what was set of a survey, because nobody knows it of a cell."""
    area, year = facts.area_m2, facts.year
    return {
        "plot area": "as in training" if area is None else f"{area:g} m²",
        "year": "any" if year is None else str(year),
    }


def _cell_text(grid: Grid) -> str:
    """Return the size of a cell in the middle of a grid."""
    across, along = cell_sizes_m(grid)
    sizes = float(across[grid.height // 2]), float(along[grid.height // 2])
    unit, factor = ("km", 1000) if min(sizes) >= 1000 else ("m", 1)
    return " × ".join(f"{size / factor:.3g}" for size in sizes) + f" {unit}"


def _sentences(texts: Sequence[str]) -> list[str]:
    return [text if text.endswith((".", "?", "!")) else f"{text}." for text in texts]
