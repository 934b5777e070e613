"""What a reader left out or mended: how many rows, why, and the first of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

NUM_EXAMPLES = 3


@dataclass(frozen=True)
class Refused:
    """An account of rows, by reason."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def add(self, counts: dict[str, int], examples: dict[str, tuple[str, ...]]) -> None:
        """Add counts, with those of the examples that belong to them."""
        for reason, count in counts.items():
            self.counts[reason] = self.counts.get(reason, 0) + count
            found = (*self.examples.get(reason, ()), *examples.get(reason, ()))[:NUM_EXAMPLES]
            if found:
                self.examples[reason] = found

    def note(self, reason: str, rows: pl.DataFrame, what: str = "row") -> None:
        """Count rows of a table under a reason, with the first of its column ``what`` as examples.

        A column ``cell`` tells what was found there.
        """
        if not len(rows):
            return
        self.counts[reason] = self.counts.get(reason, 0) + len(rows)
        first = rows.head(NUM_EXAMPLES)
        cells = [f": {cell}" for cell in first["cell"]] if "cell" in rows.columns else [""] * len(first)
        found = tuple(f"{what} {value}{cell}" for value, cell in zip(first[what], cells, strict=True))
        self.examples[reason] = (*self.examples.get(reason, ()), *found)[:NUM_EXAMPLES]

    def keep(self, table: pl.DataFrame, condition: pl.Expr, reason: str) -> pl.DataFrame:
        """Return the rows where a condition holds, and count the others."""
        kept = table.filter(condition.fill_null(False))
        if len(kept) < len(table):
            self.note(reason, table.filter(~condition.fill_null(False)))
        return kept


def reasons(counts: dict[str, int], examples: dict[str, tuple[str, ...]]) -> str:
    """Return in words how many rows were left out for which reasons, each with an example.

    Examples
    --------
    >>> reasons({"no survey id": 2, "sea": 1}, {"no survey id": ("row 3", "row 9")})
    '2 no survey id (row 3), 1 sea'
    """
    named = []
    for reason, count in counts.items():
        first = f" ({examples[reason][0]})" if reason in examples else ""
        named.append(f"{count} {reason}{first}")
    return ", ".join(named) or "no reason was noted"
