"""Which student layer learns from which teacher layer, and the loss on a matched pair."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from trainables.recipe import LayerMapping

if TYPE_CHECKING:
    from torch import Tensor


def mapped_layers(mapping: LayerMapping, student: int, teacher: int) -> tuple[int, ...]:
    """The teacher layer of each student layer, counted from 0; empty for `none`.

    With n student and m teacher layers, both counted from 1: uniform m(s) = round(s·m/n), halves up; last
    m(s) = m − n + s; first m(s) = s; monotone as given.

    Raises:
        ValueError: if the student has more layers than the teacher, or a given map does not fit the two.
    """
    if mapping.kind == "none":
        return ()
    if student > teacher:
        raise ValueError(f"a {mapping.kind} mapping needs at most the teacher's {teacher} layers, not {student}")
    positions = range(1, student + 1)
    if mapping.kind == "uniform":
        found = tuple(math.floor(s * teacher / student + 0.5) for s in positions)
    elif mapping.kind == "last":
        found = tuple(teacher - student + s for s in positions)
    elif mapping.kind == "first":
        found = tuple(positions)
    else:
        found = mapping.layers
        if len(found) != student or found[-1] > teacher:
            raise ValueError(f"a map of {student} student layers into {teacher} teacher layers cannot be {list(found)}")
    return tuple(layer - 1 for layer in found)


def layer_distances(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """‖norm(h) − norm(H)‖² of each row of each matched pair, [pairs, B].

    The difference of unit vectors is that of PKD (Sun et al. 2019, arXiv 1908.09355, equation 7).

    Args:
        student: a pooled hidden state [B, H] a matched pair, already as wide as the teacher's.
        teacher: the matched hidden states [B, H].
    """
    import torch
    from torch.nn import functional

    return torch.stack(
        [
            (functional.normalize(h, dim=-1) - functional.normalize(target, dim=-1)).square().sum(dim=-1)
            for h, target in zip(student, teacher, strict=True)
        ]
    )


def layer_loss(distances: Tensor, weight: Tensor) -> Tensor:
    """Mean over matched pairs and rows of w·distance.

    The rows' weights have mean 1 over languages; a row of weight 0 is a missing caption and does not count.

    Args:
        distances: of `layer_distances` [pairs, B].
        weight: [B].
    """
    return (weight * distances).sum(dim=-1).mean() / (weight > 0).sum().clamp(min=1)
