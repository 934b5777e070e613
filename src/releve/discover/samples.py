"""Tables looked into: some thousand rows from the beginning and some from the end, however large the file is."""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from releve.errors import ReleveError, TableError
from releve.ingest.text import read_form, read_text_table

WHOLE_BYTES = 8 << 20
"""A text file up to this size is read whole, of a larger one a part of the beginning and of the end."""
HEAD_BYTES, TAIL_BYTES = 3 << 20, 1 << 20
MAX_ROWS = 20_000


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
    """Of the geometry, as EPSG:... where it has such a number."""
    points: NDArray[np.float64] | None = None
    """``x, y`` of each row's point, in ``crs``; None for a table without geometry."""
    geometry_type: str = ""
    notes: tuple[str, ...] = field(default_factory=tuple)

    @property
    def name(self) -> str:
        """Return the name of the file, and of the sheet or layer."""
        return f"{self.path.name}, {self.layer}" if self.layer else self.path.name


def read_samples(path: Path) -> list[Sample]:
    """Return rows of each table of a file: one, or as many as it has sheets or layers.

    Raises
    ------
    TableError
        If it cannot be read, or is no table.
    """
    suffix = path.suffix.casefold()
    try:
        if suffix in (".parquet", ".geoparquet", ".pq"):
            return [_read_parquet(path)]
        if suffix in (".xlsx", ".xlsm", ".xls", ".ods"):
            return _read_sheets(path)
        if suffix in (".gpkg", ".shp"):
            return _read_layers(path)
        return [_read_text(path)]
    except ReleveError:
        raise
    except Exception as error:  # each library has exceptions of its own for a broken file
        raise TableError(f"{path} cannot be read: {str(error).splitlines()[0] if str(error) else error!r}") from error


# ---- text ------------------------------------------------------------------------------------------------


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
    notes = [f"{count} of the rows looked at: {what}" for what, count in {**table.noted, **table.dropped}.items()]
    return Sample(
        path, None, table.cells, num_rows or len(table.cells), is_whole, table.separator != ",", notes=tuple(notes)
    )


def _ends(path: Path, size: int) -> tuple[bytes, bytes]:
    """Return whole lines of the beginning and of the end of a file."""
    with path.open("rb") as handle:
        head = handle.read(HEAD_BYTES)
        handle.seek(size - TAIL_BYTES)
        tail = handle.read()
    return head[: head.rfind(b"\n") + 1], tail[tail.find(b"\n") + 1 :]


def _some_rows(cells: pl.DataFrame) -> pl.DataFrame:
    """Return at most ``MAX_ROWS`` rows: all of the beginning but for a tenth from the end."""
    if len(cells) <= MAX_ROWS:
        return cells
    num_last = MAX_ROWS // 10
    return pl.concat([cells.head(MAX_ROWS - num_last), cells.tail(num_last)])


# ---- parquet, spreadsheets, layers -----------------------------------------------------------------------


def _read_parquet(path: Path) -> Sample:
    rows = pl.scan_parquet(path, glob=False)
    num_rows = rows.select(pl.len()).collect().item()
    table = (
        pl.concat([rows.head(MAX_ROWS - 2000).collect(), rows.tail(2000).collect()]) if num_rows > MAX_ROWS else None
    )
    table = rows.collect() if table is None else table
    geometry = json.loads(pl.read_parquet_metadata(path).get("geo", "{}"))
    column = geometry.get("primary_column", "geometry")
    points, crs = None, None
    if geometry and column in table.columns:
        told = geometry["columns"][column].get("crs", "OGC:CRS84")
        points, crs = _points(table[column].to_list()), _crs_name(json.dumps(told) if isinstance(told, dict) else told)
        table = table.drop(column)
    kind = "" if points is None else "Point" if np.isfinite(points).any() else "no points"
    is_whole = len(table) == num_rows
    return Sample(path, None, _as_text(table), num_rows, is_whole, crs=crs, points=points, geometry_type=kind)


def _read_sheets(path: Path) -> list[Sample]:
    import fastexcel

    names = fastexcel.read_excel(path).sheet_names
    found = []
    for name in names:
        try:
            table = pl.read_excel(path, sheet_name=name)
        except pl.exceptions.NoDataError:
            continue
        cells = _as_text(table)
        layer = name if len(names) > 1 else None
        found.append(Sample(path, layer, _some_rows(cells), len(cells), len(cells) <= MAX_ROWS))
    if not found:
        raise TableError(f"{path} has no sheet with rows")
    return found


def _read_layers(path: Path) -> list[Sample]:
    import pyogrio

    layers = [str(name) for name, _ in pyogrio.list_layers(path)]
    found = []
    for layer in layers:
        meta, _, geometry, columns = pyogrio.raw.read(path, layer=layer, max_features=MAX_ROWS)
        table = pl.DataFrame({str(name): _series(values) for name, values in zip(meta["fields"], columns, strict=True)})
        num_rows = int(pyogrio.read_info(path, layer=layer, force_feature_count=True)["features"])
        points = None if geometry is None else _points(geometry)
        kind = str(meta["geometry_type"] or "") if geometry is not None else ""
        called = layer if len(layers) > 1 else None
        cells = _as_text(table)
        crs = _crs_name(meta["crs"])
        whole = len(cells) == num_rows
        found.append(Sample(path, called, cells, num_rows, whole, crs=crs, points=points, geometry_type=kind))
    if not found:
        raise TableError(f"{path} has no layer")
    return found


def _series(values: Any) -> pl.Series:
    return pl.Series(values.tolist() if values.dtype == object else values, strict=False)


def _as_text(table: pl.DataFrame) -> pl.DataFrame:
    """Return a typed table as text, without what no text can stand for."""
    kept = [name for name, dtype in table.schema.items() if not dtype.is_nested() and dtype != pl.Binary]
    text = table.select(pl.col(name).cast(pl.String) for name in kept)
    return text.with_columns(pl.when(pl.all().str.strip_chars() != "").then(pl.all().str.strip_chars()))


def _points(shapes: Sequence[bytes | None]) -> NDArray[np.float64]:
    """Return ``x, y`` of geometries in the well-known binary form; NaN where one is no point."""
    found = np.full((len(shapes), 2), np.nan)
    for at, shape in enumerate(shapes):
        if shape is not None and len(shape) >= 21:
            order = "<" if shape[0] == 1 else ">"
            kind, x, y = struct.unpack(f"{order}Idd", shape[1:21])
            if kind & 0xFFFF in (1, 1001, 2001, 3001):
                found[at] = x, y
    return found


def _crs_name(told: str | None) -> str | None:
    """Return EPSG:... for what a file says of its projection, else its own words."""
    if not told:
        return None
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        crs = CRS.from_user_input(told)
    except CRSError:
        return None
    code = crs.to_epsg(min_confidence=70)
    if code is None and crs.is_geographic and "CRS84" in crs.to_string():
        code = 4326
    return f"EPSG:{code}" if code else crs.to_string()
