"""A tile as one run of bytes: its species cell by cell and again species by species, and a number for each cell.

A tile begins with the length of a header (4 bytes) and the header, JSON: for each part its place, length, type and
shape. A part is compressed by zlib unless it is an index, so that a reader fetches what it needs and no more:

- ``cells``: blocks of ``BLOCK_CELLS`` cells, each compressed on its own: how many species each cell has (uint16),
  the species of all of them, best first, and their codes, as differences from one to the next.
- ``species``: for each species of the tile a block: the number of cells, the cells as differences, the codes.
- every other part is an array with a number for each cell.
"""

# N kept species of all cells

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from releve.errors import StoreError
from releve.predict.maps.sparse import Likely, Places, to_codes

BLOCK_CELLS = 1_024
LEVEL = 1
"""Of zlib: the quickest."""
OWN_PARTS = ("cells", "cells_ends", "species", "species_ends", "species_found")
"""All but those that hold a number for each cell."""
Part = tuple[str, bytes, str, list[int]]
"""Name, bytes, type and shape."""


def pack_tile(likely: Likely, places: Places, arrays: Mapping[str, NDArray], num_species: int) -> bytes:
    """Return a tile.

    Parameters
    ----------
    likely, places
        Of all cells of the tile, row by row; masked cells have none.
    arrays
        By name, (cells,) numbers.
    num_species
        Columns of the model.
    """
    parts = [
        *_cell_blocks(likely, np.dtype(np.uint16 if num_species <= 2**16 else np.uint32)),
        *_species_blocks(places, num_species),
        *(
            (name, zlib.compress(np.ascontiguousarray(values).tobytes(), LEVEL), values.dtype.name, [*values.shape])
            for name, values in arrays.items()
        ),
    ]
    return _joined(parts, len(likely.counts))


def _cell_blocks(likely: Likely, wide: np.dtype) -> list[Part]:
    codes, starts, blobs = to_codes(likely.probs), likely.starts, []
    species, counts = likely.species.astype(wide), likely.counts.astype(np.uint16)
    for first in range(0, len(counts), BLOCK_CELLS):
        end = min(first + BLOCK_CELLS, len(counts))
        at = slice(starts[first], starts[end])
        steps = np.diff(codes[at], prepend=np.uint8(0))
        blobs.append(zlib.compress(counts[first:end].tobytes() + species[at].tobytes() + steps.tobytes(), LEVEL))
    return _blocks("cells", blobs, wide.name)


def _species_blocks(places: Places, num_species: int) -> list[Part]:
    starts = np.concatenate([[0], np.cumsum(places.counts)])
    wide = np.int32 if starts[-1] < 2**31 else np.int64
    shape = len(places.counts), num_species
    table = scipy.sparse.csr_matrix((places.codes, places.species.astype(wide), starts.astype(wide)), shape).tocsc()
    found, blobs = np.flatnonzero(np.diff(table.indptr)), []
    for first, end in zip(table.indptr[found].tolist(), table.indptr[found + 1].tolist(), strict=True):
        steps = np.diff(table.indices[first:end], prepend=0).astype(np.uint16)
        block = struct.pack("<I", end - first) + steps.tobytes() + table.data[first:end].tobytes()
        blobs.append(zlib.compress(block, LEVEL))
    return [
        ("species_found", found.astype(np.uint32).tobytes(), "uint32", [len(found)]),
        *_blocks("species", blobs, ""),
    ]


def pack_empty(num_cells: int) -> bytes:
    """Return a tile of which no cell is mapped."""
    return _joined([], num_cells)


def _blocks(name: str, blobs: list[bytes], dtype: str) -> list[Part]:
    ends = np.cumsum([0, *map(len, blobs)]).astype(np.uint32)
    return [(f"{name}_ends", ends.tobytes(), "uint32", [len(ends)]), (name, b"".join(blobs), dtype, [len(blobs)])]


def _joined(parts: list[Part], num_cells: int) -> bytes:
    places, at = {}, 0
    for name, blob, dtype, shape in parts:
        places[name] = [at, len(blob), dtype, shape]
        at += len(blob)
    header = json.dumps({"cells": num_cells, "parts": places}, separators=(",", ":")).encode()
    return b"".join([struct.pack("<I", len(header)), header, *(blob for _, blob, _, _ in parts)])


class PackedTile:
    """A tile that is read part by part from an open file."""

    def __init__(self, handle: BinaryIO) -> None:
        """Read the header.

        Raises
        ------
        StoreError
            If it is no tile, or cut short.
        """
        self._handle = handle
        try:
            (length,) = struct.unpack("<I", handle.read(4))
            content = json.loads(handle.read(length))
            self.num_cells, self._parts = int(content["cells"]), content["parts"]
        except (struct.error, ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{getattr(handle, 'name', 'a tile')} is no whole tile of a map",
                action="Remove it and run the same releve map again",
            ) from error
        self._start = 4 + length

    @property
    def is_empty(self) -> bool:
        """Whether no cell is mapped."""
        return not self._parts

    @property
    def arrays(self) -> list[str]:
        """Names of the arrays with a number for each cell."""
        return [name for name in self._parts if name not in OWN_PARTS]

    @property
    def species_found(self) -> NDArray[np.int64]:
        """The species that the tile keeps somewhere, ascending."""
        return np.frombuffer(self._read("species_found"), np.uint32).astype(np.int64)

    def dtype(self, name: str) -> np.dtype:
        """Return the type of an array's numbers."""
        return np.dtype(self._parts[name][2])

    def array(self, name: str) -> NDArray:
        """Return (cells,) the numbers of an array."""
        _, _, dtype, shape = self._parts[name]
        return np.frombuffer(zlib.decompress(self._read(name)), dtype).reshape(shape)

    def cell(self, cell: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Return the species of a cell, best first, and their codes."""
        counts, species, codes = self._block(cell // BLOCK_CELLS)
        ends = np.cumsum(counts)
        at = slice(*([0, *ends][cell % BLOCK_CELLS : cell % BLOCK_CELLS + 2]))
        return species[at], codes[at]

    def cells(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
        """Return (cells,) numbers of species, and (N,) species and codes of all cells in their order."""
        if self.is_empty:
            return np.zeros(self.num_cells, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint8)
        blocks = [self._block(index) for index in range(-(-self.num_cells // BLOCK_CELLS))]
        counts, species, codes = map(np.concatenate, zip(*blocks, strict=True))
        return counts, species, codes

    def species(self, index: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Return the cells, ascending, in which a species was kept, and its codes there."""
        nothing = np.zeros(0, np.int64), np.zeros(0, np.uint8)
        if self.is_empty:
            return nothing
        found = np.frombuffer(self._read("species_found"), np.uint32)
        at = int(np.searchsorted(found, index))
        if at == len(found) or found[at] != index:
            return nothing
        first, end = np.frombuffer(self._read("species_ends", 4 * at, 8), np.uint32).tolist()
        block = zlib.decompress(self._read("species", first, end - first))
        (count,) = struct.unpack_from("<I", block)
        steps = np.frombuffer(block, np.uint16, count, 4)
        return np.cumsum(steps, dtype=np.int64), np.frombuffer(block, np.uint8, count, 4 + 2 * count)

    def _block(self, index: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
        first, end = np.frombuffer(self._read("cells_ends", 4 * index, 8), np.uint32).tolist()
        block = zlib.decompress(self._read("cells", first, end - first))
        wide = np.dtype(self._parts["cells"][2])
        num_cells = min(BLOCK_CELLS, self.num_cells - index * BLOCK_CELLS)
        counts = np.frombuffer(block, np.uint16, num_cells).astype(np.int64)
        total = int(counts.sum())
        species = np.frombuffer(block, wide, total, 2 * num_cells).astype(np.int64)
        steps = np.frombuffer(block, np.uint8, total, 2 * num_cells + wide.itemsize * total)
        return counts, species, np.cumsum(steps, dtype=np.uint8)

    def _read(self, name: str, first: int = 0, length: int | None = None) -> bytes:
        place, whole, *_ = self._parts[name]
        self._handle.seek(self._start + place + first)
        wanted = whole if length is None else length
        found = self._handle.read(wanted)
        if len(found) != wanted:
            raise StoreError(f"{getattr(self._handle, 'name', 'a tile')} is cut short", action="Run releve map again")
        return found
