"""How the time of training grows with rows, species and batch, beside the arithmetic's floor, on a CPU.

    python benchmarks/scaling.py [--save]

Stores of random numbers in official shapes; the default network over covariates, survey facts, location and both
cubes, a share of an epoch each; then a step over presence-only surveys at their true number, covariates only. The
floor is the step's arithmetic at the rate of one large matrix product in the same precision.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from epoch import MODALITIES, all_rows, least, start
from machine import describe_machine, show_page
from releve.models.config import ModelConfig
from releve.store.read import Store
from releve.train.config import RecordsConfig, TrainConfig
from releve.train.rows import FoldRows
from releve.train.sampler import Sampler
from releve.train.start import start_training
from releve.train.step import Training, take_step
from sizes import ALL_SPECIES, NUM_PLOTS, NUM_RECORDS, PLOT_SPECIES, make_store

CUBES = ("covariates", "landsat", "climate")
NUM_STEPS = 8
HEAD = "| rows | species | batch | precision | us a row | epoch, s | floor, us a row | of the floor |"


def rate(dtype: torch.dtype) -> float:
    """Return floating-point operations a second of a large matrix product."""
    x = torch.randn(2048, 2048, dtype=dtype)
    return 2 * 2048**3 / least(lambda: x @ x)


def line(training: Training, sampler: Sampler, speed: dict[str, float], batch: int) -> str:
    """Return the row of one setting: the median of some steps."""
    training.model.train()
    steps = sampler.steps(np.random.default_rng(0))
    times, flops = [], 0
    for i, step in zip(range(NUM_STEPS + 2), steps, strict=False):
        if i == 0:
            with FlopCounterMode(display=False) as counter:
                take_step(training, training.gather(step), 1e-3, i)
            flops = counter.get_total_flops()
            continue
        started = time.perf_counter()
        take_step(training, training.gather(step), 1e-3, i)
        times.append((time.perf_counter() - started) / len(step.rows))
    each = 1e6 * float(np.median(times[1:] or times))
    rows = len(sampler.plots) + sampler.num_records
    floor = 1e6 * flops / speed[training.config.precision] / min(batch, rows)
    species = len(training.model.statistics.species_ids)
    return (
        f"| {rows:,} | {species:,} | {batch:,} | {training.config.precision} | {each:.0f} | {each * rows / 1e6:.1f} "
        f"| {floor:.0f} | {floor / each:.2f} |"
    )


def settings() -> Iterator[tuple[int, int, int]]:
    """Yield rows, species and batch: each is varied while the others stand."""
    for rows in (10_000, 30_000, NUM_PLOTS):
        yield rows, PLOT_SPECIES, 1024
    for species in (1_000, ALL_SPECIES, 50_000, 100_000):
        yield 10_000, species, 1024
    for batch in (128, 256, 512, 2048, 4096):
        yield 10_000, PLOT_SPECIES, batch


def presence_only(store: Store, batch: int, precision: str) -> tuple[Training, Sampler]:
    """Return the training of presence-only rows, and what deals them out."""
    config = TrainConfig(regime="po", batch_size=batch, precision=precision, device="cpu")  # type: ignore[arg-type]
    records, none = RecordsConfig(observation_head=False), np.zeros(0, np.int64)
    rows = FoldRows(none, np.arange(len(store)), none, none)
    model = ModelConfig(modalities=("covariates", "location"))
    training = start_training(store, rows, 0, model, config, records)
    return training, Sampler(store, rows, records, batch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--save", action="store_true", help="write scaling.md")
    options = parser.parse_args()
    speed = {"fp32": rate(torch.float32), "bf16": rate(torch.bfloat16)}
    rates = ", ".join(f"{name} {value / 1e9:,.0f} GFLOP/s" for name, value in speed.items())
    rule = "|---:|---:|---:|---|---:|---:|---:|---:|"
    lines = ["# How training scales on a CPU", "", f"`python benchmarks/scaling.py --save`: {describe_machine()}. "]
    lines[-1] += (
        f"Large matrix products: {rates}. The default network, both cubes and tables; medians of {NUM_STEPS} steps."
    )
    lines += ["", HEAD, rule]
    for rows, species, batch in settings():
        with tempfile.TemporaryDirectory() as name:
            store = make_store(Path(name), rows, 0, species, CUBES)
            for precision in ("fp32", "bf16"):
                training = start(store, ModelConfig(modalities=MODALITIES), batch, precision)
                sampler = Sampler(store, all_rows(store), RecordsConfig(), batch)
                lines.append(line(training, sampler, speed, batch))
                print(lines[-1], flush=True)
    lines += [
        "",
        "Presence-only surveys at their true number, covariates and location, trusted silence:",
        "",
        HEAD,
        rule,
    ]
    with tempfile.TemporaryDirectory() as name:
        started = time.perf_counter()
        store = make_store(Path(name), 0, NUM_RECORDS, ALL_SPECIES, ("covariates",))
        made = time.perf_counter() - started
        for precision in ("fp32", "bf16"):
            started = time.perf_counter()
            training, sampler = presence_only(store, 2048, precision)
            ready = time.perf_counter() - started
            lines.append(line(training, sampler, speed, 2048))
            print(lines[-1], flush=True)
    lines += [
        "",
        f"That store was made in {made:.0f} s; statistics, trust and thinning of its rows took {ready:.0f} s.",
        "",
    ]
    show_page(lines, __file__, save=options.save)


if __name__ == "__main__":
    main()
