"""What can go wrong in a step, said so that it can be mended: losses that are no numbers, memory that runs out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from releve.errors import RunError
from releve.train.checkpoint import restore_state, save_state
from releve.train.config import RecordsConfig, TrainConfig
from releve.train.processes import processes
from releve.train.step import BrokenStepError, Training

PIECE = 512
"""Rows that are looked at together when one of them broke a step."""


def check_parts(num_rows: int, config: TrainConfig, records: RecordsConfig) -> None:
    """Refuse to split steps into parts that cannot be, or that would not add up to the whole.

    Parameters
    ----------
    num_rows
        Rows of the smallest step.
    config, records
        The training.

    Raises
    ------
    RunError
        If there are more processes and parts than rows, or the loss is a softmax over all rows of a step.
    """
    number = processes().number
    if number * config.accumulate > num_rows:
        raise shared(
            RunError(
                f"the smallest step has {num_rows} rows for {number} processes and train.accumulate = "
                f"{config.accumulate}",
                expected="at least one row for each process and part",
                action="Start fewer processes, or raise train.batch_size",
            )
        )
    if config.accumulate > 1 and config.regime != "pa" and records.loss == "deep_maxent":
        raise shared(
            RunError(
                f"records.loss = 'deep_maxent' with train.accumulate = {config.accumulate}",
                expected="all rows of a step together, since the loss is a softmax over them",
                action="Set train.accumulate = 1, or start more processes",
            )
        )


def check_start(training: Training, folder: Path) -> None:
    """Make sure that all processes go on after the same epoch, and keep the weights that the first epoch starts with.

    Raises
    ------
    RunError
        If some processes found a state to go on from and others did not.
    """
    rank = training.processes.rank
    if not training.processes.agree(len(training.logs)):
        raise shared(
            RunError(
                f"process {rank} goes on after {len(training.logs)} epochs of {folder}, others after another number",
                expected="one folder that all processes read",
                action="Put the run where every machine can read it",
            )
        )
    if not training.logs:
        training.processes.on_first(lambda: save_state(folder, training))


def shared(error: RunError) -> RunError:
    """Return an error that all processes raise alike, which is said once."""
    error.shared = True
    return error


def spoilt(training: Training, folder: Path, epoch: int, broken: BrokenStepError) -> RunError:
    """Return what is said of a step whose loss is no number; the training goes back to the last whole epoch."""
    rows = broken.step.rows
    ids = training.gatherer.store.surveys["survey_id"][rows[:5].tolist()].to_list()
    restore_state(folder, training)  # the weights of the last whole epoch: those now are spoilt
    return shared(
        RunError(
            f"the loss of epoch {epoch} is {broken.loss} by the batch with surveys {ids} ...; "
            f"{blame_modality(training, rows)}",
            action="Train anew with a lower train.learning_rate or train.precision = 'fp32'; the weights of the best "
            "epoch, if one was finished, are kept",
        )
    )


@torch.no_grad()
def blame_modality(training: Training, rows: NDArray[np.int64]) -> str:
    """Return which modality of which surveys a network cannot take, or which has the largest embedding."""
    store = training.gatherer.store
    broken: dict[str, list[str]] = {}
    sizes: dict[str, float] = {}
    for start in range(0, len(rows), PIECE):
        batch = training.gatherer.batch(rows[start : start + PIECE]).to(training.device)
        for name, encoder in training.model.eval().encoders.items():
            places = batch.places.get(name)
            if places is None or not len(places):
                continue
            embedded = encoder(batch.values[name], batch.year[places], batch.month[places]).abs().amax(dim=1).cpu()
            bad = start + places.cpu()[~embedded.isfinite()].numpy()
            if len(bad):
                broken.setdefault(name, []).extend(store.surveys["survey_id"][rows[bad].tolist()].to_list())
            sizes[name] = max(sizes.get(name, 0.0), embedded.max().item())
    if broken:
        named = " and ".join(f"{name} values (surveys {ids[:5]})" for name, ids in broken.items())
        return f"its {named} alone give embeddings that are not finite"
    if not sizes:
        return "it has no modality"
    largest = max(sizes, key=sizes.__getitem__)
    return f"no modality alone does it, the largest embedding is that of {largest} ({sizes[largest]:.3g})"


@contextmanager
def out_of_memory_explained(config: TrainConfig, training: Training | None = None) -> Iterator[None]:
    """Turn a device's running out of memory into an error that says what to change, and names the batch at hand.

    Raises
    ------
    RunError
        If memory runs out inside the block.
    """
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one; the CPU's has no class of its own
        text = str(error)
        if not any(words in text for words in ("out of memory", "not enough memory")):
            raise
        where = ""
        if training is not None and training.at_hand:
            batch = max((part.batch for part in training.at_hand), key=len)
            sizes = {name: x.element_size() * x.nelement() / 1e6 for name, x in batch.values.items()}
            described = ", ".join(f"{name} {size:,.1f} MB" for name, size in sizes.items())
            where = f" of {batch.year.device}, in a batch of {len(batch):,} rows ({described})"
        raise RunError(
            f"memory ran out{where}: {text.splitlines()[0]}",
            action=f"Lower train.batch_size (now {config.batch_size}) or raise train.accumulate (now "
            f"{config.accumulate}); with patches, set model.patch_checkpointing or model.patch_pool",
        ) from error
