"""A student made from its teacher: fewer layers, narrower towers, and what it inherits of the teacher's weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from trainables.config import Inherit, StudentConfig, StudentTower, comes_to
from trainables.layer_mapping import mapped_layers
from trainables.models.spec import ImageTower, ModelSpec, TextTower
from trainables.recipe import LayerMapping, Recipe

if TYPE_CHECKING:
    from trainables.data.prepared import Array
    from trainables.models.dual_encoder import DualEncoder, TowerName

_Tower = TypeVar("_Tower", ImageTower, TextTower)


def student_spec(config: StudentConfig, teacher: ModelSpec, vocabulary: Array | None = None) -> ModelSpec:
    """The student's sizes; everything that its configuration does not name is the teacher's.

    ``vocabulary``: as for `make_student`.
    """

    def sized(tower: _Tower, own: StudentTower) -> _Tower:
        named = own.model_dump(exclude_none=True, exclude={"layers", "width"})
        layers, width = comes_to(own.layers, tower.layers), comes_to(own.width, tower.width, tower.head_width)
        return tower.resized(layers, width).model_copy(update=named)

    text = sized(teacher.text, config.text)
    if vocabulary is not None:
        marks = {name: int(vocabulary[getattr(text, name)]) for name in ("pad_id", "end_id")}
        text = text.model_copy(update={"vocab_size": int((vocabulary >= 0).sum()), **marks})
    return ModelSpec.model_validate({**teacher.model_dump(), "image": sized(teacher.image, config.image), "text": text})


def make_student(
    spec: ModelSpec,
    teacher: DualEncoder,
    recipe: Recipe,
    seed: int,
    inherit: Inherit = "important",
    vocabulary: Array | None = None,
) -> DualEncoder:
    """A student as the recipe starts it.

    ``random``: all weights random. ``mapped``: each student layer starts from the teacher layer that it is mapped to,
    and embeddings, norms and projections from the teacher's: with all of a tensor, or with what `Parts` chooses where
    the student's is smaller. What is larger stays random, and so do the layers of a tower whose mapping is ``none``.

    ``vocabulary``: as of `read_vocabulary`.

    Raises:
        ValueError: if a tower is narrower, but nothing says what the axes of one of its tensors mean.
    """
    import numpy as np
    import torch

    from trainables.inheritance import Parts, TowerSizes
    from trainables.models.factory import build_model

    student, tokens = build_model(spec, seed), None
    if vocabulary is not None:
        student.use_vocabulary(torch.tensor(vocabulary))
        kept = np.flatnonzero(vocabulary >= 0)
        tokens = torch.from_numpy(kept[np.argsort(vocabulary[kept])])
    if recipe.initialise == "random":
        return student
    sizes: dict[TowerName, TowerSizes] = {
        "image": TowerSizes(spec.image.head_width, grids=(_grid(teacher.spec.image), _grid(spec.image))),
        "text": TowerSizes(spec.text.head_width, tokens=tokens),
    }
    state, source = student.state_dict(), teacher.state_dict()
    origins = _origins(student, teacher, recipe)
    with torch.no_grad():
        for tower, root in _roots(student).items():
            own = {name: origins.pop(name) for name in list(origins) if name.startswith(root)}
            parts = Parts(inherit, sizes[tower], {origin: source[origin] for origin in own.values()})
            for name, origin in own.items():
                if (found := parts.take(origin, state[name].shape)) is not None:
                    state[name].copy_(found)
        for name, origin in origins.items():  # what belongs to neither tower, such as the logit scale
            state[name].copy_(source[origin])
    return student


def _grid(tower: ImageTower) -> int:
    return tower.image_size // tower.patch_size


def _roots(model: DualEncoder) -> dict[TowerName, str]:
    """What the names of all of a tower's tensors begin with: as far as needed to tell the towers apart."""
    image, text = (model.layer_names(tower)[0].split(".") for tower in ("image", "text"))
    apart = next(place for place, (one, other) in enumerate(zip(image, text, strict=False)) if one != other)
    return {"image": ".".join([*image[: apart + 1], ""]), "text": ".".join([*text[: apart + 1], ""])}


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
