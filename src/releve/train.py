"""The training loop: build, resume, step, log, evaluate, save. Read it from top to bottom."""

# B batch, S species

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from releve.checkpoint import (
    EpochLog,
    best_epoch,
    finished_logs,
    has_stalled,
    restore_state,
    save_finished,
    save_state,
    save_weights,
)
from releve.data import Batch, Gatherer, measure_statistics
from releve.decide import Calibration, expected_f1_sets, fit_calibration
from releve.errors import RunError
from releve.losses import BACKGROUNDS, LOSSES, Sites
from releve.members import Member, TrainConfig, choose_device
from releve.metrics import score_sets
from releve.models import ModelConfig, SpeciesModel, build_model
from releve.prepare.split import SplitConfig
from releve.regimes import RecordsConfig, Sampler, Step, fold_rows, plan_phases, weigh_silence
from releve.store import Store

LOG_EVERY = 50  # steps between looks at the loss; a look makes a GPU wait


@dataclass
class Training:
    """One member in training: everything that changes, and what each step needs."""

    model: SpeciesModel
    average: SpeciesModel
    """Exponential moving average of the weights: what is validated and kept."""
    optimizer: torch.optim.Optimizer
    gatherer: Gatherer
    config: TrainConfig
    records: RecordsConfig
    frequency_S: Tensor
    """Share of the training plots that have each species; without plots, of the presence-only rows."""
    record_frequency_S: Tensor
    """Share of the presence-only rows that have each species."""
    held_out: Gatherer
    """Gathers what is known where nobody has looked yet: how rows were observed is left out."""
    autocast: torch.autocast
    device: torch.device
    logs: list[EpochLog]
    best: dict[str, Any]


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
    the same steps as an unbroken one.

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
        If a loss is not finite (the best weights so far are kept), or the fold lacks rows that the regime needs.
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
    sampler = Sampler(store, rows.plots, rows.records, records, config.batch_size)
    advance(len(training.logs))

    first = num_epochs - config.epochs  # epochs before the last phase are not candidates
    last = num_epochs if stop_after is None else min(num_epochs, first + stop_after)
    while len(training.logs) < last and not has_stalled(training.logs, config.patience, first):
        epoch, started = len(training.logs), time.monotonic()
        phase, at = (phases[0], epoch) if epoch < first else (phases[-1], epoch - first)
        num_steps = sampler.num_steps(phase)
        total = torch.zeros((), device=training.device)
        with torch.random.fork_rng([training.device] if training.device.type == "cuda" else []):
            torch.manual_seed(member.seed * 100_003 + epoch)  # dropout and augmentation of this epoch
            training.model.train()
            for i, step in enumerate(sampler.steps(phase, np.random.default_rng([member.seed, epoch]))):
                rate = learning_rate_at(at * num_steps + i, phase.epochs * num_steps, config)
                total += take_step(training, step, rate, epoch * num_steps + i) / num_steps
                if i % LOG_EVERY == 0 or i == num_steps - 1:
                    check_finite(total, store, step.rows, epoch)
        val_loss, calibration, val_sf1 = validate(training, rows.selection)
        log = EpochLog(
            epoch=epoch,
            train_loss=float(total),
            val_loss=val_loss,
            val_sf1=val_sf1,
            learning_rate=training.optimizer.param_groups[0]["lr"],
            seconds=round(time.monotonic() - started, 3),
        )
        training.logs.append(log)
        if epoch >= first and best_epoch(training.logs, first) == epoch:
            training.best = {"best_epoch": epoch, "val_sf1": val_sf1, "calibration": asdict(calibration)}
            save_weights(folder, training.average)
        save_state(folder, training)
        advance(1)

    save_finished(folder, asdict(member) | training.best, training.logs)
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
    bf16 = config.precision == "bf16" or (config.precision == "auto" and device.type == "cuda")
    return Training(
        model=model,
        average=copy.deepcopy(model).eval().requires_grad_(False),
        optimizer=make_optimizer(model, config),
        gatherer=Gatherer(store, (*model.modalities, *observed), statistics.categories, trust=trust),
        config=config,
        records=records,
        frequency_S=share_of(statistics.num_positives, statistics.num_rows).to(device),
        record_frequency_S=share_of(
            statistics.record_positives or statistics.num_positives, statistics.num_records or statistics.num_rows
        ).to(device),
        held_out=Gatherer(store, model.modalities, statistics.categories),
        autocast=torch.autocast(device.type, torch.bfloat16, enabled=bf16),
        device=device,
        logs=[],
        best={},
    )


def share_of(num_positives: list[int], num_rows: int) -> Tensor:
    """Return (S,) shares of rows that have each species, never 0 or 1."""
    return (torch.tensor(num_positives) + 0.5) / (num_rows + 1.0)


def make_optimizer(model: SpeciesModel, config: TrainConfig) -> torch.optim.Optimizer:
    """Return AdamW that decays matrices and kernels, not biases, norms and single vectors."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    others = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def learning_rate_at(step: int, num_steps: int, config: TrainConfig) -> float:
    """Return the rate of a step: a linear rise, then a cosine down to zero.

    Examples
    --------
    >>> config = TrainConfig(learning_rate=1.0, warmup=0.2)
    >>> [round(learning_rate_at(step, 10, config), 3) for step in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.038]
    """
    warm = config.warmup * num_steps
    if step < warm:
        return config.learning_rate * min(1.0, (step + 1) / warm)
    done = (step - warm) / max(1.0, num_steps - warm)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def take_step(training: Training, step: Step, learning_rate: float, num_taken: int) -> Tensor:
    """Take one step and return its loss, left on the device."""
    config = training.config
    for group in training.optimizer.param_groups:
        group["lr"] = learning_rate
    batch = training.gatherer.batch(step.rows).to(training.device)
    with training.autocast:
        logits_BS = training.model(batch)
    loss = step_loss(training, batch, logits_BS, len(step.plots), len(step.records))
    loss.backward()
    torch.nn.utils.clip_grad_norm_(training.model.parameters(), config.gradient_clip)
    training.optimizer.step()
    training.optimizer.zero_grad(set_to_none=True)
    update_average(training.average, training.model, min(config.ema_decay, (1 + num_taken) / (10 + num_taken)))
    return loss.detach()


def step_loss(training: Training, batch: Batch, logits_BS: Tensor, num_plots: int, num_records: int) -> Tensor:
    """Return the loss of the plots plus the weighted loss of the presence-only rows, which come after them."""
    rows, species = batch.label_rows, batch.label_species
    loss, last = torch.zeros((), device=logits_BS.device), num_plots + num_records
    if num_plots:
        loss = plot_loss(training, logits_BS[:num_plots], rows[rows < num_plots], species[rows < num_plots])
    if num_records:
        here = (rows >= num_plots) & (rows < last)
        sites = Sites(
            logits_BS[num_plots:last].float(),
            rows[here] - num_plots,
            species[here],
            trust_B=batch.trust[num_plots:last],
            background_KS=logits_BS[last:].float(),
            own_share=BACKGROUNDS[training.records.background],
            frequency_S=training.record_frequency_S,
        )
        weight = training.records.weight if num_plots else 1.0
        loss = loss + weight * LOSSES[training.records.loss](sites)
    return loss


def plot_loss(training: Training, logits_BS: Tensor, label_rows: Tensor, label_species: Tensor) -> Tensor:
    """Return the loss of plots."""
    weight_S = None
    if training.config.class_weight:
        weight_S = training.frequency_S**-training.config.class_weight
        weight_S = weight_S / weight_S.mean()
    logits_BS = logits_BS.float()  # sums of bf16 lose the rare species
    return LOSSES[training.config.loss](
        Sites(logits_BS, label_rows, label_species, frequency_S=training.frequency_S, class_weight_S=weight_S)
    )


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the average towards the model, batch norms' running statistics included; integers are copied."""
    ours, theirs = ([*m.parameters(), *m.buffers()] for m in (average, model))
    moved = [i for i, tensor in enumerate(ours) if tensor.is_floating_point()]
    torch._foreach_lerp_([ours[i] for i in moved], [theirs[i] for i in moved], 1 - decay)
    for mine, its in zip(ours, theirs, strict=True):
        if not mine.is_floating_point():
            mine.copy_(its)


@torch.inference_mode()
def predict_logits(
    model: nn.Module, gatherer: Gatherer, rows: NDArray[np.int64], device: torch.device, batch_size: int = 512
) -> Iterator[Tensor]:
    """Yield (B, S) float32 logits of the surveys on the CPU, batch by batch."""
    for start in range(0, len(rows), batch_size):
        yield model(gatherer.batch(rows[start : start + batch_size]).to(device)).float().cpu()


def validate(training: Training, rows: NDArray[np.int64]) -> tuple[float | None, Calibration, float | None]:
    """Return the loss of the averaged weights, their calibration, and the sF1 of the calibrated expected-F1 lists.

    Without rows nothing is known of loss and sF1.
    """
    if not len(rows):
        return None, Calibration(), None
    store = training.gatherer.store
    truth = store.labels.take(rows)
    logits_NS = torch.empty(len(rows), len(store.species_ids))  # a gigabyte for 20,000 rows and 11,000 species
    total, first = 0.0, 0
    with training.autocast:
        for logits_BS in predict_logits(training.average, training.held_out, rows, training.device):
            last = first + len(logits_BS)
            part = truth.take(np.arange(first, last))
            pairs = torch.from_numpy(part.surveys()), torch.from_numpy(part.indices).long()
            on_device = (x.to(training.device) for x in (logits_BS, *pairs))
            total += len(logits_BS) * float(plot_loss(training, *on_device))
            logits_NS[first:last] = logits_BS
            first = last
    calibration = fit_calibration(logits_NS, truth)
    lists = expected_f1_sets(calibration.apply(logits_NS))
    return total / len(rows), calibration, score_sets(lists, truth, len(store.species_ids)).sample_f1


def check_finite(total: Tensor, store: Store, rows: NDArray[np.int64], epoch: int) -> None:
    """Stop if the loss has become NaN or infinite, naming the surveys at hand."""
    if not math.isfinite(float(total)):
        ids = store.surveys["survey_id"][rows.tolist()].head(5).to_list()
        raise RunError(
            f"the loss of epoch {epoch} is {float(total)} by the batch with surveys {ids} ...",
            action="Lower train.learning_rate or train with train.precision = 'fp32'; the best weights are kept",
        )
