"""Archives: what is in them, and how to unpack them."""

from __future__ import annotations

import shlex
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from releve.discover.listing import DATA, RASTERS

NUM_SHOWN = 4


def tell_archive(path: Path) -> str:
    """Return what an archive holds and how to unpack it; tables and rasters come first."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names, how = archive.namelist(), "unzip"
        elif tarfile.is_tarfile(path):
            with tarfile.open(path) as packed:
                names, how = [member.name for member in packed if member.isfile()], "tar -xf"
        else:
            return "an archive that is not read: unpack it, and start again"
    except (OSError, EOFError, zipfile.BadZipFile, tarfile.TarError) as error:
        return f"an archive that cannot be read: {error}"
    files = [name for name in names if not name.endswith("/") and not name.startswith("__MACOSX")]
    data = [name for name in files if Path(name).suffix.casefold() in DATA]
    return f"an archive of {_some(data or files)}: unpack it ({how} {shlex.quote(path.name)}), and start again"


def rasters_inside(path: Path) -> list[str]:
    """Return how rasters inside a zip file are opened where they are, without unpacking it; of other archives none."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.startswith("__MACOSX")]
    except (OSError, zipfile.BadZipFile):
        return []
    inside = [name for name in names if Path(name).suffix.casefold() in RASTERS]
    return [f"/vsizip/{path.resolve().as_posix()}/{name}" for name in sorted(inside)]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NUM_SHOWN} more" if len(names) > NUM_SHOWN else ""
    return ", ".join(names[:NUM_SHOWN]) + more if names else "nothing"
