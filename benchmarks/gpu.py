"""Training on one GPU: correct first, then how fast, and which share of what the GPU can do.

    python benchmarks/gpu.py [--save] [--plots N] [--records N] [--batch N]

1. A store of random numbers in official shapes is made; values gathered on the device must be those of the files, and
   loss and gradients in float32 those of the CPU.
2. Timed: an epoch over all plots with covariates and both cubes; one over all presence-only surveys; ResNet-18 on
   4 x 128 x 128 patches from the store, with and without `torch.compile` of the network.
3. Beside each, the floor: its arithmetic at the rate of one large bf16 matrix product, or its bytes at the rate of one
   large copy, whichever takes longer.

Without a GPU there is nothing to measure; ``--cpu`` and small numbers test the script itself.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from machine import describe_machine, show_page
from releve.data.gather import Gatherer, prefetch
from releve.data.resident import upload
from releve.models.config import ModelConfig
from releve.store.read import Store
from releve.train.config import RecordsConfig, TrainConfig
from releve.train.rows import FoldRows
from releve.train.sampler import Sampler, Step
from releve.train.start import start_training
from releve.train.step import DEPTH, Training, take_step
from sizes import ALL_SPECIES, NUM_PLOTS, NUM_RECORDS, make_store

CUBES = ("covariates", "landsat", "climate")
FUSED = ModelConfig(modalities=("covariates", "survey", "location", "landsat", "climate"))
IMAGES = ModelConfig(modalities=("patch",), fusion="direct", patch_backbone="resnet18")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
NO_ROWS = np.zeros(0, np.int64)


def start(store: Store, model: ModelConfig, batch: int, device: str, precision: str, records: bool = False) -> Training:
    """Return a training of all rows at its first step."""
    regime = "po" if records else "pa"
    config = TrainConfig(batch_size=batch, precision=precision, device=device, regime=regime)  # type: ignore[arg-type]
    training = start_training(store, all_rows(store, records), 0, model, config, RecordsConfig(observation_head=False))
    training.model.train()
    return training


def all_rows(store: Store, records: bool) -> FoldRows:
    rows = np.arange(len(store))
    return FoldRows(NO_ROWS if records else rows, rows if records else NO_ROWS, NO_ROWS, NO_ROWS)


def wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def check(store: Store) -> list[str]:
    """Stop unless values, loss and gradients on the device are those of the CPU."""
    rows = np.random.default_rng(0).permutation(len(store))[:200]
    names = tuple(store.arrays)
    held = {name: upload(store.arrays[name], DEVICE) for name in names}
    theirs, ours = (Gatherer(store, names, {}, resident=r).batch(rows) for r in ({}, held))
    for name in names:
        assert torch.equal(torch.nan_to_num(ours.values[name].cpu()), torch.nan_to_num(theirs.values[name])), name
    still = {"dropout": 0.0, "input_dropout": 0.0, "modality_dropout": 0.0}
    model = FUSED.model_copy(update=still)
    step, found = Step(rows, NO_ROWS, NO_ROWS), []
    for device in ("cpu", str(DEVICE)):
        training = start(store, model, len(rows), device, "fp32")
        loss = training.objective(training.gather(step)[0], 1)
        loss.backward()
        grads = {name: p.grad.cpu() for name, p in training.model.named_parameters() if p.grad is not None}
        found.append((loss.item(), grads))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-4)
    worst = max(float((grad - found[1][1][name]).norm() / (grad.norm() + 1e-6)) for name, grad in found[0][1].items())
    assert worst < 1e-2, worst
    return [
        f"- {len(names)} modalities of {len(rows)} surveys gathered on the device: equal to the files.",
        f"- Loss on the CPU {found[0][0]:.5f}, on the device {found[1][0]:.5f}; "
        f"gradients differ by {worst:.1e} at most.",
    ]


def rates() -> tuple[float, float]:
    """Return the device's floating-point operations a second (bf16) and bytes a second, measured."""
    size, repeats = (8192, 20) if DEVICE.type == "cuda" else (1024, 3)
    x = torch.randn(size, size, device=DEVICE, dtype=torch.bfloat16)
    source = torch.empty(size * size * 4, device=DEVICE, dtype=torch.uint8)
    target = torch.empty_like(source)
    seconds = [best(lambda: x @ x, repeats), best(lambda: target.copy_(source), repeats)]
    return 2 * size**3 / seconds[0], 2 * source.nelement() / seconds[1]


def best(work: Callable[[], object], repeats: int) -> float:
    """Return the least seconds of some runs."""
    times = []
    for _ in range(repeats):
        wait()
        started = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - started)
    return min(times)


def epoch(training: Training, sampler: Sampler, limit: int | None = None) -> tuple[float, int]:
    """Return seconds and rows of an epoch, or of its first steps."""
    steps = list(sampler.steps(np.random.default_rng(0)))[:limit]
    depth = DEPTH if DEVICE.type == "cuda" else 0
    for parts in prefetch(training.gather, [*steps[:2], *steps[-2:]], depth):  # steps of both sizes
        take_step(training, parts, 1e-3, 0)
    wait()
    started = time.perf_counter()
    for i, parts in enumerate(prefetch(training.gather, steps, depth)):
        take_step(training, parts, 1e-3, i)
    wait()
    return time.perf_counter() - started, sum(len(step.rows) for step in steps)


def floor_of(training: Training, step: Step, num_rows: int, speed: tuple[float, float]) -> float:
    """Return seconds that the arithmetic of so many rows takes at full rate, or the bytes they are read by."""
    parts = training.gather(step)
    state = copy.deepcopy(training.model.state_dict())
    with FlopCounterMode(display=False) as counter:
        take_step(training, parts, 0.0, 0)
    training.model.load_state_dict(state)
    size = sum(x.nelement() * x.element_size() for x in parts[0].batch.values.values())
    each = max(counter.get_total_flops() / speed[0], size / speed[1])
    return each * num_rows / len(step.rows)


def time_rows(
    title: str, store: Store, model: ModelConfig, batch: int, speed: tuple[float, float], *, records: bool, **how: bool
) -> str:
    """Return the line of one epoch."""
    device = str(DEVICE)
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    training = start(store, model, batch, device, "bf16", records)
    if how.get("compiled"):
        encoder = training.model.encoders["patch"]
        encoder.network = torch.compile(encoder.network)  # type: ignore[assignment,arg-type]
    sampler = Sampler(store, all_rows(store, records), RecordsConfig(thinning=0.0), batch)
    step = next(sampler.steps(np.random.default_rng(1)))
    seconds, number = epoch(training, sampler)
    floor = floor_of(training, step, number, speed) if not how.get("compiled") else float("nan")
    memory = torch.cuda.max_memory_allocated() / 1e9 if DEVICE.type == "cuda" else 0.0
    where = ", ".join(training.gatherer.resident) or "none"
    line = (
        f"| {title} | {number:,} | {batch:,} | {model.embedding_dim}, {model.hidden_dim} | {where} | **{seconds:.2f}** "
        f"| {number / seconds:,.0f} | {floor:.2f} | {floor / seconds:.2f} | {memory:.1f} |"
    )
    print(line, flush=True)
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plots", type=int, default=NUM_PLOTS)
    parser.add_argument("--records", type=int, default=NUM_RECORDS)
    parser.add_argument("--images", type=int, default=40_000)
    parser.add_argument("--species", type=int, default=ALL_SPECIES)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--folder", type=Path, help="where the stores are made; by default a temporary folder")
    parser.add_argument("--save", action="store_true", help="write gpu.md")
    parser.add_argument("--cpu", action="store_true", help="run without a GPU, to test the script")
    options = parser.parse_args()
    if DEVICE.type == "cpu" and not options.cpu:
        print("no GPU here: nothing was measured")
        return
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "no GPU: this is a test of the script"
    lines = ["# Training on one GPU", "", f"`python benchmarks/gpu.py`: {name}. {describe_machine()}.", ""]
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        folders = [Path(scratch) / part for part in ("check", "plots", "records", "images")]
        for folder in folders:
            folder.mkdir()
        lines += check(make_store(folders[0], min(2000, options.plots), 0, 500, (*CUBES, "patch")))
        print("\n".join(lines), flush=True)
        speed = rates()
        lines += [
            f"- bf16 matrix products at {speed[0] / 1e12:,.1f} TFLOP/s, copies at {speed[1] / 1e9:,.0f} GB/s.",
            "",
            "| epoch over | rows | batch | widths | resident | seconds | rows a second | floor, s "
            "| of the floor | GB |",
            "|---|---:|---:|---|---|---:|---:|---:|---:|---:|",
        ]
        store = make_store(folders[1], options.plots, 0, options.species, CUBES)
        lines.append(time_rows("plots, both cubes", store, FUSED, options.batch, speed, records=False))
        store = make_store(folders[2], 0, options.records, options.species, CUBES)
        lines.append(time_rows("presence-only", store, FUSED, 2 * options.batch, speed, records=True))
        store = make_store(folders[3], options.images, 0, options.species, ("patch",))
        for title, how in (("ResNet-18, 4 x 128 x 128", {}), ("the same, compiled", {"compiled": True})):
            lines.append(time_rows(title, store, IMAGES, min(512, options.batch), speed, records=False, **how))
    show_page([*lines, ""], __file__, save=options.save)


if __name__ == "__main__":
    main()
