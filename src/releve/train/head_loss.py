"""The species head and its loss together, some species at a time: the (rows, species) logits never lie in memory."""

# N rows, F features, S species, C species of one chunk, P presences (pairs of a row and a species that is there)

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from releve.data.gather import move

CHUNK_BYTES = {"cpu": 2**22, "cuda": 2**28}
"""Bytes of one chunk's float32 logits: what a core's cache holds; on a GPU, what fills it."""


@dataclass(frozen=True)
class Presences:
    """Who grows where among some rows, ordered by species, and how much each presence counts in the loss."""

    rows_P: Tensor
    species_P: Tensor
    weight_P: Tensor
    sorted_species: NDArray[np.int64]
    """``species_P`` on the CPU: what lies in a chunk is known without asking the device."""

    @classmethod
    def of(
        cls, rows: NDArray[np.int64], species: NDArray[np.int64], weights: NDArray, device: torch.device
    ) -> Presences:
        """Return pairs, in any order, on a device."""
        order = np.argsort(species, kind="stable")
        pairs = move(torch.from_numpy(np.stack([rows[order], species[order]])), device)
        weight_P = move(torch.from_numpy(weights[order].astype(np.float32)), device)
        return cls(pairs[0], pairs[1], weight_P, species[order])


@dataclass(frozen=True)
class Chunk:
    """What a loss is given: all rows' logits of the species from ``first`` on, and the presences among them."""

    first: int
    logits_NC: Tensor
    rows_P: Tensor
    species_P: Tensor
    """Counted from species 0, as in the whole table."""
    weight_P: Tensor
    logits_P: Tensor
    """Logits of the presences: apart, since their gradient as a table would be mostly zeros."""


def cross_entropy(chunk: Chunk, silence_N: Tensor) -> Tensor:
    """Return the binary cross-entropy of presence and absence, summed over species.

    Parameters
    ----------
    chunk
        Logits and presences; a presence counts ``weight_P``.
    silence_N
        How much each species that a row does not list counts as absent.

    Examples
    --------
    >>> logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]])
    >>> rows, species, half = torch.tensor([0, 0, 1]), torch.tensor([0, 2, 1]), torch.tensor([0.5, 0.5])
    >>> chunk = Chunk(0, logits, rows, species, half[rows], logits[rows, species])
    >>> dense = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    >>> theirs = functional.binary_cross_entropy_with_logits(logits, dense, reduction="sum") / 2
    >>> torch.allclose(cross_entropy(chunk, half), theirs)
    True
    """
    present = chunk.weight_P @ functional.softplus(-chunk.logits_P)
    silent = silence_N @ functional.softplus(chunk.logits_NC).sum(dim=1)
    return present + silent - silence_N[chunk.rows_P] @ functional.softplus(chunk.logits_P)


def head_loss(
    features_NF: Tensor,
    weight_SF: Tensor,
    bias_S: Tensor,
    presences: Presences,
    loss_of: Callable[[Chunk], Tensor],
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
    presences
        Who grows where.
    loss_of
        Loss of a chunk, a scalar; such as :func:`cross_entropy`.
    dtype
        Type of the matrix products; logits and losses are float32.
    num_rows
        Rows by which chunks are sized, where several processes must take the same ones; by default N.
    """
    size = chunk_size(len(features_NF) if num_rows is None else num_rows, features_NF.device)
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in (features_NF, weight_SF, bias_S))
    return _HeadLoss.apply(features_NF, weight_SF, bias_S, presences, loss_of, dtype, size, wanted)


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
        presences: Presences,
        loss_of: Callable[[Chunk], Tensor],
        dtype: torch.dtype,
        size: int,
        wanted: bool,
    ) -> Tensor:
        features = features_NF.to(dtype)
        grad_features = torch.zeros_like(features_NF, dtype=torch.float32)
        grad_weight, grad_bias = (torch.empty_like(x, dtype=torch.float32) for x in (weight_SF, bias_S))
        total = torch.zeros((), device=features_NF.device)
        starts = np.arange(0, len(weight_SF), size)
        bounds = np.searchsorted(presences.sorted_species, [*starts, len(weight_SF)]).tolist()
        for first, begin, end in zip(starts.tolist(), bounds[:-1], bounds[1:], strict=True):
            weight = weight_SF[first : first + size].to(dtype)
            rows_P, species_P = presences.rows_P[begin:end], presences.species_P[begin:end]
            with torch.autocast(features.device.type, enabled=False):
                logits_NC = (features @ weight.T).float()
                logits_NC += bias_S[first : first + size]  # in float32: bf16 cannot tell rare species apart
                logits_P = logits_NC[rows_P, species_P - first]
                table = Chunk(first, logits_NC, rows_P, species_P, presences.weight_P[begin:end], logits_P)
                with torch.set_grad_enabled(wanted):
                    logits = logits_NC.requires_grad_(wanted), logits_P.requires_grad_(wanted)
                    loss = loss_of(table)
                total += loss.detach()
                if wanted:
                    grad_NC, grad_P = torch.autograd.grad(loss, logits, materialize_grads=True)
                    grad_NC = grad_NC.contiguous()  # a sum's gradient is one number
                    grad_NC.index_put_((rows_P, species_P - first), grad_P, accumulate=True)
                    grad_bias[first : first + size] = grad_NC.sum(dim=0)
                    grad_NC = grad_NC.to(dtype)
                    grad_features += grad_NC @ weight
                    grad_weight[first : first + size] = grad_NC.T @ features
        ctx.save_for_backward(grad_features, grad_weight, grad_bias)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return (*(x * grad for x in ctx.saved_tensors), None, None, None, None, None)
