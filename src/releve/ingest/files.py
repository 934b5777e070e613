"""Which files a release holds, learnt by listing its folders once; never by asking for one survey's file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from releve.ingest.names import normalise

MAX_DEPTH = 8
SURVEY_FILES = frozenset({".pt", ".jpeg", ".jpg", ".tif", ".tiff"})
_TEMPLATE = re.compile(r"(.*?(?<!\d)0*)(\d+)(\D*\.\w+)$", re.DOTALL)


@dataclass(frozen=True)
class Tree:
    """The files of a release by relative path, where one path stands for a folder's files of many surveys."""

    tables: tuple[str, ...]
    zips: tuple[str, ...]
    survey_files: tuple[str, ...]
    """A path for each folder and name, ``#`` for the id: ``nir/#.jpeg``. Numbered folders are left out."""

    def tables_like(self, pattern: str) -> list[str]:
        """Return the tables that match, those of the newest version first and legacy ones last."""
        found = [path for path in self.tables if re.search(pattern, normalise(path))]
        return sorted(sorted(found, reverse=True), key=lambda path: "legacy" in path.lower())

    def zips_like(self, pattern: str) -> list[str]:
        """Return the zipped files whose name would match, were they unpacked."""
        endings = (r"\.csv$", r"\.pt$", r"\.jpe?g$", r"\.tiff?$")
        for ending in endings:
            pattern = pattern.replace(ending, r"\.zip$")
        return [path for path in self.zips if re.search(pattern, normalise(path))]

    def folders_like(self, pattern: str) -> list[str]:
        """Return the folders that hold matching survey files."""
        return sorted({path.rpartition("/")[0] for path in self.survey_files if re.search(pattern, normalise(path))})


def scan_tree(root: Path) -> Tree:
    """Return the files below a folder; numbered folders are judged by their first file."""
    found: dict[str, set[str]] = {"tables": set(), "zips": set(), "survey_files": set()}
    _scan(Path(root), "", found, MAX_DEPTH)
    return Tree(**{kind: tuple(sorted(paths)) for kind, paths in found.items()})


def _scan(root: Path, folder: str, found: dict[str, set[str]], depth: int) -> None:
    numbered = []
    for entry in _entries(root / folder):
        path = f"{folder}/{entry.name}" if folder else entry.name
        suffix = _suffix(entry.name)
        if suffix == ".csv":
            found["tables"].add(path)
        elif suffix == ".zip":
            found["zips"].add(path)
        elif suffix in SURVEY_FILES:
            found["survey_files"].add(_with_hash(path))
        elif entry.is_dir() and _is_numbered(entry.name):
            numbered.append(path)
        elif entry.is_dir() and depth > 0:
            _scan(root, path, found, depth - 1)
    name = next((name for path in sorted(numbered) for name in _first_file(root / path)), None)
    if name is not None:
        found["survey_files"].add(_with_hash(f"{folder}/{name}"))


def _first_file(folder: Path) -> Iterator[str]:
    """Yield the first survey file of a folder or of its numbered sub-folders, if there is one."""
    for entry in sorted(_entries(folder), key=lambda entry: entry.name):
        if _suffix(entry.name) in SURVEY_FILES:
            yield entry.name
            return
        if entry.is_dir() and _is_numbered(entry.name):
            yield from _first_file(Path(entry.path))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not entry.name.startswith((".", "__MACOSX"))]


def _suffix(name: str) -> str:
    return name[name.rfind(".") :].lower() if "." in name else ""


def _is_numbered(name: str) -> bool:
    return name.isdigit() and len(name) <= 2


def _with_hash(path: str) -> str:
    match = _TEMPLATE.match(path)
    return f"{match[1].rstrip('0')}#{match[3]}" if match else path


@dataclass(frozen=True)
class FileIndex:
    """Where each id's file lies: small enough for millions of files, and quick to send to another process."""

    ids: np.ndarray
    """int64, sorted, unique."""
    folder: np.ndarray
    name: np.ndarray
    folders: tuple[str, ...]
    names: tuple[tuple[str, str], ...]
    """What stands before and after the id in a file's name."""
    num_duplicates: int = 0

    def positions(self, ids: np.ndarray) -> np.ndarray:
        """Return the position of each id in the index, -1 where it has no file."""
        return find_sorted(self.ids, ids)

    def path(self, position: int) -> str:
        """Return the path, relative to the release, of the file at a position of the index."""
        before, after = self.names[self.name[position]]
        folder = self.folders[self.folder[position]]
        return f"{folder}/{before}{self.ids[position]}{after}".lstrip("/")


def index_files(root: Path, tree: Tree, pattern: str) -> FileIndex:
    """Return where the files that match a pattern lie, from one listing of each folder."""
    folders: dict[str, int] = {}
    names: dict[tuple[str, str], int] = {}
    rows: list[tuple[int, int, int]] = []
    for base in tree.folders_like(pattern):
        wanted: dict[tuple[str, str], bool] = {}
        for folder, file_name in _listing(root, base):
            match = _TEMPLATE.match(file_name)
            if match is None:
                continue
            name = (match[1], match[3])
            if name not in wanted:
                wanted[name] = bool(re.search(pattern, normalise(f"{base}/{name[0]}0{name[1]}")))
            if wanted[name] and len(match[2]) < 19:
                place = folders.setdefault(folder, len(folders)), names.setdefault(name, len(names))
                rows.append((int(match[2]), *place))
    table = np.array(sorted(rows), dtype=np.int64).reshape(-1, 3)
    ids, first = np.unique(table[:, 0], return_index=True)
    table = table[first]
    return FileIndex(
        ids,
        table[:, 1].astype(np.int32),
        table[:, 2].astype(np.int32),
        tuple(folders),
        tuple(names),
        len(rows) - len(ids),
    )


def _listing(root: Path, folder: str) -> Iterator[tuple[str, str]]:
    """Yield (folder, file name) of the survey files of a folder and of its numbered sub-folders, in order."""
    for entry in sorted(_entries(root / folder), key=lambda entry: entry.name):
        if _suffix(entry.name) in SURVEY_FILES:
            yield folder, entry.name
        elif _is_numbered(entry.name) and entry.is_dir():
            yield from _listing(root, f"{folder}/{entry.name}")


def find_sorted(known: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return the position of each id in a sorted array, -1 where it is not in it.

    Examples
    --------
    >>> import numpy as np
    >>> find_sorted(np.array([3, 5, 9]), np.array([9, 4, 3])).tolist()
    [2, -1, 0]
    """
    if not len(known):
        return np.full(len(ids), -1)
    at = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    return np.where(known[at] == ids, at, -1)
