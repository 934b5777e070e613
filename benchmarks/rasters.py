"""How fast values are taken from rasters at places, beside other ways, and whether each block is read once.

python benchmarks/rasters.py [--places 1000000] [--layers 20] [--side 4096] [--folder FOLDER] [--peer PYTHON] [--save]

The rasters are made in the folder, 1 GB for each of the four layouts; every way runs in a process of its own.
``--peer``: a Python with rioxarray, for the comparison; it is no dependency of this package.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.io import DatasetReader
from rasterio.transform import from_origin
from rasterio.windows import Window

LAYOUTS = ("one file, tiles", "one file, strips", "a file a layer, tiles", "a file a layer, strips")
NUM_SORTED, NUM_UNSORTED = 10_000, 1_000
"""Places of the slow ways, whose time is scaled up."""


def make_rasters(folder: Path, layout: str, num_layers: int, side: int) -> list[Path]:
    """Write smooth fields with some noise, as float32 with deflate; return the files."""
    place = folder / layout.replace(" ", "_").replace(",", "")
    together = layout.startswith("one")
    files = [place / "layers.tif"] if together else [place / f"layer{i:02d}.tif" for i in range(num_layers)]
    if all(file.is_file() for file in files):
        return files
    place.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"driver": "GTiff", "dtype": "float32", "crs": "EPSG:4326", "compress": "deflate"}
    options |= {"height": side, "width": side, "transform": from_origin(0.0, 50.0, 40 / side, 40 / side)}
    options |= {"interleave": "pixel", "zlevel": 1, "num_threads": os.cpu_count(), "bigtiff": "yes"}
    options |= {"tiled": True, "blockxsize": 256, "blockysize": 256} if "tiles" in layout else {"blockysize": 1}
    for number, file in enumerate(files):
        partial = file.with_suffix(".part")
        with rasterio.open(partial, "w", count=num_layers if together else 1, **options) as dataset:
            for row in range(0, side, 256):
                height = min(256, side - row)
                bands = range(num_layers) if together else [number]
                values = np.stack([field(band, row, height, side) for band in bands])
                dataset.write(values, window=Window(0, row, side, height))
        partial.rename(file)
    return files


def field(band: int, row: int, height: int, side: int) -> NDArray[np.float32]:
    """Return some rows of a layer: hills of several sizes, in hundredths."""
    rng = np.random.default_rng(band * 100_000 + row)
    y, x = np.arange(row, row + height)[:, None] / side, np.arange(side)[None, :] / side
    hills = sum(np.sin(2 * np.pi * k * (x + 0.3 * band)) * np.cos(2 * np.pi * k * y) / k for k in (1, 3, 7, 20))
    return np.round(100 * hills + rng.normal(size=(height, side)), 2).astype(np.float32)


def make_places(number: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return places all over the rasters, in no order."""
    rng = np.random.default_rng(0)
    return rng.uniform(0, 40, number), rng.uniform(10, 50, number)


def by_releve(files: list[Path], lon: NDArray, lat: NDArray) -> NDArray[np.float32]:
    from releve.ingest.config import RasterConfig
    from releve.rasters.layers import open_layers
    from releve.rasters.sample import sample_layers

    layers = open_layers([RasterConfig(file=tuple(map(str, files)))], Path())
    return sample_layers(layers, lon, lat).values


def by_whole_layers(files: list[Path], lon: NDArray, lat: NDArray) -> NDArray[np.float32]:
    parts = []
    for file in files:
        with rasterio.open(file) as dataset:
            rows, columns = rasterio.transform.rowcol(dataset.transform, lon, lat)
            parts.append(dataset.read()[:, rows, columns])
    return np.concatenate(parts).T


def by_rioxarray(files: list[Path], lon: NDArray, lat: NDArray) -> NDArray[np.float32]:
    import rioxarray
    import xarray

    parts = []
    for file in files:
        with rioxarray.open_rasterio(file) as raster:
            at = raster.sel(
                x=xarray.DataArray(lon, dims="place"), y=xarray.DataArray(lat, dims="place"), method="nearest"
            )
            parts.append(at.values.T)
    return np.concatenate(parts, axis=1)


def by_rasterio_sample(files: list[Path], lon: NDArray, lat: NDArray) -> NDArray[np.float32]:
    parts = []
    for file in files:
        with rasterio.open(file) as dataset:
            parts.append(np.stack(list(dataset.sample(zip(lon, lat, strict=True)))))
    return np.concatenate(parts, axis=1)


WAYS: dict[str, tuple[Callable[..., NDArray], int | None, bool]] = {
    "releve": (by_releve, None, False),
    "whole layers": (by_whole_layers, None, False),
    "rioxarray, vectorised": (by_rioxarray, None, False),
    "rasterio sample, sorted": (by_rasterio_sample, NUM_SORTED, True),
    "rasterio sample, unsorted": (by_rasterio_sample, NUM_UNSORTED, False),
}
"""Way -> function, number of places if not all, whether they are sorted (by row, then column)."""
IMPORTS = {"releve": ("releve.rasters.layers", "releve.rasters.sample"), "rioxarray, vectorised": ("rioxarray",)}
"""Way -> what is imported before the clock starts."""


def run_case(way: str, files: list[Path], num_places: int) -> dict[str, Any]:
    """Return CPU and wall seconds, scaled to all places, and the largest memory beside the values."""
    work, number, is_sorted = WAYS[way]
    for name in IMPORTS.get(way, ()):
        importlib.import_module(name)
    lon, lat = make_places(num_places)
    if is_sorted:
        with rasterio.open(files[0]) as dataset:
            order = np.lexsort(rasterio.transform.rowcol(dataset.transform, lon, lat)[::-1])
        start = (len(order) - number) // 2 if number else 0
        lon, lat = (each[order][start : start + number] if number else each[order] for each in (lon, lat))
    elif number:
        lon, lat = lon[:number], lat[:number]
    before = resource.getrusage(resource.RUSAGE_SELF)
    began, memory = time.perf_counter(), memory_mib("VmRSS")
    values = work(files, lon, lat)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    scale = num_places / len(lon)
    beside = memory_mib("VmHWM") - memory - values.nbytes / 2**20
    return {
        "cpu_s": cpu * scale,
        "wall_s": wall * scale,
        "memory_mib": beside,
        "values": hashlib.sha256(np.ascontiguousarray(values)).hexdigest(),
    }


def memory_mib(what: str) -> float:
    """Return the memory of this process: VmRSS now, VmHWM at most; getrusage has that of the parent as well."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) / 1024


def count_reads(files: list[Path], num_places: int) -> tuple[int, int, int]:
    """Return how many blocks the files have, how many were read, and how often the one read most often."""
    read = Counter[tuple[str, int, int]]()

    class Counting(DatasetReader):
        def read(self, indexes: Any = None, *, window: Any = None, **kwargs: Any) -> NDArray:
            height, width = self.block_shapes[0]
            for row in range(window.row_off // height, -(-(window.row_off + window.height) // height)):
                for column in range(window.col_off // width, -(-(window.col_off + window.width) // width)):
                    read[self.name, row, column] += 1
            return super().read(indexes, window=window, **kwargs)

    from releve.ingest.config import RasterConfig
    from releve.rasters.layers import open_layers
    from releve.rasters.sample import sample_layers

    layers = open_layers([RasterConfig(file=tuple(map(str, files)))], Path())
    plain, rasterio.open = rasterio.open, lambda source: Counting(rasterio._path._parse_path(source))
    try:
        sample_layers(layers, *make_places(num_places))
    finally:
        rasterio.open = plain
    grid = layers[0].grid
    num_blocks = len(files) * -(-grid.height // grid.block_height) * grid.blocks_across
    return num_blocks, len(read), max(read.values())


def compare(files: dict[str, list[Path]], options: argparse.Namespace) -> list[str]:
    """Return the table of all ways."""
    lines = ["| way | layout | CPU s | wall s | memory MiB |", "|---|---|---|---|---|"]
    found: dict[str, set[str]] = {}
    sizes = ["--places", options.places, "--layers", options.layers, "--side", options.side]
    for way, (_, number, _) in WAYS.items():
        python = options.peer if "rioxarray" in way else sys.executable
        for layout in LAYOUTS if python else ():
            command = [python, __file__, "--folder", options.folder, *sizes, "--case", way, layout]
            said = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout
            case = json.loads(said)
            seconds = f"{case['cpu_s']:,.1f} | {case['wall_s']:,.1f}"
            lines.append(f"| {way} | {layout} | {seconds} | {case['memory_mib']:,.0f} |")
            print(lines[-1], file=sys.stderr, flush=True)
            if number is None:
                found.setdefault(layout, set()).add(case["values"])
    assert all(len(values) == 1 for values in found.values()), found
    return lines


def make_page(files: dict[str, list[Path]], options: argparse.Namespace) -> list[str]:
    from machine import describe_machine

    facts = (
        f"{options.places:,} places, {options.layers} layers of {options.side:,} x {options.side:,} float32, deflate"
    )
    versions = f"rasterio {rasterio.__version__} (GDAL {rasterio.__gdal_version__})"
    lines = [
        "# Values from rasters at places",
        "",
        f"`python benchmarks/rasters.py`. {describe_machine()}, {versions}.",
        "",
        f"{facts}, pixel-interleaved where bands lie in one file; tiles of 256 x 256, or strips of one row.",
        "CPU seconds are of all threads. Memory is the largest beside the values themselves.",
        "The files lie in the system's cache.",
        f"`rasterio sample` is timed at {NUM_SORTED:,} sorted and {NUM_UNSORTED:,} unsorted places, and scaled up.",
        "",
        *compare(files, options),
        "",
        "All ways that read all places return the same values.",
        "",
        "| layout | blocks | read by releve | the most often read, times |",
        "|---|---|---|---|",
    ]
    for layout in LAYOUTS:
        num_blocks, num_read, most = count_reads(files[layout], options.places)
        lines.append(f"| {layout} | {num_blocks:,} | {num_read:,} | {most} |")
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--places", type=int, default=1_000_000)
    parser.add_argument("--layers", type=int, default=20)
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--peer")
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--case", nargs=2, metavar=("WAY", "LAYOUT"), help="one way, in this process")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        options.folder = options.folder or Path(temporary)
        files = {layout: make_rasters(options.folder, layout, options.layers, options.side) for layout in LAYOUTS}
        if options.case:
            way, layout = options.case
            print(json.dumps(run_case(way, files[layout], options.places)))
            return
        from machine import show_page

        show_page(make_page(files, options), __file__, save=options.save)


if __name__ == "__main__":
    main()
