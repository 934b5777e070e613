"""A member at its first step: statistics, network, optimiser, and what its rows' silence counts."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from releve.data.gather import Gatherer
from releve.data.resident import place_arrays
from releve.data.statistics import measure_statistics
from releve.models.background import background_of
from releve.models.config import ModelConfig
from releve.models.model import build_model
from releve.store.read import Store
from releve.train.config import RecordsConfig, TrainConfig
from releve.train.device import choose_device, matrix_dtype
from releve.train.losses import share_of
from releve.train.processes import processes, share_batch_norms, share_gradients
from releve.train.rows import FoldRows, weigh_silence
from releve.train.step import Objective, Training

OWN_SHARE = {"target_group": 1.0, "mixed": 0.5, "random": 0.0}
"""Share of the presence-only rows' own silence under each background; the rest is that of the background sites."""


def start_training(
    store: Store, rows: FoldRows, seed: int, model_config: ModelConfig, config: TrainConfig, records: RecordsConfig
) -> Training:
    """Return a member at its first step."""
    device = choose_device(config.device)
    observed = ("observation",) if len(rows.records) and records.observation_head else ()
    fitted = np.concatenate([rows.plots, rows.records])
    modalities = (*model_config.modalities, *observed)
    statistics = measure_statistics(store, fitted, modalities, rng=np.random.default_rng(seed))
    model = build_model(statistics, model_config, seed=seed).to(device)
    held = place_arrays(store, model.modalities, device)
    average = copy.deepcopy(model).eval().requires_grad_(False)
    share_batch_norms(model)
    objective = Objective(model, config, records, matrix_dtype(config, device)).to(device)
    own_share = OWN_SHARE[records.background]
    trusted = records.loss == "trusted_bce"
    trust = weigh_silence(store, rows.plots, rows.records, records.trust) if trusted else np.ones(len(store))
    elsewhere = 1 - own_share
    known = background_of(store.is_random[rows.records], is_target_group=store.is_target_group)
    if store.is_target_group and len(known.random):
        own_share = 1 - known.random_share
        elsewhere = known.random_share * float(trust[rows.records[known.sites]].mean())
    weight_S = share_of(statistics.num_positives, statistics.num_rows).numpy() ** -config.class_weight
    return Training(
        model=model,
        average=average,
        optimizer=make_optimizer(model, config),
        objective=share_gradients(objective, complete=store.all_have(fitted, model.modalities)),
        gatherer=Gatherer(store, (*model.modalities, *observed), statistics.categories, resident=held),
        held_out=Gatherer(store, model.modalities, statistics.categories, resident=held),
        silence=np.where(store.is_plot, 1.0, own_share * trust).astype(np.float32),
        class_weight_S=weight_S / weight_S.mean() if config.class_weight else None,
        elsewhere=elsewhere,
        config=config,
        records=records,
        processes=processes(),
        device=device,
        logs=[],
        best={},
        at_hand=[],
    )


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return AdamW that decays matrices and kernels, not biases, norms and single vectors."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    others = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
