"""Where an output comes from, ``run.json``: command, versions, inputs, configuration."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import releve
from releve.files import write_json

PACKAGES = ("torch", "timm", "numpy", "polars", "scikit-learn", "rasterio", "pydantic")


def add_step(folder: Path, name: str, started: float, **facts: Any) -> None:
    """Note in ``run.json`` that a later step was run: how long it took and what it wrote."""
    file = folder / "run.json"
    provenance = json.loads(file.read_text(encoding="utf-8"))
    step = {"seconds": round(time.monotonic() - started, 1), "finished": utc_now()} | facts
    write_json(file, provenance | {"steps": provenance.get("steps", {}) | {name: step}})


def utc_now() -> str:
    """Return the time in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def write_provenance(folder: Path, command: str, started: float, **facts: Any) -> None:
    """Write ``run.json``: what was run, with which versions, and how long it took.

    Parameters
    ----------
    folder
        The output folder.
    command
        Name of the command.
    started
        ``time.monotonic()`` at its start.
    facts
        What else must be known to repeat it: resolved configuration, seed, inputs and their checksums.
    """
    provenance = {
        "command": command,
        "releve": releve.__version__,
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "finished": utc_now(),
        "seconds": round(time.monotonic() - started, 1),
    } | facts
    write_json(folder / "run.json", provenance)


def git_commit(package: Path = Path(releve.__file__).parent) -> str | None:
    """Return the commit of the checkout of Relevé that this package is used from; None if it is installed elsewhere.

    A package that lies within another repository, as in a virtual environment or a copy, says nothing by that
    repository's commit: the package's own files must be tracked, in the place that they have in Relevé.
    """
    try:
        place = _git(package, "ls-files", "--full-name", "--error-unmatch", "__init__.py")
        root = package.parents[1]
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
        ours = place == "src/releve/__init__.py" and project.get("project", {}).get("name") == "releve"
        return _git(package, "rev-parse", "HEAD") if ours else None
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
