"""Tables of any format as the same cells of text: text, parquet, Excel, GeoPackage, shapefile and their like."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from releve.errors import TableError
from releve.ingest.text import MISSING, TextTable, read_header, read_text_table

GEOMETRY = ("geometry x", "geometry y")
"""Columns of the coordinates that a file keeps as points."""
_WKB_POINT, _WKB_MULTIPOINT = 1, 4


Wanted = Callable[[Sequence[str]], Sequence[str]]
"""Tells from the names of all columns which are read."""


def read_any_table(path: Path, layer: str | None = None, wanted: Wanted | None = None) -> tuple[TextTable, str | None]:
    """Return the cells of a table as text, and the CRS that the file itself gives to its points.

    What is no text file by its ending is read by its own reader; its cells come out as a table of text would have
    them, dates as ``2019-05-03``. Points become the two columns of ``GEOMETRY``.

    Parameters
    ----------
    path
        The file; letters such as ``*`` or ``[`` in it are no patterns.
    layer
        Sheet of an Excel file, or layer of a GeoPackage; the first by default.
    wanted
        Which columns are needed, where not all are: a download of records has fifty. Points are always read.

    Raises
    ------
    TableError
        If the file cannot be opened or read, has no row, or holds lines or areas rather than points.
    """
    read = next((read for endings, read in _READERS.items() if path.suffix.lower() in endings), None)
    if read is None:
        return read_text_table(path, None if wanted is None else wanted(read_header(path))), None
    if not path.is_file() and not path.is_dir():  # a folder may be a file geodatabase
        raise TableError(f"cannot read {path}: no such file", action="Check the path")
    if path.is_file() and not path.stat().st_size:
        raise TableError(f"{path} is empty", expected="a table", action="Download or write it again")
    try:
        table, crs = read(path, layer)
    except TableError:
        raise
    except Exception as error:  # each library has its own family of exceptions
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TableError(f"{path} cannot be read: {what}", action="Open it in the program that wrote it") from error
    if not len(table):
        raise TableError(f"{path} has columns and no row", expected="at least one row")
    cells, rows = _as_cells(table), pl.int_range(1, len(table) + 1, eager=True).alias("row")
    header = tuple(name for name in cells.columns if name not in GEOMETRY)
    if wanted is not None:
        cells = cells.select(*wanted(header), *(name for name in GEOMETRY if name in cells.columns))
    return TextTable(path, cells, rows, "\t", header=header), crs


def _as_cells(table: pl.DataFrame) -> pl.DataFrame:
    """Return columns as text without blanks at their ends, null where a value is missing; points stay numbers."""
    names = [name for name in table.columns if name.strip() and not name.startswith("__UNNAMED__")]
    cells = []
    for name in names:
        column = table[name].rename(" ".join(name.split()))
        if name in GEOMETRY:
            cells.append(column)
        elif column.dtype.is_nested() or column.dtype == pl.Binary:
            continue
        else:
            text = column.cast(pl.String).str.strip_chars()
            text = text.str.replace(r"^(-?\d+)\.0$", "$1") if column.dtype.is_float() else text
            text = text.str.replace(r" 00:00:00(\.0+)?$", "") if column.dtype == pl.Datetime else text
            cells.append(text.set(text.is_in(MISSING), None))
    return pl.DataFrame(cells)


def _read_parquet(path: Path, layer: str | None) -> tuple[pl.DataFrame, str | None]:
    table = pl.read_parquet(path, glob=False)
    described = json.loads(pl.read_parquet_metadata(path).get("geo", "{}"))
    name = described.get("primary_column")
    if name not in table.columns:
        return table, None
    crs = described["columns"][name].get("crs", "OGC:CRS84")  # as the format says where there is none
    points = table[name]
    if points.dtype == pl.Struct:
        x, y = (points.struct.field(axis).cast(pl.Float64).to_numpy() for axis in "xy")
    else:
        x, y = _points(points.to_list(), path)
    return _with_points(table.drop(name), x, y), json.dumps(crs) if isinstance(crs, dict) else crs


def _read_excel(path: Path, layer: str | None) -> tuple[pl.DataFrame, str | None]:
    sheet: dict[str, Any] = {"sheet_name": layer} if layer else {"sheet_id": 1}
    return pl.read_excel(path, engine="calamine", infer_schema_length=0, **sheet), None


def _read_layer(path: Path, layer: str | None) -> tuple[pl.DataFrame, str | None]:
    """Read what GDAL calls a vector layer."""
    import pyogrio

    facts, _, geometry, values = pyogrio.raw.read(path, layer=layer, force_2d=True)
    columns = {}
    for name, column in zip(facts["fields"], values, strict=True):
        is_object = column.dtype == object
        columns[name] = pl.Series(name, [None if v is None else str(v) for v in column] if is_object else column)
    table = pl.DataFrame(columns)
    if geometry is None:
        return table, None
    return _with_points(table, *_points(list(geometry), path)), facts["crs"]


_READERS: dict[tuple[str, ...], Callable[[Path, str | None], tuple[pl.DataFrame, str | None]]] = {
    (".parquet", ".geoparquet", ".pq"): _read_parquet,
    (".xlsx", ".xls", ".xlsb", ".xlsm", ".ods"): _read_excel,
    (".gpkg", ".shp", ".geojson", ".fgb", ".sqlite", ".gdb", ".kml"): _read_layer,
}
TABLE_ENDINGS = (".csv", ".tsv", ".txt", ".tab", *(ending for endings in _READERS for ending in endings))
"""Endings of files that may be tables."""


def _with_points(table: pl.DataFrame, x: np.ndarray, y: np.ndarray) -> pl.DataFrame:
    points = {name: pl.Series(name, values).fill_nan(None) for name, values in zip(GEOMETRY, (x, y), strict=True)}
    return table.with_columns(**points) if table.width else pl.DataFrame(points)


def _points(blobs: list[bytes | None], path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of points in well-known binary, NaN where there is none.

    Examples
    --------
    >>> [values.tolist() for values in _points([struct.pack("<BIdd", 1, 1, 2.5, 48.0), None], Path("plots.gpkg"))]
    [[2.5, nan], [48.0, nan]]
    """
    found = np.full((len(blobs), 2), np.nan)
    for row, blob in enumerate(blobs):
        if blob is None:
            continue
        order = "<" if blob[0] == 1 else ">"
        (kind,) = struct.unpack_from(f"{order}I", blob, 1)
        at = 5
        if kind & 0x20000000:  # PostGIS puts the number of its CRS here
            at += 4
        kind = (kind & 0xFFFF) % 1000  # with Z or M the number is higher
        if kind == _WKB_MULTIPOINT and struct.unpack_from(f"{order}I", blob, at)[0] == 1:
            at, kind = at + 9, _WKB_POINT
        if kind != _WKB_POINT:
            raise TableError(
                f"{path} holds lines, areas or groups of points, such as in row {row + 1}",
                expected="a point for each row",
                action="Take a point of each, such as the centre, in your GIS",
            )
        found[row] = struct.unpack_from(f"{order}dd", blob, at)
    return found[:, 0], found[:, 1]
