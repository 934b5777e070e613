"""What can go wrong in a step, said so that it can be mended: losses that are no numbers, memory that runs out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from releve.checkpoint import Resumable, restore_state
from releve.data import Batch, Gatherer
from releve.distributed import num_ranks, sum_over_ranks
from releve.errors import RunError
from releve.members import TrainConfig
from releve.models import SpeciesModel
from releve.objective import Part
from releve.regimes import RecordsConfig
from releve.store import Store


class Training(Resumable, Protocol):
    """What of a training is looked at."""

    config: TrainConfig
    gatherer: Gatherer


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
    if num_ranks() * config.accumulate > num_rows:
        raise RunError(
            f"the smallest step has {num_rows} rows for {num_ranks()} processes and train.accumulate = "
            f"{config.accumulate}",
            expected="at least one row for each process and part",
            action="Start fewer processes, or raise train.batch_size",
        )
    if config.accumulate > 1 and config.regime != "pa" and records.loss == "deep_maxent":
        raise RunError(
            f"records.loss = 'deep_maxent' with train.accumulate = {config.accumulate}",
            expected="all rows of a step together, since the loss is a softmax over them",
            action="Set train.accumulate = 1, or start more processes",
        )


def check_losses(
    training: Training, recent: list[tuple[NDArray[np.int64], Tensor]], store: Store, folder: Path, epoch: int
) -> float:
    """Return the sum of the losses of recent steps, each beside rows of its, over all processes.

    Raises
    ------
    RunError
        If one is NaN or infinite: names the surveys of the first such step and the modality that is to blame.
    """
    losses = sum_over_ranks(torch.stack([loss for _, loss in recent])).tolist()
    first = next((i for i, loss in enumerate(losses) if not math.isfinite(loss)), None)
    if first is None:
        return sum(losses)
    rows = recent[first][0]
    batch = training.gatherer.batch(rows).to(training.device)
    ids = store.surveys["survey_id"][rows[:5].tolist()].to_list()
    restore_state(folder, training)  # the weights of the last whole epoch: those now are spoilt
    raise RunError(
        f"the loss of epoch {epoch} is {losses[first]} by the batch with surveys {ids} ...; "
        f"{blame_modality(training.model, batch)}",
        action="Lower train.learning_rate or train with train.precision = 'fp32'; the best weights are kept, and "
        "--resume goes on after the last whole epoch",
    )


@torch.no_grad()
def blame_modality(model: SpeciesModel, batch: Batch) -> str:
    """Return which modality of a batch a network cannot take, or has the largest embedding."""
    sizes = {}
    for name, encoder in model.eval().encoders.items():
        if name in batch.values and len(batch.values[name]):
            places = batch.places[name]
            sizes[name] = encoder(batch.values[name], batch.year[places], batch.month[places]).abs().max().item()
    broken = [name for name, size in sizes.items() if not math.isfinite(size)]
    if broken:
        return f"its {' and '.join(broken)} values alone give embeddings that are not finite"
    if not sizes:
        return "it has no modality"
    largest = max(sizes, key=sizes.__getitem__)
    return f"no modality alone does it, the largest embedding is that of {largest} ({sizes[largest]:.3g})"


@contextmanager
def out_of_memory_explained(parts: list[Part], config: TrainConfig) -> Iterator[None]:
    """Turn a device's running out of memory into an error that names the batch and what to change.

    Raises
    ------
    RunError
        If memory runs out inside the block.
    """
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one; the CPU's has no class of its own
        text = str(error)
        if not isinstance(error, torch.OutOfMemoryError) and "not enough memory" not in text:
            raise
        batch = max((part.batch for part in parts), key=len)
        sizes = {name: x.element_size() * x.nelement() / 1e6 for name, x in batch.values.items()}
        described = ", ".join(f"{name} {size:,.1f} MB" for name, size in sizes.items())
        raise RunError(
            f"memory of {batch.rows.device} ran out in a batch of {len(batch):,} rows ({described}): "
            f"{text.splitlines()[0]}",
            action=f"Lower train.batch_size (now {config.batch_size}) or raise train.accumulate (now "
            f"{config.accumulate}); with patches, set model.patch_checkpointing or model.patch_pool",
        ) from error
