"""The members of a run: what is trained for which fold, on which device; and the forests among them."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from releve.checkpoint import save_weights
from releve.data import Gatherer, measure_statistics
from releve.distributed import wanted_ranks
from releve.errors import RunError
from releve.files import write_json
from releve.models import ModelConfig
from releve.models.forest import ForestConfig, fit_forest
from releve.prepare.split import SplitConfig
from releve.regimes import Regime, fold_rows
from releve.store import Store


class TrainConfig(BaseModel):
    """How a model is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    regime: Regime = "pa"
    """``pa``: plots; ``po``: presence-only rows; ``presence``: both at once; ``classes``: presence-only, then plots."""
    loss: Literal["bce", "full_weighted", "asymmetric"] = "bce"
    """Loss of the plots: a name in ``releve.losses.LOSSES``."""
    class_weight: float = Field(0.0, ge=0, le=1)
    """Presences weigh more where a species is rare: its share of the plots to the power of minus this, mean 1."""
    num_folds: int = Field(1, ge=1)
    """Folds that are held out in turn, each from members of its own; all members' predictions are averaged."""
    seeds_per_fold: int = Field(1, ge=1)
    """Networks trained for each fold, with different seeds."""
    forests_per_fold: int = Field(0, ge=0)
    """Forests of random trees on the tables of the plots, trained for each fold beside the networks."""
    refit: bool = False
    """Then train as many more members of each kind on all rows, nothing held out, for the folds' mean best epochs."""
    selection_share: float = Field(0.1, ge=0, le=0.5)
    """Share of the rows outside the held-out fold, as whole blocks, that the epoch is selected on rather than trained
    on, so that the held-out score is not flattered; 0 keeps the last epoch."""
    epochs: int = Field(20, ge=1)
    """Passes over the training rows; the cosine schedule ends with the last one."""
    patience: int = Field(6, ge=1)
    """Epochs without a better sF1 of the selection rows after which training stops."""
    batch_size: int = Field(128, ge=2)
    """Surveys a step, whatever the number of processes."""
    accumulate: int = Field(1, ge=1)
    """Parts that a step's rows are gone through in, one after the other, where they do not fit in memory together.
    Batch norms (of series by convolution, and of patches) see one part at a time."""
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
    """One model of a run: the fold held out (None: nothing), its seed, and ``network`` or ``forest``."""

    index: int
    fold: int | None
    seed: int
    kind: str = "network"

    @property
    def name(self) -> str:
        """Folder name."""
        return f"member-{self.index:02d}"


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
    folds: list[int | None] = [*range(config.num_folds), *([None] if config.refit else [])]
    pairs = [(fold, kind) for fold in folds for kind in kinds]
    return [Member(i, fold, 1000 * seed + i, kind) for i, (fold, kind) in enumerate(pairs)]


def choose_device(name: str) -> torch.device:
    """Return the device of a name; ``auto`` is the first GPU if there is one.

    Raises
    ------
    RunError
        If there is no such device.
    """
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if name in ("auto", "cuda") and torch.cuda.is_available():
        if local >= torch.cuda.device_count():
            raise RunError(
                f"process {local} of this machine has no GPU of its own: there are {torch.cuda.device_count()}",
                action="Start as many processes as there are GPUs (torchrun --nproc-per-node), or train.device = 'cpu'",
            )
        return torch.device("cuda", local)
    if name == "auto":
        return torch.device("cpu")
    if name.startswith("cuda:") and wanted_ranks() > 1:
        raise RunError(
            f"train.device is {name!r} with {wanted_ranks()} processes",
            expected="'auto' or 'cuda': each process then takes a GPU of its own",
        )
    found = ["auto", "cpu", "cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if name not in found or (name == "cuda" and not torch.cuda.is_available()):
        raise RunError(
            f"train.device is {name!r} and torch finds {torch.cuda.device_count()} GPUs",
            expected=f"one of {found}",
            action="Use train.device = 'auto'",
        )
    return torch.device(name)


def matrix_dtype(config: TrainConfig, device: torch.device) -> torch.dtype:
    """Return the type of matrix products and convolutions in training and prediction."""
    bf16 = config.precision == "bf16" or (config.precision == "auto" and device.type == "cuda")
    return torch.bfloat16 if bf16 else torch.float32


def autocast_for(config: TrainConfig, device: torch.device) -> torch.autocast:
    """Return the context in which networks run."""
    return torch.autocast(device.type, torch.bfloat16, enabled=matrix_dtype(config, device) == torch.bfloat16)


def train_forest(
    store: Store,
    member: Member,
    model_config: ModelConfig,
    config: ForestConfig,
    split: SplitConfig,
    folder: Path,
    *,
    resume: bool = False,
) -> None:
    """Grow one forest on the training rows of its fold and keep it in ``folder``.

    Parameters
    ----------
    store, member, split, folder, resume
        As for :func:`train_member`.
    model_config
        Its table modalities are what the forest sees.
    config
        The trees.
    """
    if resume and (folder / "member.json").is_file():
        return
    train_rows = fold_rows(store, member.fold, split).plots
    rng = np.random.default_rng(member.seed)
    tables = tuple(name for name in model_config.modalities if name in ("covariates", "survey", "location"))
    statistics = measure_statistics(store, train_rows, tables or model_config.modalities, rng=rng)
    gatherer = Gatherer(store, statistics.modalities, statistics.categories)
    save_weights(folder, fit_forest(gatherer, train_rows, statistics, config, seed=member.seed))
    write_json(folder / "member.json", asdict(member))
