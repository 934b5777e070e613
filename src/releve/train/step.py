"""The steps of an epoch: gather some rows, work out their loss and its gradients, move the weights."""

# N rows, S species, P presences

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from releve.data.gather import Batch, Gatherer, move, prefetch
from releve.models.model import SpeciesModel
from releve.train.config import RecordsConfig, TrainConfig
from releve.train.epochs import EpochLog
from releve.train.head_loss import Presences, cross_entropy, head_loss
from releve.train.losses import PublishedLoss, Sources
from releve.train.processes import Processes
from releve.train.sampler import Sampler, Step

DEPTH = 3  # steps that are gathered ahead, where it can be done beside the computation
LOG_EVERY = 50  # steps between looks at the loss; a look makes a GPU wait


@dataclass(frozen=True)
class Part:
    """What a process works on at a time: some of a step's rows."""

    batch: Batch
    own: Step
    """The rows of the batch, in its order."""
    whole: Step
    """All rows of the step, which means are taken over."""
    presences: Presences
    silence_N: Tensor
    """How much each species that a row does not list counts as absent."""
    record_weight: float


@dataclass
class Training:
    """One member in training: everything that changes, and what each step needs."""

    model: SpeciesModel
    average: SpeciesModel
    """Exponential moving average of the weights: what is validated and kept."""
    optimizer: torch.optim.Optimizer
    objective: Objective | DistributedDataParallel
    """The model and its loss; of several processes, their gradients are added up."""
    gatherer: Gatherer
    held_out: Gatherer
    """Gathers what is known where nobody has looked yet: how rows were observed is left out."""
    silence: NDArray[np.float32]
    """(surveys,) how far each row's own silence counts, 0 to 1; what is left of 1 is the background's."""
    class_weight_S: NDArray[np.float32] | None
    """Weight of each species' presences on plots; None: all 1."""
    elsewhere: float
    """Weight of the silence at all background sites of a step, where a row's own counts ``silence``."""
    config: TrainConfig
    records: RecordsConfig
    processes: Processes
    device: torch.device
    logs: list[EpochLog]
    best: dict[str, Any]
    at_hand: list[Part]
    """Of the latest step, to be named where it fails."""

    @property
    def depth(self) -> int:
        """Steps to gather ahead: none where gathering would only take time from the computation."""
        return DEPTH if self.device.type == "cuda" or self.gatherer.decodes else 0

    def gather(self, step: Step) -> list[Part]:
        """Return what this process works on in a step, part after part."""
        number = self.config.accumulate
        together = [step.share(i, number) for i in range(number)]
        return [self.gather_part(x.share(self.processes.rank, self.processes.number), x, step) for x in together]

    def gather_part(self, own: Step, together: Step, whole: Step) -> Part:
        """Return a process' own of the rows that all processes look at together, some of the whole step's."""
        weight = self.records.weight if len(whole.plots) else 1.0
        of_plot, of_record = 1 / max(1, len(whole.plots)), weight / max(1, len(whole.records))
        row_weight = np.repeat([of_plot, of_record], [len(own.plots), len(own.records)])
        labelled = np.concatenate([own.plots, own.records])
        pairs = self.gatherer.presences(labelled)
        weight_P = row_weight[pairs.rows]
        if self.class_weight_S is not None:
            weight_P *= np.where(pairs.rows < len(own.plots), self.class_weight_S[pairs.species], 1.0)
        elsewhere = np.full(len(own.background), self.elsewhere * weight / max(1, len(whole.background)))
        silence_N = np.concatenate([row_weight * self.silence[labelled], elsewhere]).astype(np.float32)
        return Part(
            batch=self.gatherer.batch(own.rows, together.rows).to(self.device),
            own=own,
            whole=whole,
            presences=Presences.of(pairs.rows, pairs.species, weight_P, self.device),
            silence_N=move(torch.from_numpy(silence_N), self.device),
            record_weight=weight,
        )

    def unshared(self) -> AbstractContextManager[None]:
        """Return the context of a part whose gradients are not yet added up over processes."""
        return self.objective.no_sync() if isinstance(self.objective, DistributedDataParallel) else nullcontext()


class Objective(nn.Module):
    """What a step minimises, as a module, so that several processes can share its gradients.

    It is the cross-entropy of the plots and, weighted, that of the presence-only rows; or a published loss of either.
    """

    def __init__(self, model: SpeciesModel, config: TrainConfig, records: RecordsConfig, dtype: torch.dtype) -> None:
        """Join a network and its loss; ``dtype`` is that of matrix products, float32 or bfloat16."""
        super().__init__()
        self.model, self.dtype = model, dtype
        is_default = config.loss == "bce" and (config.regime == "pa" or records.loss in ("bce", "trusted_bce"))
        self.published = None if is_default else PublishedLoss(model.statistics, config.loss, records.loss)

    def forward(self, part: Part, num_processes: int) -> Tensor:
        """Return the part's share of the step's loss: over all parts they add up to it."""
        own, whole = part.own, part.whole
        loss_of = partial(cross_entropy, silence_N=part.silence_N)
        if self.published is not None:
            num_labelled = len(own.plots) + len(own.records)
            has = len(whole.plots) > 0, len(whole.records) > 0
            sources = Sources(len(own.plots), num_labelled, *has, part.record_weight)
            loss_of = partial(self.published, silence_N=part.silence_N, sources=sources)
        with torch.autocast(part.silence_N.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            features_NF = self.model.features(part.batch)
        rows = -(-len(whole.rows) // num_processes)  # the same number in all processes
        weights = self.model.species_weights()
        return head_loss(features_NF, *weights, part.presences, loss_of, dtype=self.dtype, num_rows=rows)


class BrokenStepError(Exception):
    """A step whose loss is no number."""

    def __init__(self, step: Step, loss: float) -> None:
        super().__init__(f"loss {loss}")
        self.step, self.loss = step, loss


def train_epoch(
    training: Training, sampler: Sampler, rng: np.random.Generator, *, at: int, num_epochs: int, num_taken: int
) -> float:
    """Take the steps of an epoch and return its mean loss.

    Parameters
    ----------
    training, sampler, rng
        What is trained; what deals out its rows, and at random by what.
    at, num_epochs
        The epoch in its phase, and how many the phase has: a phase is one course of the learning rate.
    num_taken
        Steps taken before this epoch.

    Raises
    ------
    BrokenStepError
        If a loss is NaN or infinite.
    """
    training.model.train()
    config, num_steps, total = training.config, sampler.num_steps, 0.0
    steps: list[Step] = []
    losses: list[Tensor] = []
    for i, parts in enumerate(prefetch(training.gather, sampler.steps(rng), training.depth)):
        place = at * num_steps + i, num_epochs * num_steps
        rate = learning_rate_at(*place, highest=config.learning_rate, warmup=config.warmup)
        losses.append(take_step(training, parts, rate, num_taken + i))
        steps.append(parts[0].whole)
        if len(losses) == LOG_EVERY or i == num_steps - 1:
            for step, loss in zip(steps, training.processes.sum(torch.stack(losses)).tolist(), strict=True):
                if not math.isfinite(loss):
                    raise BrokenStepError(step, loss)
                total += loss / num_steps
            steps, losses = [], []
    return total


def take_step(training: Training, parts: list[Part], learning_rate: float, num_taken: int) -> Tensor:
    """Take one step and return this process' share of its loss, left on the device."""
    config, number = training.config, training.processes.number
    training.at_hand = parts
    for group in training.optimizer.param_groups:
        group["lr"] = learning_rate
    total = torch.zeros((), device=training.device)
    for i, part in enumerate(parts):
        with nullcontext() if i == len(parts) - 1 else training.unshared():
            loss = training.objective(part, number)
            (loss * number).backward()  # gradients are averaged over processes, losses are added up
        total += loss.detach()
    torch.nn.utils.clip_grad_norm_(training.model.parameters(), config.gradient_clip)
    training.optimizer.step()
    training.optimizer.zero_grad(set_to_none=True)
    update_average(training.average, training.model, min(config.ema_decay, (1 + num_taken) / (10 + num_taken)))
    return total


def learning_rate_at(step: int, num_steps: int, *, highest: float, warmup: float) -> float:
    """Return the rate of a step: a linear rise over a share ``warmup`` of them, then a cosine down to zero.

    Examples
    --------
    >>> [round(learning_rate_at(step, 10, highest=1.0, warmup=0.2), 3) for step in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.038]
    """
    warm = warmup * num_steps
    if step < warm:
        return highest * min(1.0, (step + 1) / warm)
    return highest * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1.0, num_steps - warm)))


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the average towards the model, batch norms' running statistics included; integers are copied."""
    ours, theirs = ([*m.parameters(), *m.buffers()] for m in (average, model))
    moved = [i for i, tensor in enumerate(ours) if tensor.is_floating_point()]
    torch._foreach_lerp_([ours[i] for i in moved], [theirs[i] for i in moved], 1 - decay)
    for mine, its in zip(ours, theirs, strict=True):
        if not mine.is_floating_point():
            mine.copy_(its)
