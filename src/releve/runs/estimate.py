"""What a training will take, before it is started: rows, memory, steps, and time by a few steps on trial."""

from __future__ import annotations

import time
from collections import Counter
from itertools import islice
from typing import Any

import numpy as np
import torch

from releve.config import Config
from releve.data.gather import prefetch
from releve.runs.claim import check_store_matches
from releve.store.read import Store
from releve.train.device import choose_device
from releve.train.members import plan_members
from releve.train.rows import fold_rows
from releve.train.sampler import Sampler
from releve.train.start import start_training
from releve.train.step import Training, take_step
from releve.train.trouble import check_parts, out_of_memory_explained

NUM_WARM, NUM_TIMED = 2, 6


def estimate_training(config: Config, store: Store, *, seed: int = 0) -> dict[str, Any]:
    """Return what the training of a recipe will take, by name; nothing is written.

    The first network is built and takes a few steps on the store's rows, so that what fails for lack of memory fails
    here. The time of validation and of other kinds of member is not in the estimate.

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
    plan = plan_members(config, store, seed)
    networks = [member for member in plan if member.kind == "network"]
    member, train, phases = (networks or plan)[0], config.train, config.phases()
    share = {"selection_share": train.selection_share, "seed": member.seed}
    rows = fold_rows(store, member.fold, config.split, train.regime, **share)  # type: ignore[arg-type]
    facts: dict[str, Any] = {
        "device": describe_device(choose_device(train.device)),
        "rows trained on": f"{len(rows.plots):,} plots, {len(rows.records):,} presence-only",
        "rows to select the epoch on, held out": f"{len(rows.selection):,}, {len(rows.held_out):,}",
        "species": f"{len(store.species_ids):,}",
    }
    facts |= {f"members: {kind}": f"{number:,}" for kind, number in Counter(m.kind for m in plan).items()}
    if not networks:
        return facts
    samplers = [Sampler(store, rows.of_phase(phase), config.records, train.batch_size) for phase in phases]
    check_parts(min(sampler.smallest_step for sampler in samplers), train, config.records)
    with out_of_memory_explained(train):
        training = start_training(store, rows, member.seed, config.model, train, config.records)
    with out_of_memory_explained(train, training):
        each = [probe(training, sampler, seed) for sampler in samplers]
    for name in training.model.modalities:
        if name in store.arrays:
            facts[name] = describe_modality(training, name)
    num_parameters = sum(p.numel() for p in training.model.parameters())
    facts["parameters"] = f"{num_parameters:,}"
    facts["weights, average, gradients, AdamW"] = readable(5 * 4 * num_parameters)
    total = 0.0
    for i, (phase, seconds) in enumerate(zip(phases, each, strict=True)):
        num_steps = samplers[i].num_steps
        which = f"phase {i + 1}: " if len(phases) > 1 else ""
        facts[f"{which}steps an epoch, seconds a step"] = f"{num_steps:,}, {seconds:.3g}"
        facts[f"{which}time an epoch"] = duration(num_steps * seconds)
        total += num_steps * seconds * phase.epochs
    facts["time of all networks, at most"] = duration(total * len(networks))
    if training.device.type == "cuda":
        facts["highest memory of the device"] = readable(torch.cuda.max_memory_allocated(training.device))
    return facts


def probe(training: Training, sampler: Sampler, seed: int) -> float:
    """Return the median seconds of a step, after some to warm up; batches are gathered as in a training."""
    training.model.train()
    steps = islice(sampler.steps(np.random.default_rng(seed)), NUM_WARM + NUM_TIMED)
    times, started = [], time.perf_counter()
    for i, parts in enumerate(prefetch(training.gather, steps, training.depth)):
        float(take_step(training, parts, 1e-6, i))  # a number makes a GPU finish
        times.append(time.perf_counter() - started)
        started = time.perf_counter()
    return float(np.median(times[NUM_WARM:] or times))


def describe_modality(training: Training, name: str) -> str:
    """Return how large an array is and where it lives."""
    array = training.gatherer.store.arrays[name]
    where = "mapped file" if array.offsets is None else "file, decoded for each batch"
    return f"{readable(array.values.nbytes)}, {'on the device' if name in training.gatherer.resident else where}"


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
