"""Tables looked into: of a large file some thousand rows from the beginning and some from the end."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from releve.errors import ReleveError, TableError
from releve.ingest.formats import GEOMETRY, read_any_table
from releve.ingest.text import TextTable, read_form, read_text_table

WHOLE_BYTES = 8 << 20
"""A text file up to this size is read whole, of a larger one a part of the beginning and of the end."""
HEAD_BYTES, TAIL_BYTES = 3 << 20, 1 << 20
WHOLE_PARQUET_BYTES = 64 << 20
HEAD_ROWS, TAIL_ROWS = 18_000, 2_000
SHEETS = frozenset({".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"})
LAYERS = frozenset({".gpkg", ".sqlite", ".gdb", ".kml"})
"""Endings of files that may hold several tables."""
TEXTS = frozenset({".csv", ".tsv", ".txt", ".tab"})


@dataclass(frozen=True)
class Sample:
    """Some rows of a table."""

    path: Path
    layer: str | None
    """Sheet or layer, where the file has several."""
    cells: pl.DataFrame
    """Text, null where a value is missing."""
    num_rows: int
    """Of the whole table; estimated where it was not read whole."""
    is_whole: bool
    decimal_comma: bool = False
    crs: str | None = None
    """Of the points, as EPSG:... where it has such a number."""
    points: NDArray[np.float64] | None = None
    """``x, y`` of each row's point, in ``crs``; None for a table without geometry."""
    notes: tuple[str, ...] = ()
    """What had to be mended to read it."""

    @property
    def name(self) -> str:
        """Return the name of the file, and of the sheet or layer."""
        return f"{self.path.name}, {self.layer}" if self.layer else self.path.name


def read_samples(path: Path) -> list[Sample]:
    """Return rows of each table of a file: one, or as many as it has sheets or layers with rows.

    Raises
    ------
    TableError
        If it cannot be read, or none of its tables has a row.
    """
    suffix = path.suffix.casefold()
    if suffix in TEXTS:
        return [_read_text(path)]
    if suffix == ".parquet" and path.stat().st_size > WHOLE_PARQUET_BYTES:
        return [_read_large_parquet(path)]
    layers = _layers(path) if suffix in SHEETS | LAYERS else [None]
    found, problems = [], []
    for layer in layers:
        try:
            found.append(_sample(*read_any_table(path, layer), path, layer if len(layers) > 1 else None))
        except ReleveError as error:
            problems.append(error)
    if not found:
        raise problems[0] if problems else TableError(f"{path} holds no table")
    return found


def _layers(path: Path) -> list[str | None]:
    """Return the names of the sheets or layers of a file.

    Raises
    ------
    TableError
        If it cannot be opened.
    """
    try:
        if path.suffix.casefold() in SHEETS:
            import fastexcel

            return list(fastexcel.read_excel(path).sheet_names)
        import pyogrio

        return [str(name) for name, _ in pyogrio.list_layers(path)]
    except Exception as error:  # each library has its own family of exceptions
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TableError(f"{path} cannot be read: {what}") from error


def _sample(table: TextTable, crs: str | None, path: Path, layer: str | None) -> Sample:
    """Return a table of any format but text."""
    cells, points = table.cells, None
    if GEOMETRY[0] in cells.columns:
        points = cells.select(GEOMETRY).fill_null(float("nan")).to_numpy()
        cells = cells.drop(GEOMETRY)
    return Sample(path, layer, cells, len(cells), True, crs=_crs_name(crs), points=points)


def _crs_name(told: str | None) -> str | None:
    """Return EPSG:... for what a file says of its projection, else its own words."""
    if not told:
        return None
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        code = CRS.from_user_input(told).to_epsg(min_confidence=70)
    except CRSError:
        return None
    return f"EPSG:{code}" if code else "EPSG:4326" if "CRS84" in told else told


# ---- large files -------------------------------------------------------------------------------------------


def _read_text(path: Path) -> Sample:
    form = read_form(path)
    if len(form.header) < 2:
        raise TableError(f"{path} is text without columns")
    size = path.stat().st_size
    if size <= WHOLE_BYTES or form.encoding != "utf-8":
        table, num_rows, is_whole = read_text_table(path), 0, True
    else:
        head, tail = _ends(path, size)
        with tempfile.TemporaryDirectory() as folder:
            part = Path(folder) / path.name
            part.write_bytes(head + tail)
            try:
                table = read_text_table(part)
            except TableError:  # the end began inside a quoted cell
                part.write_bytes(head)
                table, tail = read_text_table(part), b""
        num_rows, is_whole = round(len(table.cells) * size / len(head + tail)), False
    where = "" if is_whole else " of those looked at"
    notes = [f"{count:,} rows{where}: {what}" for what, count in {**table.noted, **table.dropped}.items()]
    decimal_comma = table.separator != ","
    return Sample(path, None, table.cells, num_rows or len(table.cells), is_whole, decimal_comma, notes=tuple(notes))


def _ends(path: Path, size: int) -> tuple[bytes, bytes]:
    """Return whole lines of the beginning and of the end of a file."""
    with path.open("rb") as handle:
        head = handle.read(HEAD_BYTES)
        handle.seek(size - TAIL_BYTES)
        tail = handle.read()
    return head[: head.rfind(b"\n") + 1], tail[tail.find(b"\n") + 1 :]


def _read_large_parquet(path: Path) -> Sample:
    """Return rows of both ends, read as those of a small file are."""
    rows = pl.scan_parquet(path, glob=False)
    num_rows = rows.select(pl.len()).collect().item()
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / path.name
        pl.concat([rows.head(HEAD_ROWS), rows.tail(TAIL_ROWS)]).collect().write_parquet(part)
        table, _ = read_any_table(part)
    return Sample(path, None, table.cells, num_rows, False)
