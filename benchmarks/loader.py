"""How much faster a store is than the official files, and what it costs to build one.

python benchmarks/loader.py [--data RELEASE] [--surveys 2000] [--save]
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from releve.data.gather import Gatherer
from releve.ingest.cubes import SeriesSource, series_source
from releve.ingest.patches import PatchSource, patch_source
from releve.ingest.release import Release, open_release
from releve.ingest.surveys import read_surveys
from releve.simulate.config import SimulateConfig
from releve.simulate.write import simulate_release
from releve.store.build import build_store
from releve.store.chunks import num_cores
from releve.store.config import DataConfig
from releve.store.contents import read_contents
from releve.store.read import Store

BATCH_SIZE = 128
NUM_COMPARED = 50
MODALITIES = ("covariates", "landsat", "climate", "patch")


def official_paths(release: Release) -> list[tuple[int, list[Path]]]:
    """Return (survey id, files) of every survey that has all of RGB, NIR, Landsat and climate files."""
    table = read_surveys(release, "train").table
    patches = patch_source(release, "train", table, kind="jpeg")
    series = [series_source(release, "train", name, table, kind="files") for name in ("landsat", "climate")]
    assert isinstance(patches, PatchSource)
    found = []
    for row, survey_id in enumerate(table["survey_id"].to_list()):
        if patches.has[row] and all(isinstance(s, SeriesSource) and s.has[row] for s in series):
            cubes = [s.files.path(int(s.positions[row])) for s in series if s and s.files and s.positions is not None]
            found.append((survey_id, [release.root / path for path in (*patches.paths(row), *cubes)]))
    return found


def read_official(paths: list[Path]) -> tuple[np.ndarray, torch.Tensor, torch.Tensor]:
    """Read one survey as the field's public loaders do: two images and two cubes."""
    rgb, nir = np.asarray(Image.open(paths[0])), np.asarray(Image.open(paths[1]))
    patch = np.concatenate([rgb.transpose(2, 0, 1), nir[None]])
    return patch, torch.load(paths[2], weights_only=True), torch.load(paths[3], weights_only=True)


def read_covariate_rows(release: Release) -> dict[int, list[str]]:
    """Return every survey's cells of all covariate tables, held in memory before the clock starts."""
    rows: dict[int, list[str]] = {}
    for group in release.rules.covariates:
        for path in release.tables("train", group.table)[:1]:
            with (release.root / path).open(newline="", encoding="utf-8") as handle:
                for cells in list(csv.reader(handle))[1:]:
                    rows.setdefault(int(float(cells[0])), []).extend(cells[1:])
    return rows


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def check_equal(store: Store, gatherer: Gatherer, survey_id: int, paths: list[Path], cells: list[str]) -> None:
    """Stop unless the store gives what the files hold."""
    row = store.surveys["survey_id"].to_list().index(survey_id)
    batch = gatherer.batch(np.array([row]))
    patch, landsat, climate = read_official(paths)
    np.testing.assert_array_equal(batch.values["patch"][0].numpy(), patch)
    for name, cube in (("landsat", landsat.numpy().transpose(0, 2, 1)), ("climate", climate.numpy())):
        values, fill = batch.values[name][0].numpy(), store.arrays[name].spec.fill
        valid = values != fill
        assert valid.any(), name
        np.testing.assert_array_equal(values[valid], np.rint(cube[valid]))
    found = batch.values["covariates"][0].numpy()
    cells_as_numbers = np.array([float(cell) if cell else np.nan for cell in cells], np.float32)
    assert len(found) == len(cells_as_numbers)
    np.testing.assert_array_equal(found[np.isfinite(found)], cells_as_numbers[np.isfinite(found)])


def measure(release: Release, folder: Path, repeats: int) -> dict[str, float]:
    """Return seconds for all surveys, by what was done; the least of a few runs, the file cache warm."""
    surveys = official_paths(release)
    if not surveys:
        raise SystemExit(f"{release.root} has no survey with RGB, NIR, Landsat and climate files")
    cells = read_covariate_rows(release)
    order = np.random.default_rng(0).permutation(len(surveys)).tolist()

    def read_all() -> None:
        for at in order:
            survey_id, paths = surveys[at]
            read_official(paths)
            torch.tensor([float(cell) if cell else float("nan") for cell in cells[survey_id]])

    def read_bytes() -> None:
        for at in order:
            for path in surveys[at][1]:
                path.read_bytes()

    def build(name: str) -> Store:
        return build_store(read_contents(release, DataConfig()), None, folder / name)

    read_bytes()
    work = {"bytes": read_bytes, "official": read_all, "tables": partial(read_tables, release)}
    found = {name: min(seconds(do) for _ in range(repeats)) for name, do in work.items()}
    found["build"] = min(seconds(partial(build, f"store-{i}")) for i in range(repeats))
    store = build("store-0")
    position = {survey_id: row for row, survey_id in enumerate(store.surveys["survey_id"].to_list())}
    rows = np.array([position[surveys[at][0]] for at in order])
    gatherer = Gatherer(store, MODALITIES, {})
    for at in order[:NUM_COMPARED]:
        check_equal(store, gatherer, surveys[at][0], surveys[at][1], cells[surveys[at][0]])
    found["store"] = min(seconds(partial(gather_all, gatherer, rows)) for _ in range(3 * repeats))
    return found | {"surveys": len(surveys)}


def read_tables(release: Release) -> None:
    """Decode once, with the csv module, every table of plots that building a store reads."""
    for file in release.files:
        if "P0" not in file.name and "PO" not in file.name:
            with file.open(newline="", encoding="utf-8") as handle:
                list(csv.reader(handle))


def gather_all(gatherer: Gatherer, rows: np.ndarray) -> None:
    for start in range(0, len(rows), BATCH_SIZE):
        gatherer.batch(rows[start : start + BATCH_SIZE])


def table_of(found: dict[str, float], command: str) -> str:
    each = {name: f"{1e6 * value / found['surveys']:,.0f}" for name, value in found.items()}
    lines = [
        "# Loader: a store against the official files",
        "",
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} cores "
        f"(load {os.getloadavg()[0]:.1f}), torch with {torch.get_num_threads()} threads, "
        f"{found['surveys']:,.0f} surveys with covariates, Landsat and climate cubes and a 4 x 128 x 128 patch, "
        "file cache warm, the least of the runs.",
        "",
        f"`{command}`",
        "",
        "| what | microseconds a survey | ratio |",
        "|---|---:|---:|",
        f"| official files one by one (two JPEG, two .pt, a row of covariates) | {each['official']} | |",
        f"| store, batches of {BATCH_SIZE} random rows | {each['store']} | "
        f"**{found['official'] / found['store']:,.0f} times faster** (target: 100) |",
        f"| merely reading the files' bytes | {each['bytes']} | |",
        f"| building the store, all modalities, {num_cores()} workers | {each['build']} | "
        f"**{found['build'] / (found['official'] + found['tables']):.2f} times the reading** of files and tables "
        f"(target: at most 3); {found['build'] / found['official']:.2f} times that of the single files alone, "
        f"{found['build'] / found['bytes']:.1f} times their bytes |",
        "",
        f"The arrays of {NUM_COMPARED} surveys were compared with the files: equal. A store is opened once for a run; "
        "that is not counted.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="an official release; by default one is simulated")
    parser.add_argument("--surveys", type=int, default=2000, help="plots to simulate")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--save", action="store_true", help="write benchmarks/loader.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = options.data or folder / "release"
        if options.data is None:
            config = SimulateConfig(num_plots=options.surveys, num_test_plots=10, num_records=100)
            simulate_release(config, root)
        found = measure(open_release(root), folder, options.repeats)
    simulated = "" if options.data else f" --surveys {options.surveys}"
    text = table_of(found, f"python benchmarks/loader.py{simulated} --repeats {options.repeats}")
    print(text)
    if options.save:
        Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
