"""Does the selector pick the setting that is truly best? Twenty worlds with a country shift; the truth is known there.

    python benchmarks/selection.py [--folder KEEP] [--worlds 20]

In each world the candidates are cross-validated as `releve select` does, by spatial blocks and, as a warning, at
random; then each is trained as a recipe would and scored on test plots in countries without a training plot: which is
best there is the truth. Two selections: presence-only models (background and whether coordinates are seen, scored on
held-out target-group sites), and models of plots. Writes selection.md beside this file. With ``--folder`` a stopped
benchmark goes on.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from scipy import stats

from machine import describe_machine
from releve import pipeline
from releve.config import Config, make_config
from releve.demo import read_truth
from releve.evaluate.select import plan_candidates, select_settings
from releve.ingest.release import open_release
from releve.metrics.ranks import rank_scores
from releve.progress import quiet_progress
from releve.runs.predict import predict_probs
from releve.simulate.config import SimulateConfig
from releve.simulate.write import simulate_release
from releve.store.build import build_store
from releve.store.chunks import num_cores
from releve.store.contents import read_contents
from releve.store.read import Store

FIRST_WORLD = 100
WORLD: dict[str, Any] = {
    "num_plots": 600,
    "num_test_plots": 600,
    "num_records": 10_000,
    "num_species": 120,
    "modalities": ("covariates",),
    "cell_size_deg": 0.05,
}
BASE: dict[str, dict[str, Any]] = {
    "data": {"modalities": ["covariates"], "records": "po"},
    "split": {"num_folds": 4, "block_size_km": 250, "buffer_km": 5},
    "model": {"modalities": ["covariates"], "embedding_dim": 64, "hidden_dim": 128, "location_waves": 8},
    "pseudoplots": {"method": "grid", "size_m": 1000},
    "records": {"observation_head": False},
    "train": {"batch_size": 64, "patience": 4, "device": "cpu"},
}
PLACES = "model.modalities=['covariates'],['covariates','location']"
TRIALS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "po": ({"regime": "po", "epochs": 10, "batch_size": 128}, [PLACES, "records.background=target_group,random"]),
    "pa": ({"regime": "pa"}, [PLACES, "train.epochs=8,32"]),
}
"""By regime, the training and the fields that candidates differ in."""
FOLDS = 2
WAYS = {"blocked": "auc", "random": "random_auc"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--worlds", type=int, default=20)
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        worlds = range(FIRST_WORLD, FIRST_WORLD + options.worlds)
        with ProcessPoolExecutor(num_cores(), get_context("spawn"), torch.set_num_threads, (1,)) as pool:
            rows = [row for part in pool.map(score_world, [folder] * len(worlds), worlds) for row in part]
    page = render(pl.DataFrame(rows, infer_schema_length=None), time.monotonic() - started)
    Path(__file__).with_suffix(".md").write_text(page, encoding="utf-8")
    print(page)


def score_world(folder: Path, seed: int) -> list[dict[str, Any]]:
    """Return one row a candidate of each regime: cross-validated both ways, and its true score."""
    file = folder / f"scores-{seed}.json"
    if not file.is_file():
        with quiet_progress():
            simulate_release(SimulateConfig(seed=seed, **WORLD), folder / f"world-{seed}")
            rows = [row for regime in TRIALS for row in score_regime(folder, folder / f"world-{seed}", seed, regime)]
        file.write_text(json.dumps(rows))
        print(f"world {seed} done", flush=True)
    return json.loads(file.read_text())  # type: ignore[no-any-return]


def score_regime(folder: Path, release: Path, seed: int, regime: str) -> list[dict[str, Any]]:
    """Return the rows of one regime."""
    train, trials = TRIALS[regime]
    config = make_config(BASE | {"train": BASE["train"] | train}, origin="benchmark")
    store = pipeline.prepare(config, release, folder / f"store-{seed}", seed=0)
    settings = config.data.model_copy(update={"splits": ("test",), "records": None})
    test = build_store(read_contents(open_release(release), settings), None, folder / f"store-{seed}-test")
    table = select_settings(config, store, trials, num_folds=FOLDS, seed=seed)
    scored = {json.dumps(varied(row, trials)): row for row in table.to_dicts()}
    rows = []
    for values, candidate in plan_candidates(config, trials):
        found = scored[json.dumps(values)]
        truth = true_auc(candidate, store, release, test, folder / f"run-{seed}", seed)
        scores = {way: found[column] for way, column in WAYS.items()}
        rows.append({"world": seed, "regime": regime, "candidate": json.dumps(values), "truth": truth} | scores)
    return rows


def varied(row: dict[str, Any], trials: list[str]) -> dict[str, str]:
    """Return the fields of a selection's row that the candidates differ in."""
    return {name: row[name] for name in (trial.partition("=")[0] for trial in trials)}


def true_auc(config: Config, store: Store, release: Path, test: Store, out: Path, seed: int) -> float:
    """Train a candidate as its recipe would and return its AUC (mean over species) in countries without plots."""
    run = pipeline.train(config, store, out, seed=seed, overwrite=out.exists())
    probs = torch.cat([block.cpu() for _, block in predict_probs(run, test)])
    latents = pl.read_parquet(release / "truth" / "latents_test.parquet").rename({"surveyId": "survey_id"})
    strata = test.surveys.join(latents, on="survey_id", how="left", maintain_order="left")["stratum"].to_numpy()
    there = np.flatnonzero(strata == "country")
    return rank_scores(probs[there], read_truth(release, test, store).take(there)).auc_macro


def pick(table: pl.DataFrame, way: str) -> pl.DataFrame:
    """Return, for each world, what a way of cross-validation picks: whether it is the best, and what it loses."""
    best = table.group_by("world").agg(best=pl.col("truth").max())
    picked = table.sort(way, descending=True).group_by("world", maintain_order=True).first().join(best, on="world")
    loss = pl.col("best") - pl.col("truth")
    return picked.select("world", "candidate", right=loss == 0, loss=loss, flattery=pl.col(way) - pl.col("truth")).sort(
        "world"
    )


def interval(values: np.ndarray) -> str:
    """Return mean and 95 % t interval over worlds."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():+.4f} ({values.mean() - half:+.4f} to {values.mean() + half:+.4f})"


def render(table: pl.DataFrame, seconds: float) -> str:
    """Return the page."""
    worlds = table["world"].n_unique()
    lines = [
        "# Choosing settings: spatial against random cross-validation",
        "",
        f"`python benchmarks/selection.py`: {worlds} virtual worlds of {WORLD['num_plots']} plots and "
        f"{WORLD['num_records']:,} records, {WORLD['num_species']} species. The truth is the AUC (mean over species) "
        f"on test plots in countries that hold no training plot, of each candidate trained as its recipe would. "
        f"{FOLDS} folds each way. {seconds / 60:.0f} minutes. {describe_machine()}.",
        "",
        "| candidates | cross-validation | picks the truly best | AUC lost by its pick | its score less the truth |",
        "|---|---|---|---|---|",
    ]
    notes = []
    for regime in TRIALS:
        part = table.filter(pl.col("regime") == regime)
        picks = {way: pick(part, way) for way in WAYS}
        for way, found in picks.items():
            lines.append(
                f"| {regime} | {way} | {found['right'].sum()} of {worlds} | {found['loss'].mean():.4f} "
                f"| {interval(found['flattery'].to_numpy())} |"
            )
        saved = (picks["random"]["loss"] - picks["blocked"]["loss"]).to_numpy()
        only = {
            way: int((picks[way]["right"] & ~picks[other]["right"]).sum())
            for way, other in (("blocked", "random"), ("random", "blocked"))
        }
        sign = stats.binomtest(only["blocked"], max(1, sum(only.values()))).pvalue
        notes.append(
            f"{regime}: right only by blocks {only['blocked']}, only at random {only['random']} (sign test "
            f"p = {sign:.3f}); AUC saved by blocks {interval(saved)}."
        )
    lines += [
        "",
        *(f"- {note}" for note in notes),
        "",
        "Mean true AUC and how often each candidate is best and picked:",
        "",
    ]
    lines += [
        "| regime | candidate | true AUC | best | picked by blocks | picked at random |",
        "|---|---|---|---|---|---|",
    ]
    for regime in TRIALS:
        part = table.filter(pl.col("regime") == regime)
        picks = {way: pick(part, way)["candidate"].to_list() for way in ("truth", *WAYS)}
        for candidate in part["candidate"].unique(maintain_order=True):
            mean = part.filter(pl.col("candidate") == candidate)["truth"].mean()
            counts = " | ".join(str(picks[way].count(candidate)) for way in ("truth", *WAYS))
            words = ", ".join(f"{name.partition('.')[2]} {value}" for name, value in json.loads(candidate).items())
            lines.append(f"| {regime} | {words} | {mean:.4f} | {counts} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
