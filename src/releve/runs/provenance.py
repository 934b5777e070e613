"""Where an output comes from, ``run.json``: command, versions, inputs, configuration."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
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


def git_commit() -> str | None:
    """Return the commit of the checkout this package is used from, if it is one."""
    folder = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
