"""Quotes in tables of text: which ones enclose a cell, and which are a part of it."""

from __future__ import annotations

import re

import numpy as np

SEPARATOR_INSIDE = "\x1f"
"""Stands for a separator inside a quoted cell until the cells are apart."""


class BrokenQuote(Exception):
    """A quoted cell runs over rows that are whole without it, so that nobody can tell which of the two is meant.

    Parameters
    ----------
    begin, end
        First and last line; the header is line 1.
    column
        Counted from 0.
    """

    def __init__(self, begin: int, end: int, column: int) -> None:
        super().__init__(begin, end, column)
        self.begin, self.end, self.column = begin, end, column


def separators_within_quotes(block: bytes, separator: bytes) -> int | None:
    r"""Return how many separators lie within quotes, or None if the quotes need a closer look.

    They need none where every second quote follows a separator or a new line, every other one stands before such, and
    no cell goes over lines.

    Parameters
    ----------
    block
        Whole lines.
    separator
        One byte.

    Examples
    --------
    >>> separators_within_quotes(b'1,"Bois, nord",2\n', b","), separators_within_quotes(b'1,am "Teich",2\n', b",")
    (1, None)
    """
    letters = np.frombuffer(block, np.uint8)
    quotes = np.flatnonzero(letters == ord('"'))
    opening, closing = quotes[::2], quotes[1::2]
    if len(opening) != len(closing):
        return None
    before = np.where(opening > 0, letters[opening - 1], ord("\n"))
    after = np.where(closing + 1 < len(letters), letters[np.minimum(closing + 1, len(letters) - 1)], ord("\n"))
    edge, newline = ord(separator), ord("\n")
    if not np.isin(before, (edge, newline)).all() or not np.isin(after, (edge, newline, ord("\r"))).all():
        return None
    newlines, separators = np.flatnonzero(letters == newline), np.flatnonzero(letters == edge)
    if (np.searchsorted(newlines, opening) != np.searchsorted(newlines, closing)).any():
        return None
    return int((np.searchsorted(separators, closing) - np.searchsorted(separators, opening)).sum())


def take_off_quotes(text: bytes, separator: str, num_columns: int) -> bytes:
    r"""Return a table without the quotes that enclose cells, so that every line is a row.

    A quote encloses a cell only where it opens it and another one closes it, next to a separator or the end of a
    line; every other one is a letter. A new line within a cell becomes a blank, a separator ``SEPARATOR_INSIDE``.

    Parameters
    ----------
    text
        The table in UTF-8, with its header, its lines ended by ``\n``.
    separator
        One ASCII character.
    num_columns
        Of the header.

    Raises
    ------
    BrokenQuote
        If two lines or more of one cell are whole rows when quotes are taken as letters.

    Examples
    --------
    >>> take_off_quotes(b'a,b\n1,"Le ""Bois"" bas"\n2,"Les Aubrais\n3,am "Teich"\n', ",", 2)
    b'a,b\n1,Le "Bois" bas\n2,"Les Aubrais\n3,am "Teich"\n'
    """
    edge = re.escape(separator)
    before = "|".join(rf'(?<={start}{blank}")' for start in (edge, r"\n") for blank in ("", " "))
    cell = re.compile(rf'"(?:{before}|(?<=\A"))((?:[^"]+|"")*+)" ?(?={edge}|\n|\Z)'.encode())
    mark = separator.encode()

    def without(match: re.Match[bytes]) -> bytes:
        content = match[1]
        if b"\n" in content:
            _refuse_whole_rows(text, match, mark, num_columns)
            content = re.sub(rb"\s*\n\s*", b" ", content)
        return content.replace(b'""', b'"').replace(mark, SEPARATOR_INSIDE.encode())

    return cell.sub(without, text)


def _refuse_whole_rows(text: bytes, match: re.Match[bytes], separator: bytes, num_columns: int) -> None:
    """Raise if several lines of a cell are whole rows when its quotes are taken as letters."""
    begin, end = text.rfind(b"\n", 0, match.start()) + 1, text.find(b"\n", match.end())
    lines = text[begin : end if end >= 0 else len(text)].split(b"\n")
    if sum(line.count(separator) == num_columns - 1 for line in lines) > 1:
        first = text.count(b"\n", 0, begin) + 1
        raise BrokenQuote(first, first + len(lines) - 1, text.count(separator, begin, match.start()))
