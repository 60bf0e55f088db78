"""The workers of one trial as one batch: embeddings gathered from all of them, gradients included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")


def worker() -> tuple[int, int]:
    """This worker's rank and the number of workers; (0, 1) outside a process group."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


class _Gather(torch.autograd.Function):
    """Concatenate along dim 0 over workers; the backward pass sums what every worker asks of this one's part."""

    @staticmethod
    def forward(context: Any, part: Tensor) -> Tensor:
        parts = [torch.empty_like(part) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, part.contiguous())
        context.size = len(part)
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)  # it may be shared
        dist.all_reduce(total)
        start = dist.get_rank() * context.size
        return total[start : start + context.size]


def maximum(value: float, device: torch.device) -> float:
    """The largest value that any worker has; all workers must ask."""
    if worker()[1] == 1:
        return value
    largest = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return float(largest)


def by_the_first(action: Callable[[], T], device: torch.device) -> T | None:
    """What the first worker's ``action`` gives, None on the others, which wait for it; all workers must ask.

    Raises:
        FloatingPointError: on every worker, if it is raised on the first.
    """
    found: T | None = None
    failure: FloatingPointError | None = None
    if worker()[0] == 0:
        try:
            found = action()
        except FloatingPointError as error:
            failure = error
    if maximum(failure is not None, device):
        raise failure or FloatingPointError("the trial's first worker found a number that is not finite")
    return found


def gather(part: Tensor, dim: int = 0) -> Tensor:
    """The parts of all workers, equal in shape, joined along ``dim``, with gradients.

    Every worker then computes the loss of the whole batch. Its gradient by a worker's own part comes back once from
    each worker, so that the mean over workers, which DDP takes, is the gradient of the whole batch.
    """
    if worker()[1] == 1:
        return part
    joined: Tensor = _Gather.apply(part.transpose(0, dim))
    return joined.transpose(0, dim)


def data_parallel(module: nn.Module, device: torch.device) -> nn.Module:
    """``module`` with gradients that are the mean over workers; itself if there is one worker.

    Not every recipe's loss takes every output: FD has no use for the logit scale. A static graph, which would learn that
    from the first step, exchanges no gradients in the second one then (torch 2.14), so that it is looked at in every step.
    """
    if worker()[1] == 1:
        return module
    return DistributedDataParallel(
        module,
        device_ids=[device] if device.type == "cuda" else None,
        forward_sync_buffers=False,  # they never change
        find_unused_parameters=True,
    )
