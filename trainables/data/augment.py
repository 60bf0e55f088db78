"""Augmented views of training images: small turns, zooms and shifts, from parameters that are stored.

The teacher's outputs on a view are computed once; the student later sees the very same view, since a view is its
parameters (the idea of fast knowledge distillation, Shen & Xing 2022, arXiv 2112.01528).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

_TURN = math.radians(20)
_ZOOM = 0.2
_SHIFT = 0.15  # in shares of half the width


def draw_views(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Parameters of random views: affine maps from output to input coordinates, float32 [*shape, 2, 3]."""
    uniform = torch.rand(*shape, 4, generator=generator) * 2 - 1
    turn, zoom = uniform[..., 0] * _TURN, 1 + uniform[..., 1] * _ZOOM
    cosine, sine, shift = turn.cos() * zoom, turn.sin() * zoom, uniform[..., 2:] * _SHIFT
    return torch.stack(
        [torch.stack([cosine, -sine, shift[..., 0]], -1), torch.stack([sine, cosine, shift[..., 1]], -1)], -2
    )


def apply_views(images: Tensor, views: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] and parameters [B, 2, 3] to float [B, 3, H, W] in [0, 1]; what comes into view is white."""
    ink = (255 - images).permute(0, 3, 1, 2).float()
    grid = _grid(views, *images.shape[1:3])
    return functional.grid_sample(ink, grid, align_corners=False).div_(-255).add_(1)


def _grid(views: Tensor, height: int, width: int) -> Tensor:
    """Where the pixels of views lie in their pictures, as x and y in [-1, 1]: [B, H, W, 2].

    `functional.affine_grid` without corners aligned, whose matrix products with three columns take a CPU 28 times as long.
    """
    x, y = (torch.arange(1, 2 * size, 2, device=views.device) / size - 1 for size in (width, height))
    by_column = views[..., 0, None] * x + views[..., 2, None]  # [B, 2, W]
    by_row = views[..., 1, None] * y  # [B, 2, H]
    return (by_column[:, :, None, :] + by_row[..., None]).permute(0, 2, 3, 1)
