"""The parts of a teacher that a smaller student starts from: channels, heads and neurons, the same in every tensor.

Structured pruning by magnitude: what is left out is left out of all tensors that write or read it, so that what stays
still fits together. Tables of positions and patches are resampled where resolutions differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from trainables.axes import Axis, axes_of
from trainables.config import Inherit

# What is chosen along an axis, and how often the axis goes through it.
_CHOSEN: dict[Axis, tuple[str, int]] = {
    "width": ("channels", 1),
    "norm": ("channels", 1),
    "heads": ("heads", 1),
    "kv": ("heads", 2),
    "qkv": ("heads", 3),
    "mlp": ("neurons", 1),
}
_JOINING: frozenset[Axis] = frozenset({"tokens", "pixels", "fixed"})


@dataclass(frozen=True)
class TowerSizes:
    """What the shapes of a tower's tensors do not tell."""

    head_width: int  # the same in teacher and student
    grids: tuple[int, int] = (0, 0)  # patches a side, the teacher's and the student's; of an image tower
    tokens: Tensor | None = None  # int64 [student's vocabulary]: the teacher's id of each token; None: the same ids


class Parts:
    """What a student's tower starts from, in terms of its teacher's.

    The channels of the residual stream are one set for the whole tower; the heads of each attention and the neurons of
    each MLP are sets of their own. ``leading`` takes the first of them. ``important`` takes those of the largest
    magnitude, the sum of the squares of all weights that belong to them, in whatever tensor (group L2 norm: Fang et al.
    2023, *DepGraph*, arXiv 2301.12900, section 3.3). For channels, what joins a tower to pixels, tokens or the joint
    space does not count: its weights are of another scale, and without them students of the embedded teacher were better.

    A layer norm over fewer channels divides by another standard deviation. If a share s of the energy is in h of H
    channels, these came out of the teacher's norm √(H·s/h) times as large as they come out of the student's: its
    weight makes up for that, with the share of the magnitude as s. It is 1 where channels are alike, and exact where
    what is left out is zero.
    """

    def __init__(self, inherit: Inherit, sizes: TowerSizes, tensors: Mapping[str, Tensor]) -> None:
        """``tensors``: those of the teacher that the student's tower starts from, by name."""
        self._inherit = inherit
        self._sizes = sizes
        self._tensors = tensors
        self._best: dict[tuple[str, str, int], tuple[Tensor, float]] = {}

    def take(self, name: str, shape: Sequence[int]) -> Tensor | None:
        """The part of a teacher's tensor that a student's of this shape starts from; None if the student's is larger.

        Raises:
            ValueError: if it differs along an axis that cannot be cut, or nothing says what the axes mean.
        """
        tensor, tokens = self._tensors[name], self._sizes.tokens
        if tensor.shape == torch.Size(shape) and (tokens is None or len(tokens) not in shape):
            return tensor
        axes, block = axes_of(name, tensor.ndim)
        tensor = self._resampled(tensor, axes, shape)
        for place, (axis, size) in enumerate(zip(axes, shape, strict=True)):
            if axis == "tokens" and tokens is not None:
                tensor = tensor.index_select(place, tokens)
            whole = tensor.shape[place]
            if whole < size:
                return None
            if whole == size:
                continue
            if axis in ("places", "padded"):
                rows = torch.arange(size)
                rows[-1] = whole - 1 if axis == "padded" else size - 1
            elif axis in _CHOSEN:
                rows, scale = self._rows(axis, block, whole, size)
                tensor = tensor * scale if axis == "norm" and name.endswith("weight") else tensor
            else:
                raise ValueError(f"{name}: of {whole} along an axis that cannot be cut ({axis}) the student has {size}")
            tensor = tensor.index_select(place, rows)
        return tensor

    def _rows(self, axis: Axis, block: str, whole: int, size: int) -> tuple[Tensor, float]:
        """Which rows along an axis the student has, in rising order, and the factor on a norm's weight."""
        kind, times = _CHOSEN[axis]
        unit = self._unit(kind)
        best, scale = self._chosen(kind, "" if kind == "channels" else block, size // (times * unit))
        starts = (torch.arange(times)[:, None] * (whole // times) + best * unit).flatten()
        return (starts[:, None] + torch.arange(unit)).flatten(), scale

    def _chosen(self, kind: str, block: str, count: int) -> tuple[Tensor, float]:
        """The numbers of the chosen channels, heads or neurons, in rising order, and √(H·s/h)."""
        key = (kind, block, count)
        if key not in self._best:
            scores = self._importance(kind, block)
            order = scores.argsort(descending=True, stable=True)
            best = torch.arange(count) if self._inherit == "leading" else order[:count].sort().values
            share = float(scores[best].sum() / scores.sum())
            self._best[key] = best, (len(scores) * share / count) ** 0.5
        return self._best[key]

    def _importance(self, kind: str, block: str) -> Tensor:
        """The magnitude of each channel of the tower, or of each head or neuron of a block."""
        total = torch.zeros(1, dtype=torch.float64)
        for name, tensor in self._tensors.items():
            axes, own = axes_of(name, tensor.ndim)
            if kind == "channels" and _JOINING & set(axes):
                continue
            for place, axis in enumerate(axes):
                if axis in _CHOSEN and _CHOSEN[axis][0] == kind and (kind == "channels" or own == block):
                    others = [other for other in range(tensor.ndim) if other != place]
                    squares = tensor.double().square().sum(dim=others) if others else tensor.double().square()
                    total = total + squares.view(_CHOSEN[axis][1], -1, self._unit(kind)).sum(dim=(0, 2))
        return total

    def _unit(self, kind: str) -> int:
        """How many rows one of a kind has."""
        return self._sizes.head_width if kind == "heads" else 1

    def _resampled(self, tensor: Tensor, axes: Sequence[Axis], shape: Sequence[int]) -> Tensor:
        """A table of the student's places or a kernel of its patches, as many of both as it has, of all channels."""
        if "grid" in axes and tensor.shape[(place := axes.index("grid"))] != shape[place]:
            return _resampled_grid(tensor, *self._sizes.grids)
        if "patch" in axes and tensor.shape[-1] != shape[-1]:
            return _resampled_patch(tensor, shape[-1])
        if "pixels" in axes and tensor.shape[-1] != shape[-1]:
            before, after = (round((pixels / 3) ** 0.5) for pixels in (tensor.shape[-1], shape[-1]))
            kernel = tensor.view(-1, before, before, 3).permute(0, 3, 1, 2)
            return _resampled_patch(kernel, after).permute(0, 2, 3, 1).flatten(1)
        return tensor


def _resampled_grid(table: Tensor, before: int, after: int) -> Tensor:
    """Places [.., prefix + before², H] as [.., prefix + after², H]: bicubic, antialiased, the class token as it is."""
    from timm.layers import resample_abs_pos_embed

    rows = table.view(1, *table.shape[-2:])
    prefix = rows.shape[1] - before**2
    resampled = resample_abs_pos_embed(rows, [after, after], [before, before], num_prefix_tokens=prefix)
    return cast(Tensor, resampled).view(*table.shape[:-2], *resampled.shape[-2:])


def _resampled_patch(kernel: Tensor, size: int) -> Tensor:
    """[H, 3, p, p] as [H, 3, size, size], which makes of a resized patch what the kernel makes of the patch (PI-resize:
    Beyer et al. 2023, *FlexiViT*, arXiv 2212.08013, section 3.4).
    """
    from timm.layers import resample_patch_embed

    return cast(Tensor, resample_patch_embed(kernel, [size, size]))
