"""The optimiser, the course of its learning rate, and the average of the weights."""

from __future__ import annotations

import math

import torch
from torch import nn

from releve.train.config import TrainConfig


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
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


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the average towards the model, batch norms' running statistics included; integers are copied."""
    ours, theirs = ([*m.parameters(), *m.buffers()] for m in (average, model))
    moved = [i for i, tensor in enumerate(ours) if tensor.is_floating_point()]
    torch._foreach_lerp_([ours[i] for i in moved], [theirs[i] for i in moved], 1 - decay)
    for mine, its in zip(ours, theirs, strict=True):
        if not mine.is_floating_point():
            mine.copy_(its)
