"""The training loop: build, resume, step, log, evaluate, save. Read it from top to bottom."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from releve.models.config import ModelConfig
from releve.prepare.config import SplitConfig
from releve.store.read import Store
from releve.train.checkpoint import finished_logs, restore_state, save_finished, save_state, save_weights
from releve.train.config import RecordsConfig, TrainConfig, plan_phases
from releve.train.epochs import EpochLog, best_epoch, has_stalled
from releve.train.members import Member
from releve.train.rows import fold_rows
from releve.train.sampler import Sampler
from releve.train.start import start_training
from releve.train.step import BrokenStepError, train_epoch
from releve.train.trouble import check_parts, check_start, out_of_memory_explained, spoilt
from releve.train.validate import validate


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
    training = start_training(store, rows, member.seed, model_config, config, records)
    processes = training.processes
    if resume:
        restore_state(folder, training)
    check_start(training, folder)
    samplers = [Sampler(store, rows.of_phase(phase), records, config.batch_size) for phase in phases]
    check_parts(min(sampler.smallest_step for sampler in samplers), config, records)
    advance(len(training.logs))

    first = num_epochs - config.epochs  # epochs before the last phase are not candidates
    last = num_epochs if stop_after is None else min(num_epochs, first + stop_after)
    while len(training.logs) < last and not has_stalled(training.logs, config.patience, first):
        epoch, started = len(training.logs), time.monotonic()
        at, of, sampler = (epoch, first, samplers[0]) if epoch < first else (epoch - first, config.epochs, samplers[-1])
        rng = np.random.default_rng([seed, epoch])
        with (
            torch.random.fork_rng([training.device] if training.device.type == "cuda" else []),
            out_of_memory_explained(config, training),
        ):
            torch.manual_seed(seed * 100_003 + epoch + 7_919 * processes.rank)  # dropout, augmentation of this epoch
            try:
                before = [samplers[0 if e < first else -1].num_steps for e in range(epoch)]
                train_loss = train_epoch(training, sampler, rng, at=at, num_epochs=of, num_taken=sum(before))
            except BrokenStepError as broken:
                raise spoilt(training, folder, epoch, broken) from None
        selected = validate(training, rows.selection)
        log = EpochLog(
            epoch=epoch,
            train_loss=train_loss,
            selection_loss=selected.loss,
            selection_sf1=selected.sf1,
            learning_rate=training.optimizer.param_groups[0]["lr"],
            seconds=round(time.monotonic() - started, 3),
        )
        training.logs.append(log)
        if epoch >= first and best_epoch(training.logs, first) == epoch:
            calibration = asdict(selected.calibration)
            training.best = {"best_epoch": epoch, "selection_sf1": selected.sf1, "calibration": calibration}
            processes.on_first(lambda: save_weights(folder, training.average))
        processes.on_first(lambda: save_state(folder, training))
        advance(1)

    processes.on_first(lambda: save_finished(folder, asdict(member) | training.best, training.logs))
    advance(num_epochs - len(training.logs))
    return training.logs
