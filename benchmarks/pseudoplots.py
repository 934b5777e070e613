"""How long it takes to group records into pseudo-plots, and the peak of memory, beside the usual ways.

python benchmarks/pseudoplots.py [--release FOLDER] [--runs FILE] [--save]

The usual ways are scikit-learn's DBSCAN on a ball tree of great-circle distances (min_samples = 1, so that every record
has a group) and geopandas' spatial join of points to the squares of a grid, each followed by the number of species of
each group; "cells only" does of ours just as much. Each runs in a process of its own on
growing random samples until it exceeds its time or memory. Without a release the simulator writes one (2.4 GB). For
the row of geopandas, run with `uv run --no-sync --with geopandas python benchmarks/pseudoplots.py`. What is in the file
of runs is not measured again.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from machine import describe_machine
from releve.geo import EARTH_RADIUS_KM, grid_cells, project
from releve.ingest.release import open_release
from releve.ingest.surveys import read_occurrences
from releve.prepare.config import PseudoplotConfig
from releve.prepare.pseudoplots.group import group_records
from releve.simulate.config import FULL_TABLES
from releve.simulate.write import simulate_release

SIZE_M = 1000.0
SIZES = (500_000, 1_000_000, 2_000_000, 5_079_797)
OTHER_SIZES = (25_000, 50_000, 100_000, 250_000, *SIZES)
LIMIT_S = 130.0
LIMIT_GB = 10.0
REPEATS = 2
OURS = ("grid", "radius", "cells only")
OTHERS = (
    ("DBSCAN", "scikit-learn DBSCAN, ball tree, haversine", ("radius",)),
    ("spatial join", "geopandas sjoin to squares", ("cells only", "grid")),
)


def group_by_grid(table: pl.DataFrame) -> int:
    return len(group_records(table, PseudoplotConfig(method="grid", size_m=SIZE_M)).table)


def group_by_radius(table: pl.DataFrame) -> int:
    return len(group_records(table, PseudoplotConfig(method="radius", size_m=SIZE_M)).table)


def count_in_cells(table: pl.DataFrame) -> int:
    cells = pl.Series(grid_cells(table["lon"].to_numpy(), table["lat"].to_numpy(), SIZE_M))
    return len(table.select("species_id").group_by(cells.alias("cell")).agg(pl.col("species_id").n_unique()))


def group_by_dbscan(table: pl.DataFrame) -> int:
    from sklearn.cluster import DBSCAN

    places = np.radians(table.select("lat", "lon").to_numpy())
    model = DBSCAN(
        eps=SIZE_M / (1000 * EARTH_RADIUS_KM), min_samples=1, algorithm="ball_tree", metric="haversine", n_jobs=2
    )
    labels = pl.Series(model.fit_predict(places))
    table.select("species_id").with_columns(plot=labels).group_by("plot").agg(pl.col("species_id").n_unique())
    return labels.n_unique()


def group_by_join(table: pl.DataFrame) -> int:
    import geopandas as gpd
    import shapely

    lon, lat = table["lon"].to_numpy(), table["lat"].to_numpy()
    points = gpd.GeoDataFrame(
        {"species_id": table["species_id"].to_numpy()}, geometry=gpd.points_from_xy(lon, lat), crs="EPSG:4326"
    ).to_crs("EPSG:3035")
    corners = np.unique(np.floor(project(lon, lat, "EPSG:3035") / SIZE_M), axis=0) * SIZE_M  # the occupied ones only
    squares = shapely.box(corners[:, 0], corners[:, 1], corners[:, 0] + SIZE_M, corners[:, 1] + SIZE_M)
    joined = gpd.sjoin(points, gpd.GeoDataFrame(geometry=squares, crs="EPSG:3035"), predicate="within")
    return len(joined.groupby("index_right")["species_id"].nunique())


WORK: dict[str, Callable[[pl.DataFrame], int]] = {
    "grid": group_by_grid,
    "radius": group_by_radius,
    "cells only": count_in_cells,
    "DBSCAN": group_by_dbscan,
    "spatial join": group_by_join,
}


def work_once(name: str, path: Path, num_records: int) -> None:
    """Group a sample and print what it took; run in a process of its own."""
    table = pl.read_parquet(path)
    if num_records < len(table):
        table = table.sample(num_records, seed=0)
    WORK[name](table[:1000])  # imports and the first call of libraries are not counted
    started, cpu = time.perf_counter(), time.process_time()
    num_plots = WORK[name](table)
    found = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu, "plots": num_plots}
    print(json.dumps(found | {"peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}))


def limit_memory() -> None:
    size = int(LIMIT_GB * 1e9)
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def measure(name: str, path: Path, num_records: int, repeats: int, runs: Path | None) -> dict[str, float] | None:
    """Return the fastest of the runs; None if one exceeds its time or memory."""
    known = json.loads(runs.read_text()) if runs and runs.exists() else {}
    key = f"{name} {num_records}"
    if key not in known:
        known[key] = run_several(name, path, num_records, repeats)
        print(key, known[key], flush=True)
        if runs:
            runs.write_text(json.dumps(known, indent=1))
    best: dict[str, float] | None = known[key]
    return best if best and best["seconds"] <= LIMIT_S else None


def run_several(name: str, path: Path, num_records: int, repeats: int) -> dict[str, float] | None:
    command = [sys.executable, __file__, "--work", name, "--table", str(path), "--records", str(num_records)]
    found = []
    for _ in range(repeats):
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=LIMIT_S + 30, preexec_fn=limit_memory
            )
        except subprocess.TimeoutExpired:
            return None
        if done.returncode:
            print(f"{name}, {num_records:,}: {done.stderr.strip().splitlines()[-1:]}", flush=True)
            return None
        found.append(json.loads(done.stdout.splitlines()[-1]))
    return min(found, key=lambda run: run["seconds"])


def largest(name: str, path: Path, runs: Path | None) -> tuple[int, dict[str, float]] | None:
    """Return the largest sample that a usual way groups within the limits, and what that took."""
    last = None
    for num_records in OTHER_SIZES:
        found = measure(name, path, num_records, 1, runs)
        if found is None:
            break
        last = (num_records, found)
        if found["seconds"] > LIMIT_S / 2:
            break
    return last


def read_records(release: Path | None, folder: Path) -> Path:
    """Return the file of the release's records, made first where none is given."""
    if release is None:
        release = folder / "release"
        simulate_release(FULL_TABLES, release)
    path = folder / "records.parquet"
    read_occurrences(open_release(release), "po").table.write_parquet(path)
    return path


def table_of(
    ours: dict[tuple[str, int], dict[str, float]], others: list[tuple[str, str, int, dict[str, float]]]
) -> str:
    lines = [
        f"# Pseudo-plots: records grouped within {SIZE_M:,.0f} m",
        "",
        f"{describe_machine()}; several other processes shared the two cores, so that processor time is the steadier "
        "figure. Records of a simulated release with as many as the official one; random samples. Wall time of the "
        f"fastest of {REPEATS} runs (of the other ways one), without reading the file; processor time summed over "
        "threads; peak memory of the process, with the table and the libraries.",
        "",
        "`python benchmarks/pseudoplots.py --save`",
        "",
        "| method | records | groups | seconds | processor seconds | peak GB |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for (name, num_records), run in ours.items():
        lines.append(f"| {name} | {num_records:,} | {figures_of(run)} |")
    first, last = min(SIZES), max(SIZES)
    for name in OURS:
        growth = np.log(ours[name, last]["cpu"] / ours[name, first]["cpu"]) / np.log(last / first)
        lines += [
            "",
            f"Processor time of {name} grows as records to the power {growth:.2f} from {first:,} to {last:,}.",
        ]
    lines += [
        "",
        "*grid* and *radius* are all of `group_records`: groups, representatives, species sets, visits, completeness "
        "and trust. *cells only* is the cell of each record and the number of species of each cell, which is all that "
        f"the other ways do. These, on the largest sample that they group within {LIMIT_S:.0f} s and "
        f"{LIMIT_GB:.0f} GB:",
        "",
        "| other way | records | groups | seconds | processor seconds | peak GB | ours | ratio of seconds "
        "| of processor seconds |",
        "|---|---:|---:|---:|---:|---:|---|---:|---:|",
    ]
    for other, name, num_records, run in others:
        own = ours[name, num_records]
        ratios = [f"**{run[unit] / own[unit]:.1f} times**" for unit in ("seconds", "cpu")]
        lines.append(f"| {other} | {num_records:,} | {figures_of(run)} | {name} | {ratios[0]} | {ratios[1]} |")
    return "\n".join(lines)


def figures_of(run: dict[str, float]) -> str:
    return f"{run['plots']:,.0f} | {run['seconds']:.1f} | {run['cpu']:.1f} | {run['peak_gb']:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--release", type=Path)
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--work", choices=sorted(WORK), help=argparse.SUPPRESS)
    parser.add_argument("--table", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--records", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work_once(args.work, args.table, args.records)
        return
    with tempfile.TemporaryDirectory() as folder:
        text = compare(read_records(args.release, Path(folder)), args.runs)
    print(text)
    if args.save:
        Path(__file__).with_suffix(".md").write_text(text + "\n", encoding="utf-8")


def compare(path: Path, runs: Path | None) -> str:
    """Return the page of a comparison of our ways with the others."""
    found = {(name, size): measure(name, path, size, REPEATS, runs) for name in OURS for size in SIZES}
    ours = {key: run for key, run in found.items() if run}
    rows, notes = [], ""
    for other, label, names in OTHERS:
        if other == "spatial join" and importlib.util.find_spec("geopandas") is None:
            notes += "\n\ngeopandas is not installed: its row is left out."
            continue
        best = largest(other, path, runs)
        if best is None:
            notes += f"\n\n{label} grouped no sample within the limits."
            continue
        for name in names:
            if (name, best[0]) not in ours:
                run = measure(name, path, best[0], REPEATS, runs)
                assert run
                ours[name, best[0]] = run
            rows.append((label, name, *best))
    return table_of(dict(sorted(ours.items())), rows) + notes


if __name__ == "__main__":
    main()
