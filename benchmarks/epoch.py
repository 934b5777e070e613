"""An epoch over all plots of GLC24: from the store, against the same network fed file by file.

    python benchmarks/epoch.py [--save] [--files 8192] [--batch 2048]

The network sees 46 covariates, survey facts, location and both cubes, at three settings. *Store* is Relevé's own
loop over 88,987 plots. *Files* is what public code does: a torch Dataset that opens a survey's two `.pt` cubes in the
official layout and makes a dense label vector, a DataLoader with two workers, binary cross-entropy on dense labels,
AdamW. It is timed on a part of the plots, since all would take long. Also prints where the time of a step goes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from machine import describe_machine, show_page
from releve.data.gather import Batch
from releve.data.survey import survey_features
from releve.models.config import ModelConfig
from releve.models.model import build_model
from releve.store.read import Store
from releve.train.config import RecordsConfig, TrainConfig
from releve.train.rows import FoldRows
from releve.train.sampler import Sampler
from releve.train.start import start_training
from releve.train.step import Training, take_step
from sizes import NUM_PLOTS, PLOT_SPECIES, make_store

MODALITIES = ("covariates", "survey", "location", "landsat", "climate")
SETTINGS: dict[str, dict] = {
    "laptop (128, 256)": {"embedding_dim": 128, "hidden_dim": 256},
    "default (256, 512)": {},
    "default, convolutions": {"series_encoder": "convolution"},
}
"""By name, what differs from the default network: widths of embeddings and of the fusion, encoder of series."""
NUM_FILES_WORKERS = 2


class Files(Dataset):
    """Surveys read as public loaders do: two cubes from files, a row of covariates, a dense label vector."""

    def __init__(self, store: Store, folder: Path, number: int) -> None:
        self.folder, self.number, self.num_species = folder, number, len(store.species_ids)
        self.tables = {
            "covariates": torch.from_numpy(np.array(store.arrays["covariates"].values[:number])),
            "survey": torch.from_numpy(survey_features(store.surveys[:number], {})),
            "location": torch.from_numpy(np.column_stack([store.lon, store.lat])[:number].astype(np.float32)),
        }
        self.dates = [
            torch.from_numpy(store.surveys[c][:number].to_numpy().astype(np.int64)) for c in ("year", "month")
        ]
        self.species = [store.labels.row(i) for i in range(number)]
        self.paths = []
        for i in range(number):
            survey = str(i + 1)
            place = folder / survey[-2:] / survey[-4:-2]
            place.mkdir(parents=True, exist_ok=True)
            paths = [place / f"{name}_{survey}_cube.pt" for name in ("landsat", "climate")]
            landsat = store.arrays["landsat"].values[i].astype(np.float32).transpose(0, 2, 1)
            torch.save(torch.from_numpy(landsat.copy()), paths[0])
            torch.save(torch.from_numpy(store.arrays["climate"].values[i].astype(np.float32)), paths[1])
            self.paths.append(paths)

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        landsat, climate = (torch.nan_to_num(torch.load(path, weights_only=True)) for path in self.paths[i])
        labels = torch.zeros(self.num_species)
        labels[self.species[i]] = 1.0
        sample = {"landsat": landsat.transpose(1, 2), "climate": climate, "labels": labels}
        sample |= {name: table[i] for name, table in self.tables.items()}
        return sample | {"year": self.dates[0][i], "month": self.dates[1][i]}


def all_rows(store: Store) -> FoldRows:
    none = np.zeros(0, np.int64)
    return FoldRows(np.arange(len(store)), none, none, none)


def start(store: Store, model: ModelConfig, batch: int, precision: str) -> Training:
    """Return a training of all plots, at its first step."""
    config = TrainConfig(batch_size=batch, precision=precision, device="cpu")  # type: ignore[arg-type]
    return start_training(store, all_rows(store), 0, model, config, RecordsConfig())


def time_store(store: Store, model: ModelConfig, batch: int, precision: str, share: float) -> float:
    """Return microseconds a survey of an epoch, or of a share of it."""
    training = start(store, model, batch, precision)
    sampler = Sampler(store, all_rows(store), RecordsConfig(), batch)
    training.model.train()
    steps = list(sampler.steps(np.random.default_rng(0)))
    for step in steps[:3]:
        take_step(training, training.gather(step), 1e-3, 0)
    steps = steps[: max(8, round(share * len(steps)))]
    started = time.perf_counter()
    for i, step in enumerate(steps):
        take_step(training, training.gather(step), 1e-3, i)
    return 1e6 * (time.perf_counter() - started) / sum(len(step.rows) for step in steps)


def time_files(store: Store, files: Files, model_config: ModelConfig, batch: int, precision: str) -> float:
    """Return microseconds a survey of an epoch over the files."""
    training = start(store, model_config, batch, precision)
    model = build_model(training.model.statistics, model_config, seed=0).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loader = DataLoader(files, batch, shuffle=True, num_workers=NUM_FILES_WORKERS, drop_last=True)
    started, number = time.perf_counter(), 0
    for sample in loader:
        rows = torch.arange(len(sample["year"]))
        values = {name: sample[name] for name in MODALITIES}
        places = dict.fromkeys((*MODALITIES, "plots"), rows)
        surveys = Batch(values, places, sample["year"], sample["month"])
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = model(surveys)
        loss = functional.binary_cross_entropy_with_logits(logits, sample["labels"], reduction="sum") / len(rows)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        number += len(rows)
    return 1e6 * (time.perf_counter() - started) / number


def time_reading(files: Files) -> float:
    """Return microseconds a survey of reading alone, in one process."""
    order = np.random.default_rng(0).permutation(len(files))[:1000].tolist()
    started = time.perf_counter()
    for i in order:
        files[i]
    return 1e6 * (time.perf_counter() - started) / len(order)


def break_down(store: Store, model_config: ModelConfig, batch: int, precision: str) -> dict[str, float]:
    """Return microseconds a survey of each part of a step."""
    training = start(store, model_config, batch, precision)
    training.model.train()
    objective = training.objective
    sampler = Sampler(store, all_rows(store), RecordsConfig(), batch)
    step = next(sampler.steps(np.random.default_rng(0)))
    (part,) = training.gather(step)
    width = training.model.head.in_features

    def gather() -> object:
        return training.gather(step)

    def features() -> object:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            out = training.model.features(part.batch)
        out.float().sum().backward()
        return out

    whole = least(lambda: take_step(training, [part], 1e-4, 0))
    found = {"gather": least(gather), "encoders and fusion": least(features)}
    real = training.model.features
    given = torch.randn(len(step.rows), width, requires_grad=True)
    training.model.features = lambda _: given  # type: ignore[method-assign,assignment]
    found["head and loss"] = least(lambda: objective(part, 1).backward())
    training.model.features = real  # type: ignore[method-assign]
    found["clipping, AdamW, average"] = whole - found["encoders and fusion"] - found["head and loss"]
    return {name: 1e6 * seconds / len(step.rows) for name, seconds in found.items()}


def least(work: Callable[[], object], repeats: int = 7) -> float:
    """Return the least seconds of some runs."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=8192, help="surveys that are written as files")
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--plots", type=int, default=NUM_PLOTS)
    parser.add_argument("--share", type=float, default=1.0, help="share of the epoch to take from the store")
    parser.add_argument("--save", action="store_true", help="write epoch.md")
    options = parser.parse_args()
    lines = [
        "# An epoch over 88,987 plots: store against files",
        "",
        f"`python benchmarks/epoch.py --save`: {describe_machine()}. {options.plots:,} plots, {PLOT_SPECIES:,} "
        f"species, covariates, survey facts, location, Landsat (6, 21, 4) and climate (4, 19, 12) cubes; batches of "
        f"{options.batch:,}; random numbers in official shapes. *Store* is timed on the whole epoch, *files* on "
        f"{options.files:,} surveys, their files in the system's cache, {NUM_FILES_WORKERS} workers.",
        "",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = make_store(folder, options.plots, 0, PLOT_SPECIES, ("covariates", "landsat", "climate"))
        files = Files(store, folder / "files", options.files)
        lines += [f"Reading a survey's files alone, one process: {time_reading(files):.0f} microseconds.", ""]
        lines += [
            "| network | precision | files, us a survey | store, us a survey | epoch from the store, s "
            "| epoch from files, s | times faster |",
            "|---|---|---:|---:|---:|---:|---:|",
        ]
        usual: dict[str, float] = {}
        notes = []
        for title, changes in SETTINGS.items():
            model = ModelConfig(modalities=MODALITIES, **changes)
            for precision in ("fp32", "bf16"):
                slow = time_files(store, files, model, options.batch, precision)
                fast = time_store(store, model, options.batch, precision, options.share)
                usual.setdefault(title, slow)
                lines.append(
                    f"| {title} | {precision} | {slow:.0f} | {fast:.0f} | {fast * options.plots / 1e6:.1f} "
                    f"| {slow * options.plots / 1e6:.0f} | **{slow / fast:.1f}** |"
                )
                print(lines[-1], flush=True)
                if precision == "bf16":
                    notes.append(f"{title} {usual[title] / fast:.1f} times")
        lines += ["", f"Store in bf16 against files in fp32, what public code does on a CPU: {', '.join(notes)}.", ""]
        lines += ["Where a step's time goes, microseconds a survey:", ""]
        lines += ["| network | precision | gather | encoders and fusion | head and loss | clipping, AdamW, average |"]
        lines += ["|---|---|---:|---:|---:|---:|"]
        for title, changes in SETTINGS.items():
            for precision in ("fp32", "bf16"):
                model = ModelConfig(modalities=MODALITIES, **changes)
                found = break_down(store, model, options.batch, precision)
                lines.append(f"| {title} | {precision} | " + " | ".join(f"{x:.1f}" for x in found.values()) + " |")
    show_page([*lines, ""], __file__, save=options.save)


if __name__ == "__main__":
    main()
