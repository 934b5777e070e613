"""One training by several processes (``torchrun``): what each must know and ask of the others.

They take the same steps: each works on every n-th row of a step's plots, records and background, and sums over rows
are added up over processes. Only the first one writes.
"""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from releve.errors import ConfigError, ProcessError, ReleveError

T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)

PATIENCE = timedelta(hours=2)
"""How long a process waits for another, such as for the forests that the first one grows alone."""


def wanted_ranks() -> int:
    """Return the number of processes that ``torchrun`` started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@dataclass(frozen=True)
class Processes:
    """The processes that train together, as one of them sees them; alone, every method is the identity."""

    rank: int = 0
    """The number of this process, from 0."""
    number: int = 1

    def share(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return this process' part of rows: every n-th."""
        return rows[self.rank :: self.number]

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over processes; gradients flow to all of them."""
        return _Sum.apply(values) if self.number > 1 else values

    def log_sum_exp(self, values: Tensor) -> Tensor:
        """Return the log of the sum over processes of exp; gradients flow to all of them."""
        if self.number == 1:
            return values
        highest = values.detach().clone()
        dist.all_reduce(highest, dist.ReduceOp.MAX)
        return highest + self.sum(torch.exp(values - highest)).log()

    def agree(self, number: int) -> bool:
        """Return whether all processes give the same number; they wait for one another."""
        if self.number == 1:
            return True
        ends = torch.tensor([number, -number])
        dist.all_reduce(ends, dist.ReduceOp.MAX)
        return int(ends[0]) == -int(ends[1])

    def on_first(self, work: Callable[[], T]) -> T:
        """Return what the first process' work returns, to all of them; the others wait.

        Raises
        ------
        ReleveError
            In every process what went wrong in the first.
        """
        if self.number == 1:
            return work()
        outcome: list[Any] = [None, None]
        if self.rank == 0:
            try:
                outcome[0] = work()
            except ReleveError as error:
                error.shared = True
                outcome[1] = error
        dist.broadcast_object_list(outcome, src=0)
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]

    def gather_rows(self, mine: Tensor, num_rows: int) -> Tensor | None:
        """Return the (N, ...) rows of all processes, of which each has its share, on the CPU of the first; else None.

        Parameters
        ----------
        mine
            This process' share of the rows, on the CPU.
        num_rows
            N, the rows of all.
        """
        if self.number == 1:
            return mine
        padded = mine.new_zeros(-(-num_rows // self.number), *mine.shape[1:])
        padded[: len(mine)] = mine
        parts = [torch.empty_like(padded) for _ in range(self.number)] if self.rank == 0 else None
        dist.gather(padded, parts, dst=0)
        return None if parts is None else torch.stack(parts, dim=1).flatten(0, 1)[:num_rows]


def processes() -> Processes:
    """Return the processes that were joined; this one alone, if none were."""
    return Processes(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else Processes()


@contextmanager
def joined_processes() -> Iterator[None]:
    """Join the processes that ``torchrun`` started, for the time of the block; alone, do nothing.

    Raises
    ------
    ProcessError
        If another process is lost, or something went wrong in this one alone: all stop, and say how to go on.
    """
    if wanted_ranks() == 1:
        yield
        return
    before = signal.signal(signal.SIGTERM, _stop)
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=PATIENCE)
    try:
        yield
    except ReleveError as error:
        if processes().rank == 0 or error.shared or isinstance(error, ProcessError):
            raise
        raise ProcessError(f"process {processes().rank} of {processes().number}: {error}") from error
    except RuntimeError as error:  # dist.DistError is one; gloo's have no class of their own
        words = ("gloo", "nccl", "connection", "peer")
        if isinstance(error, torch.OutOfMemoryError) or not any(word in str(error).lower() for word in words):
            raise
        raise _lost(str(error).splitlines()[0]) from error
    else:
        dist.destroy_process_group()  # after an error it would wait for the others, who wait for this process
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(*_: object) -> None:
    raise _lost("torchrun stops all of them")


def _lost(reason: str) -> ProcessError:
    return ProcessError(
        f"process {processes().rank} of {processes().number} stops, since another was lost ({reason})",
        action="Run it again with --resume: it goes on after the last whole epoch, with any number of processes",
    )


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _Sum.forward(ctx, grad)  # every process' loss depends on the sum


class GlobalBatchNorm(nn.BatchNorm2d):
    """Batch norm whose means are over the rows of all processes, so that their number does not change what is learned.

    A process may have none of the rows. Works on any device, which torch's own does not.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, H, W)."""
        if not self.training:
            return super().forward(x)
        values = x.float()
        dims = (0, 2, 3)
        sums = torch.cat([values.sum(dims), values.new_full((1,), values.numel() / values.shape[1])])
        sums = processes().sum(sums)
        count = sums[-1].detach()
        centred = values - (sums[:-1] / count)[:, None, None]
        variance = processes().sum(centred.square().sum(dims)) / count
        if self.track_running_stats:
            with torch.no_grad():
                assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
                self.running_mean.lerp_(sums[:-1] / count, self.momentum)
                self.running_var.lerp_(variance * count / (count - 1), self.momentum)
                assert self.num_batches_tracked is not None
                self.num_batches_tracked += 1
        scale = torch.rsqrt(variance + self.eps) * self.weight
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


def share_batch_norms(model: nn.Module) -> None:
    """Let every batch norm of a model take its means over all processes; its weights stay the same tensors.

    Raises
    ------
    ConfigError
        If a network has another kind of batch norm than torch's two-dimensional one.
    """
    if processes().number == 1:
        return
    for name, child in model.named_children():
        if type(child) is nn.BatchNorm2d:
            shared = GlobalBatchNorm(child.num_features, child.eps, child.momentum)
            shared.weight, shared.bias = child.weight, child.bias
            for buffer, values in child.named_buffers():
                setattr(shared, buffer, values)
            setattr(model, name, shared.train(child.training))
        elif isinstance(child, nn.modules.batchnorm._BatchNorm):
            raise ConfigError(
                f"the network has a {type(child).__name__}, whose means cannot be taken over several processes",
                expected="nn.BatchNorm2d, as in resnet18, or layer norms",
                action="Choose another model.patch_backbone, or train with one process",
            )
        else:
            share_batch_norms(child)


def share_gradients(module: M, *, complete: bool) -> M | DistributedDataParallel:
    """Return the module whose gradients are the mean over processes; alone, the module itself.

    ``complete`` says that every parameter has a part in every step.
    """
    if processes().number == 1:
        return module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the new name of broadcast_buffers is unknown to torch 2.6
        return DistributedDataParallel(module, find_unused_parameters=not complete, broadcast_buffers=False)
