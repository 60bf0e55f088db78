"""A tiny dual encoder of each family, and what goes into it."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from trainables.models.spec import Family, ImageTower, ModelSpec, TextTower
from trainables.models.tokenizer import END_ID, START_ID

FAMILIES: tuple[Family, ...] = get_args(Family)
# For tests that use the session's fixtures of teacher and plan.
every_family = pytest.mark.parametrize("family", FAMILIES, indirect=True, scope="session")
CONTEXT, VOCABULARY, WIDTH, SIZE = 12, 320, 64, 24


def tiny_spec(family: Family) -> ModelSpec:
    """Three image layers and two text layers."""
    return ModelSpec(
        family=family,
        embed_dim=WIDTH,
        image=ImageTower(layers=3, width=WIDTH, head_width=32, patch_size=12, image_size=SIZE),
        text=TextTower(layers=2, width=WIDTH, head_width=32, context_length=CONTEXT, vocab_size=VOCABULARY),
    )


def texts(count: int) -> torch.Tensor:
    """Random texts of all lengths, with start and end marks and padding."""
    generator = torch.Generator().manual_seed(count)
    tokens = torch.randint(4, VOCABULARY, (count, CONTEXT), generator=generator)
    tokens[:, 0] = START_ID
    for row, end in enumerate(torch.randint(1, CONTEXT, (count,), generator=generator)):
        tokens[row, end] = END_ID
        tokens[row, end + 1 :] = 0
    return tokens


def pictures(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, SIZE, SIZE, 3), generator=generator, dtype=torch.uint8)
