"""Predictions of one network for rows of a store, and how good they are on the rows that the epoch is selected on."""

# B batch, N rows, S species

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from releve.data.gather import Gatherer
from releve.decide.calibration import Calibration, fit_calibration
from releve.decide.expected_f1 import expected_f1_sets
from releve.metrics.sets import score_sets
from releve.models.model import SpeciesModel
from releve.train.config import TrainConfig
from releve.train.device import autocast_for
from releve.train.objective import Objective
from releve.train.processes import gather_rows, num_ranks, on_first, rank


class Validated(Protocol):
    """What of a training is validated."""

    average: SpeciesModel
    objective: Objective | DistributedDataParallel
    held_out: Gatherer
    config: TrainConfig
    device: torch.device


@torch.inference_mode()
def predict_logits(
    model: nn.Module, gatherer: Gatherer, rows: NDArray[np.int64], device: torch.device, batch_size: int = 512
) -> Iterator[Tensor]:
    """Yield (B, S) float32 logits of the surveys on the CPU, batch by batch."""
    for start in range(0, len(rows), batch_size):
        yield model(gatherer.batch(rows[start : start + batch_size]).to(device)).float().cpu()


def validate(training: Validated, rows: NDArray[np.int64]) -> tuple[float | None, Calibration, float | None]:
    """Return the loss of the averaged weights, their calibration, and the sF1 of the calibrated expected-F1 lists.

    Each process predicts every n-th row, and the first one scores them all. Without rows nothing is known of loss and
    sF1.
    """
    if not len(rows):
        return None, Calibration(), None
    mine = rows[rank() :: num_ranks()]
    logits_MS = torch.empty(len(mine), len(training.average.statistics.species_ids))
    first = 0
    with autocast_for(training.config, training.device):
        for logits_BS in predict_logits(training.average, training.held_out, mine, training.device):
            logits_MS[first : first + len(logits_BS)] = logits_BS
            first += len(logits_BS)
    logits_NS = gather_rows(logits_MS, len(rows))  # a gigabyte for 20,000 rows and 11,000 species
    return on_first(lambda: score_logits(training, rows, logits_NS))


def score_logits(
    training: Validated, rows: NDArray[np.int64], logits_NS: Tensor | None
) -> tuple[float, Calibration, float]:
    """Return loss, calibration and sF1 of the logits of rows."""
    assert logits_NS is not None
    objective = training.objective
    objective = objective.module if isinstance(objective, DistributedDataParallel) else objective
    truth = training.held_out.store.labels.take(rows)
    total, size = 0.0, 512
    for first in range(0, len(rows), size):
        part = truth.take(np.arange(first, min(first + size, len(rows))))
        table = logits_NS[first : first + size], torch.from_numpy(part.surveys()), torch.from_numpy(part.indices).long()
        on_device = [x.to(training.device) for x in table]
        total += len(part.lengths()) * float(objective.plot_loss(*on_device))
    calibration = fit_calibration(logits_NS, truth)
    lists = expected_f1_sets(calibration.apply(logits_NS))
    return total / len(rows), calibration, score_sets(lists, truth, logits_NS.shape[1]).sample_f1
