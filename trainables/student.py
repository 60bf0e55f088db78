"""A student made from its teacher: smaller towers, and the teacher's layers as a start where shapes allow."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch

from trainables.config import StudentConfig
from trainables.layer_mapping import mapped_layers
from trainables.models.dual_encoder import DualEncoder
from trainables.models.factory import build_model
from trainables.models.spec import ModelSpec
from trainables.recipe import Recipe

_LAYER = re.compile(r"^clip\.(visual|text)\.transformer\.resblocks\.(\d+)\.(.*)$")


def student_spec(config: StudentConfig, teacher: ModelSpec) -> ModelSpec:
    """The student's sizes; everything that its configuration does not name is the teacher's."""
    return ModelSpec(
        family=teacher.family,
        embed_dim=teacher.embed_dim,
        image=teacher.image.model_copy(update=config.image.model_dump()),
        text=teacher.text.model_copy(update=config.text.model_dump()),
    )


def make_student(spec: ModelSpec, teacher: DualEncoder, recipe: Recipe, seed: int) -> DualEncoder:
    """A student as the recipe starts it.

    ``random``: all weights random. ``mapped``: each student layer is a copy of the teacher layer that it is mapped
    to, and embeddings, norms and projections are copies of the teacher's; a tensor whose shape differs stays random,
    and so do the layers of a tower whose mapping is ``none``.
    """
    student = build_model(spec, seed)
    if recipe.initialise == "mapped":
        maps = {
            "visual": mapped_layers(recipe.image_mapping, spec.image.layers, teacher.spec.image.layers),
            "text": mapped_layers(recipe.text_mapping, spec.text.layers, teacher.spec.text.layers),
        }
        source = teacher.state_dict()
        with torch.no_grad():
            for name, tensor in student.state_dict().items():
                origin = source.get(_origin(name, maps) or "")
                if origin is not None and origin.shape == tensor.shape:
                    tensor.copy_(origin)
    return student


def _origin(name: str, maps: Mapping[str, Sequence[int]]) -> str | None:
    """The teacher's name of the tensor that a student's tensor starts from, None for one that stays random."""
    match = _LAYER.match(name)
    if match is None:
        return name
    tower, layer, rest = match[1], int(match[2]), match[3]
    if not maps[tower]:
        return None
    return f"clip.{tower}.transformer.resblocks.{maps[tower][layer]}.{rest}"
