"""What a benchmark ran on; printed beside every table."""

from __future__ import annotations

import os
import platform
import time
from importlib import metadata
from pathlib import Path

from releve.files import write_text


def describe_machine() -> str:
    """Return processor, cores, load and versions in one line."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    name = names[0].split(":")[1].strip() if names else platform.machine()
    versions = ", ".join(f"{package} {metadata.version(package)}" for package in ("torch", "numpy", "polars"))
    return f"{time.strftime('%Y-%m-%d')}, {name}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {versions}"


def show_page(lines: list[str], script: str, *, save: bool) -> None:
    """Print a page of results and, if asked, write it beside the script that made it."""
    page = "\n".join(lines)
    print(page)
    if save:
        write_text(Path(script).with_suffix(".md"), page)


if __name__ == "__main__":
    print(describe_machine())
