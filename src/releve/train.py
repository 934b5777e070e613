"""The training loop: build, resume, step, log, evaluate, save. Read it from top to bottom."""

# B batch, S species

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from releve.data import Gatherer, Statistics, measure_statistics
from releve.decide import Calibration, expected_f1_sets, fit_calibration
from releve.errors import RunError, pick
from releve.files import atomic_path, write_json, write_text
from releve.losses import LOSSES
from releve.metrics import score_sets
from releve.models import ModelConfig, SpeciesModel, build_model
from releve.models.forest import ForestConfig, ForestModel, fit_forest, load_forest
from releve.prepare.split import split_rows
from releve.store import Store

LOG_EVERY = 50
"""Steps between looks at the loss; a look makes a GPU wait."""


class TrainConfig(BaseModel):
    """How a model is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    loss: Literal["bce"] = "bce"
    """Name of a loss in ``releve.losses.LOSSES``."""
    num_folds: int = Field(1, ge=1)
    """Folds that are held out in turn, each from members of its own; all members' predictions are averaged."""
    seeds_per_fold: int = Field(1, ge=1)
    """Networks trained for each fold, with different seeds."""
    forests_per_fold: int = Field(0, ge=0)
    """Forests of random trees on the tables, trained for each fold beside the networks."""
    epochs: int = Field(20, ge=1)
    """Passes over the training rows; the cosine schedule ends with the last one."""
    patience: int = Field(6, ge=1)
    """Epochs without a better validation sF1 after which training stops."""
    batch_size: int = Field(128, ge=2)
    """Surveys a step."""
    learning_rate: float = Field(1e-3, gt=0)
    """Highest learning rate of AdamW."""
    weight_decay: float = Field(1e-2, ge=0)
    """Decoupled weight decay of matrices; vectors have none."""
    warmup: float = Field(0.1, ge=0, le=0.9)
    """Share of the steps in which the learning rate rises linearly."""
    gradient_clip: float = Field(1.0, gt=0)
    """Largest norm of the gradient."""
    ema_decay: float = Field(0.99, ge=0, lt=1)
    """Decay of the average of the weights, which is what is validated and kept; 0 keeps the last weights."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """``auto``: bf16 on a GPU, fp32 on a CPU."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:1``."""


@dataclass(frozen=True)
class Member:
    """One model of a run: the fold it is validated on, its seed, and whether it is a ``network`` or a ``forest``."""

    index: int
    fold: int
    seed: int
    kind: str = "network"

    @property
    def name(self) -> str:
        """Folder name."""
        return f"member-{self.index:02d}"


@dataclass(frozen=True)
class EpochLog:
    """One line of ``metrics.jsonl``."""

    epoch: int
    train_loss: float
    val_loss: float
    val_sf1: float
    learning_rate: float
    seconds: float


def plan_members(config: TrainConfig, num_folds: int, seed: int) -> list[Member]:
    """Return the members of a run.

    Raises
    ------
    RunError
        If more folds are to be trained than the store has.

    Examples
    --------
    >>> config = TrainConfig(num_folds=2, seeds_per_fold=2, forests_per_fold=1)
    >>> [(m.fold, m.seed, m.kind) for m in plan_members(config, 5, seed=7)][:4]
    [(0, 7000, 'network'), (0, 7001, 'network'), (0, 7002, 'forest'), (1, 7003, 'network')]
    """
    if config.num_folds > num_folds:
        raise RunError(
            f"train.num_folds is {config.num_folds}",
            expected=f"at most the {num_folds} folds of the store",
            action="Lower train.num_folds, or prepare with a higher split.num_folds",
        )
    kinds = ["network"] * config.seeds_per_fold + ["forest"] * config.forests_per_fold
    pairs = [(fold, kind) for fold in range(config.num_folds) for kind in kinds]
    return [Member(i, fold, 1000 * seed + i, kind) for i, (fold, kind) in enumerate(pairs)]


def choose_device(name: str) -> torch.device:
    """Return the device of a name; ``auto`` is the first GPU if there is one.

    Raises
    ------
    RunError
        If there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = ["auto", "cpu", "cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if name not in found or (name == "cuda" and not torch.cuda.is_available()):
        raise RunError(
            f"train.device is {name!r} and torch finds {torch.cuda.device_count()} GPUs",
            expected=f"one of {found}",
            action="Use train.device = 'auto'",
        )
    return torch.device(name)


@dataclass
class Training:
    """One member in training: everything that changes, and what each step needs."""

    model: SpeciesModel
    average: SpeciesModel
    """Exponential moving average of the weights: what is validated and kept."""
    optimizer: torch.optim.Optimizer
    gatherer: Gatherer
    loss: Callable[[Tensor, Tensor, Tensor], Tensor]
    autocast: torch.autocast
    device: torch.device
    logs: list[EpochLog]
    best: dict[str, Any]


def train_member(
    store: Store,
    member: Member,
    model_config: ModelConfig,
    config: TrainConfig,
    buffer_km: float,
    folder: Path,
    *,
    resume: bool = False,
    advance: Callable[[int], None] = lambda epochs: None,
) -> list[EpochLog]:
    """Train one network, keep its best weights in ``folder`` and return the log of its epochs.

    Everything random is derived from the member's seed and the epoch, so that a run that was killed and resumed takes
    the same steps as an unbroken one.

    Parameters
    ----------
    store
        Labelled rows with folds.
    member
        Fold and seed.
    model_config, config
        The network and the training.
    buffer_km
        Training rows nearer than this to a validation row are left out.
    folder
        Gets ``weights.safetensors``, ``statistics.json``, ``metrics.jsonl``, and ``member.json`` when all is done.
    resume
        Go on after the last whole epoch in ``state.pt``; a member that is done is left as it is.
    advance
        Called with the number of epochs done, for a progress bar.

    Raises
    ------
    RunError
        If a loss is not finite; the best weights so far are kept.
    """
    if resume and (logs := finished_logs(folder)):
        advance(config.epochs)
        return logs
    train_rows, val_rows, _ = split_rows(store.folds, store.lon, store.lat, member.fold, buffer_km)
    if min(len(train_rows), len(val_rows)) < 2:
        raise RunError(f"fold {member.fold} has {len(train_rows)} training and {len(val_rows)} validation rows")
    training = start_training(store, train_rows, member, model_config, config)
    if resume:
        restore_state(folder, training)
    steps_per_epoch = math.ceil(len(train_rows) / config.batch_size)
    advance(len(training.logs))

    while len(training.logs) < config.epochs and not has_stalled(training.logs, config.patience):
        epoch, started = len(training.logs), time.monotonic()
        order = np.random.default_rng([member.seed, epoch]).permutation(train_rows)
        total = torch.zeros((), device=training.device)
        with torch.random.fork_rng([training.device] if training.device.type == "cuda" else []):
            torch.manual_seed(member.seed * 100_003 + epoch)  # dropout and augmentation of this epoch
            training.model.train()
            for i, rows in enumerate(np.array_split(order, steps_per_epoch)):
                step = epoch * steps_per_epoch + i
                total += len(rows) * take_step(training, rows, step, config.epochs * steps_per_epoch, config)
                if step % LOG_EVERY == 0 or i == steps_per_epoch - 1:
                    check_finite(total, store, rows, epoch)
        val_loss, calibration, val_sf1 = validate(training, val_rows)
        log = EpochLog(
            epoch=epoch,
            train_loss=float(total) / len(train_rows),
            val_loss=val_loss,
            val_sf1=val_sf1,
            learning_rate=training.optimizer.param_groups[0]["lr"],
            seconds=round(time.monotonic() - started, 3),
        )
        training.logs.append(log)
        if best_epoch(training.logs) == epoch:
            training.best = {"best_epoch": epoch, "val_sf1": val_sf1, "calibration": asdict(calibration)}
            save_weights(folder, training.average)
        save_state(folder, training)
        advance(1)

    save_finished(folder, asdict(member) | training.best, training.logs)
    advance(config.epochs - len(training.logs))
    return training.logs


def train_forest(
    store: Store,
    member: Member,
    model_config: ModelConfig,
    config: ForestConfig,
    buffer_km: float,
    folder: Path,
    *,
    resume: bool = False,
) -> None:
    """Grow one forest on the training rows of its fold and keep it in ``folder``.

    Parameters
    ----------
    store, member, buffer_km, folder, resume
        As for :func:`train_member`.
    model_config
        Its table modalities are what the forest sees.
    config
        The trees.
    """
    if resume and (folder / "member.json").is_file():
        return
    train_rows, _, _ = split_rows(store.folds, store.lon, store.lat, member.fold, buffer_km)
    rng = np.random.default_rng(member.seed)
    tables = tuple(name for name in model_config.modalities if name in ("covariates", "survey", "location"))
    statistics = measure_statistics(store, train_rows, tables or model_config.modalities, rng=rng)
    gatherer = Gatherer(store, statistics.modalities, statistics.categories)
    save_weights(folder, fit_forest(gatherer, train_rows, statistics, config, seed=member.seed))
    write_json(folder / "member.json", asdict(member))


def start_training(
    store: Store,
    train_rows: NDArray[np.int64],
    member: Member,
    model_config: ModelConfig,
    config: TrainConfig,
) -> Training:
    """Return a member at its first step."""
    device = choose_device(config.device)
    rng = np.random.default_rng(member.seed)
    statistics = measure_statistics(store, train_rows, model_config.modalities, rng=rng)
    model = build_model(statistics, model_config, seed=member.seed).to(device)
    bf16 = config.precision == "bf16" or (config.precision == "auto" and device.type == "cuda")
    return Training(
        model=model,
        average=copy.deepcopy(model).eval().requires_grad_(False),
        optimizer=make_optimizer(model, config),
        gatherer=Gatherer(store, model.modalities, statistics.categories),
        loss=pick(LOSSES, config.loss, what="loss"),
        autocast=torch.autocast(device.type, torch.bfloat16, enabled=bf16),
        device=device,
        logs=[],
        best={},
    )


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


def take_step(training: Training, rows: NDArray[np.int64], step: int, num_steps: int, config: TrainConfig) -> Tensor:
    """Take one step on a batch and return its mean loss, left on the device."""
    for group in training.optimizer.param_groups:
        group["lr"] = learning_rate_at(step, num_steps, config)
    batch = training.gatherer.batch(rows).to(training.device)
    with training.autocast:
        logits_BS = training.model(batch)
    loss = training.loss(logits_BS, batch.label_rows, batch.label_species)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(training.model.parameters(), config.gradient_clip)
    training.optimizer.step()
    training.optimizer.zero_grad(set_to_none=True)
    update_average(training.average, training.model, min(config.ema_decay, (1 + step) / (10 + step)))
    return loss.detach()


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


def validate(training: Training, rows: NDArray[np.int64]) -> tuple[float, Calibration, float]:
    """Return the loss of the averaged weights, their calibration, and the sF1 of the calibrated expected-F1 lists."""
    store = training.gatherer.store
    truth = store.labels.take(rows)
    logits_NS = torch.empty(len(rows), len(store.species_ids))  # a gigabyte for 20,000 rows and 11,000 species
    total, first = 0.0, 0
    with training.autocast:
        for logits_BS in predict_logits(training.average, training.gatherer, rows, training.device):
            last = first + len(logits_BS)
            part = truth.take(np.arange(first, last))
            pairs = torch.from_numpy(part.surveys()), torch.from_numpy(part.indices).long()
            total += len(logits_BS) * float(training.loss(logits_BS, *pairs))
            logits_NS[first:last] = logits_BS
            first = last
    calibration = fit_calibration(logits_NS, truth)
    lists = expected_f1_sets(calibration.apply(logits_NS))
    return total / len(rows), calibration, score_sets(lists, truth, len(store.species_ids)).sample_f1


def has_stalled(logs: list[EpochLog], patience: int) -> bool:
    """Return whether the validation sF1 has not improved for ``patience`` epochs."""
    return bool(logs) and len(logs) - 1 - best_epoch(logs) >= patience


def best_epoch(logs: list[EpochLog]) -> int:
    """Return the epoch with the highest validation sF1; of equals, the first."""
    return int(np.argmax([log.val_sf1 for log in logs]))


def check_finite(total: Tensor, store: Store, rows: NDArray[np.int64], epoch: int) -> None:
    """Stop if the loss has become NaN or infinite, naming the surveys at hand."""
    if not math.isfinite(float(total)):
        ids = store.surveys["survey_id"][rows.tolist()].head(5).to_list()
        raise RunError(
            f"the loss of epoch {epoch} is {float(total)} by the batch with surveys {ids} ...",
            action="Lower train.learning_rate or train with train.precision = 'fp32'; the best weights are kept",
        )


def save_weights(folder: Path, model: SpeciesModel | ForestModel) -> None:
    """Write the weights and the statistics that go with them."""
    with atomic_path(folder / "weights.safetensors") as partial:
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, partial)
    write_text(folder / "statistics.json", model.statistics.model_dump_json())


def save_state(folder: Path, training: Training) -> None:
    """Write what a resumed training needs, and the log."""
    write_text(folder / "metrics.jsonl", "".join(json.dumps(asdict(log)) + "\n" for log in training.logs))
    state = {
        "model": training.model.state_dict(),
        "average": training.average.state_dict(),
        "optimizer": training.optimizer.state_dict(),
        "logs": [asdict(log) for log in training.logs],
        "best": training.best,
    }
    with atomic_path(folder / "state.pt") as partial:
        torch.save(state, partial)


def restore_state(folder: Path, training: Training) -> None:
    """Put a training back to where its last whole epoch left it; without a state it stays at the start."""
    file = folder / "state.pt"
    if not file.is_file():
        return
    state = torch.load(file, map_location=training.device, weights_only=True)
    training.model.load_state_dict(state["model"])
    training.average.load_state_dict(state["average"])
    training.optimizer.load_state_dict(state["optimizer"])
    training.logs[:] = [EpochLog(**log) for log in state["logs"]]
    training.best = state["best"]


def save_finished(folder: Path, summary: dict[str, Any], logs: list[EpochLog]) -> None:
    """Write ``member.json``, the sign that a member is done, and drop the state that only resuming needs."""
    write_json(folder / "member.json", summary | {"num_epochs": len(logs)})
    (folder / "state.pt").unlink(missing_ok=True)


def finished_logs(folder: Path) -> list[EpochLog]:
    """Return the log of a member that is done, else nothing."""
    if not (folder / "member.json").is_file():
        return []
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [EpochLog(**json.loads(line)) for line in lines]


def load_member(folder: Path, config: ModelConfig, device: torch.device) -> SpeciesModel | ForestModel:
    """Return a trained member, ready to predict.

    Raises
    ------
    RunError
        If the member is not done.
    """
    if not (folder / "member.json").is_file():
        raise RunError(f"{folder} is not trained to its end", action="Run releve train again with --resume")
    statistics = Statistics.model_validate_json((folder / "statistics.json").read_text(encoding="utf-8"))
    weights = load_file(folder / "weights.safetensors")
    if json.loads((folder / "member.json").read_text(encoding="utf-8")).get("kind") == "forest":
        return load_forest(weights, statistics)
    model = build_model(statistics, config.model_copy(update={"pretrained": None}), seed=0)
    model.load_state_dict(weights)
    return model.to(device).eval()
