"""What a folder of maps is: the run, the grid, what was set because nobody knows it, and every product in words."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from releve.predict.maps.facts import Facts
from releve.rasters.grid import Grid

FORMAT = 1
"""Raised when a folder of an earlier version is read otherwise."""
MANIFEST_FILE, TILES_FOLDER, REGION_FILE, SPECIES_FILE = "manifest.json", "tiles", "region.wkb", "species.csv"
CHANGE_FILE = "change.json"


class Product(BaseModel):
    """One image of a map."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    title: str
    unit: str
    bands: tuple[str, ...]
    """What each band is."""
    reading: str
    """How to read it, in one sentence for people."""
    nodata: float | None = None
    num_bytes: int = 0
    sha256: str = ""


class Manifest(BaseModel):
    """A folder of maps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    releve: str
    identity: dict[str, Any]
    """All that the bytes of its tiles depend on; a folder of another is refused."""
    title: str
    num_species: int
    grid: Grid
    facts: Facts
    rule: str
    """How lists are drawn up; empty where the run makes none."""
    settings: dict[str, Any]
    """What was kept of each cell."""
    notes: tuple[str, ...]
    """What was set, and what is amiss, a sentence each."""
    citations: tuple[str, ...] = ()
    groups: dict[str, tuple[int, ...]] = {}
    """Indicators: the species of each."""
    variables: tuple[str, ...] = ()
    """Covariates, in the order that ``most_dissimilar`` counts them."""
    is_whole: bool = False
    num_cells: int = 0
    """Cells that are mapped."""
    num_kept: int = 0
    """Likely species, summed over cells."""
    products: dict[str, Product] = {}

    @property
    def kept_per_cell(self) -> float:
        """Mean number of likely species of a mapped cell."""
        return self.num_kept / max(self.num_cells, 1)


class Side(BaseModel):
    """One of two maps that are compared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    title: str
    facts: Facts
    sha256: str
    """Of its manifest."""
    num_cells: int


class Change(BaseModel):
    """A folder that holds what changes from one map to another."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    releve: str
    first: Side
    second: Side
    grid: Grid
    num_species: int
    notes: tuple[str, ...]
    citations: tuple[str, ...] = ()
    num_cells: int
    """Cells that both maps have."""
    products: dict[str, Product]
