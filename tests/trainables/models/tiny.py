"""A tiny dual encoder of each family, and what goes into it."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from trainables.models.spec import START_ID, Family, ImageTower, ModelSpec, TextTower

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


TINY_CLIP = tiny_spec("clip")


def texts(count: int, spec: ModelSpec = TINY_CLIP) -> torch.Tensor:
    """Random texts of all lengths, with start and end marks and padding."""
    context, vocabulary = spec.text.context_length, spec.text.vocab_size
    end_id = spec.text.end_id
    if spec.library.get("model_cfg", {}).get("text_cfg", {}).get("pool_type", "argmax") == "argmax" and spec.library:
        end_id = vocabulary - 1  # CLIP's own tower looks for the largest id
    generator = torch.Generator().manual_seed(count)
    tokens = torch.randint(4, vocabulary - 1, (count, context), generator=generator)
    tokens[:, 0] = START_ID
    for row, end in enumerate(torch.randint(1, context, (count,), generator=generator)):
        tokens[row, end] = end_id
        tokens[row, end + 1 :] = spec.text.pad_id
    return tokens


def pictures(count: int, spec: ModelSpec = TINY_CLIP) -> torch.Tensor:
    size, generator = spec.image.image_size, torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, size, size, 3), generator=generator, dtype=torch.uint8)
