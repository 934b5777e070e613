"""The training loop: build, resume, step, log, evaluate, save. Read it from top to bottom."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from releve.data.gather import Gatherer
from releve.data.prefetch import prefetch
from releve.data.resident import place_arrays
from releve.data.statistics import measure_statistics
from releve.models.config import ModelConfig
from releve.models.model import SpeciesModel, build_model
from releve.prepare.config import SplitConfig
from releve.store.read import Store
from releve.train.checkpoint import (
    EpochLog,
    best_epoch,
    finished_logs,
    has_stalled,
    restore_state,
    save_finished,
    save_state,
    save_weights,
)
from releve.train.config import RecordsConfig, TrainConfig, plan_phases
from releve.train.device import choose_device, matrix_dtype
from releve.train.members import Member
from releve.train.objective import Objective, Part, make_part
from releve.train.optimizer import learning_rate_at, make_optimizer, update_average
from releve.train.processes import num_ranks, on_first, rank, share_batch_norms, share_gradients
from releve.train.rows import fold_rows, weigh_silence
from releve.train.sampler import Sampler, Step
from releve.train.trouble import check_losses, check_parts, check_start, out_of_memory_explained
from releve.train.validate import validate

LOG_EVERY = 50  # steps between looks at the loss; a look makes a GPU wait
DEPTH = 3  # steps that are gathered ahead, where it can be done beside the computation


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
    config: TrainConfig
    device: torch.device
    logs: list[EpochLog]
    best: dict[str, Any]

    @property
    def depth(self) -> int:
        """Steps to gather ahead: none where gathering would only take time from the computation."""
        return DEPTH if self.device.type == "cuda" or self.gatherer.decodes else 0

    def gather(self, step: Step) -> list[Part]:
        """Return what this process works on in a step, part after part."""
        number, parts = self.config.accumulate, []
        for i in range(number):
            together = step.share(i, number)
            own = together.share(rank(), num_ranks())
            parts.append(make_part(self.gatherer, own, together, step, self.device))
        return parts

    def unshared(self) -> AbstractContextManager[None]:
        """Return the context of a part whose gradients are not yet added up over processes."""
        return self.objective.no_sync() if isinstance(self.objective, DistributedDataParallel) else nullcontext()


def train_member(
    store: Store,
    member: Member,
    model_config: ModelConfig,
    config: TrainConfig,
    split: SplitConfig,
    folder: Path,
    *,
    records: RecordsConfig | None = None,
    stop_after: int | None = None,
    resume: bool = False,
    advance: Callable[[int], None] = lambda epochs: None,
) -> list[EpochLog]:
    """Train one network, keep its best weights in ``folder`` and return the log of its epochs.

    Everything random is derived from the member's seed and the epoch, so that a run that was killed and resumed takes
    the same steps as an unbroken one. Started by ``torchrun``, several processes train the member together; what is
    random in the network (dropout, turns of patches) then differs, all else is as with one.

    Parameters
    ----------
    store, member
        Labelled rows with folds; the fold and the seed.
    model_config, config
        The network and the training.
    split
        Blocks of the rows that the epoch is selected on; training rows within its buffer of these or of held-out rows
        are left out.
    folder
        Gets ``weights.safetensors``, ``statistics.json``, ``metrics.jsonl``, and ``member.json`` when all is done.
    records
        How presence-only rows are learned from, where the regime has them.
    stop_after
        Take so many epochs of the last phase and keep what they lead to; for a member that holds out nothing.
    resume
        Go on after the last whole epoch in ``state.pt``; a member that is done is left as it is.
    advance
        Called with the number of epochs done, for a progress bar.

    Raises
    ------
    RunError
        If a loss is not finite (the best weights so far are kept), memory runs out, the fold lacks rows that the regime
        needs, or there are more processes than rows in a step.
    """
    records = records or RecordsConfig()
    phases = plan_phases(config.regime, config.epochs, records.pretrain_epochs)
    num_epochs = sum(phase.epochs for phase in phases)
    if resume and (logs := finished_logs(folder)):
        advance(num_epochs)
        return logs
    share, seed = config.selection_share, member.seed
    rows = fold_rows(store, member.fold, split, config.regime, selection_share=share, seed=seed)
    training = start_training(store, rows.plots, rows.records, member, model_config, config, records)
    if resume:
        restore_state(folder, training)
    check_start(training, folder)
    sampler = Sampler(store, rows.plots, rows.records, records, config.batch_size)
    check_parts(sampler.smallest_step(phases), config, records)
    advance(len(training.logs))

    first = num_epochs - config.epochs  # epochs before the last phase are not candidates
    last = num_epochs if stop_after is None else min(num_epochs, first + stop_after)
    while len(training.logs) < last and not has_stalled(training.logs, config.patience, first):
        epoch, started = len(training.logs), time.monotonic()
        phase, at = (phases[0], epoch) if epoch < first else (phases[-1], epoch - first)
        num_steps = sampler.num_steps(phase)
        total, recent = 0.0, []
        with torch.random.fork_rng([training.device] if training.device.type == "cuda" else []):
            torch.manual_seed(member.seed * 100_003 + epoch + 7_919 * rank())  # dropout and augmentation of this epoch
            training.model.train()
            steps = sampler.steps(phase, np.random.default_rng([member.seed, epoch]))
            for i, parts in enumerate(prefetch(training.gather, steps, training.depth)):
                rate = learning_rate_at(at * num_steps + i, phase.epochs * num_steps, config)
                recent.append((parts[0].whole.rows, take_step(training, parts, rate, epoch * num_steps + i)))
                if len(recent) == LOG_EVERY or i == num_steps - 1:
                    total += check_losses(training, recent, store, folder, epoch) / num_steps
                    recent.clear()
        val_loss, calibration, val_sf1 = validate(training, rows.selection)
        log = EpochLog(
            epoch=epoch,
            train_loss=total,
            val_loss=val_loss,
            val_sf1=val_sf1,
            learning_rate=training.optimizer.param_groups[0]["lr"],
            seconds=round(time.monotonic() - started, 3),
        )
        training.logs.append(log)
        if epoch >= first and best_epoch(training.logs, first) == epoch:
            training.best = {"best_epoch": epoch, "val_sf1": val_sf1, "calibration": asdict(calibration)}
            on_first(lambda: save_weights(folder, training.average))
        on_first(lambda: save_state(folder, training))
        advance(1)

    on_first(lambda: save_finished(folder, asdict(member) | training.best, training.logs))
    advance(num_epochs - len(training.logs))
    return training.logs


def start_training(
    store: Store,
    plot_rows: NDArray[np.int64],
    record_rows: NDArray[np.int64],
    member: Member,
    model_config: ModelConfig,
    config: TrainConfig,
    records: RecordsConfig,
) -> Training:
    """Return a member at its first step."""
    device = choose_device(config.device)
    observed = ("observation",) if len(record_rows) and records.observation_head else ()
    rows = np.concatenate([plot_rows, record_rows])
    modalities = (*model_config.modalities, *observed)
    statistics = measure_statistics(store, rows, modalities, rng=np.random.default_rng(member.seed))
    model = build_model(statistics, model_config, seed=member.seed).to(device)
    trust = weigh_silence(store, plot_rows, record_rows, records.trust)
    held = place_arrays(store, model.modalities, device)
    average = copy.deepcopy(model).eval().requires_grad_(False)
    share_batch_norms(model)
    objective = Objective(model, config, records, matrix_dtype(config, device)).to(device)
    return Training(
        model=model,
        average=average,
        optimizer=make_optimizer(model, config),
        objective=share_gradients(objective, complete=store.all_have(rows, model.modalities)),
        gatherer=Gatherer(store, (*model.modalities, *observed), statistics.categories, trust=trust, resident=held),
        held_out=Gatherer(store, model.modalities, statistics.categories, resident=held),
        config=config,
        device=device,
        logs=[],
        best={},
    )


def take_step(training: Training, parts: list[Part], learning_rate: float, num_taken: int) -> Tensor:
    """Take one step and return this process' share of its loss, left on the device."""
    config = training.config
    for group in training.optimizer.param_groups:
        group["lr"] = learning_rate
    total = torch.zeros((), device=training.device)
    with out_of_memory_explained(config, parts):
        for i, part in enumerate(parts):
            with nullcontext() if i == len(parts) - 1 else training.unshared():
                loss = training.objective(part)
                (loss * num_ranks()).backward()  # gradients are averaged over processes, losses are added up
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(training.model.parameters(), config.gradient_clip)
        training.optimizer.step()
        training.optimizer.zero_grad(set_to_none=True)
        update_average(training.average, training.model, min(config.ema_decay, (1 + num_taken) / (10 + num_taken)))
    return total
