"""Predictions of one network for rows of a store, and how good they are on the rows that the epoch is selected on."""

# B batch, N rows, S species

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from releve.data.gather import Batch, Gatherer
from releve.decide.calibration import Calibration, fit_calibration
from releve.decide.expected_f1 import expected_f1_sets
from releve.metrics.sets import score_sets
from releve.train.device import autocast_for
from releve.train.head_loss import Chunk, Presences, cross_entropy
from releve.train.step import Objective, Training


@dataclass(frozen=True)
class Selected:
    """How good a network is on the rows that the epoch is selected on; without any, nothing is known."""

    loss: float | None = None
    calibration: Calibration = Calibration()
    sf1: float | None = None
    """Of the calibrated expected-F1 lists."""


@torch.inference_mode()
def predict_logits(
    model: Callable[[Batch], Tensor],
    gatherer: Gatherer,
    rows: NDArray[np.int64],
    device: torch.device,
    batch_size: int = 512,
) -> Iterator[Tensor]:
    """Yield (B, S) float32 logits of the surveys on the CPU, batch by batch."""
    for start in range(0, len(rows), batch_size):
        yield model(gatherer.batch(rows[start : start + batch_size]).to(device)).float().cpu()


def validate(training: Training, rows: NDArray[np.int64]) -> Selected:
    """Return how good the averaged weights are on rows; each process predicts some of them, the first scores them."""
    if not len(rows):
        return Selected()
    processes = training.processes
    mine = processes.share(rows)
    logits_MS = torch.empty(len(mine), len(training.average.statistics.species_ids))
    first = 0
    with autocast_for(training.config, training.device):
        for logits_BS in predict_logits(training.average, training.held_out, mine, training.device):
            logits_MS[first : first + len(logits_BS)] = logits_BS
            first += len(logits_BS)
    logits_NS = processes.gather_rows(logits_MS, len(rows))  # a gigabyte for 20,000 rows and 11,000 species
    return processes.on_first(lambda: score_logits(training, rows, logits_NS))


def score_logits(training: Training, rows: NDArray[np.int64], logits_NS: Tensor | None) -> Selected:
    """Return loss, calibration and sF1 of the logits of rows."""
    assert logits_NS is not None
    total, size = 0.0, 512
    for first in range(0, len(rows), size):
        logits_BS = logits_NS[first : first + size].to(training.device)
        total += plot_loss(training, rows[first : first + size], logits_BS) / len(rows)
    truth = training.held_out.store.labels.take(rows)
    calibration = fit_calibration(logits_NS, truth)
    lists = expected_f1_sets(calibration.apply(logits_NS))
    return Selected(total, calibration, score_sets(lists, truth, logits_NS.shape[1]).sample_f1)


def plot_loss(training: Training, rows: NDArray[np.int64], logits_BS: Tensor) -> float:
    """Return the sum over rows of the loss that plots are trained with."""
    pairs, class_weight_S = training.held_out.presences(rows), training.class_weight_S
    weights = np.ones(len(pairs.rows)) if class_weight_S is None else class_weight_S[pairs.species]
    presences = Presences.of(pairs.rows, pairs.species, weights, training.device)
    at = presences.rows_P, presences.species_P
    chunk = Chunk(0, logits_BS, *at, presences.weight_P, logits_BS[at])
    published, ones_B = unwrapped(training.objective).published, logits_BS.new_ones(len(rows))
    if published is None:
        return float(cross_entropy(chunk, ones_B))
    return float(published.of_plots(chunk, ones_B, len(rows), published.frequency_S))


def unwrapped(objective: Objective | DistributedDataParallel) -> Objective:
    """Return the objective without what shares its gradients."""
    return objective.module if isinstance(objective, DistributedDataParallel) else objective
