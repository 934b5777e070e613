"""Which cells are read together for which places: windows along the file's own blocks, so that each is read once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from releve.files import files_below
from releve.rasters.cells import Cells, margin, values_at
from releve.rasters.files import local_path, open_raster, read_bands
from releve.rasters.grid import Grid, Located, select_places
from releve.rasters.layer import Layer

WINDOW_BYTES = 2**24
"""Cells read at a time, of all bands together; one block at least."""
UNIT_BYTES, UNIT_PLACES = 2**26, 2**17
"""What one unit of work reads, and how many values it returns for each of its columns, at most about."""
FORMAT = 1
"""Raised when values change for the same layers and places."""


@dataclass(frozen=True)
class Unit:
    """Some places, sorted by block, and the layers of one file to be read there; sent to threads or other machines."""

    layers: tuple[Layer, ...]
    at: Located
    ends: tuple[int, ...]
    """Where, among the places, each window's end."""

    @property
    def num_columns(self) -> int:
        """Of the values."""
        return sum(len(layer.columns) for layer in self.layers)

    def key(self) -> str:
        """Return a name for what the unit's values depend on: layers, their file as it is now, and places."""
        digest = hashlib.sha256(f"{FORMAT} {self.layers} {self.ends} {state_of(self.layers[0].source)}".encode())
        for part in (self.at.rows, self.at.columns, self.at.row_positions, self.at.column_positions):
            digest.update(np.ascontiguousarray(part).data)
        return digest.hexdigest()[:32]

    def read(self) -> NDArray[np.float32]:
        """Return (places, columns) values.

        Raises
        ------
        RasterError
            If the file cannot be read.
        """
        values = np.empty((len(self.at.rows), self.num_columns), np.float32)
        bands = {layer.band for layer in self.layers}
        masked = sorted({layer.band for layer in self.layers if layer.masked})
        with open_raster(self.layers[0].source) as dataset:
            for first, end in zip((0, *self.ends[:-1]), self.ends, strict=True):
                at = select_places(self.at, slice(first, end))
                window = _window(self.layers, at)
                raw = read_bands(dataset, bands, window)
                hidden = {band: dataset.read_masks(band, window=window) == 0 for band in masked}
                column = 0
                for layer in self.layers:
                    cells = Cells(window.row_off, window.col_off, raw[layer.band], hidden.get(layer.band))
                    here = values_at(layer, cells, at)
                    values[first:end, column : column + here.shape[1]] = here
                    column += here.shape[1]
        return values


@dataclass(frozen=True)
class Share:
    """The places of one unit, whatever the file."""

    places: NDArray[np.int64]
    """Positions among all places, sorted by block."""
    at: Located
    ends: tuple[int, ...]
    """Where, among them, each window's end."""


def share_out(grid: Grid, at: Located, cell_bytes: int) -> list[Share]:
    """Return the places that lie on a grid as shares of the work on one file.

    Parameters
    ----------
    grid, at
        The grid, and all places on it.
    cell_bytes
        Size of a cell, of all bands that are read together.
    """
    inside = np.flatnonzero(at.inside)
    block = at.rows[inside] // grid.block_height * np.int64(grid.blocks_across)
    block += at.columns[inside] // grid.block_width
    order = np.argsort(block, kind="stable")
    places, block = inside[order], block[order]
    block_bytes = cell_bytes * grid.block_height * grid.block_width
    first = np.flatnonzero(np.diff(block, prepend=-1))
    windows = _windows(block[first], np.append(first, len(block))[1:], grid.blocks_across, block_bytes)
    shares: list[Share] = []
    ends: list[int] = []
    start, num_bytes = 0, 0
    for number, (end, num_blocks) in enumerate(windows, 1):
        ends.append(end - start)
        num_bytes += num_blocks * block_bytes
        if num_bytes >= UNIT_BYTES or end - start >= UNIT_PLACES or number == len(windows):
            here = places[start:end]
            shares.append(Share(here, select_places(at, here), tuple(ends)))
            start, ends, num_bytes = end, [], 0
    return shares


def _cell_bytes(layers: Sequence[Layer]) -> int:
    """Return the size of a cell of all bands of a file's layers."""
    return sum(np.dtype(dtype).itemsize for dtype in {layer.band: layer.dtype for layer in layers}.values())


def _windows(
    blocks: NDArray[np.int64], ends: NDArray[np.int64], blocks_across: int, block_bytes: int
) -> list[tuple[int, int]]:
    """Return windows as (end among the places, number of blocks): neighbours in a row, or strips on strips."""
    most = max(1, WINDOW_BYTES // block_bytes)
    windows: list[tuple[int, int]] = []
    previous, count = -2, 0
    for block, end in zip(blocks.tolist(), ends.tolist(), strict=True):
        row_begins = blocks_across > 1 and block % blocks_across == 0
        if block == previous + 1 and not row_begins and count < most:
            count += 1
            windows[-1] = end, count
        else:
            count = 1
            windows.append((end, count))
        previous = block
    return windows


def _window(layers: tuple[Layer, ...], at: Located) -> Window:
    """Return the cells that the values at some places depend on."""
    margins = [margin(layer, at.rows) for layer in layers]
    down, across = max(each[0] for each in margins), max(each[1] for each in margins)
    grid = layers[0].grid
    top, left = max(0, int(at.rows.min()) - down), max(0, int(at.columns.min()) - across)
    bottom = min(grid.height, int(at.rows.max()) + down + 1)
    right = min(grid.width, int(at.columns.max()) + across + 1)
    return Window(left, top, right - left, bottom - top)


def state_of(source: str) -> str:
    """Return what tells the files behind a raster from earlier ones of their names; of a remote one nothing does."""
    path = local_path(source)
    if path is None:
        return ""
    with open_raster(source) as dataset:
        files = {path, *map(Path, dataset.files)}
    for header in [file for file in files if file.name in (".zarray", "zarr.json")]:
        files.update(files_below(header.parent))
    facts = [file.stat() for file in sorted(files) if file.is_file()]
    return " ".join(f"{each.st_size} {each.st_mtime_ns}" for each in facts)


@dataclass(frozen=True)
class Planned:
    """A unit of work, and where its values belong."""

    unit: Unit
    places: NDArray[np.int64]
    columns: NDArray[np.int64]


def plan_units(layers: Sequence[Layer], located: dict[Grid, Located]) -> list[Planned]:
    """Return the units of all files; those of like files share their places.

    Parameters
    ----------
    layers
        Their columns, in this order, are the columns of the values.
    located
        The places on each of their grids.
    """
    starts = np.cumsum([0, *(len(layer.columns) for layer in layers)])
    files: dict[tuple[str, Grid], list[int]] = {}
    for index, layer in enumerate(layers):
        files.setdefault((layer.source, layer.grid), []).append(index)
    shares: dict[tuple[Grid, int], list[Share]] = {}
    planned = []
    for (_, grid), indices in files.items():
        together = tuple(layers[index] for index in indices)
        columns = np.concatenate([np.arange(starts[index], starts[index + 1]) for index in indices])
        alike = grid, _cell_bytes(together)
        if alike not in shares:
            shares[alike] = share_out(grid, located[grid], alike[1])
        planned += [Planned(Unit(together, share.at, share.ends), share.places, columns) for share in shares[alike]]
    return planned
