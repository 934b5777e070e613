"""What a benchmark ran on; printed beside every table."""

from __future__ import annotations

import os
import platform
import time
from importlib import metadata
from pathlib import Path


def describe_machine() -> str:
    """Return processor, cores, load and versions in one line."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    name = names[0].split(":")[1].strip() if names else platform.machine()
    versions = ", ".join(f"{package} {metadata.version(package)}" for package in ("torch", "numpy", "polars"))
    return f"{time.strftime('%Y-%m-%d')}, {name}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {versions}"


if __name__ == "__main__":
    print(describe_machine())
