"""Reading a modality chunk by chunk: in a fixed order, from any chunk on, in this process or another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np

from releve.ingest.problems import Problem


class _Source(Protocol):
    @property
    def rows(self) -> np.ndarray: ...


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


def chunk_rows(source: _Source, index: int, chunk_size: int) -> np.ndarray:
    """Return the positions in the survey table that chunk ``index`` reads: only surveys that have data."""
    return source.rows[index * chunk_size : (index + 1) * chunk_size]


def num_chunks(source: _Source, chunk_size: int) -> int:
    """Return how many chunks a source has."""
    return -(-len(source.rows) // chunk_size)


def iterate(read: Any, source: _Source, chunk_size: int, start: int) -> Iterator[Any]:
    """Yield the chunks of a source from chunk ``start`` on."""
    for index in range(start, num_chunks(source, chunk_size)):
        yield read(source, index, chunk_size)
