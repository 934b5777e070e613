"""Where networks run, and in which precision."""

from __future__ import annotations

import os

import torch

from releve.errors import RunError
from releve.train.config import TrainConfig
from releve.train.processes import wanted_ranks


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
