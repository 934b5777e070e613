"""Files that are either whole or absent: write to a temporary name, then rename."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import polars as pl

from releve.errors import ReleveError


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
        _remove_leftovers(path)
        yield partial
        with partial.open("rb") as handle:
            os.fsync(handle.fileno())
        partial.replace(path)
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        with suppress(OSError):
            partial.unlink()


def _remove_leftovers(path: Path) -> None:
    """Remove the temporary files of processes that are gone; this one's output may be large and killed often."""
    for partial in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        pid = partial.suffixes[-2][1:]
        if pid.isdigit() and not _is_alive(int(pid)):
            partial.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
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
    write_text(path, json.dumps(value, indent=1, default=str, allow_nan=True) + "\n")


def write_parquet(path: Path, table: pl.DataFrame) -> None:
    """Write a table; a full disk is an OSError here as everywhere, where polars has an exception of its own.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    try:
        table.write_parquet(path)
    except pl.exceptions.ComputeError as error:
        raise OSError(str(error)) from error


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as hexadecimal text."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
