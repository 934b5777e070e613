"""Which folder is a store, and its removal: never anything that a store does not hold."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from releve.errors import RunError
from releve.store import journal

OWN_FILES = ("manifest.json", "run.json", journal.NAME)
ARRAY_FILES = ("covariates.npy", "landsat.npy", "climate.npy", "patch.npy", "patch.bin", "patch_offsets.npy")
TABLE_FILES = ("surveys.parquet", "species.parquet", "labels_indptr.npy", "labels_indices.npy")
SURE_SIGNS = ("surveys.parquet", "labels_indptr.npy")
"""Files that tell a store whose manifest is damaged."""


def refuse_to_replace(folder: Path) -> None:
    """Refuse a folder that is no store, or holds anything else beside one.

    A store has a manifest with ``format``, ``fingerprint`` and ``files``; where that is damaged, the files tell.

    Raises
    ------
    RunError
        Naming what does not belong to a store.
    """
    known = _files_of(folder)
    if known is None:
        raise RunError(
            f"{folder} exists and is not a store",
            action="Give another --out, or remove it yourself: --overwrite replaces stores only",
        )
    foreign = sorted(path.name for path in folder.iterdir() if path.is_dir() or not _is_known(path.name, known))
    if foreign:
        raise RunError(
            f"{folder} holds {foreign[:5]}{' and more' if len(foreign) > 5 else ''} beside a store",
            expected="nothing but the store that --overwrite is to replace",
            action="Move these elsewhere, or give another --out",
        )


def is_store(folder: Path) -> bool:
    """Return whether a folder is a store, be it damaged."""
    return _files_of(folder) is not None


def remove_store(folder: Path) -> None:
    """Delete a store's files and its folder, if there is one.

    Raises
    ------
    RunError
        If it is no store, or holds anything else.
    """
    if not folder.exists():
        return
    if any(folder.iterdir()):
        refuse_to_replace(folder)
    # the manifest goes last: a removal that is killed leaves what can be told for a store
    for path in sorted(folder.iterdir(), key=lambda path: path.name == "manifest.json"):
        path.unlink()
    folder.rmdir()


def _files_of(folder: Path) -> set[str] | None:
    """Return the names of the files that a store holds, or None if the folder is none."""
    file = folder / "manifest.json"
    if not file.is_file():
        return None
    manifest = _read(file)
    if not isinstance(manifest, dict):
        damaged = all((folder / name).is_file() for name in SURE_SIGNS)
        return {*OWN_FILES, *TABLE_FILES, *ARRAY_FILES} if damaged else None
    if not {"format", "fingerprint", "files"} <= set(manifest) or not isinstance(manifest["files"], dict):
        return None
    return {*OWN_FILES, *manifest["files"]}


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return None


def _is_known(name: str, known: set[str]) -> bool:
    """Return whether a name is a store's, or what a killed writer left of it."""
    unfinished = re.fullmatch(r"\.(.+)\.\d+\.part", name)
    return (unfinished.group(1) if unfinished else name) in known
