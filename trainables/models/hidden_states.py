"""The outputs of a tower's layers during one forward pass, whatever library the layers come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn


class HiddenStates:
    """Within a ``with`` block, a list that every forward pass of the layers adds to: [B, tokens, H] each."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self._collected: list[Tensor] | None = None
        for layer in layers:
            layer.register_forward_hook(self._collect)

    def _collect(self, _module: nn.Module, _inputs: Any, output: Tensor | tuple[Tensor, ...]) -> None:
        if self._collected is not None:
            self._collected.append(output if isinstance(output, Tensor) else output[0])

    def __enter__(self) -> list[Tensor]:
        self._collected = []
        return self._collected

    def __exit__(self, *_error: object) -> None:
        self._collected = None
