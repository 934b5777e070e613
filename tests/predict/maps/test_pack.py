from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from releve.errors import StoreError
from releve.predict.maps.pack import BLOCK_CELLS, PackedTile, pack_empty, pack_tile
from releve.predict.maps.sparse import Likely, Places, likely_species, places_of_species, to_codes

NUMBERS = {"richness": np.arange(3, dtype=np.float32), "list_length": np.array([3, 0, 65535], np.uint16)}
BY_HAND = np.array([[0.5, 0.0, 0.02, 0.9, 0.004], [0.0] * 5, [0.0, 0.3, 0.0, 0.3, 0.0]], np.float32)


def opened(blob: bytes) -> PackedTile:
    return PackedTile(io.BytesIO(blob))


def packed(probs_NS: NDArray[np.float32], cut: float, **arrays: NDArray) -> PackedTile:
    return opened(pack_tile(likely_species(probs_NS), places_of_species(probs_NS, cut), arrays, probs_NS.shape[1]))


def random_probs(num_cells: int, num_species: int, seed: int = 0) -> NDArray[np.float32]:
    """Return probabilities of which few are likely; every seventh cell has none."""
    probs = np.random.default_rng(seed).random((num_cells, num_species), np.float32) ** 12
    probs[::7] = 0.0
    return probs


def test_three_cells_by_hand() -> None:
    tile = packed(BY_HAND, 0.003, **NUMBERS)
    assert not tile.is_empty and tile.num_cells == 3
    assert [tile.cell(cell)[0].tolist() for cell in range(3)] == [[3, 0, 2], [], [1, 3]]
    assert tile.cell(0)[1].tolist() == to_codes(np.array([0.9, 0.5, 0.02], np.float32)).tolist()
    counts, species, codes = tile.cells()
    assert (counts.tolist(), species.tolist()) == ([3, 0, 2], [3, 0, 2, 1, 3])
    assert codes.tolist() == [*tile.cell(0)[1], *tile.cell(2)[1]]
    assert [tile.species(index)[0].tolist() for index in range(5)] == [[0], [2], [0], [0, 2], [0]]
    assert tile.species(3)[1].tolist() == to_codes(np.array([0.9, 0.3], np.float32)).tolist()
    assert tile.species(4)[1].tolist() == to_codes(np.array([0.004], np.float32)).tolist()


def test_numbers_of_cells_keep_their_type_and_their_every_bit() -> None:
    arrays = {
        **NUMBERS,
        "species_of_note:any": np.ones(3, np.float32),
        "top_1": np.array([5, -1, 2], np.int32),
        "entropy": np.array([np.nan, 1e-30, 7], np.float32),
    }
    tile = packed(BY_HAND, 0.003, **arrays)
    assert tile.arrays == list(arrays)
    for name, values in arrays.items():
        assert tile.dtype(name) == values.dtype == tile.array(name).dtype
        assert tile.array(name).tobytes() == values.tobytes()


@pytest.mark.parametrize("num_cells", [1, BLOCK_CELLS - 1, BLOCK_CELLS, BLOCK_CELLS + 1, 3 * BLOCK_CELLS + 5])
def test_cells_and_species_of_many_blocks_come_back(num_cells: int) -> None:
    probs, cut = random_probs(num_cells, 30), 0.003
    tile, likely = packed(probs, cut), likely_species(probs)
    counts, species, codes = tile.cells()
    assert counts.tolist() == likely.counts.tolist() and species.tolist() == likely.species.tolist()
    assert codes.tolist() == to_codes(likely.probs).tolist()
    for cell in {0, num_cells // 2, num_cells - 1, min(BLOCK_CELLS, num_cells - 1)}:
        at = slice(likely.starts[cell], likely.starts[cell + 1])
        assert [each.tolist() for each in tile.cell(cell)] == [species[at].tolist(), codes[at].tolist()]
    for index in range(30):
        cells = np.flatnonzero(probs[:, index] >= np.float32(cut))
        found, theirs = tile.species(index)
        assert found.tolist() == cells.tolist()
        assert theirs.tolist() == to_codes(probs[cells, index]).tolist()


def test_the_last_cell_of_a_tile_of_65_536_is_found() -> None:
    num_cells, cells = 2**16, np.array([0, 2**16 - 1])
    counts = np.zeros(num_cells, np.int64)
    counts[cells] = 1
    half = np.full(2, 0.5, np.float32)
    likely = Likely(counts, np.array([0, 1]), half)
    places = Places(counts, np.array([1, 1], np.int32), to_codes(half))
    tile = opened(pack_tile(likely, places, {}, 2))
    assert tile.species(1)[0].tolist() == cells.tolist() and not len(tile.species(0)[0])
    assert [tile.cell(int(cell))[0].tolist() for cell in (*cells, 5)] == [[0], [1], []]


@pytest.mark.parametrize("num_species", [2**16, 2**16 + 1, 2**18])
def test_more_species_than_16_bits_can_count_keep_their_numbers(num_species: int) -> None:
    probs = np.zeros((3, num_species), np.float32)
    probs[0, [0, num_species - 1]] = 0.25, 0.75
    probs[2, num_species - 2] = 0.5
    tile = packed(probs, 0.01)
    assert tile.cell(0)[0].tolist() == [num_species - 1, 0] and tile.cell(2)[0].tolist() == [num_species - 2]
    assert tile.species(num_species - 1)[0].tolist() == [0] and tile.species(num_species - 2)[0].tolist() == [2]
    assert not len(tile.species(65_000)[0])


def test_an_empty_tile_has_no_species_and_no_numbers() -> None:
    tile = opened(pack_empty(7))
    assert tile.is_empty and tile.num_cells == 7 and tile.arrays == []
    counts, species, codes = tile.cells()
    assert counts.tolist() == [0] * 7 and not len(species) and not len(codes)
    assert not len(tile.species(3)[0])


def test_cells_of_which_none_has_a_likely_species_are_a_tile() -> None:
    tile = packed(np.full((5, 4), 1e-5, np.float32), 0.01, richness=np.ones(5, np.float32))
    assert not tile.is_empty and not len(tile.cell(4)[0]) and not len(tile.species(0)[0])
    assert tile.cells()[0].tolist() == [0] * 5 and tile.array("richness").tolist() == [1.0] * 5


def test_a_file_that_was_cut_short_is_an_error_wherever_it_was_cut(tmp_path: Path) -> None:
    blob = pack_tile(likely_species(BY_HAND), places_of_species(BY_HAND, 0.003), NUMBERS, 5)
    file = tmp_path / "0.tile"
    for length in (0, 3, 4, 40, len(blob) // 2, len(blob) - 1):
        file.write_bytes(blob[:length])
        with file.open("rb") as handle, pytest.raises(StoreError, match=r"0\.tile.*(releve map)"):
            tile = PackedTile(handle)
            for name in tile.arrays:
                tile.array(name)
            tile.cells()
            tile.species(3)


def test_what_is_no_tile_is_told() -> None:
    for content in (b"II*\0" + bytes(50), b"\x02\0\0\0{}", b"\x04\0\0\0null", b"\xff" * 40):
        with pytest.raises(StoreError, match="no whole tile of a map"):
            opened(content)
