"""Open a folder of maps: what grows in a cell, and where a species grows."""

# H W rows and columns

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import rasterio
from numpy.typing import NDArray
from pydantic import ValidationError
from rasterio.windows import Window

from releve.errors import StoreError, TableError, nearest
from releve.predict.maps.grid import Tile, tiles_of
from releve.predict.maps.groups import find_species
from releve.predict.maps.manifest import FORMAT, MANIFEST_FILE, SPECIES_FILE, TILES_FOLDER, Manifest
from releve.predict.maps.pack import PackedTile
from releve.predict.maps.sparse import PROBS_OF_CODES
from releve.rasters.grid import Grid, locate, project_places


@dataclass(frozen=True)
class Maps:
    """Maps of a run, as ``releve map`` draws them."""

    path: Path
    manifest: Manifest

    @property
    def grid(self) -> Grid:
        """Of all products."""
        return self.manifest.grid

    @cached_property
    def species(self) -> pl.DataFrame:
        """A row for each species, in the order of ``species_index``: what it is called, and what is known of it."""
        return pl.read_csv(self.path / SPECIES_FILE, glob=False)

    @cached_property
    def tiles(self) -> list[Tile]:
        """All tiles, row by row."""
        return tiles_of(self.grid)

    def tile_path(self, tile: Tile) -> Path:
        """Return the file of a tile."""
        return self.path / TILES_FOLDER / f"{tile.name}.tile"

    def find_species(self, name: str) -> int:
        """Return the ``species_index`` of a species.

        Raises
        ------
        TableError
            Naming the nearest ones, if there is none of this name.
        """
        names = self.species["species"].cast(pl.String).to_list()
        return find_species(name, names, where=f"the map {self.path}")

    def cell_at(self, lon: float, lat: float) -> tuple[int, int] | None:
        """Return the row and column of the cell that holds a place; None if it lies outside the map."""
        x, y = project_places(np.array([lon]), np.array([lat]), self.grid.crs)
        at = locate(self.grid, np.asarray(x, np.float64), np.asarray(y, np.float64))
        return (int(at.rows[0]), int(at.columns[0])) if at.inside[0] else None

    def species_in(self, row: int, column: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the species kept in a cell, best first, and their probabilities; none where nothing is mapped."""
        tile = self._tile_of(row, column)
        with self.tile_path(tile).open("rb") as handle:
            packed = PackedTile(handle)
            if packed.is_empty:
                return np.zeros(0, np.int64), np.zeros(0, np.float32)
            species, codes = packed.cell((row - tile.row) * tile.width + column - tile.column)
        return species, PROBS_OF_CODES[codes]

    def codes_of(self, species: int, window: Window | None = None, *, step: int = 1) -> NDArray[np.uint8]:
        """Return (H, W) codes of a species' probability, 0 where it was not kept; see ``sparse.PROBS_OF_CODES``.

        With ``step``, of every so many rows and columns only, counted from the first ones of the window.
        """
        top, left, height, width = _corners(window, self.grid)
        codes = np.zeros((-(-height // step), -(-width // step)), np.uint8)
        for tile in self.tiles:
            first_row, end_row = max(top, tile.row), min(top + height, tile.row + tile.height)
            first, end = max(left, tile.column), min(left + width, tile.column + tile.width)
            if first_row >= end_row or first >= end:
                continue
            with self.tile_path(tile).open("rb") as handle:
                cells, values = PackedTile(handle).species(species)
            if len(cells):
                whole = np.zeros(tile.height * tile.width, np.uint8)
                whole[cells] = values
                here = whole.reshape(tile.height, tile.width)
                row, column = first_row + (top - first_row) % step, first + (left - first) % step
                here = here[row - tile.row : end_row - tile.row : step, column - tile.column : end - tile.column : step]
                row, column = (row - top) // step, (column - left) // step
                codes[row : row + here.shape[0], column : column + here.shape[1]] = here
        return codes

    def image(self, name: str, band: int = 1, window: Window | None = None) -> NDArray:
        """Return (H, W) numbers of a product; those without a value are NaN if they are no codes.

        Raises
        ------
        TableError
            If the maps have no such product.
        """
        if name not in self.manifest.products:
            raise TableError(f"the maps have no product {name!r}", action=nearest(name, list(self.manifest.products)))
        with rasterio.open(self.path / self.manifest.products[name].file) as dataset:
            return dataset.read(band, window=window)

    def _tile_of(self, row: int, column: int) -> Tile:
        size = self.grid.block_height
        return self.tiles[row // size * -(-self.grid.width // size) + column // size]


def _corners(window: Window | None, grid: Grid) -> tuple[int, int, int, int]:
    if window is None:
        return 0, 0, grid.height, grid.width
    return int(window.row_off), int(window.col_off), int(window.height), int(window.width)


def open_maps(path: Path, *, unfinished: bool = False) -> Maps:
    """Return the maps in a folder.

    Parameters
    ----------
    path
        Folder made by ``releve map``.
    unfinished
        Also return maps that were not drawn to their end.

    Raises
    ------
    StoreError
        If the folder holds no maps, or not whole ones.
    """
    path, file = Path(path), Path(path) / MANIFEST_FILE
    if not file.is_file():
        raise StoreError(f"{path} holds no maps: it has no {MANIFEST_FILE}", expected="a folder made by releve map")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.get("format") != FORMAT:
            raise StoreError(f"maps {path} have format {content.get('format')}", action="Draw them again")
        manifest = Manifest.model_validate(content)
    except (ValueError, ValidationError) as error:
        raise StoreError(
            f"{file} cannot be read: {str(error).splitlines()[0]}", action="Draw the maps again"
        ) from error
    if not manifest.is_whole and not unfinished:
        raise StoreError(f"maps {path} are not whole", action="Run the same releve map again: it goes on")
    return Maps(path, manifest)
