"""A map against the truth: species drawn on real or virtual rasters, plots in a part of them, maps of all.

    python benchmarks/map_truth.py --rasters path/to/chelsa-costa-rica --save

Plots lie where the first principal component of the rasters is low and in the western part, so that much of the map is
new to the model. Each world has species of its own; the rasters are the same. Writes map_truth.md beside this file.
Without rasters, those of the simulated world are taken.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import rasterio
from sklearn.metrics import roc_auc_score

from machine import describe_machine, show_page
from releve.decide.calibration import fit_calibration, to_logits
from releve.ingest.reference import Cells
from releve.lists import Lists
from releve.predict.maps.read import Maps, open_maps
from releve.predict.maps.sparse import PROBS_OF_CODES
from releve.simulate.config import SimulateConfig
from releve.simulate.write import simulate_release

NUM_SPECIES, NUM_PLOTS, NUM_AXES, RICHNESS = 300, 1_500, 4, 20.0
NUM_CELLS = 20_000
"""Cells that are compared."""


def read_stack(files: list[Path]) -> tuple[np.ndarray, np.ndarray, rasterio.Affine]:
    """Return (cells, layers) values, NaN where there is no data, (cells, 2) rows and columns, and the transform."""
    layers = []
    for file in files:
        with rasterio.open(file) as dataset:
            layers.append(dataset.read(1, masked=True).astype(np.float64).filled(np.nan))
            transform = dataset.transform
    stack = np.stack(layers, axis=-1)
    rows, columns = np.indices(stack.shape[:2])
    return stack.reshape(-1, len(files)), np.stack([rows.ravel(), columns.ravel()], axis=1), transform


def main_axes(values: np.ndarray) -> np.ndarray:
    """Return (cells, axes) the first principal components, each with variance 1; NaN where a layer has no data."""
    known = np.isfinite(values).all(axis=1)
    scaled = (values - values[known].mean(axis=0)) / np.maximum(values[known].std(axis=0), 1e-9)
    _, _, axes = np.linalg.svd(scaled[known][::7], full_matrices=False)
    found = scaled @ axes[:NUM_AXES].T
    return found / found[known].std(axis=0)


def true_probs(axes: np.ndarray, known: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return (cells, species): each species has an optimum somewhere, a width on each axis and a height."""
    best = axes[rng.choice(np.flatnonzero(known), NUM_SPECIES)]
    width = rng.uniform(0.4, 1.6, (NUM_SPECIES, NUM_AXES))
    height = rng.beta(1.0, 3.0, NUM_SPECIES)
    probs = np.stack(
        [
            top * np.exp(-0.5 * (((axes - o) / w) ** 2).sum(axis=1))
            for o, w, top in zip(best, width, height, strict=True)
        ],
        axis=1,
    )
    return np.minimum(probs * RICHNESS / probs[known].sum(axis=1).mean(), 0.98)


def make_study(folder: Path, files: list[Path], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Write plots.csv and study.toml and return (cells, 2) rows and columns and (cells, species) probabilities."""
    rng = np.random.default_rng(seed)
    values, cells, transform = read_stack(files)
    lon, lat = (np.asarray(axis) for axis in transform * (cells[:, 1] + 0.5, cells[:, 0] + 0.5))
    known = np.isfinite(values).all(axis=1) & (Cells(lon, lat).country_codes() > 0)  # climate is told of the sea, too
    values[~known] = np.nan
    axes = main_axes(values)
    probs = true_probs(axes, known, rng)
    west = cells[:, 1] < np.quantile(cells[known, 1], 0.7)
    near = known & west & (axes[:, 0] < np.quantile(axes[known, 0], 0.75))
    plots = rng.choice(np.flatnonzero(near), min(NUM_PLOTS, int(near.sum())), replace=False)
    row, species = np.nonzero(rng.random((len(plots), NUM_SPECIES)) < probs[plots])
    names = np.array([f"Planta s{index:03d}" for index in range(NUM_SPECIES)])
    table = {"plot": row, "lon": lon[plots][row], "lat": lat[plots][row], "species": names[species]}
    pl.DataFrame(table).write_csv(folder / "plots.csv")
    listed = ", ".join(f'"{file}"' for file in files)
    (folder / "study.toml").write_text(
        f'[study]\n[[study.plots]]\nfile = "plots.csv"\n[[study.rasters]]\nfile = [{listed}]\n', encoding="utf-8"
    )
    return cells, probs


def compare(maps: Maps, cells: np.ndarray, probs: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
    """Return how a map agrees with the truth, inside and outside the area that the run may be applied to."""
    richness, outside = maps.image("richness"), maps.image("outside")
    new = {"dissimilarity": maps.image("dissimilarity"), "MESS": -maps.image("mess")}
    mapped = np.flatnonzero(np.isfinite(richness[cells[:, 0], cells[:, 1]]) & np.isfinite(probs).all(axis=1))
    some = np.sort(rng.choice(mapped, min(NUM_CELLS, len(mapped)), replace=False))
    at = cells[some, 0], cells[some, 1]
    predicted = np.zeros((len(some), NUM_SPECIES))
    for number, name in enumerate(maps.species["species"].to_list()):
        predicted[:, int(name[-3:])] = PROBS_OF_CODES[maps.codes_of(number)[at]]
    truth, is_out = probs[some], outside[at] == 1
    error = np.abs(predicted - truth).sum(axis=1)
    drawn = Lists.from_pairs(*np.nonzero(rng.random(truth.shape) < truth), len(some))
    found = {
        "outside": float(is_out.mean()),
        "correlation of probabilities": float(np.corrcoef(predicted.ravel(), truth.ravel())[0, 1]),
        "correlation of richness": float(np.corrcoef(richness[at], truth.sum(axis=1))[0, 1]),
    }
    for name, values in new.items():
        found[f"AUC of large errors by {name}"] = float(roc_auc_score(error > np.quantile(error, 0.9), values[at]))
    for name, rows in (("inside", np.flatnonzero(~is_out)), ("outside", np.flatnonzero(is_out))):
        if len(rows) > 50:
            fitted = fit_calibration(to_logits(np.clip(predicted[rows], 1e-6, 1 - 1e-6)), drawn.take(rows))
            found[f"calibration slope {name}"] = fitted.slope
            found[f"wrong species expected {name}"] = float(error[rows].mean())
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rasters", type=Path)
    parser.add_argument("--worlds", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="Folder in which study, run and maps of the last world stay")
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = options.rasters
        if folder is None:
            config = SimulateConfig(num_plots=100, num_test_plots=10, num_records=100, modalities=("covariates",))
            simulate_release(config, Path(name) / "world")
            folder = Path(name) / "world" / "EnvironmentalRasters" / "Rasters"
        files = sorted(folder.resolve().glob("*.tif"))
        for seed in range(options.worlds):
            place = (options.keep or Path(name)) / f"world-{seed}"
            place.mkdir(parents=True)
            cells, probs = make_study(place, files, seed)
            for command in (["run", "--data", "study.toml", "--out", "run"], ["map", "run", "--out", "maps"]):
                subprocess.run([sys.executable, "-m", "releve", *command], cwd=place, check=True)
            rows.append(compare(open_maps(place / "maps"), cells, probs, np.random.default_rng(100 + seed)))
            print(rows[-1], flush=True)
    lines = ["# Maps against the truth", "", f"`python benchmarks/map_truth.py --save`. {describe_machine()}.", ""]
    lines += [
        f"{NUM_SPECIES} species, {NUM_PLOTS:,} plots in a part of the rasters, `releve run` and `releve map` with "
        f"nothing set, {len(rows)} worlds of other species; {NUM_CELLS:,} cells of each map are compared with the "
        "probabilities that the species were drawn by. The error of a cell is the sum over species of the difference "
        "in probability; a large one is above its 90 % quantile. Mean over worlds, and from lowest to highest.",
        "",
        "| | mean | worlds |",
        "|---|---|---|",
    ]
    for key in rows[0]:
        values = [row[key] for row in rows if key in row]
        lines.append(f"| {key} | {np.mean(values):.3f} | {min(values):.3f} to {max(values):.3f} |")
    show_page([*lines, ""], __file__, save=options.save)


if __name__ == "__main__":
    main()
