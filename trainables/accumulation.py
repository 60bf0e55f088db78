"""A batch in parts: the gradients of a loss over the whole batch, in the memory that one part takes.

A loss that compares across a batch does not add up over its parts. So the parts are embedded without a graph; the loss
of the whole batch gives gradients by the embeddings; and a second pass, part by part, takes these to the parameters:
gradient caching (Gao et al. 2021, arXiv 2101.06983). Exact, for one more forward pass. Models leave nothing to chance in
a forward pass (no dropout), and a batch's views are drawn beforehand, so that the two passes agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor


class Outputs(NamedTuple):
    """What a student makes of B images with G captions each."""

    image: Tensor  # [B, D]
    text: Tensor  # [G, B, D]
    image_states: tuple[Tensor, ...]  # [B, H] a matched layer, as wide as the teacher's
    text_states: tuple[Tensor, ...]  # [G, B, H] a matched layer
    logit_scale: Tensor
    logit_bias: Tensor

    def tensors(self) -> list[Tensor]:
        """All of them, in one order."""
        return [self.image, self.text, *self.image_states, *self.text_states, self.logit_scale, self.logit_bias]


def backward_in_parts(
    forward: Callable[[int], Outputs],
    parts: int,
    loss: Callable[[Outputs], Tensor],
    unsynchronised: Callable[[], AbstractContextManager[None]],
) -> None:
    """Add the gradients of ``loss`` of the whole batch to those of the parameters.

    ``forward``: of the part with a number. ``unsynchronised``: what both passes through all parts but the last run in, so
    that the workers of a data-parallel model exchange gradients once a step. Such a model waits for a gradient by every
    output, so that each gets one, if only zero.
    """
    with torch.no_grad():
        seen = [forward(part) for part in range(parts)]
    sizes = [len(outputs.image) for outputs in seen]
    whole = _joined(seen)
    del seen
    torch.autograd.backward(loss(whole))
    gradients = _gradients(whole, sizes)
    del whole
    for part, of_part in enumerate(gradients):
        with unsynchronised() if part < parts - 1 else nullcontext():
            pairs = zip(forward(part).tensors(), of_part, strict=True)
            reached, given = zip(*(pair for pair in pairs if pair[0].requires_grad), strict=True)
            torch.autograd.backward(reached, given)


def _joined(parts: Sequence[Outputs]) -> Outputs:
    """The outputs of all parts as if they were one, and the start of a graph."""

    def joined(tensors: Iterable[Tensor], dim: int) -> Tensor:
        return torch.cat(tuple(tensors), dim).requires_grad_()

    return Outputs(
        joined((part.image for part in parts), 0),
        joined((part.text for part in parts), 1),
        tuple(joined(states, 0) for states in zip(*(part.image_states for part in parts), strict=True)),
        tuple(joined(states, 1) for states in zip(*(part.text_states for part in parts), strict=True)),
        parts[0].logit_scale.detach().clone().requires_grad_(),
        parts[0].logit_bias.detach().clone().requires_grad_(),
    )


def _gradients(whole: Outputs, sizes: Sequence[int]) -> list[list[Tensor]]:
    """By the outputs of each part; scale and bias have theirs in the last one."""
    *embedded, scale, bias = (_gradient(tensor) for tensor in whole.tensors())
    by_tensor = [torch.split(tensor, list(sizes), dim=tensor.ndim - 2) for tensor in embedded]
    parts = [list(of_part) for of_part in zip(*by_tensor, strict=True)]
    for number, of_part in enumerate(parts, 1):
        share = float(number == len(parts))
        of_part += [share * scale, share * bias]
    return parts


def _gradient(leaf: Tensor) -> Tensor:
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
