"""Reading a modality chunk by chunk: in a fixed order, from any chunk on, in this process or another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

from releve.ingest.problems import Problem


@dataclass(frozen=True)
class Chunk:
    """The data of a few surveys."""

    rows: np.ndarray
    """int64, positions in the survey table, ascending."""
    values: np.ndarray
    """(rows, ...) in the source's dtype, its fill where a value is missing."""
    problems: list[Problem]
    """One for each survey whose file gave no data."""
    counts: dict[str, int] = field(default_factory=dict)
    """Values that were mended, by what was done."""


C = TypeVar("C", bound=Chunk)


class ChunkSource(ABC, Generic[C]):
    """Where a modality of one split is read from, chunk by chunk."""

    rows: Any
    """Positions, in the survey table, of the surveys that have data, in the order of reading."""

    @abstractmethod
    def read_chunk(self, index: int, chunk_size: int = 256) -> C:
        """Return one chunk; a survey without data is left out, with a problem."""

    def num_chunks(self, chunk_size: int = 256) -> int:
        """Return how many chunks there are."""
        return -(-len(self.rows) // chunk_size)

    def chunks(self, chunk_size: int = 256, start: int = 0) -> Iterator[C]:
        """Yield the chunks in order, from chunk ``start`` on."""
        for index in range(start, self.num_chunks(chunk_size)):
            yield self.read_chunk(index, chunk_size)

    def chunk_rows(self, index: int, chunk_size: int) -> np.ndarray:
        """Return the positions in the survey table that chunk ``index`` reads."""
        return self.rows[index * chunk_size : (index + 1) * chunk_size]
