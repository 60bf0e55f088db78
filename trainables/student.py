"""A student made from its teacher: smaller towers, and the teacher's layers as a start where shapes allow."""

from __future__ import annotations

from typing import TypeVar

import torch

from trainables.config import StudentConfig, StudentTower, part
from trainables.layer_mapping import mapped_layers
from trainables.models.dual_encoder import DualEncoder, TowerName
from trainables.models.factory import build_model
from trainables.models.spec import ImageTower, ModelSpec, TextTower
from trainables.recipe import LayerMapping, Recipe

_Tower = TypeVar("_Tower", ImageTower, TextTower)


def student_spec(config: StudentConfig, teacher: ModelSpec) -> ModelSpec:
    """The student's sizes; everything that its configuration does not name is the teacher's."""

    def sized(tower: _Tower, own: StudentTower) -> _Tower:
        return tower.resized(part(own.layers, tower.layers), part(own.width, tower.width, tower.head_width))

    towers = {"image": sized(teacher.image, config.image), "text": sized(teacher.text, config.text)}
    return ModelSpec.model_validate({**teacher.model_dump(), **towers})


def make_student(spec: ModelSpec, teacher: DualEncoder, recipe: Recipe, seed: int) -> DualEncoder:
    """A student as the recipe starts it.

    ``random``: all weights random. ``mapped``: each student layer is a copy of the teacher layer that it is mapped
    to, and embeddings, norms and projections are copies of the teacher's; a tensor whose shape differs stays random,
    and so do the layers of a tower whose mapping is ``none``.
    """
    student = build_model(spec, seed)
    if recipe.initialise == "mapped":
        source = teacher.state_dict()
        with torch.no_grad():
            state = student.state_dict()
            for name, origin in _origins(student, teacher, recipe).items():
                if source[origin].shape == state[name].shape:
                    state[name].copy_(source[origin])
    return student


def _origins(student: DualEncoder, teacher: DualEncoder, recipe: Recipe) -> dict[str, str]:
    """The teacher's name of the tensor that each of the student's starts from; one that stays random has none."""
    copied: dict[str, str | None] = {}  # layers
    towers: tuple[tuple[TowerName, LayerMapping], ...] = (
        ("image", recipe.image_mapping),
        ("text", recipe.text_mapping),
    )
    for tower, mapping in towers:
        own, source = student.layer_names(tower), teacher.layer_names(tower)
        chosen = mapped_layers(mapping, len(own), len(source))
        copied |= {layer: source[chosen[place]] if chosen else None for place, layer in enumerate(own)}
    origins = {}
    for name in student.state_dict():
        layer = next((layer for layer in copied if name.startswith(f"{layer}.")), None)
        if layer is None:
            origins[name] = name
        elif (origin := copied[layer]) is not None:
            origins[name] = origin + name.removeprefix(layer)
    return origins
