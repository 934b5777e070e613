"""What a map keeps of its cells: the likely species of each, best first, and the places of each species.

Probabilities are kept as numbers of 8 bits in equal steps of logits. A cell keeps the species that are likelier than
``LIKELY``; a species keeps the cells in which it is likelier than the tile's cut, which lies so low that ``HELD`` of
the expected number of species is held. Rare species are hardly ever likely, and yet there is a map of each.
"""

# B cells, S species, N kept species of all cells

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LIKELY = 0.01
"""Species of a cell are listed from this probability on; no cut lies above it."""
HELD = 0.99
"""Share of a tile's expected number of species that its species' places hold, if the cut is not at ``LOWEST``."""
LOWEST, HIGHEST = 1e-4, 0.999
"""Probabilities of the first and the last code; no cut lies below the first."""
NUM_CODES = 255
_FIRST, _LAST = np.log(LOWEST / (1 - LOWEST)), np.log(HIGHEST / (1 - HIGHEST))
_STEP = (_LAST - _FIRST) / (NUM_CODES - 1)
PROBS_OF_CODES = np.concatenate([[0.0], 1 / (1 + np.exp(-(_FIRST + _STEP * np.arange(NUM_CODES))))]).astype(np.float32)
"""(256,) the probability that each code stands for: 0 for none, then equal steps of .063 logits."""
_ONE = int(np.float32(1.0).view(np.uint32))
_SHIFT = 8
"""Bits of a float32 that a code does not depend on: the others look it up, right to .008 logits."""
_LEAST = np.uint32(int(np.float32(LOWEST).view(np.uint32)) >> _SHIFT)
"""Where the look-up begins."""


def _table_of_codes() -> NDArray[np.uint8]:
    bits = np.arange(_LEAST, (_ONE >> _SHIFT) + 1, dtype=np.uint32) << np.uint32(_SHIFT) | np.uint32(1 << (_SHIFT - 1))
    probs = np.minimum(bits.view(np.float32).astype(np.float64), 1 - 1e-9)
    with np.errstate(divide="ignore"):
        place = (np.log(probs / (1 - probs)) - _FIRST) / _STEP
    return (np.clip(np.rint(place), 0, NUM_CODES - 1) + 1).astype(np.uint8)


_CODES = _table_of_codes()


def to_codes(probs: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the code, 1 to 255, whose probability is nearest on the scale of logits.

    Examples
    --------
    >>> codes = to_codes(np.array([0.0001, 0.5, 0.9999], np.float32))
    >>> codes.tolist(), [f"{p:.4f}" for p in PROBS_OF_CODES[codes]]
    ([1, 146, 255], ['0.0001', '0.4976', '0.9990'])
    """
    place = probs.view(np.uint32) >> np.uint32(_SHIFT)
    np.maximum(place, _LEAST, out=place)
    place -= _LEAST
    return _CODES[place]


@dataclass(frozen=True)
class Likely:
    """The likely species of B cells, those of a cell best first; equals by their index."""

    counts: NDArray[np.int64]
    """(B,) of each cell."""
    species: NDArray[np.int32]
    """(N,) ``species_index``."""
    probs: NDArray[np.float32]
    """(N,) probabilities."""

    @property
    def starts(self) -> NDArray[np.int64]:
        """(B + 1,) where each cell's begin."""
        return np.concatenate([[0], np.cumsum(self.counts)])


def likely_species(probs_BS: NDArray[np.float32], at_least: float = LIKELY) -> Likely:
    """Return the species of each cell from a probability on.

    Examples
    --------
    >>> found = likely_species(np.array([[0.5, 0.0, 0.02, 0.9], [0.0, 0.004, 0.0, 0.0]], np.float32))
    >>> found.counts.tolist(), found.species.tolist(), [f"{p:.2f}" for p in found.probs]
    ([3, 0], [3, 0, 2], ['0.90', '0.50', '0.02'])
    """
    num_cells, num_species = probs_BS.shape
    assert num_cells <= 2**16 and num_species <= 2**18, (num_cells, num_species)
    flat = np.flatnonzero(probs_BS.ravel() >= np.float32(at_least))
    found = probs_BS.ravel()[flat]
    # One number sorts by cell, then from likely to unlikely, then by species: 16, 30 and 18 bits.
    cell = flat // num_species
    order = cell.astype(np.uint64) << np.uint64(48)
    order |= (np.uint32(_ONE) - found.view(np.uint32)).astype(np.uint64) << np.uint64(18)
    order |= (flat - cell * num_species).astype(np.uint64)
    order.sort()
    probs = (np.uint32(_ONE) - ((order >> np.uint64(18)) & np.uint64(2**30 - 1)).astype(np.uint32)).view(np.float32)
    species = (order & np.uint64(2**18 - 1)).astype(np.int32)
    return Likely(np.bincount(cell, minlength=num_cells), species, probs)


@dataclass(frozen=True)
class Places:
    """Where the species of B cells grow: of each cell all species from a cut on, by their index."""

    counts: NDArray[np.int64]
    """(B,) of each cell."""
    species: NDArray[np.int32]
    """(N,) ``species_index``, ascending in a cell."""
    codes: NDArray[np.uint8]
    """(N,) of their probabilities."""


def places_of_species(probs_BS: NDArray[np.float32], cut: float) -> Places:
    """Return the species of each cell whose probability reaches a cut.

    Examples
    --------
    >>> places = places_of_species(np.array([[0.5, 0.0, 0.02], [0.0, 0.004, 0.0]], np.float32), 0.001)
    >>> places.counts.tolist(), places.species.tolist(), places.codes.tolist()
    ([2, 1], [0, 2, 1], [146, 85, 59])
    """
    num_species, flat = probs_BS.shape[1], np.flatnonzero(probs_BS.ravel() >= np.float32(cut))
    ends = np.searchsorted(flat, np.arange(1, len(probs_BS) + 1) * num_species)
    counts = np.diff(ends, prepend=0)
    first_of_row = (np.arange(len(probs_BS)) * num_species).repeat(counts)
    return Places(counts, (flat - first_of_row).astype(np.int32), to_codes(probs_BS.ravel()[flat]))


def cut_for(probs_BS: NDArray[np.float32]) -> float:
    """Return the highest cut from ``LOWEST`` to ``LIKELY`` at which ``HELD`` of all probabilities' sum is held.

    It is the probability of a code.

    Examples
    --------
    >>> round(cut_for(np.array([[0.9, 0.005, 0.00001]], np.float32)), 4)
    0.0095
    >>> round(cut_for(np.array([[0.1, 0.005, 0.0005, 0.00001]], np.float32)), 4)
    0.0051
    """
    codes = to_codes(probs_BS.ravel())
    held = np.bincount(codes, weights=probs_BS.ravel().astype(np.float64), minlength=NUM_CODES + 1)
    from_code_on = np.cumsum(held[::-1])[::-1]
    enough = np.flatnonzero(from_code_on >= HELD * held.sum())
    highest = int(np.searchsorted(PROBS_OF_CODES, np.float32(LIKELY), side="right")) - 1
    return float(PROBS_OF_CODES[min(int(enough.max(initial=1)), highest)])
