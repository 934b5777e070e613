"""How long it takes to read, check and enrich the presence-only records of a full release, beside geopandas.

python benchmarks/clean.py [--data RELEASE] [--sizes 500000 1000000] [--peer PYTHON --atlas countries-10m.json] [--save]

``--data``: a release as long as the official one; by default it is simulated (two minutes, 2.4 GB, in a temporary
folder). ``--peer``: a Python with geopandas, for the comparison; it is no dependency of this package. ``--atlas``:
Natural Earth's countries, as ``tools/make_reference.py`` reads them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__)
RESULT = HERE.with_suffix(".md")
FULL = 5_079_797
SIZES = (500_000, 1_000_000, 2_000_000, FULL)
PEER_SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
PEER_LIMIT_S = 120
DIRTY_SHARE = 0.005
STEPS = ("read", "flag", "clean", "enrich")


def truncated_release(data: Path, folder: Path, num_records: int) -> Path:
    """Link a release, but for its table of records, which is cut."""
    for path in data.rglob("*"):
        target = folder / path.relative_to(data)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        elif "P0_metadata" in path.name or "PO_metadata" in path.name:
            with path.open("rb") as source, target.open("wb") as out:
                out.writelines(islice(source, num_records + 1))
        else:
            target.symlink_to(path)
    return folder


def soil(table: Any) -> tuple[Any, dict[str, int]]:
    """Return the table with known faults in it, on rows of their own, and how many of each."""
    import polars as pl

    rng = np.random.default_rng(0)
    num = int(len(table) * DIRTY_SHARE)
    names = ("sea", "swapped_coordinates", "imprecise", "bad_date", "not_species", "uncertain")
    rows = dict(zip(names, rng.permutation(len(table))[: num * len(names)].reshape(len(names), num), strict=True))
    lon, lat = table["lon"].to_numpy().copy(), table["lat"].to_numpy().copy()
    lon[rows["sea"]], lat[rows["sea"]] = rng.uniform(-30, -20, num).round(5), rng.uniform(42, 52, num).round(5)
    swapped = rows["swapped_coordinates"]
    lon[swapped], lat[swapped] = lat[swapped].copy(), lon[swapped].copy()
    lon[rows["imprecise"]], lat[rows["imprecise"]] = lon[rows["imprecise"]].round(1), lat[rows["imprecise"]].round(1)

    def change(column: str, name: str, value: Any) -> Any:
        return table[column].scatter(rows[name].tolist(), value)

    table = table.with_columns(
        pl.Series("lon", lon), pl.Series("lat", lat), change("month", "bad_date", 13),
        change("taxon_rank", "not_species", "GENUS"), change("uncertainty_m", "uncertain", 5e4),
    )  # fmt: skip
    return table, {name: num for name in names}


def time_flags(table: Any, config: Any, extent: Any) -> dict[str, float]:
    """Return the seconds of each flag; the first pays for finding the cells of the places."""
    from releve.prepare.flags import FLAGS, _Records

    records, lost, seconds = _Records(table, config, extent), np.zeros(len(table), bool), {}
    for name, flag in FLAGS.items():
        started = time.perf_counter()
        found = flag.find(records, lost)
        seconds[name] = time.perf_counter() - started
        lost |= found if name in config.drop else False
    return seconds


def measure(data: Path, num_records: int, columns: Path | None) -> dict[str, Any]:
    """Time the steps once, in this process, and return seconds, peak memory and what was found."""
    from releve.ingest.release import open_release
    from releve.ingest.surveys import read_occurrences
    from releve.prepare.clean import clean_records
    from releve.prepare.config import CleanConfig
    from releve.prepare.enrich import EnrichConfig, enrich_records
    from releve.prepare.flags import flag_records

    seconds, cpu_seconds = {}, {}

    def timed(name: str, function: Any) -> Any:
        started, cpu_started = time.perf_counter(), time.process_time()
        result = function()
        seconds[name], cpu_seconds[name] = time.perf_counter() - started, time.process_time() - cpu_started
        return result

    with tempfile.TemporaryDirectory() as folder:
        release = open_release(truncated_release(data, Path(folder), num_records))
        table = timed("read", lambda: read_occurrences(release, "po").table)
    table, faults = soil(table)
    config, extent = CleanConfig(), release.rules.extent
    flags = timed("flag", lambda: flag_records(table, config, extent))
    of_flags = time_flags(table, config, extent)
    missed = {name: num - int(flags[name].sum()) for name, num in faults.items() if flags[name].sum() < num}
    cleaned = timed("clean", lambda: clean_records(table, config, extent))
    assert len(cleaned.table) + cleaned.dropped["count"].sum() == len(table)
    timed("enrich", lambda: enrich_records(cleaned.table, EnrichConfig()))
    if columns:
        day = table["date"].to_physical().fill_null(-1).to_numpy()
        places = {name: table[name].to_numpy() for name in ("lon", "lat", "species_id")}
        np.savez(columns, day=day, sea=flags["sea"].to_numpy(), **places)
    return {
        "records": len(table),
        "kept": len(cleaned.table),
        "dropped": cleaned.dropped_by_reason,
        "missed": missed,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "seconds_of_flags": of_flags,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def measure_peer(columns: Path, polygons: Path) -> dict[str, Any]:
    """Time, with geopandas, the join of points with countries and pandas' duplicates, at growing sizes."""
    import geopandas
    import pandas
    import shapely

    with np.load(columns) as content:
        table = pandas.DataFrame({name: content[name] for name in content.files})
    with np.load(polygons) as content:
        starts, points = content["starts"], content["points"]
    shapes = [shapely.Polygon(points[a:b]) for a, b in zip(starts[:-1], starts[1:], strict=True)]
    land = geopandas.GeoDataFrame(geometry=shapely.make_valid(np.array(shapes)), crs="EPSG:4326")
    table = table.sample(frac=1, random_state=0, ignore_index=True)
    runs = []
    for size in PEER_SIZES:
        part = table[:size]
        started = time.perf_counter()
        places = geopandas.GeoDataFrame(part, geometry=geopandas.points_from_xy(part.lon, part.lat), crs="EPSG:4326")
        on_land = geopandas.sjoin(places, land, predicate="within").index.unique()
        join_s = time.perf_counter() - started
        started = time.perf_counter()
        part[["lon", "lat", "species_id", "day"]].round(5).duplicated()
        sea = ~part.index.isin(on_land)
        agree = float((sea == part["sea"].to_numpy()).mean())
        runs.append({"records": size, "join_s": join_s, "duplicates_s": time.perf_counter() - started, "agree": agree})
        if join_s * 3.3 > PEER_LIMIT_S or size >= len(table):
            break
    return {"runs": runs, "versions": f"geopandas {geopandas.__version__}, shapely {shapely.__version__}"}


def save_polygons(atlas: Path, target: Path) -> None:
    """Write the outer rings of Natural Earth's countries, for a Python without this package."""
    sys.path.insert(0, str(HERE.parents[1] / "tools"))
    from make_reference import read_countries

    rings = [polygon[0] for _, _, polygons in read_countries(atlas) for polygon in polygons]
    rings = [ring for ring in rings if len(ring) >= 4]
    np.savez(target, starts=np.cumsum([0, *map(len, rings)]), points=np.concatenate(rings))


def call(python: str, *arguments: str) -> dict[str, Any]:
    """Run this script in a process of its own, so that peaks of memory do not mix; return what it prints."""
    done = subprocess.run([python, str(HERE), *arguments], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def describe(rows: list[dict[str, Any]], peer: dict[str, Any] | None, command: str) -> str:
    """Return the page."""
    from machine import describe_machine

    threads = os.environ.get("POLARS_MAX_THREADS", "all")
    lines = [
        "# Cleaning and enriching the records of a full release",
        "",
        f"{describe_machine()}; {threads} threads of polars; the machine was shared. Simulated presence-only records; "
        "faults of six kinds were put into 3 % of them.",
        "",
        f"`{command}`",
        "",
        f"| records | {' | '.join(f'{step}, s' for step in STEPS)} | read + clean, s | peak, GB | kept |",
        f"|---:|{'---:|' * (len(STEPS) + 3)}",
    ]
    for row in rows:
        seconds = row["seconds"]
        cpu = row["cpu_seconds"]
        cells = [f"{row['records']:,}", *(f"{seconds[step]:.1f} ({cpu[step]:.1f})" for step in STEPS)]
        cells += [
            f"**{seconds['read'] + seconds['clean']:.1f}** ({cpu['read'] + cpu['clean']:.1f})",
            f"{row['peak_gb']:.1f}",
            f"{row['kept'] / row['records']:.1%}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    last = rows[-1]
    reasons = ", ".join(f"{name} {count:,}" for name, count in last["dropped"].items())
    lines += [
        "",
        "`flag` makes the 17 columns; `clean` makes them, drops, and counts by publisher; `enrich` adds 5 columns to "
        "what was kept. In brackets: seconds of processor, which depend less "
        "on what else the machine does. The peak is that of the whole process. "
        "Target for all records: read + clean at most 20 s, below 4 GB.",
        "",
        f"Dropped of {last['records']:,}, each once: {reasons}.",
        f"Faults put in and not found: {last['missed'] or 'none'}.",
    ]
    slow = sorted(last["seconds_of_flags"].items(), key=lambda item: -item[1])[:5]
    lines += ["", "The slowest flags, s: " + ", ".join(f"{name} {value:.2f}" for name, value in slow) + "."]
    if peer:
        names = ("impossible_coordinates", "sea", "duplicate")
        ours = sum(last["seconds_of_flags"][name] for name in names) / last["records"] * 1e6
        lines += [
            "",
            f"What one would do instead for `sea` and `duplicate` ({peer['versions']}): points in polygons of the same "
            "countries with `geopandas.sjoin`, and pandas' `duplicated`. Here the two, with the finding of cells, take "
            f"{ours:.2f} microseconds a record at {last['records']:,}.",
            "",
            "| records | sjoin, s | duplicated, s | microseconds a record | same answer land / sea |",
            "|---:|---:|---:|---:|---:|",
        ]
        for run in peer["runs"]:
            each = (run["join_s"] + run["duplicates_s"]) / run["records"] * 1e6
            cells = [f"{run['records']:,}", f"{run['join_s']:.1f}", f"{run['duplicates_s']:.2f}", f"{each:.1f}"]
            lines.append(f"| {' | '.join([*cells, format(run['agree'], '.3%')])} |")
        lines += ["", f"At the largest size that is **{each / ours:.1f} times** the time here."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure every size in a process of its own and print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--peer")
    parser.add_argument("--atlas", type=Path)
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--columns", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--polygons", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.polygons:
        print(json.dumps(measure_peer(args.columns, args.polygons)))
        return
    if args.one:
        print(json.dumps(measure(args.data, args.one, args.columns)))
        return
    with tempfile.TemporaryDirectory() as folder:
        data = args.data
        if data is None:
            from releve.simulate.config import FULL_TABLES
            from releve.simulate.write import simulate_release

            data = Path(folder) / "release"
            simulate_release(FULL_TABLES, data)
        rows, peer, columns = [], None, Path(folder) / "columns.npz"
        for size in args.sizes:
            rows.append(call(sys.executable, "--data", str(data), "--one", str(size), "--columns", str(columns)))
            print(rows[-1], flush=True)
        if args.peer and args.atlas:
            polygons = Path(folder) / "polygons.npz"
            save_polygons(args.atlas, polygons)
            peer = call(args.peer, "--columns", str(columns), "--polygons", str(polygons))
        command = "python benchmarks/clean.py" + (" --peer PYTHON --atlas countries-10m.json" if peer else "")
        page = describe(rows, peer, command)
    print(page)
    if args.save:
        RESULT.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
