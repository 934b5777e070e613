"""Maps: cells a second and memory as the map grows, beside what a user would write, and where the time goes.

    python benchmarks/maps.py --save

Makes plots and a stack of 20 rasters in a temporary folder, trains one network 512 wide for each number of species, and
draws maps of it by the command. Writes maps.md beside this file. Small: --side 600 --species 500.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import rasterio
import torch
from rasterio.windows import Window

import releve
from machine import describe_machine, show_page
from own_study import DEGREES, NORTH, WEST, make_study
from releve.data.gather import Batch
from releve.files import write_text
from releve.predict.maps.draw import Request, _prepare
from releve.predict.maps.grid import Tile
from releve.predict.maps.read import open_maps
from releve.runs.folder import open_run

NUM_RASTERS, NUM_PLOTS = 20, 2_000
SETTINGS = (
    'train.kinds=["network"]',
    'model.modalities=["covariates"]',
    *("model.hidden_dim=512", "model.embedding_dim=256", "train.num_folds=2", "train.refit=false", "train.epochs=12"),
)
WRITTEN_BY_HAND = 2**17
"""Cells that the slow ways are measured on."""


@dataclass(frozen=True)
class Drawn:
    """What a map took."""

    cells: int
    wall_s: float
    cpu_s: float
    memory_gb: float
    bytes_a_cell: float
    listed: float


def make_run(folder: Path, num_species: int) -> Path:
    """Return a run with one network on the plots of a folder, with so many of the commonest species."""
    plots = pl.read_csv(folder / "plots.csv")
    common = plots.group_by("species").len().sort("len", "species", descending=True)["species"][:num_species]
    file = folder / f"plots_{num_species}.csv"
    plots.filter(pl.col("species").is_in(common.to_list())).write_csv(file)
    described = {"plots": [{"file": str(file)}], "rasters": [{"file": str(folder / "rasters/*.tif")}]}
    study = releve.read_study(described, folder=folder / f"study_{num_species}")
    store = releve.prepare_study(study, folder / f"store_{num_species}", settings=SETTINGS)
    run = releve.train_run(store, folder / f"run_{num_species}")
    file = run.path / "run.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    write_text(file, json.dumps(content | {"members": content["members"][:1]}))  # one network, not one a fold
    return run.path


def bounds_of(cells: int, side: int) -> list[float]:
    """Return west, south, east, north of a square of so many cells."""
    width = DEGREES * min(1.0, (cells**0.5) / side)
    return [WEST, NORTH - width + 1e-9, WEST + width - 1e-9, NORTH]


def draw(run: Path, out: Path, cells: int, side: int, precision: str) -> Drawn:
    """Draw a map by the command and return what it took."""
    bounds = [repr(value) for value in bounds_of(cells, side)]
    arguments = ["map", run, "--out", out, "--precision", precision, "--bounds", *bounds]
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "releve", *map(str, arguments)], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"releve map ended with {os.waitstatus_to_exitcode(status)}")
    wall, maps = time.monotonic() - started, open_maps(out)
    size = sum(maps.tile_path(tile).stat().st_size for tile in maps.tiles)
    num = maps.manifest.num_cells
    memory = used.ru_maxrss / 2**20
    return Drawn(num, wall, used.ru_utime + used.ru_stime, memory, size / num, maps.manifest.kept_per_cell)


def loop_by_hand(run: Path, out: Path, side: int, precision: str) -> float:
    """Return cells a second of a plain loop: windows of all rasters, the network, an image of all species."""
    opened = open_run(run)
    model, calibration = opened.models[0], next(iter(opened.decision.kinds.values())).calibration
    table = model.statistics.tables["covariates"]
    files = sorted((run.parent / "rasters").glob("*.tif"))
    names = [file.stem for file in files]
    order = [names.index(name) for name in table.columns]
    datasets = [rasterio.open(file) for file in files]
    shape = {"driver": "GTiff", "width": side, "height": side, "count": len(opened.species), "dtype": "float32"}
    tiled = {"tiled": True, "blockxsize": 256, "blockysize": 256, "interleave": "band", "sparse_ok": True}
    done, started = 0, time.monotonic()
    with torch.inference_mode(), rasterio.open(out, "w", **shape, **tiled, bigtiff="yes") as target:
        for row in range(0, side, 256):
            for column in range(0, side, 256):
                window = Window(column, row, min(256, side - column), min(256, side - row))
                stack = np.stack([dataset.read(1, window=window) for dataset in datasets])[order]
                values = torch.from_numpy(stack.reshape(len(stack), -1).T.copy())
                parts = []
                for first in range(0, len(values), 1024):
                    pixels = values[first : first + 1024]
                    zeros, places = torch.zeros(len(pixels), dtype=torch.int64), torch.arange(len(pixels))
                    batch = Batch({"covariates": pixels}, {"covariates": places, "plots": places}, zeros, zeros)
                    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                        parts.append(calibration.apply(model(batch).float()))
                probs = torch.cat(parts).T.reshape(-1, int(window.height), int(window.width)).numpy()
                target.write(probs, window=window)
                done += len(values)
                if done >= WRITTEN_BY_HAND:
                    break
            if done >= WRITTEN_BY_HAND:
                break
        # The image is closed, and so written, within the time.
    return done / (time.monotonic() - started)


def elapid_loop(folder: Path, side: int) -> float:
    """Return cells a second of elapid's MaxEnt of one species, drawn by its own function."""
    import elapid

    files = sorted((folder / "rasters").glob("*.tif"))
    plots = pl.read_csv(folder / "plots.csv")
    common = plots.group_by("species").len().sort("len")["species"][-1]
    places = plots.unique("plot").select("plot", "lon", "lat").sort("plot")
    there = places["plot"].is_in(plots.filter(pl.col("species") == common)["plot"].to_list()).to_numpy()
    values = []
    for file in files:
        with rasterio.open(file) as dataset:
            values.append([value[0] for value in dataset.sample(zip(places["lon"], places["lat"], strict=True))])
    model = elapid.MaxentModel()
    model.fit(np.array(values).T, there.astype(int))
    height = min(side, WRITTEN_BY_HAND // side)
    small = []
    for file in files:  # its function maps whole files
        with rasterio.open(file) as dataset:
            profile = dataset.profile | {"height": height, "tiled": False}
            profile = {name: value for name, value in profile.items() if name not in ("blockxsize", "blockysize")}
            small.append(file.with_name(f"small_{file.name}.part"))
            with rasterio.open(small[-1], "w", **profile) as part:
                part.write(dataset.read(1, window=Window(0, 0, side, height)), 1)
    started = time.monotonic()
    elapid.apply_model_to_rasters(model, [str(file) for file in small], str(folder / "elapid.tif"), quiet=True)
    return side * height / (time.monotonic() - started)


def profile(run: Path, side: int, precision: str) -> list[tuple[str, float]]:
    """Return where the time of one tile goes: operations and their share, the largest first."""
    engine = _prepare(run, Request(precision=precision)).engine
    size = min(128, side)
    engine.draw(Tile(0, 0, 16, 16))
    profiler = cProfile.Profile()
    profiler.runcall(engine.draw, Tile(0, 0, size, size))
    stats = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    whole = sum(own for _, _, own, _, _ in stats.values())
    parts: dict[str, float] = {}
    for (file, _, name), (_, _, own, _, _) in stats.items():
        where = Path(file).stem if file not in ("~", "") else "".join(c for c in name if c not in "{}<>'")
        parts[where] = parts.get(where, 0.0) + own / whole
    return sorted(parts.items(), key=lambda part: -part[1])[:10]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", type=int, default=3_200)
    parser.add_argument("--species", type=int, nargs="+", default=[500, 1_000, 10_358])
    parser.add_argument("--cells", type=int, nargs="+", default=[1_000_000, 3_000_000, 10_000_000])
    parser.add_argument("--grow", type=int, default=1_000, help="Species with which all sizes are drawn")
    parser.add_argument("--folder", type=Path, help="Where the temporary folder lies")
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    lines = ["# Maps", "", f"`python benchmarks/maps.py --save`. {describe_machine()}.", ""]
    lines += [
        f"One network 512 wide on {NUM_RASTERS} rasters of {options.side:,} x {options.side:,} cells, made for this, "
        "in bf16; `releve map` from its start to the last image, everything written.",
        "",
        "| species | cells | cells a second | CPU s | memory, GB | bytes a cell | likely species a cell |",
        "|---|---|---|---|---|---|---|",
    ]
    beside = [
        "",
        "| species | `releve map` | the network from a plain loop over windows | times |",
        "|---|---|---|---|",
    ]
    went = []
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder, most = Path(name), max(options.species)
        make_study(folder, num_plots=NUM_PLOTS, num_species=most, num_rasters=NUM_RASTERS, side=options.side)
        for num_species in options.species:
            run = make_run(folder, num_species)
            wanted = options.cells if num_species == options.grow else options.cells[:1]
            found = []
            for cells in (number for number in wanted if number <= options.side**2 * 1.01):
                out = folder / f"maps_{cells}"
                found.append(drawn := draw(run, out, cells, options.side, "bf16"))
                lines.append(
                    f"| {num_species:,} | {drawn.cells:,} | {drawn.cells / drawn.wall_s:,.0f} | {drawn.cpu_s:,.0f} | "
                    f"{drawn.memory_gb:.2f} | {drawn.bytes_a_cell:,.0f} | {drawn.listed:.0f} |"
                )
                print(lines[-1], flush=True)
                shutil.rmtree(out)
            ours = found[0].cells / found[0].wall_s
            by_hand = loop_by_hand(run, folder / "dense.tif", options.side, "bf16")
            beside.append(f"| {num_species:,} | {ours:,.0f} | {by_hand:,.0f} | {ours / by_hand:.1f} |")
            print(beside[-1], flush=True)
            if num_species == options.species[0]:
                alone = elapid_loop(folder, options.side)
                beside.append(f"| 1 | | {alone:,.0f} (elapid, MaxEnt) | {ours / alone:.1f} |")
                print(beside[-1], flush=True)
            parts = ", ".join(f"{part} {share:.0%}" for part, share in profile(run, options.side, "bf16"))
            went.append(f"- {num_species:,} species: {parts}")
            print(went[-1], flush=True)
    lines += [*beside, "", "Where the time of a tile goes, by function or module:", "", *went, ""]
    show_page(lines, __file__, save=options.save)


if __name__ == "__main__":
    main()
