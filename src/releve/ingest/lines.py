"""Random access to the rows of a CSV that does not fit in memory: one pass finds where each row begins."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from releve.errors import ReleaseError
from releve.ingest.ids import clean_ids
from releve.ingest.text import MISSING, number, read_form

END_OF_SERIES = ("eos", *MISSING)
_BLOCK = 1 << 26
_NEWLINE, _WIDEST_ID = 10, 200


@dataclass(frozen=True)
class LineIndex:
    """Where the rows of some ids lie in a table of numbers."""

    path: Path
    columns: tuple[str, ...]
    """The columns to read, in order; those that the table lacks read as missing."""
    begins: np.ndarray
    """int64, byte offset of each wanted row, -1 where the table has none."""
    ends: np.ndarray

    def read(self, rows: np.ndarray) -> tuple[np.ndarray, int]:
        """Return float64 (rows, columns), NaN where a value is missing, and the number of bad cells."""
        values = np.full((len(rows), len(self.columns)), np.nan)
        present = np.flatnonzero(self.begins[rows] >= 0)
        if not len(present):
            return values, 0
        form = read_form(self.path, ReleaseError)
        with self.path.open("rb") as handle:
            lines = [_slice(handle, int(self.begins[row]), int(self.ends[row])) for row in rows[present]]
        places = {name: str(at) for at, name in enumerate(form.header)}
        text = pl.read_csv(
            io.BytesIO(b"\n".join([form.separator.join(places.values()).encode(), *lines])),
            separator=form.separator,
            infer_schema=False,
            truncate_ragged_lines=True,
            glob=False,
        )
        have = [name for name in self.columns if name in places]
        text = text.select(places[name] for name in have)
        numbers = text.select(number(name, decimal_comma=form.separator != ",") for name in text.columns)
        empty = text.select(pl.sum_horizontal((pl.all().is_null() | pl.all().is_in(END_OF_SERIES)).sum())).item()
        bad = max(sum(numbers.null_count().row(0)) - empty, 0)
        at = np.array([self.columns.index(name) for name in have], dtype=np.int64)
        values[np.ix_(present, at)] = numbers.to_numpy()
        return values, bad


def index_lines(path: Path, key: str, columns: list[str], ids: pl.Series) -> LineIndex:
    """Return where the rows of ``ids`` lie; of rows with the same id the first counts.

    Raises
    ------
    ReleaseError
        If the file is not in UTF-8 or ASCII.
    """
    form = read_form(path, ReleaseError)
    if form.encoding != "utf-8":
        raise ReleaseError(f"{path} is in {form.encoding}", expected="UTF-8, as it is read row by row")
    begins, ends = _line_ends(path)
    known = clean_ids(_read_ids(path, form.separator.encode(), form.header.index(key), begins, ends))
    first = pl.DataFrame({"id": known, "at": np.arange(len(known))}).unique("id", keep="first")
    found = ids.alias("id").to_frame().join(first, on="id", how="left", maintain_order="left")
    at = found["at"].fill_null(-1).to_numpy()  # position -1 (no such row) picks the -1 that is appended
    return LineIndex(path=path, columns=tuple(columns), begins=np.append(begins, -1)[at], ends=np.append(ends, -1)[at])


def _line_ends(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the byte offsets where the lines after the header begin and end; empty lines are left out."""
    content = np.memmap(path, dtype=np.uint8, mode="r")
    newlines = [
        np.flatnonzero(content[start : start + _BLOCK] == _NEWLINE) + start for start in range(0, len(content), _BLOCK)
    ]
    ends = np.concatenate([*newlines, [len(content)]])
    begins = ends[:-1] + 1
    full = ends[1:] - begins > 1
    return begins[full], ends[1:][full]


def _read_ids(path: Path, separator: bytes, position: int, begins: np.ndarray, ends: np.ndarray) -> pl.Series:
    """Return the text in the column of ids of each line."""
    width = _WIDEST_ID * (position + 1)
    with path.open("rb") as handle:
        fields = [
            _slice(handle, begin, min(begin + width, end)).split(separator, position + 1)
            for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)
        ]
    text = [parts[position].strip(b'" \r') if len(parts) > position else b"" for parts in fields]
    return pl.Series("id", [part.decode("utf-8", "replace") for part in text], dtype=pl.String)


def _slice(handle: io.BufferedReader, begin: int, end: int) -> bytes:
    handle.seek(begin)
    return handle.read(end - begin).rstrip(b"\r")
