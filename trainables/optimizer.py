"""The optimizer that teacher and students are trained with, and its learning-rate schedule."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from trainables.device import resolve_precision
from trainables.models.dual_encoder import DualEncoder

_BETAS = (0.9, 0.98)  # Radford et al. 2021, table 19
# AdamW's learning rate as a share of Muon's, for everything that is not a matrix of a transformer layer.
_ADAMW_SHARE = 0.3
_RMS_OF_ADAMW = 0.2  # Liu et al. 2025, arXiv 2502.16982, section 2.2


class _Muon(torch.optim.Muon):
    """torch's Muon with the Newton-Schulz iterations of timm, which take all matrices of a shape at once, in the type that
    the device is fast in: torch's are in bf16 everywhere, which takes a CPU without instructions for it 17 to 54 times as
    long as fp32.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # none: nothing is computed again
        """One update of the matrices that have a gradient."""
        from timm.optim.muon import zeropower_via_newtonschulz

        for group in self.param_groups:
            rate, momentum = group["lr"], group["momentum"]
            updates: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for matrix in group["params"]:
                if (gradient := matrix.grad) is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(gradient)
                average = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
                updates[matrix.shape].append((matrix, gradient.lerp(average, momentum)))
            for shape, found in updates.items():
                orthogonal = zeropower_via_newtonschulz(
                    torch.stack([update for _, update in found]),
                    group["ns_steps"],
                    [group["ns_coefficients"]],
                    eps=group["eps"],
                    dtype=_fast_type(found[0][0].device),
                )
                for (matrix, _), update in zip(found, orthogonal, strict=True):
                    matrix.mul_(1 - rate * group["weight_decay"])
                    matrix.add_(update, alpha=-rate * _RMS_OF_ADAMW * math.sqrt(max(shape)))


def _fast_type(device: torch.device) -> torch.dtype:
    return torch.bfloat16 if device.type == "meta" else resolve_precision("auto", device)


class Muon:
    """torch's Muon for the matrices of transformer layers, AdamW for all else, behind one optimizer's methods.

    Muon orthogonalises the momentum of matrices (Jordan et al. 2024; Liu et al. 2025, arXiv 2502.16982, whose update
    scale is used). On the embedded data it reached a given mAP in about half of AdamW's steps.
    """

    def __init__(self, model: DualEncoder, extra: Iterable[nn.Parameter], learning_rate: float, weight_decay: float):
        layers = [*model.layers("image"), *model.layers("text")]
        in_layers = {parameter for layer in layers for parameter in layer.parameters()}
        matrices, rest, plain = [], list(extra), []
        for parameter in model.parameters():
            if parameter.ndim < 2:
                plain.append(parameter)
            elif parameter.ndim == 2 and parameter in in_layers:
                matrices.append(parameter)
            else:
                rest.append(parameter)
        adamw = learning_rate * _ADAMW_SHARE
        self._optimizers: tuple[torch.optim.Optimizer, ...] = (
            _Muon(matrices, lr=learning_rate, weight_decay=weight_decay),
            torch.optim.AdamW(
                [{"params": rest, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}],
                lr=adamw,
                betas=_BETAS,
                # On a CPU too: a whole step of a small student is 1.04 times as fast. Tensors without content have no such
                # kernel (`trainables.cost`).
                fused=not rest[0].is_meta,
            ),
        )
        self._initial = [[group["lr"] for group in optimizer.param_groups] for optimizer in self._optimizers]

    def step(self, factor: float) -> None:
        """One update at ``factor`` times the learning rate; clears the gradients."""
        for optimizer, initial in zip(self._optimizers, self._initial, strict=True):
            for group, rate in zip(optimizer.param_groups, initial, strict=True):
                group["lr"] = rate * factor
            optimizer.step()
            optimizer.zero_grad()

    def state_dict(self) -> dict[str, object]:
        return {str(place): optimizer.state_dict() for place, optimizer in enumerate(self._optimizers)}

    def load_state_dict(self, state: dict[str, dict[str, Tensor]]) -> None:
        for place, optimizer in enumerate(self._optimizers):
            optimizer.load_state_dict(state[str(place)])


def schedule(step: int, steps: int, kind: Literal["wsd", "cosine"], warmup: float, decay: float) -> float:
    """The share of the learning rate at ``step``, counted from 0, in (0, 1].

    wsd: linear warm-up, constant, linear decay (Hu et al. 2024, arXiv 2404.06395): its long constant part keeps a trial
    that is stopped early comparable. cosine: warm-up, then half a cosine. ``warmup`` and ``decay`` are shares of steps.
    """
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    if kind == "cosine":
        return max(0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising))), 1e-3)
    falling = round(decay * steps)
    return 1.0 if step < steps - falling else (steps - step) / (falling + 1)
