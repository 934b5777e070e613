"""How much of a species grew on a plot, as people write it, and whether that is a presence."""

from __future__ import annotations

import re

import polars as pl

from releve.errors import TableError
from releve.ingest.names import fold
from releve.ingest.presence import BELOW, NONE_COUNTED

BRAUN_BLANQUET = ("r", "+", "1", "2", "2m", "2a", "2b", "3", "4", "5")
"""Codes of cover and abundance, the least first."""
IN_WORDS = "abundance in words, taken as a presence"
_ABSENT = ("absent", "absence", "no", "false", "f", "non", "nein", "none", "zero")
_PRESENT = ("x", "xx", "present", "presence", "yes", "true", "t", "oui", "ja", "si", "p")
_NUMBER = re.compile(r"[<>~≤≥=]*\s*(-?\d*[.,]?\d+(?:[eE][+-]?\d+)?)(?:\s*[-–]\s*(\d*[.,]?\d+))?\s*%?")


def judge_abundances(cells: pl.Series, least: float | str | None, *, where: str) -> pl.DataFrame:
    """Return, for each cell, why it is no presence (null where it is one), and whether it is in words.

    Parameters
    ----------
    cells
        Numbers as text (``12``, ``0,5``, ``<1``, ``5-25 %``), codes of the Braun-Blanquet scale, or words; null says
        nothing, and is a presence.
    least
        The least abundance that is a presence, a number or a code; by default every number above 0, and all else but
        words for none.
    where
        Table and column, for messages.

    Returns
    -------
    polars.DataFrame
        ``why_not`` and ``in_words``, a row for each cell.

    Raises
    ------
    TableError
        If ``least`` is no code, or cells cannot be compared with it.

    Examples
    --------
    >>> cover = pl.Series(["r", "2a", "0", ".", "<1", "12,5", None])
    >>> judge_abundances(cover, None, where="cover")["why_not"].to_list()
    [None, None, 'count of zero', 'count of zero', None, None, None]
    >>> judge_abundances(pl.Series(["r", "+", "2m"]), "+", where="cover")["why_not"].to_list()
    ['less than the least abundance that is a presence', None, None]
    """
    different = cells.unique()
    judged = [_judge(cell, least, where) for cell in different.to_list()]
    why_not, in_words = zip(*judged, strict=True) if judged else ((), ())
    read = pl.DataFrame(
        {
            "cell": different,
            "why_not": pl.Series(why_not, dtype=pl.String),
            "in_words": pl.Series(in_words, dtype=pl.Boolean),
        }
    )
    found = cells.alias("cell").to_frame().join(read, on="cell", how="left", nulls_equal=True, maintain_order="left")
    return found.select("why_not", "in_words")


def is_abundance(cell: str) -> bool:
    """Return whether a cell is a number, a code or a word for present or absent: what a species' column may hold.

    Examples
    --------
    >>> [is_abundance(cell) for cell in ("12", "2m", "+", "present", "grassland")]
    [True, True, True, True, False]
    """
    return cell.lower() in BRAUN_BLANQUET or number_of(cell) is not None or _word(cell) is not None


def number_of(cell: str) -> float | None:
    """Return the number that an abundance is, the lower one of a range; None if it is none.

    Examples
    --------
    >>> [number_of(cell) for cell in ("12", "0,5", "<1", "5-25 %", "0-5", "2m")]
    [12.0, 0.5, 1.0, 5.0, 5.0, None]
    """
    found = _NUMBER.fullmatch(cell)
    if found is None:
        return None
    low, high = (float(part.replace(",", ".")) if part else None for part in found.groups())
    return low or high or 0.0


def _word(cell: str) -> bool | None:
    """Return what a word says: present, absent, or nothing that is known."""
    if cell in ("-", "."):
        return False
    word = fold(cell)
    return True if word in _PRESENT else False if word in _ABSENT else None


def _judge(cell: str | None, least: float | str | None, where: str) -> tuple[str | None, bool]:
    if cell is None:
        return None, False
    number, word, code = number_of(cell), _word(cell), cell.lower()
    if word is False or (number is not None and number <= 0):
        return NONE_COUNTED, False
    if least is None or word:
        return None, number is None and code not in BRAUN_BLANQUET and word is None
    if isinstance(least, str):
        if least.lower() not in BRAUN_BLANQUET:
            raise TableError(
                f"least_abundance of {where} is {least!r}",
                expected=f"a number, or one of the codes {list(BRAUN_BLANQUET)} in quotes",
            )
        if code in BRAUN_BLANQUET:
            is_less = BRAUN_BLANQUET.index(code) < BRAUN_BLANQUET.index(least.lower())
            return (BELOW if is_less else None), False
    elif number is not None:
        return (BELOW if number < least else None), False
    raise TableError(
        f"{where} holds {cell!r}, which cannot be compared with least_abundance = {least!r}",
        expected=f"one of the codes {list(BRAUN_BLANQUET)}" if isinstance(least, str) else "numbers",
        action="Give least_abundance on the scale of the column, a code in quotes",
    )
