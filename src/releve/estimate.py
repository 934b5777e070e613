"""What a training will take, before it is started: rows, memory, steps, and time by a few steps on trial."""

from __future__ import annotations

import time
from itertools import islice
from typing import Any

import numpy as np
import torch

from releve.config import Config
from releve.members import choose_device, plan_members
from releve.pipeline import check_store_matches
from releve.regimes import Phase, Sampler, fold_rows
from releve.store import Store
from releve.train import Training, start_training, take_step

NUM_WARM, NUM_TIMED = 2, 6


def estimate_training(config: Config, store: Store, *, seed: int = 0) -> dict[str, Any]:
    """Return what the training of a recipe will take, by name; nothing is written.

    The first network is built and takes a few steps on the store's rows, so that what fails for lack of memory fails
    here. The time of validation and of forests is not in the estimate.

    Parameters
    ----------
    config
        The recipe.
    store
        A store prepared by it.
    seed
        As of the training.

    Raises
    ------
    StoreError
        If the store was prepared by another recipe.
    RunError
        If a fold lacks rows, or memory runs out in a step.
    """
    check_store_matches(config, store)
    plan = plan_members(config.train, store.manifest.num_folds, seed)
    networks = [member for member in plan if member.kind == "network"]
    member, train, phases = networks[0], config.train, config.phases()
    share = {"selection_share": train.selection_share, "seed": member.seed}
    rows = fold_rows(store, member.fold, config.split, train.regime, **share)  # type: ignore[arg-type]
    training = start_training(store, rows.plots, rows.records, member, config.model, train, config.records)
    sampler = Sampler(store, rows.plots, rows.records, config.records, train.batch_size)
    facts: dict[str, Any] = {
        "device": describe_device(choose_device(train.device)),
        "rows trained on": f"{len(rows.plots):,} plots, {len(rows.records):,} presence-only",
        "rows to select the epoch on, held out": f"{len(rows.selection):,}, {len(rows.held_out):,}",
        "species": f"{len(store.species_ids):,}",
    }
    for name in training.model.modalities:
        if name in store.arrays:
            size, where = (
                store.arrays[name].values.nbytes,
                "on the device" if name in training.gatherer.resident else "",
            )
            where = where or (
                "decoded from the store's file" if store.arrays[name].offsets is not None else "mapped file"
            )
            facts[name] = f"{readable(size)}, {where}"
    num_parameters = sum(p.numel() for p in training.model.parameters())
    facts["parameters"] = f"{num_parameters:,}"
    facts["weights, average, gradients, AdamW"] = readable(5 * 4 * num_parameters)
    seconds = 0.0
    for i, phase in enumerate(phases):
        num_steps = sampler.num_steps(phase)
        each = probe(training, sampler, phase, seed)
        which = f"phase {i + 1}: " if len(phases) > 1 else ""
        facts[f"{which}steps an epoch, seconds a step"] = f"{num_steps:,}, {each:.3g}"
        facts[f"{which}time an epoch"] = duration(num_steps * each)
        seconds += num_steps * each * phase.epochs
    facts["networks, forests"] = f"{len(networks)}, {len(plan) - len(networks)}"
    facts["time of all networks, at most"] = duration(seconds * len(networks))
    if training.device.type == "cuda":
        facts["highest memory of the device"] = readable(torch.cuda.max_memory_allocated(training.device))
    return facts


def probe(training: Training, sampler: Sampler, phase: Phase, seed: int) -> float:
    """Return the median seconds of a step, after some to warm up."""
    training.model.train()
    times = []
    for i, step in enumerate(islice(sampler.steps(phase, np.random.default_rng(seed)), NUM_WARM + NUM_TIMED)):
        started = time.perf_counter()
        float(take_step(training, training.gather(step), 1e-6, i))  # a number makes a GPU finish
        times.append(time.perf_counter() - started)
    return float(np.median(times[NUM_WARM:] or times))


def describe_device(device: torch.device) -> str:
    """Return what a device is, with its free memory or its threads."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return f"{torch.cuda.get_device_name(device)}, {readable(free)} of {readable(total)} free"
    return f"CPU, {torch.get_num_threads()} threads"


def readable(num_bytes: float) -> str:
    """Return a size with three digits.

    Examples
    --------
    >>> readable(5_300_000), readable(12e9)
    ('5.3 MB', '12 GB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000 or unit == "GB":
            break
        num_bytes /= 1000
    return f"{num_bytes:.3g} {unit}" if num_bytes < 1000 else f"{num_bytes:,.0f} {unit}"


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it.

    Examples
    --------
    >>> duration(0.5), duration(90), duration(9000)
    ('0.5 s', '1.5 min', '2.5 h')
    """
    if seconds < 60:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.2g} min" if seconds < 3600 else f"{seconds / 3600:.2g} h"
