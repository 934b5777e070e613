"""Files that are either whole or absent: write to a temporary name, then rename."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import polars as pl

from releve.errors import ReleveError, RunError


def files_below(folder: Path) -> list[Path]:
    """Return every file at any depth below a folder, sorted; folders that are links are followed, each once."""
    found: list[Path] = []
    seen: set[Path] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = Path(place).resolve()
        if real in seen:  # a link to a folder above, or a second one to the same
            folders.clear()
            continue
        seen.add(real)
        found += [Path(place) / name for name in names]
    return sorted(found)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path`` that becomes ``path`` when the block ends well.

    The temporary file is removed if the block raises; what a killed process left is removed by the next call.

    Raises
    ------
    ReleveError
        If the disk is full or the folder cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path, "part")
        yield partial
        with partial.open("rb") as handle:
            os.fsync(handle.fileno())
        partial.replace(path)
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        with suppress(OSError):
            partial.unlink()


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``path`` for the parts that it is made of; it is removed when the block ends.

    What a killed process left is removed by the next call.

    Raises
    ------
    ReleveError
        If the disk is full or the folder cannot be written.
    """
    path = Path(path)
    folder = path.with_name(f".{path.name}.{os.getpid()}.parts")
    try:
        _remove_leftovers(path, "parts")
        folder.mkdir(parents=True)
        yield folder
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def held_alone(path: Path, what: str) -> Iterator[None]:
    """Hold a file for this process alone; it is let go when the block, or the process, ends.

    Parameters
    ----------
    path
        The file; made if it is not there.
    what
        What the holder does, in words.

    Raises
    ------
    RunError
        If another process holds it.
    """
    with Path(path).open("a+b") as handle:
        try:
            if os.name == "nt":
                import msvcrt

                handle.seek(0)
                msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
            else:
                import fcntl

                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(
                f"another process {what} in {Path(path).parent}", action="Wait for its end, or give another folder"
            ) from error
        yield


def _remove_leftovers(path: Path, ending: str) -> None:
    """Remove the temporary files of processes that are gone; this one's output may be large and killed often."""
    for partial in path.parent.glob(f".{glob.escape(path.name)}.*.{ending}"):
        pid = partial.suffixes[-2][1:]
        if not pid.isdigit() or _is_alive(int(pid)):
            continue
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    if os.name == "nt":
        return True  # signal 0 would end the process there; its leftovers stay
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG)


def disk_error(error: OSError, path: Path) -> ReleveError:
    """Return the error to show for a failed write: what failed, the free space of the disk, what to do."""
    what = f"cannot write {path}: {error.strerror or error}"
    if error.errno in NOT_WRITABLE:
        return ReleveError(what, action="Choose an output folder that you may write to")
    folder = next((folder for folder in (path, *path.parents) if folder.is_dir()), Path())
    return ReleveError(
        f"{what}, {shutil.disk_usage(folder).free / 1e9:.2f} GB free there",
        action="Free some space or choose another output folder; what was complete before is kept",
    )


def write_text(path: Path, text: str) -> None:
    """Write text so that the file is whole or absent."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON so that the file is whole or absent."""
    write_text(path, json_text(value) + "\n")


def json_text(value: Any, *, indent: int | None = 1) -> str:
    """Return a value as JSON that every program reads: a number that is not finite is null.

    Examples
    --------
    >>> json_text({"auc": float("nan"), "folds": [0.5, float("inf")]}, indent=None)
    '{"auc": null, "folds": [0.5, null]}'
    """
    return json.dumps(_finite(value), indent=indent, default=str, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_parquet(path: Path, table: pl.DataFrame | pl.LazyFrame) -> None:
    """Write a table; a full disk is an OSError here as everywhere, where polars has an exception of its own.

    Parameters
    ----------
    path
        The file.
    table
        A table, or a query whose rows are written as they come, such as a scan of other files.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    try:
        if isinstance(table, pl.LazyFrame):
            table.sink_parquet(path)
        else:
            table.write_parquet(path)
    except pl.exceptions.ComputeError as error:
        raise OSError(str(error)) from error


def make_way(out: Path, command: str, *, overwrite: bool) -> None:
    """Remove a command's earlier output if told to, and refuse to touch anything else.

    Parameters
    ----------
    out
        Folder to make; fine if it is absent or empty.
    command
        The command; its output is known by ``run.json``, which names it and the ``entries`` that it wrote.
    overwrite
        Whether an earlier output may be removed.

    Raises
    ------
    RunError
        If the folder is in use, was not made by the command, or holds other entries as well.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not overwrite:
        raise RunError(f"{out} exists", action="Give another folder, or --overwrite")
    provenance = _read_provenance(out)
    if provenance.get("command") != command:
        raise RunError(f"{out} was not made by releve {command}", action="Give another folder, or remove it yourself")
    ours = {"run.json", *provenance.get("entries", ())}
    foreign = sorted(path.name for path in out.iterdir() if _without_temporary_parts(path.name) not in ours)
    if foreign:
        raise RunError(
            f"{out} holds {foreign[:5]}{' and more' if len(foreign) > 5 else ''}",
            expected=f"nothing but what releve {command} wrote",
            action="Move these elsewhere, or give another folder",
        )
    shutil.rmtree(out)


def _read_provenance(out: Path) -> dict[str, Any]:
    try:
        provenance = json.loads((out / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return provenance if isinstance(provenance, dict) else {}


def _without_temporary_parts(name: str) -> str:
    """Return the name that a file or folder was to get, or had, before a process was killed.

    Examples
    --------
    >>> [_without_temporary_parts(name) for name in ("store", "store.part", ".store.old", ".a.csv.123.part")]
    ['store', 'store', 'store', 'a.csv']
    """
    unfinished = re.fullmatch(r"\.?(.+?)(\.\d+)?\.(part|old)", name)
    return unfinished.group(1) if unfinished else name


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as hexadecimal text."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
