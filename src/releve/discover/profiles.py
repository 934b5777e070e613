"""What the values of a column look like, whatever it is called."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from releve.ingest.text import number

MOSTLY = 0.95
"""Share of the values that must be numbers for a column to be one of numbers."""
MAX_CLASSES = 30
BRAUN_BLANQUET = frozenset({"r", "+", "1", "2", "2m", "2a", "2b", "3", "4", "5"})
NO_VALUES = frozenset({"0", "-", ".", ""})
PRESENT = frozenset(
    {"present", "presence", "presente", "yes", "y", "true", "t", "1", "1.0", "x", "p", "oui", "ja", "si"}
)
ABSENT = frozenset({"absent", "absence", "ausente", "no", "n", "false", "f", "0", "0.0", "a", "non", "nein"})


@dataclass(frozen=True)
class Profile:
    """A column."""

    name: str
    num_rows: int
    num_values: int
    """Rows in which it is not missing."""
    num_distinct: int
    is_number: bool
    is_whole: bool
    """All are whole numbers."""
    low: float
    high: float
    distinct: tuple[str, ...]
    """Its values in the order in which they come, if there are few."""
    numbers: NDArray[np.float64]
    """A value for each row, NaN where there is no number."""

    @property
    def share(self) -> float:
        """Return the share of rows that have a value."""
        return self.num_values / max(self.num_rows, 1)

    @property
    def words(self) -> set[str]:
        """Return its values in small letters if they are few."""
        return {value.casefold() for value in self.distinct}

    @property
    def is_zero_one(self) -> bool:
        """Return whether it holds presences and absences and nothing else."""
        return bool(self.words & PRESENT) and bool(self.words & ABSENT) and self.words <= PRESENT | ABSENT

    @property
    def is_presence(self) -> bool:
        """Return whether every row says that something is present."""
        return bool(self.words) and self.words <= PRESENT

    @property
    def is_absence(self) -> bool:
        """Return whether every row says that something is absent."""
        return bool(self.words) and self.words <= ABSENT

    @property
    def is_row_number(self) -> bool:
        """Return whether it counts the rows, from whichever number on."""
        if not self.is_whole or self.num_values < self.num_rows or self.num_rows < 3:
            return False
        steps = np.diff(self.numbers)
        return bool((steps > 0).all() and np.mean(steps == 1) > 0.9)


def profile_columns(cells: pl.DataFrame, *, decimal_comma: bool) -> dict[str, Profile]:
    """Return what each column of a table of text holds."""
    return {name: _profile(cells[name], decimal_comma) for name in cells.columns}


def _profile(column: pl.Series, decimal_comma: bool) -> Profile:
    known = column.drop_nulls()
    numbers = column.to_frame().select(number(column.name, decimal_comma=decimal_comma)).to_series()
    finite = numbers.drop_nulls().to_numpy()
    is_number = len(finite) > 0 and len(finite) >= MOSTLY * len(known)
    distinct = known.unique(maintain_order=True)
    return Profile(
        name=column.name,
        num_rows=len(column),
        num_values=len(known),
        num_distinct=len(distinct),
        is_number=is_number,
        is_whole=is_number and bool(np.all(finite == np.floor(finite))),
        low=float(finite.min()) if is_number else float("nan"),
        high=float(finite.max()) if is_number else float("nan"),
        distinct=tuple(distinct[:MAX_CLASSES].to_list()) if len(distinct) <= MAX_CLASSES else (),
        numbers=numbers.fill_null(float("nan")).to_numpy(),
    )


def is_braun_blanquet(words: Iterable[str]) -> bool:
    """Return whether values are codes of the Braun-Blanquet scale, and not only numbers.

    Examples
    --------
    >>> is_braun_blanquet(["+", "2a", "1", "."]), is_braun_blanquet(["1", "2"])
    (True, False)
    """
    codes = {word.casefold() for word in words} - NO_VALUES
    return codes <= BRAUN_BLANQUET and bool(codes & {"r", "+", "2m", "2a", "2b"})
