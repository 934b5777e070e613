"""Tables with a row for each plot and a column for each species, turned into a row for each species of a plot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from releve.errors import TableError
from releve.ingest.abundance import IN_WORDS, is_abundance, judge_abundances, number_of
from releve.ingest.columns import match_patterns, numbers_rows
from releve.ingest.presence import BELOW, NONE_COUNTED
from releve.ingest.refused import Refused
from releve.ingest.text import TextTable
from releve.progress import say

NO_SPECIES_LEAST = 5
"""Columns with values, from which on one is compared with the others."""
MOST = 0.75
MAX_NAMED = 5
BLANK = "row with blanks where others have zeros, taken as absences"


def species_columns(text: TextTable, free: Sequence[str], given: Sequence[str], origin: str) -> list[str]:
    """Return the columns of species of a wide table.

    Parameters
    ----------
    text
        The table.
    free
        Columns that mean nothing else.
    given
        Names or patterns of them; by default all that hold abundances, and such as the other columns do: not text,
        nor values that are negative, years, or in every row and greater than all of the columns that have a plot
        without the species. What is left out is said.
    origin
        What the table is called in messages.

    Raises
    ------
    TableError
        If none is left, a name or pattern is that of no column, or a column that was named holds text.
    """
    if given:
        columns = _given(text, free, given, origin)
    else:
        values = {name: _values(text, name) for name in free}
        why = _unlike(values)
        if why:
            some = "; ".join(f"{name!r} {reason}" for name, reason in list(why.items())[:MAX_NAMED])
            say(
                f"{origin}: {len(why)} of {len(free)} columns are taken for no species: {some}"
                f"{'; ...' if len(why) > MAX_NAMED else ''}. Should one be, name all in species_columns"
            )
        columns = [name for name in free if name not in why]
    if not columns:
        raise TableError(
            f"{origin} has no column of a species; it has {list(text.header[:15])}",
            expected="a column for each species, or a row for each plot and species",
            action='Give species_columns = ["..."], or form = "long"',
        )
    return columns


def species_rows(
    text: TextTable,
    plots: pl.DataFrame,
    columns: Sequence[str],
    least: float | str | None,
    origin: str,
    mended: Refused,
) -> tuple[pl.DataFrame, pl.Series]:
    """Return the plots with a row for each species that grows there, and their numbers in the file.

    A plot on which none grows has a row without a species.

    Parameters
    ----------
    text, columns
        The table, and its columns of species; their names are those of the species.
    plots
        What else there is to say of each row of it.
    least
        As of ``judge_abundances``; an empty cell is no presence.
    origin
        What the table is called in messages.
    mended
        Takes note of words and of what was less than ``least``.

    Raises
    ------
    TableError
        If cells cannot be compared with ``least``.
    """
    found: list[np.ndarray] = []
    writes_zeros = np.zeros(len(plots), bool)
    num_blank = np.zeros(len(plots), np.int64)
    for name in columns:
        cells = text.cells[name]
        judged = judge_abundances(cells, least, where=f"{origin}, column {name!r},")
        found.append(np.flatnonzero((judged["why_not"].is_null() & cells.is_not_null()).to_numpy()))
        writes_zeros |= (judged["why_not"] == NONE_COUNTED).fill_null(False).to_numpy()
        num_blank += cells.is_null().to_numpy()
        for reason, is_so in ((IN_WORDS, judged["in_words"]), (BELOW, judged["why_not"] == BELOW)):
            here = is_so.fill_null(False)
            mended.note(reason, pl.DataFrame({"row": text.rows.filter(here), "cell": cells.filter(here)}))
    if writes_zeros.mean() > MOST:  # then a blank is no usual way to write an absence
        blank = pl.DataFrame({"row": text.rows, "cell": num_blank}).filter(pl.col("cell") > 0)
        mended.note(BLANK, blank.with_columns(cell=pl.format("{} of {} species", "cell", pl.lit(len(columns)))))
    row, column = np.concatenate(found), np.repeat(np.arange(len(columns)), [len(at) for at in found])
    bare = np.setdiff1d(np.arange(len(plots)), row)
    names = pl.Series("species", columns, dtype=pl.String)[column]
    species = pl.concat([names, pl.Series("species", [None] * len(bare), dtype=pl.String)])
    at = np.concatenate([row, bare])
    order = np.argsort(at, kind="stable")
    return plots[at[order]].with_columns(species[order]), text.rows[at[order]]


def _given(text: TextTable, free: Sequence[str], given: Sequence[str], origin: str) -> list[str]:
    columns = match_patterns(text, given, f"{origin}, species_columns", taken=set(text.cells.columns) - set(free))
    for name in columns:
        words = [cell for cell in text.cells[name].drop_nulls().unique(maintain_order=True) if not is_abundance(cell)]
        if words:
            raise TableError(
                f"{origin}: column {name!r}, which is said to be a species, holds {words[:3]}",
                expected="0 and 1, cover, counts or codes of abundance",
                action="Leave it out of species_columns, or mend these cells",
            )
    return list(columns)


def _values(text: TextTable, name: str) -> np.ndarray | str:
    """Return a column as numbers, NaN where nothing stands and for codes; or what it is, if it is no abundance."""
    cells = text.cells[name]
    if numbers_rows(cells):
        return "numbers the rows"
    numbers = cells.to_frame().select(text.number(name)).to_series()  # of a table of one column: there may be thousands
    words = cells.filter(numbers.is_null()).drop_nulls().unique(maintain_order=True)
    strange = next((word for word in words if not is_abundance(word)), None)
    if strange is not None:
        return f"holds text, such as {strange!r}"
    if len(words):
        read = {word: number_of(word) for word in words}
        numbers = numbers.zip_with(
            numbers.is_not_null(), cells.replace_strict(read, default=None, return_dtype=pl.Float64)
        )
    return numbers.fill_null(np.nan).to_numpy()


def _unlike(columns: dict[str, np.ndarray | str]) -> dict[str, str]:
    """Return the columns that are no species -> why."""
    why = {name: values for name, values in columns.items() if isinstance(values, str)}
    numbers = {name: values for name, values in columns.items() if not isinstance(values, str)}
    known = {name: values[np.isfinite(values)] for name, values in numbers.items()}
    known = {name: values for name, values in known.items() if len(values)}
    highest = {name: float(values.max()) for name, values in known.items()}
    is_01 = sum(high <= 1 and bool(np.isin(known[name], (0, 1)).all()) for name, high in highest.items())
    most_are_01 = is_01 >= NO_SPECIES_LEAST and is_01 >= MOST * len(known)
    there = {name: len(values) == len(numbers[name]) and values.min() > 0 for name, values in known.items()}
    others = [high for name, high in highest.items() if not there[name]]
    usual = max(others) if len(others) >= NO_SPECIES_LEAST else np.inf
    for name, values in known.items():
        whole_rows = there[name] and len(values) >= NO_SPECIES_LEAST
        if (values < 0).any():
            why[name] = f"holds values below 0, such as {values.min():g}"
        elif most_are_01 and not np.isin(values, (0, 1)).all():
            why[name] = f"holds {values[~np.isin(values, (0, 1))][0]:g}, where the others hold 0 and 1"
        elif whole_rows and ((values >= 1500) & (values <= 2200) & (values == np.floor(values))).all():
            why[name] = f"holds years, such as {values[0]:g}"
        elif whole_rows and values.min() > usual:
            why[name] = f"is {values.min():g} to {values.max():g} in every row, and the others {usual:g} at most"
    return why
