"""Files that are either whole or absent: write to a temporary name, then rename."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from releve.errors import ReleveError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path`` that becomes ``path`` when the block ends well.

    The temporary file is removed if the block raises, so a full disk or a kill leaves no half-written output.

    Raises
    ------
    ReleveError
        If the disk is full or the folder cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb") as handle:
            os.fsync(handle.fileno())
        partial.replace(path)
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        partial.unlink(missing_ok=True)


def disk_error(error: OSError, path: Path) -> ReleveError:
    """Return the error to show for a failed write, with the free space of the disk."""
    folder = path if path.is_dir() else path.parent
    free = f", {shutil.disk_usage(folder).free / 1e9:.2f} GB free there" if folder.exists() else ""
    return ReleveError(
        f"cannot write {path}: {error.strerror or error}{free}",
        action="Free some space or choose another output folder; what was complete before is kept",
    )


def write_text(path: Path, text: str) -> None:
    """Write text so that the file is whole or absent."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON so that the file is whole or absent."""
    write_text(path, json.dumps(value, indent=1, default=str, allow_nan=True) + "\n")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as hexadecimal text."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
