"""The files of a folder by what they may be: tables, rasters, archives, parts of others, and what is none of these."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from releve.errors import TableError
from releve.ingest.formats import TABLE_ENDINGS

TABLES = frozenset(TABLE_ENDINGS)
RASTERS = frozenset(
    {".tif", ".tiff", ".vrt", ".asc", ".grd", ".img", ".nc", ".nc4", ".bil", ".bip", ".bsq", ".flt", ".sdat", ".jp2"}
)
DATA = TABLES | RASTERS
ARCHIVES = frozenset({".zip", ".tgz", ".tar", ".gz", ".bz2", ".xz", ".7z", ".rar"})
PARTS = frozenset(
    {
        *(".gri", ".tfw", ".tifw", ".wld", ".blw", ".prj", ".qpj", ".shx", ".cpg", ".sbn", ".sbx", ".ovr", ".msk"),
        *(".stx", ".hdr", ".clr", ".rrd", ".ige", ".qml", ".sld", ".lyr", ".lyrx", ".qmd", ".idx", ".sgrd", ".mgrd"),
    }
)
"""Endings of files that belong to another one of the same name."""
OTHERS = {
    "of R: save tables with write.csv(), rasters as GeoTIFF": (".rds", ".rda", ".rdata"),
    "of a database or another program: save its tables as CSV": (".mdb", ".accdb", ".db", ".dbf", ".sav", ".dta"),
    "a layer in another form: save it as GeoPackage": (".kmz", ".gpx", ".mif", ".gml"),
}
"""Why a file is left out, and what can be done -> endings."""
DOCUMENT = "text, pictures or programs"
EMPTY = "0 bytes"
OURS = "made by Relevé"
MAX_DEPTH = 12


@dataclass(frozen=True)
class Listing:
    """The files of a folder."""

    root: Path
    tables: tuple[Path, ...]
    rasters: tuple[Path, ...]
    archives: tuple[Path, ...]
    documents: tuple[Path, ...]
    """Short texts that may tell something about the data."""
    left_out: tuple[tuple[Path, str], ...]
    """A file or folder -> why it is left out."""


def list_folder(folder: Path) -> Listing:
    """Return the files of a folder at any depth, in the order that people count in.

    Links are followed, a folder that is met twice is listed once. Hidden files, the parts of other files (``.gri``
    beside ``.grd``, ``.tfw``, ``.aux.xml``) and folders that Relevé made are no files of their own.

    Raises
    ------
    TableError
        If there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise TableError(f"{folder} is no folder", expected="the folder that holds plots, records and rasters")
    found: dict[str, list[Path]] = {"tables": [], "rasters": [], "archives": [], "documents": []}
    left_out: list[tuple[Path, str]] = []
    for path in _walk(folder, left_out):
        kind, why = _judge(path)
        if kind:
            found[kind].append(path)
        if why:
            left_out.append((path, why))
    return Listing(folder, **{kind: tuple(paths) for kind, paths in found.items()}, left_out=tuple(left_out))


def natural_key(path: Path) -> tuple[tuple[int, str | int], ...]:
    """Return what sorts paths as people count: ``bio2`` before ``bio10``.

    Examples
    --------
    >>> from pathlib import Path
    >>> [str(path) for path in sorted(map(Path, ["bio10.tif", "Bio2.tif"]), key=natural_key)]
    ['Bio2.tif', 'bio10.tif']
    """
    parts = re.split(r"(\d+)", path.as_posix().casefold())
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in parts)


def _walk(folder: Path, left_out: list[tuple[Path, str]]) -> Iterator[Path]:
    """Yield the files, and folders that are one raster, in natural order."""
    seen: set[Path] = set()
    todo = [(folder, 0)]
    while todo:
        place, depth = todo.pop()
        real = place.resolve()
        if real in seen:
            continue
        seen.add(real)
        entries = sorted(map(Path, _names(place)), key=natural_key)
        names = {entry.name.casefold() for entry in entries}
        if depth and names & {"run.json", "manifest.json"}:
            left_out.append((place, OURS))
        elif "hdr.adf" in names or place.suffix.casefold() in (".zarr", ".gdb"):
            yield place
        else:
            folders = [entry for entry in entries if entry.is_dir()]
            yield from (entry for entry in entries if not entry.is_dir() and not _is_part(entry, names))
            todo += [(entry, depth + 1) for entry in reversed(folders) if depth < MAX_DEPTH]


def _names(place: Path) -> list[str]:
    with os.scandir(place) as entries:
        return [entry.path for entry in entries if not entry.name.startswith((".", "~$", "__MACOSX"))]


def _is_part(path: Path, names: set[str]) -> bool:
    """Return whether a file belongs to another one of its folder."""
    name, suffix = path.name.casefold(), path.suffix.casefold()
    if suffix == ".xml":  # dem.tif.aux.xml, dem.aux.xml, plots.shp.xml
        owner = name.removesuffix(".xml").removesuffix(".aux")
        return owner in names or any(f"{owner}{ending}" in names for ending in RASTERS)
    if suffix == ".dbf":
        stem = name.removesuffix(".dbf")
        return f"{stem}.shp" in names or stem.endswith(".vat") or stem in names
    return suffix in PARTS


def _judge(path: Path) -> tuple[str, str]:
    """Return which list a file belongs to, if any, and why it is left out, if it is."""
    suffix = path.suffix.casefold()
    if path.is_dir():
        if suffix == ".zarr":
            return "", "a Zarr cube: a series over time is described by [[study.series]]"
        return ("tables" if suffix == ".gdb" else "rasters"), ""
    if suffix == ".toml":  # an earlier study.toml, or a recipe
        return "", ""
    try:
        size = path.stat().st_size
    except OSError as error:
        return "", f"cannot be read: {error.strerror}"
    if not size:
        return "", EMPTY
    kinds = {"tables": TABLES, "rasters": RASTERS, "archives": ARCHIVES}
    kind = next((kind for kind, suffixes in kinds.items() if suffix in suffixes), "")
    if kind:
        return kind, ""
    why = next((why for why, suffixes in OTHERS.items() if suffix in suffixes), DOCUMENT)
    is_text = suffix in (".md", ".rst", "") and size < 1 << 20
    return "documents" if is_text else "", why
