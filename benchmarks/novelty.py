"""Does what is said of new places tell where the probabilities are wrong? In virtual worlds, whose truth is known.

``python benchmarks/novelty.py --worlds 4 --save``. Each world is learned three times: from all plots outside two
countries; from those north of 50.5 degrees; from the cooler 65 of 100. Test plots lie everywhere. The error of a plot
is that of its probabilities against the true ones: the mean over species of the absolute difference; that sum as a
share of the sum of both (so that poor plots count like rich ones); the absolute error of the expected number of
species. Much of it comes from what no covariate shows (canopy, rock, what was cut), at places of every kind.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from machine import describe_machine, show_page
from releve import pipeline
from releve.config import make_config
from releve.decide.calibration import fit_calibration, to_logits
from releve.demo import read_truth
from releve.geo import nearest_km
from releve.predict.novelty import Novelty, read_novelty
from releve.predict.tables import store_for_prediction
from releve.runs.predict import predict_probs
from releve.simulate.config import SimulateConfig
from releve.simulate.layout import LAYOUTS
from releve.simulate.write import simulate_release
from releve.store.read import Store

RECIPE: dict[str, Any] = {
    "data": {"modalities": ["covariates"]},
    "model": {"modalities": ["covariates", "survey", "location"], "embedding_dim": 64, "hidden_dim": 128},
    "train": {"num_folds": 5, "epochs": 15, "learning_rate": 2e-3, "device": "cpu"},
}
WORLD = {"num_plots": 2200, "num_test_plots": 3000, "num_records": 100, "num_species": 150, "richness": 12}
PATHS = LAYOUTS["glc24"]
ERRORS = ("mean over species", "share of both sums", "number of species")
CLASSES = ("inside", "outside")


def keep_all(release: Path) -> pl.Expr:
    """Keep all training plots: none lies in two of the countries, and in a part of the blocks."""
    return pl.lit(True)


def keep_north(release: Path) -> pl.Expr:
    """Keep those of the north."""
    return pl.col("lat") > 50.5


def keep_cool(release: Path) -> pl.Expr:
    """Keep those whose yearly mean temperature is below the quantile .65."""
    table = pl.read_csv(release / PATHS.tables["Bio"].format(subset="PA-train"), glob=False)
    cool = table.filter(pl.col("Bio1") < pl.col("Bio1").quantile(0.65))["surveyId"]
    return pl.col("surveyId").cast(pl.Int64).is_in(cool.implode())


KEPT = {"all but two countries": keep_all, "the north": keep_north, "the cooler 65 %": keep_cool}


def measure(seed: int, kept: str, folder: Path) -> dict[str, float]:
    """Return the numbers of one world, by name."""
    release = folder / "release"
    simulate_release(SimulateConfig(**WORLD, seed=seed, modalities=("covariates",)), release)
    plots = pl.read_csv(release / PATHS.pa_train, infer_schema_length=None, glob=False)
    plots.filter(KEPT[kept](release)).write_csv(release / PATHS.pa_train)
    config = make_config(RECIPE, origin="benchmark")
    store = pipeline.prepare(config, release, folder / "store", seed=seed)
    run = pipeline.train(config, store, folder / "run", seed=seed)
    test = store_for_prediction(run, release, "test")
    probs = torch.cat([each.cpu() for _, each in predict_probs(run, test)])
    found = read_novelty(run).of(run, test, np.arange(len(test)))
    errors = errors_of(probs.numpy(), true_probs(release, test, store))
    scores = {"dissimilarity": found.dissimilarity, "MESS": -found.mess}
    scores["km to the nearest plot"] = nearest_km(test.lon, test.lat, store.lon, store.lat)
    numbers = {"plots": float(len(store)), "similar": float((found.mess >= 0).mean())}
    for error, values in errors.items():
        high = values > np.quantile(values, 0.9)
        numbers |= {f"{name}, {error}": float(roc_auc_score(high, score)) for name, score in scores.items()}
    truth = read_truth(release, test, store)
    for name, part in zip(CLASSES, (found.inside, ~found.inside), strict=True):
        rows = np.flatnonzero(part)
        numbers[f"{name}, share"] = float(part.mean())
        numbers[f"{name}, slope"] = fit_calibration(to_logits(probs[rows]), truth.take(rows)).slope
        numbers |= {f"{name}, {error}": float(values[rows].mean()) for error, values in errors.items()}
    return numbers


def true_probs(release: Path, test: Store, store: Store) -> NDArray[np.float64]:
    """Return the (B, S) true probabilities of the species that training knew."""
    table = pl.read_parquet(release / "truth" / "probabilities_test.parquet")
    rows = {int(name): i for i, name in enumerate(test.surveys["survey_id"])}
    columns = {int(name): i for i, name in enumerate(store.species_ids)}
    table = table.filter(pl.col("speciesId").cast(pl.Int64).is_in(list(columns)))
    at = [[rows[int(x)] for x in table["surveyId"]], [columns[int(x)] for x in table["speciesId"]]]
    found = np.zeros((len(rows), len(columns)))
    found[at[0], at[1]] = table["probability"]
    return found


def errors_of(probs_BS: NDArray[np.float32], true_BS: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return the (B,) errors of each kind."""
    wrong_BS = np.abs(probs_BS - true_BS)
    both_B = (probs_BS + true_BS).sum(axis=1)
    richness_B = np.abs(probs_BS.sum(axis=1) - true_BS.sum(axis=1))
    return dict(zip(ERRORS, (wrong_BS.mean(axis=1), wrong_BS.sum(axis=1) / both_B, richness_B), strict=True))


def microseconds(num_places: int = 50_000, num_covariates: int = 40, num_rows: int = 2_000) -> float:
    """Return the time a place takes on one core, beside the network's: 512 features, 2,000 rows on 32 axes."""
    random = torch.Generator().manual_seed(0)
    values, features, axes, rows = (
        torch.randn(size, generator=random)
        for size in ((num_places, num_covariates), (num_places, 512), (512, 32), (num_rows, 32))
    )
    quantiles = torch.linspace(-3, 3, 101).repeat(num_covariates, 1)
    names = tuple(f"covariate {i}" for i in range(num_covariates))
    novelty = Novelty(0, names, (), (), quantiles, torch.zeros(512), axes / 16, rows, torch.tensor(1.0))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    started = time.process_time()
    for start in range(0, num_places, 512):
        novelty.similarity(values[start : start + 512]).min(dim=1)
        novelty.dissimilarity(features[start : start + 512], values[start : start + 512])
    torch.set_num_threads(threads)
    return (time.process_time() - started) / num_places * 1e6


def mean_and_error(values: list[float], digits: int = 3) -> str:
    """Return a mean and its standard error."""
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    return f"{np.mean(values):.{digits}f} ± {error:.{digits}f}"


def tables(worlds: dict[str, list[dict[str, float]]]) -> list[str]:
    """Return the page's two tables."""

    def cell(kept: str, name: str, digits: int = 3) -> str:
        return mean_and_error([world[name] for world in worlds[kept]], digits)

    lines = [f"| learned from | told by | {' | '.join(f'error: {each}' for each in ERRORS)} |", "|---" * 5 + "|"]
    for kept in worlds:
        for score in ("dissimilarity", "MESS", "km to the nearest plot"):
            lines.append(f"| {kept} | {score} | {' | '.join(cell(kept, f'{score}, {each}') for each in ERRORS)} |")
    heads = ["learned from", "test plots", "share of them", "slope", *(f"error: {each}" for each in ERRORS)]
    lines += [
        "",
        "By class, with the slope of a calibration of the probabilities there (1: calibrated; below: too sure):",
    ]
    lines += ["", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for kept in worlds:
        for name in CLASSES:
            cells = [cell(kept, f"{name}, share", 2), cell(kept, f"{name}, slope")]
            cells += [cell(kept, f"{name}, {error}", 2 if error == ERRORS[2] else 4) for error in ERRORS]
            lines.append(f"| {kept} | {name} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Measure the worlds, and print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=4)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    worlds: dict[str, list[dict[str, float]]] = {kept: [] for kept in KEPT}
    for seed in range(1, options.worlds + 1):
        for kept, found in worlds.items():
            with TemporaryDirectory() as folder:
                found.append(measure(seed, kept, Path(folder)))
    head = ["# Where predictions are wrong, and what is said of it", "", *(__doc__ or "").splitlines(), ""]
    head += [
        f"AUC of a plot's error being among the highest tenth, {options.worlds} worlds, mean and standard error:",
        "",
    ]
    counts = ", ".join(f"{np.mean([w['plots'] for w in found]):,.0f} ({kept})" for kept, found in worlds.items())
    similar = ", ".join(f"{100 * np.mean([w['similar'] for w in found]):.0f} %" for found in worlds.values())
    notes = [
        f"Training plots: {counts}; {WORLD['num_test_plots']:,} test plots, of which {similar} have a MESS of 0 "
        "or more.",
        "",
        f"{microseconds():.0f} microseconds of processor a place for both, on one core (40 covariates, 2,000 training "
        "rows, 512 features), beside the network itself.",
        "",
        f"{describe_machine()}.",
        "",
    ]
    show_page([*head, *tables(worlds), "", *notes], __file__, save=options.save)


if __name__ == "__main__":
    main()
