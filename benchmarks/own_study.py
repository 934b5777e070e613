"""A study from its files to its report by the commands alone: init, check, run; time and memory of each.

    python benchmarks/own_study.py --save

Makes plots (a long table of names), and rasters from smooth random fields, in a temporary folder. Writes own_study.md
beside this file. Small: --plots 2000 --species 200 --side 500.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import rasterio
from rasterio.transform import from_origin

from machine import describe_machine, show_page
from releve.files import write_text
from releve.simulate.fields import smooth_field

WEST, NORTH, DEGREES = 0.0, 52.0, 10.0
"""A square of ten degrees."""
NUM_FIELDS = 6
"""Independent fields; the other rasters are mixtures of them, as climate layers are."""
SPECIES_A_PLOT = 20
GENERA = ("Carex", "Festuca", "Poa", "Salix", "Viola", "Rosa", "Galium", "Juncus", "Rumex", "Allium")
SYLLABLES = ("al", "bor", "can", "den", "flac", "gran", "mon", "palu", "pra", "sil", "ten", "vul", "lut", "ros")


@dataclass(frozen=True)
class Used:
    """What a command took."""

    wall_s: float
    cpu_s: float
    memory_mib: float


def make_study(folder: Path, *, num_plots: int, num_species: int, num_rasters: int, side: int, seed: int = 0) -> int:
    """Write plots.csv and rasters/*.tif, and return the number of rows of the table."""
    rng = np.random.default_rng(seed)
    (folder / "rasters").mkdir(parents=True)
    row, column = rng.integers(0, side, (2, num_plots))
    fields = [smooth_field((side, side), side / 25, rng) for _ in range(NUM_FIELDS)]
    at_plots = np.stack([field[row, column] for field in fields], axis=1)
    cell = DEGREES / side
    settings = {"driver": "GTiff", "width": side, "height": side, "count": 1, "dtype": "float32", "nodata": -9999.0}
    settings |= {"compress": "deflate", "predictor": 3, "tiled": True, "blockxsize": 256, "blockysize": 256}
    place = {"crs": "EPSG:4326", "transform": from_origin(WEST, NORTH, cell, cell)}
    for number in range(num_rasters):
        mixed = sum(weight * field for weight, field in zip(rng.normal(size=NUM_FIELDS), fields, strict=True))
        with rasterio.open(folder / "rasters" / f"layer_{number + 1:02d}.tif", "w", **settings, **place) as file:
            file.write((10 + 3 * mixed).astype(np.float32), 1)
    best, width = rng.normal(size=(num_species, NUM_FIELDS)), rng.uniform(1.0, 3.0, num_species)
    common = rng.normal(0, 1.2, num_species)
    names, parts = species_names(num_species), []
    for first in range(0, num_plots, 1000):
        here = at_plots[first : first + 1000]
        away = ((here[:, None] - best) ** 2).sum(axis=2) / width**2
        scores = np.exp(common - 0.5 * away)
        scores *= SPECIES_A_PLOT / scores.sum(axis=1, keepdims=True)
        plot, species = np.nonzero(rng.random(scores.shape) < scores)
        parts.append(pl.DataFrame({"at": plot + first, "species": np.array(names)[species]}))
    table = pl.concat(parts)
    at = table["at"].to_numpy()
    inside = rng.random((2, num_plots))
    lon, lat = WEST + cell * (column + inside[0]), NORTH - cell * (row + inside[1])
    year = rng.integers(2000, 2024, num_plots)
    columns = {"plot": [f"P{i:05d}" for i in at], "lon": lon[at].round(5), "lat": lat[at].round(5), "year": year[at]}
    pl.DataFrame(columns | {"species": table["species"]}).write_csv(folder / "plots.csv")
    return len(table)


def species_names(number: int) -> list[str]:
    """Return so many different names of two words."""
    words = ("".join(parts) + "us" for size in (3, 4) for parts in itertools.product(SYLLABLES, repeat=size))
    return [f"{GENERA[i % len(GENERA)]} {word}" for i, word in zip(range(number), words, strict=False)]


def use(arguments: list[object], folder: Path) -> Used:
    """Run a command and return what it took, the processes that it started included."""
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "releve", *map(str, arguments)], cwd=folder)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"releve {arguments[0]} ended with {process.returncode}")
    return Used(time.monotonic() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, default in {"plots": 20_000, "species": 2_000, "rasters": 30, "side": 1_500}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--keep", type=Path, help="make the study and the run in this folder, and keep them")
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        sizes = {"num_plots": options.plots, "num_species": options.species, "num_rasters": options.rasters}
        num_rows = make_study(folder / "study", **sizes, side=options.side)
        commands: dict[str, list[object]] = {
            "releve init study": ["init", "study"],
            "releve check study.toml": ["check", "study.toml"],
            "releve run --data study.toml --out run": ["run", "--data", "study.toml", "--out", "run"],
        }
        used = {name: use(arguments, folder) for name, arguments in commands.items()}
        scores = json.loads((folder / "run" / "evaluation" / "scores.json").read_text(encoding="utf-8"))
        facts = json.loads((folder / "run" / "run.json").read_text(encoding="utf-8"))
        prepared = json.loads((folder / "run" / "store" / "run.json").read_text(encoding="utf-8"))["seconds"]
        assert (folder / "run" / "report.html").is_file()
        write_text(folder / "used.json", json.dumps({name: vars(each) for name, each in used.items()}))
    lines = [
        "# A study from its files to its report",
        "",
        f"`python benchmarks/own_study.py`. {describe_machine()}.",
        "",
        f"{options.plots:,} plots, {options.species:,} species, {num_rows:,} rows of a table with names; "
        f"{options.rasters} GeoTIFFs of {options.side:,} x {options.side:,} float32, deflate, tiles of 256 x 256. "
        "Random numbers: the times are real, the scores say nothing of plants.",
        "",
        "| command | wall s | CPU s | memory MiB |",
        "|---|---|---|---|",
        *(f"| `{name}` | {u.wall_s:,.0f} | {u.cpu_s:,.0f} | {u.memory_mib:,.0f} |" for name, u in used.items()),
        f"| all | {sum(u.wall_s for u in used.values()):,.0f} | {sum(u.cpu_s for u in used.values()):,.0f} | |",
        "",
        f"`releve run`: {prepared:,.0f} s to prepare, {facts['seconds']:,.0f} s to train, "
        f"{facts['steps']['evaluate']['seconds']:,.0f} s to evaluate and report. Seconds by member: "
        + ", ".join(f"{name} {seconds:,.0f}" for name, seconds in facts["timings"].items())
        + ".",
        "",
        "| model | sF1 | AUC |",
        "|---|---|---|",
        *(f"| {row['model']} | {row['sample_f1']:.3f} | {row['auc_macro']:.3f} |" for row in scores),
        "",
    ]
    show_page(lines, __file__, save=options.save)


if __name__ == "__main__":
    main()
