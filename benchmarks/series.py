"""Two encoders of time series: what they cost, and what a model finds with each in simulated worlds.

    python benchmarks/series.py [--worlds 5] [--seeds 2]

In every world (the demo's recipe and sizes, without patches) a network is trained on Landsat alone, on monthly climate
alone, and on both with covariates, survey facts and location, once with each encoder. Writes series.md beside this
file.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import scipy.stats
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from machine import describe_machine
from releve import pipeline
from releve.config import Config, make_config
from releve.data.statistics import ArrayStatistics
from releve.demo import RECIPE, read_truth
from releve.files import write_text
from releve.ingest.release import open_release
from releve.lists import Lists
from releve.metrics.sets import score_sets
from releve.models.series import SERIES_ENCODERS
from releve.progress import quiet_progress
from releve.runs.predict import predict_probs
from releve.simulate.config import SimulateConfig
from releve.simulate.write import simulate_release
from releve.store.build import build_store
from releve.store.contents import read_contents
from releve.store.read import Store

SERIES = {
    "Landsat": ArrayStatistics(shape=(6, 21, 4), fill=255, mean=[60.0] * 6, std=[30.0] * 6, first_year=2000),
    "climate": ArrayStatistics(shape=(4, 19, 12), fill=-32768, mean=[2e3] * 4, std=[2e3] * 4, first_year=2000),
}
SIZES = {"demo": (128, 16), "full recipe": (256, 32)}
"""Widths of the embedding and of the encoder's first layer."""
MODALITIES = {
    "Landsat": ("landsat",),
    "climate": ("climate",),
    "all but patches": ("covariates", "survey", "location", "landsat", "climate"),
}
BATCH_SIZE = 512


def time_encoders() -> Iterator[dict[str, object]]:
    """Yield the cost of each encoder on each series, forward and backward."""
    rng = torch.Generator().manual_seed(0)
    for size, (embedding_dim, width) in SIZES.items():
        for series, statistics in SERIES.items():
            dtype = torch.uint8 if statistics.fill == 255 else torch.int16
            values = torch.randint(0, 250, (BATCH_SIZE, *statistics.shape), generator=rng, dtype=dtype)
            year, month = (torch.randint(*ends, (BATCH_SIZE,), generator=rng) for ends in ((2010, 2022), (0, 13)))
            for name, make in SERIES_ENCODERS.items():
                encoder = make(statistics, embedding_dim, width, 20).to(memory_format=torch.channels_last).train()
                with FlopCounterMode(display=False) as counter:
                    encoder(values, year, month)
                row = {"size": size, "series": series, "encoder": name}
                row["multiply-adds"] = counter.get_total_flops() // 2 // BATCH_SIZE
                for precision in ("fp32", "bf16"):
                    step = step_of(encoder, (values, year, month), bf16=precision == "bf16")
                    row[precision] = best_seconds(step) / BATCH_SIZE * 1e6
                yield row


def step_of(encoder: nn.Module, inputs: tuple[torch.Tensor, ...], *, bf16: bool) -> Callable[[], None]:
    """Return a function that goes forward and backward once."""

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            embedding = encoder(*inputs)
        embedding.float().square().mean().backward()
        encoder.zero_grad()

    return step


def best_seconds(function: Callable[[], None], num: int = 20) -> float:
    """Return the shortest time of some calls, which other work on the machine disturbs least."""
    seconds = []
    for _ in range(num):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def train_world(seed: int, num_seeds: int, folder: Path) -> Iterator[dict[str, object]]:
    """Yield the sF1 on test plots of each encoder, set of modalities and seed in one world."""
    world = SimulateConfig(seed=seed, modalities=("covariates", "landsat", "climate"))
    config = make_config(RECIPE, origin="the demo's recipe")
    with quiet_progress():
        simulate_release(world, folder / "release")
        store = pipeline.prepare(config, folder / "release", folder / "store", seed=seed)
        settings = config.data.model_copy(update={"splits": ("test",)})
        test = build_store(read_contents(open_release(folder / "release"), settings), None, folder / "test")
    truth = read_truth(folder / "release", test, store)
    for model_seed in range(num_seeds):
        for name, modalities in MODALITIES.items():
            for encoder in SERIES_ENCODERS:
                changes = {"modalities": modalities, "series_encoder": encoder}
                recipe = config.model_copy(update={"model": config.model.model_copy(update=changes)})
                started = time.monotonic()
                out = folder / "runs" / f"{name}-{encoder}-{model_seed}"
                sf1 = score_model(recipe, store, test, truth, out, model_seed)
                row = {"world": seed, "seed": model_seed, "sees": name, "encoder": encoder, "sf1": sf1}
                print(row, f"{time.monotonic() - started:.0f} s", flush=True)
                yield row


def score_model(config: Config, store: Store, test: Store, truth: Lists, out: Path, seed: int) -> float:
    """Train a model and return the sF1 of its lists of the test plots."""
    with quiet_progress():
        run = pipeline.train(config, store, out, seed=seed)
    probs = torch.cat([block.cpu() for _, block in predict_probs(run, test)])
    return score_sets(run.decision.lists(probs), truth, len(store.species_ids)).sample_f1


def compare(scores: pl.DataFrame) -> Iterator[dict[str, object]]:
    """Yield, for each set of modalities, means and the paired difference over worlds with its t interval."""
    means = scores.group_by("sees", "world", "encoder").agg(pl.col("sf1").mean())
    for sees in MODALITIES:
        table = means.filter(pl.col("sees") == sees).pivot("encoder", index="world", values="sf1").sort("world")
        gain = (table["years"] - table["convolution"]).to_numpy()
        half = scipy.stats.t.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / np.sqrt(len(gain))
        yield {
            "sees": sees,
            "convolution": table["convolution"].mean(),
            "years": table["years"].mean(),
            "gain": gain.mean(),
            "low": gain.mean() - half,
            "high": gain.mean() + half,
            "better": int((gain > 0).sum()),
        }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--worlds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    machine = describe_machine()
    torch.set_num_threads(2)
    costs = list(time_encoders())
    torch.set_num_threads(1)  # the demo's networks are small: a second thread gains nothing
    rows: list[dict[str, object]] = []
    for world in range(options.worlds):
        with tempfile.TemporaryDirectory() as folder:
            rows += train_world(world, options.seeds, Path(folder))
    text = report(costs, pl.DataFrame(rows), options.seeds, machine)
    write_text(Path(__file__).with_suffix(".md"), text)
    print(text)


def report(costs: list[dict[str, object]], scores: pl.DataFrame, num_seeds: int, machine: str) -> str:
    """Return the page."""
    num_worlds = scores["world"].n_unique()
    lines = [
        "# Encoders of time series",
        "",
        f"`python benchmarks/series.py --worlds {num_worlds} --seeds {num_seeds}`. {machine}.",
        "",
        "`convolution`: a small residual network over (years, seasons). `years`: one layer that sees a year, the same "
        "for all years, then one that sees all years side by side (the default, `model.series_encoder`).",
        "",
        f"Forward and backward, microseconds a survey at batch {BATCH_SIZE} on 2 threads, cutting and scaling "
        "included; the best of 20.",
        "",
        "| widths | series | encoder | multiply-adds forward | fp32 | bf16 |",
        "|---|---|---|---|---|---|",
    ]
    for row in costs:
        dim, width = SIZES[str(row["size"])]
        lines.append(
            f"| {row['size']} ({dim}, {width}) | {row['series']} | {row['encoder']} | {row['multiply-adds']:,} | "
            f"{row['fp32']:.1f} | {row['bf16']:.1f} |"
        )
    lines += [
        "",
        f"sF1 on 500 test plots of {num_worlds} simulated worlds (the demo's recipe and sizes without patches; mean of "
        f"{num_seeds} seeds a world), and the paired difference with its 95 % t interval over worlds.",
        "",
        "| the model sees | convolution | years | years - convolution | worlds where years is better |",
        "|---|---|---|---|---|",
    ]
    for row in compare(scores):
        lines.append(
            f"| {row['sees']} | {row['convolution']:.4f} | {row['years']:.4f} | {row['gain']:+.4f} "
            f"({row['low']:+.4f} to {row['high']:+.4f}) | {row['better']} of {num_worlds} |"
        )
    lines += [
        "",
        "The worlds' series are simple: leaf fall, mowing, clearings that grow over, warming and drying. No release "
        "with real series was at hand, so real plots have not decided between the two; `--set "
        "model.series_encoder=convolution` trains the other.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
