"""The species head and its loss together, some species at a time: the (rows, species) logits never lie in memory."""

# N rows, F features, S species, C species of one chunk

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

CHUNK_BYTES = {"cpu": 2**22, "cuda": 2**28}
"""Bytes of one chunk's float32 logits: what a core's cache holds; on a GPU, what fills it."""

LossOf = Callable[["Logits", int, int], Tensor]
"""``loss_of(logits, first, last)``: loss of the species from ``first`` up to ``last``, whose sum is the whole."""


class Logits:
    """Logits of some species, and single ones of them whose gradients are not worked out as a table of mostly zeros.

    Parameters
    ----------
    table_NC
        (N, C) logits.
    """

    def __init__(self, table_NC: Tensor) -> None:
        self.table_NC = table_NC
        self.picked: list[tuple[Tensor, Tensor, Tensor]] = []

    def pick(self, rows_P: Tensor, species_P: Tensor) -> Tensor:
        """Return (P,) logits at pairs of row and species."""
        picked_P = self.table_NC.detach()[rows_P, species_P].requires_grad_(self.table_NC.requires_grad)
        self.picked.append((rows_P, species_P, picked_P))
        return picked_P

    def gradient(self, loss: Tensor) -> Tensor:
        """Return (N, C) gradient of a loss of the table and of what was picked from it."""
        leaves = [picked_P for *_, picked_P in self.picked]
        grad_NC, *of_picked = torch.autograd.grad(loss, [self.table_NC, *leaves], materialize_grads=True)
        grad_NC = grad_NC if grad_NC.is_contiguous() else grad_NC.contiguous()  # a sum's gradient is one number
        for (rows_P, species_P, _), grad_P in zip(self.picked, of_picked, strict=True):
            grad_NC.index_put_((rows_P, species_P), grad_P, accumulate=True)
        return grad_NC


def head_loss(
    features_NF: Tensor,
    weight_SF: Tensor,
    bias_S: Tensor,
    loss_of: LossOf,
    *,
    dtype: torch.dtype = torch.float32,
    num_rows: int | None = None,
) -> Tensor:
    """Return the sum over chunks of species of a loss of their logits, ``features @ weight.T + bias``.

    The gradients are worked out beside the loss, chunk by chunk, while the logits are in the cache: three matrix
    products and what the loss itself needs. Dense labels, logits, their loss and its gradient would each be a table
    of N x S numbers, written and read several times.

    Parameters
    ----------
    features_NF, weight_SF, bias_S
        What the logits are made of.
    loss_of
        Loss of a chunk, a scalar.
    dtype
        Type of the matrix products; logits and losses are float32.
    num_rows
        Rows by which chunks are sized, where several processes must take the same ones; by default N.
    """
    size = chunk_size(len(features_NF) if num_rows is None else num_rows, features_NF.device)
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in (features_NF, weight_SF, bias_S))
    return _HeadLoss.apply(features_NF, weight_SF, bias_S, loss_of, dtype, size, wanted)


def chunk_size(num_rows: int, device: torch.device) -> int:
    """Return how many species are looked at together."""
    return max(64, CHUNK_BYTES.get(device.type, CHUNK_BYTES["cuda"]) // (4 * max(1, num_rows)))


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features_NF: Tensor,
        weight_SF: Tensor,
        bias_S: Tensor,
        loss_of: LossOf,
        dtype: torch.dtype,
        size: int,
        wanted: bool,
    ) -> Tensor:
        num_species = len(weight_SF)
        features = features_NF.to(dtype)
        grad_features = torch.zeros_like(features_NF, dtype=torch.float32)
        grad_weight = torch.empty_like(weight_SF, dtype=torch.float32) if wanted else None
        grad_bias = torch.empty_like(bias_S, dtype=torch.float32) if wanted else None
        total = torch.zeros((), device=features_NF.device)
        with torch.autocast(features.device.type, enabled=False):
            for first in range(0, num_species, size):
                last = min(first + size, num_species)
                weight = weight_SF[first:last].to(dtype)
                logits_NC = (features @ weight.T).float()
                logits_NC += bias_S[first:last]  # in float32: bf16 cannot tell rare species apart
                logits = Logits(logits_NC.requires_grad_(wanted))
                with torch.set_grad_enabled(wanted):
                    loss = loss_of(logits, first, last)
                total += loss.detach()
                if grad_weight is None or grad_bias is None:
                    continue
                grad_NC = logits.gradient(loss)
                grad_bias[first:last] = grad_NC.sum(dim=0)
                grad_NC = grad_NC.to(dtype)
                grad_features += grad_NC @ weight
                grad_weight[first:last] = grad_NC.T @ features
        if grad_weight is not None:
            ctx.save_for_backward(grad_features, grad_weight, grad_bias)
            ctx.dtypes = features_NF.dtype, weight_SF.dtype, bias_S.dtype
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grads = [(x * grad).to(dtype) for x, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)]
        return (*grads, None, None, None, None)
