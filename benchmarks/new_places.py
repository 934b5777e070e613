"""How calibrated are the probabilities of new places? Averages over folds, before and after they are stretched.

In virtual worlds with fresh test plots: ``python benchmarks/new_places.py --worlds 4 --save``. Test plots are *near* if
their nearest training plot is not farther than that of 19 of 20 held-out plots is from theirs, else *far*.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from machine import describe_machine, show_page
from releve import pipeline
from releve.config import make_config
from releve.decide.calibration import fit_calibration, to_logits
from releve.decide.stretch import FoldStretch
from releve.demo import read_truth
from releve.evaluate.facts import measure_folds
from releve.geo import nearest_km
from releve.lists import Lists
from releve.predict.tables import store_for_prediction
from releve.runs.folder import Run
from releve.runs.predict import predict_held_out, predict_probs
from releve.simulate.config import SimulateConfig
from releve.simulate.write import simulate_release
from releve.store.read import Store

RECIPE: dict[str, Any] = {
    "data": {"modalities": ["covariates"]},
    "model": {"modalities": ["covariates", "survey", "location"], "embedding_dim": 64, "hidden_dim": 128},
    "train": {"num_folds": 5, "epochs": 15, "learning_rate": 2e-3, "device": "cpu"},
}
WORLD = {"num_plots": 1500, "num_test_plots": 2500, "num_records": 100, "num_species": 150, "richness": 12}


def log_likelihood(probs_NS: torch.Tensor, truth: Lists) -> float:
    """Return nats a plot."""
    found = torch.from_numpy(truth.to_csr(probs_NS.shape[1]).toarray()).bool()
    return float(torch.where(found, probs_NS, 1 - probs_NS).clamp(min=1e-7).log().sum(dim=1).mean())


def probs_of(run: Run, store: Store) -> torch.Tensor:
    return torch.cat([probs.cpu() for _, probs in predict_probs(run, store)])


def measure_world(seed: int, folder: Path) -> dict[str, dict[str, float]]:
    """Return slopes and log-likelihoods of near and far test plots, as predicted and without the stretch."""
    simulate_release(SimulateConfig(**WORLD, seed=seed, modalities=("covariates",)), folder / "release")
    config = make_config(RECIPE, origin="benchmark")
    store = pipeline.prepare(config, folder / "release", folder / "store", seed=seed)
    run = pipeline.train(config, store, folder / "run", seed=seed)
    test = store_for_prediction(run, folder / "release", "test")
    truth = read_truth(folder / "release", test, store)
    rows, _ = predict_held_out(run)
    reach_km = np.quantile(measure_folds(store, rows, config.split.buffer_km).distance_km, 0.95)
    near = nearest_km(test.lon, test.lat, store.lon, store.lat) <= reach_km
    after = probs_of(run, test)
    kinds = {k: v.model_copy(update={"stretch": FoldStretch()}) for k, v in run.decision.kinds.items()}
    run.__dict__["decision"] = run.decision.model_copy(update={"kinds": kinds})
    before = probs_of(run, test)
    found = {}
    for name, part in (("near", np.flatnonzero(near)), ("far", np.flatnonzero(~near))):
        own = truth.take(part)
        slopes = [fit_calibration(to_logits(probs[part]), own).slope for probs in (before, after)]
        gain = log_likelihood(after[part], own) - log_likelihood(before[part], own)
        found[name] = {"plots": len(part), "mean of 5": slopes[0], "stretched": slopes[1], "nats a plot": gain}
    return found


def main() -> None:
    """Measure the worlds, and print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=4)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    started, worlds = time.monotonic(), []
    for seed in range(1, options.worlds + 1):
        with TemporaryDirectory() as folder:
            worlds.append(measure_world(seed, Path(folder)))
    heads = ("test plots", "number", "slope of the mean of 5 folds", "stretched", "log-likelihood, nats a plot")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name in ("near", "far"):
        values = {key: np.array([world[name][key] for world in worlds]) for key in worlds[0][name]}
        cells = [f"{values['plots'].mean():,.0f}"]
        for key, sign in (("mean of 5", ""), ("stretched", ""), ("nats a plot", "+")):
            error = values[key].std(ddof=1) / np.sqrt(len(worlds)) if len(worlds) > 1 else float("nan")
            cells.append(f"{values[key].mean():{sign}.3f} ± {error:.3f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    minutes = (time.monotonic() - started) / 60
    notes = [f"{len(worlds)} worlds, mean and standard error; {minutes:.0f} minutes.", "", f"{describe_machine()}.", ""]
    head = ["# Calibration at new places", "", *(__doc__ or "").splitlines(), ""]
    show_page([*head, *lines, "", *notes], __file__, save=options.save)


if __name__ == "__main__":
    main()
