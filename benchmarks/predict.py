"""Prediction of 100,000 surveys x 11,255 species by `releve predict`: seconds, memory, size of what it writes.

    python benchmarks/predict.py [--surveys 100000] [--species 11255]

A release is simulated (tables only) and a run trained on it for one epoch; then its network is given as many species
as asked, random weights and the prevalences of a long-tailed flora, since what is predicted does not matter here. The
command runs in a process of its own. Beside it: the product of features and species weights alone, and what is often
done, a dense table of probabilities that is sorted, on a part of the surveys. Writes predict.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
import torch

from machine import describe_machine
from releve import pipeline
from releve.config import make_config
from releve.data.statistics import Statistics
from releve.files import write_text
from releve.models.model import build_model
from releve.runs.folder import Run
from releve.runs.predict import BATCH_SIZE
from releve.simulate.config import SimulateConfig
from releve.simulate.write import simulate_release
from releve.train.checkpoint import save_weights

RECIPE = {
    "title": "benchmark",
    "model": {"modalities": ["covariates", "survey", "location"]},
    "train": {"epochs": 1},
}
NUM_PLOTS = 90_000
RICHNESS = 18.0
SPREAD = 1.5
"""Prevalences are as if so many plots had so many species each; logits spread by ``SPREAD`` around them."""
PART = 2_000
"""Surveys that the dense way is timed on."""


def make_run(folder: Path, num_surveys: int, num_species: int) -> Run:
    """Return a run whose network has random weights and so many species; its release has as many test plots."""
    simulate_release(SimulateConfig(num_test_plots=num_surveys, tables_only=True), folder / "release")
    config = make_config(RECIPE, origin="the benchmark's recipe")
    store = pipeline.prepare(config, folder / "release", folder / "store")
    run = pipeline.train(config, store, folder / "run")
    widen(run, num_species)
    return run


def widen(run: Run, num_species: int) -> None:
    """Give the run's network another number of species and random weights."""
    folder, rng = run.path / run.members[0].name, np.random.default_rng(0)
    known = Statistics.model_validate_json((folder / "statistics.json").read_text(encoding="utf-8"))
    share_S = np.exp(rng.normal(0, 2, num_species))
    share_S = np.minimum(RICHNESS * share_S / share_S.sum(), 0.5)
    counts_S = np.round(NUM_PLOTS * share_S).astype(int).tolist()
    changes = {"species_ids": list(range(num_species)), "num_rows": NUM_PLOTS, "num_positives": counts_S}
    model = build_model(known.model_copy(update=changes), run.config.model, seed=0)
    with torch.no_grad():
        model.head.weight.normal_(0, SPREAD / run.config.model.hidden_dim**0.5)
        model.head.bias.sub_(SPREAD**2 / 2)  # as many species expected as without the spread
    save_weights(folder, model)


def run_command(folder: Path, *, probabilities: bool) -> dict[str, float]:
    """Run `releve predict`; return its seconds, those of processors, peak memory and size of what it wrote in bytes."""
    command = [sys.executable, "-m", "releve.cli", "predict", folder / "run", "--data", folder / "release"]
    command += ["--out", folder / "lists.csv", "--overwrite"]
    files = [folder / "lists.csv"]
    if probabilities:
        files.append(folder / "probabilities.parquet")
        command += ["--probabilities", files[-1]]
    # a process between them, so that the peak is that of this command alone
    code = "import json, resource, subprocess, sys, time; t = time.monotonic(); "
    code += "subprocess.run(sys.argv[1:], check=True); "
    code += "u = resource.getrusage(resource.RUSAGE_CHILDREN); "
    code += "print(json.dumps([time.monotonic() - t, u.ru_utime + u.ru_stime, u.ru_maxrss]))"
    arguments = [sys.executable, "-c", code, *map(str, command)]
    done = subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True)
    seconds, processor, peak_kib = json.loads(done.stdout.splitlines()[-1])
    size = sum(file.stat().st_size for file in files)
    return {"seconds": seconds, "processor": processor, "peak": 1024 * peak_kib, "bytes": size}


def time_product(num_surveys: int, num_species: int, width: int) -> dict[str, float]:
    """Return the cost of the last layer's matrix product for all surveys, batch by batch."""
    features_BF, weight_FS = torch.randn(BATCH_SIZE, width), torch.randn(width, num_species)
    out_BS = features_BF @ weight_FS
    started, processor = time.monotonic(), time.process_time()
    for _ in range(0, num_surveys, BATCH_SIZE):
        torch.mm(features_BF, weight_FS, out=out_BS)
    table = 4 * (features_BF.numel() + weight_FS.numel() + out_BS.numel())
    return {"seconds": time.monotonic() - started, "processor": time.process_time() - processor, "table": table}


def time_dense(num_surveys: int, num_species: int) -> dict[str, float]:
    """Return the cost of a dense table, from that of a part of the surveys: sigmoid, sort, the 25 best."""
    logits_NS = np.random.default_rng(0).normal(-6, 2, (PART, num_species)).astype(np.float32)
    started, processor = time.monotonic(), time.process_time()
    probs_NS = 1 / (1 + np.exp(-logits_NS))
    best_NK = np.argsort(-probs_NS, axis=1)[:, :25]
    spent = time.monotonic() - started, time.process_time() - processor
    assert best_NK.shape == (PART, 25)
    times = num_surveys / PART
    table = num_surveys * num_species * (4 + 4 + 8)  # probabilities, their negatives, the order
    return {"seconds": times * spent[0], "processor": times * spent[1], "table": table}


def row(what: str, cost: dict[str, float]) -> str:
    """Return a line of the table."""
    memory = (
        f"{cost['peak'] / 1e9:.2f} | {cost['bytes'] / 1e6:.0f}" if "peak" in cost else f"{cost['table'] / 1e9:.2f} |"
    )
    return f"| {what} | {cost['seconds']:.0f} | {cost['processor']:.0f} | {memory} |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--surveys", type=int, default=100_000)
    parser.add_argument("--species", type=int, default=11_255)
    options = parser.parse_args()
    num, num_species = options.surveys, options.species
    machine = describe_machine()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = make_run(folder, num, num_species)
        lists = run_command(folder, probabilities=False)
        both = run_command(folder, probabilities=True)
        table = pl.scan_parquet(folder / "probabilities.parquet")
        rows, surveys = table.select(pl.len(), pl.col("surveyId").n_unique()).collect().row(0)
    product = time_product(num, num_species, run.config.model.hidden_dim)
    dense = time_dense(num, num_species)
    lines = [
        "# Prediction",
        "",
        f"`python benchmarks/predict.py`: {num:,} surveys x {num_species:,} species on covariates, survey facts and "
        f"location, the release read and its store built included. Random weights; of the species of .001 or more, at "
        f"most 512 a survey, {rows / surveys:.0f} are kept. {machine}.",
        "",
        "| | seconds | seconds of processors | peak memory, GB | written, MB |",
        "|---|---|---|---|---|",
        row("`releve predict`, lists", lists),
        row(f"`releve predict --probabilities`, lists and {rows:,} probabilities", both),
        row("floor: the product of features and species weights alone", product),
        row(
            f"without any network: a dense table of sigmoids, sorted with numpy, 25 best (timed on {PART:,} surveys, "
            f"times {num / PART:g}; memory of its three arrays computed)",
            dense,
        ),
    ]
    text = "\n".join(lines) + "\n"
    write_text(Path(__file__).with_suffix(".md"), text)
    print(text)


if __name__ == "__main__":
    main()
