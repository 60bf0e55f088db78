"""How a student starts: what it copies from its teacher, and what stays random."""

from __future__ import annotations

import pytest
import torch

from tests.trainables.models.tiny import FAMILIES, tiny_spec
from trainables.config import StudentConfig, StudentImageTower, StudentTextTower
from trainables.models.dual_encoder import DualEncoder, TowerName
from trainables.models.factory import build_model
from trainables.models.spec import ModelSpec
from trainables.recipe import LayerMapping, Recipe
from trainables.student import make_student, student_spec

SEED = 7


@pytest.fixture(scope="module", params=FAMILIES)
def teacher(request: pytest.FixtureRequest) -> DualEncoder:
    """Three layers in each tower; random weights are as good as others to be copied."""
    spec = tiny_spec(request.param)
    return build_model(spec.model_copy(update={"text": spec.text.model_copy(update={"layers": 3})}), seed=1)


def sized(teacher: DualEncoder, image: tuple[int, int] = (2, 64), text: tuple[int, int] = (2, 64)) -> ModelSpec:
    config = StudentConfig(
        image=StudentImageTower(layers=image[0], width=image[1]), text=StudentTextTower(layers=text[0], width=text[1])
    )
    return student_spec(config, teacher.spec)


def layer(model: DualEncoder, tower: TowerName, number: int) -> dict[str, torch.Tensor]:
    return model.layers(tower)[number].state_dict()


def tower_of(model: DualEncoder, tower: TowerName) -> dict[str, torch.Tensor]:
    root = ".".join(model.layer_names(tower)[0].split(".")[:2])
    return {name: tensor for name, tensor in model.state_dict().items() if name.startswith(f"{root}.")}


def stem(model: DualEncoder, tower: TowerName) -> dict[str, torch.Tensor]:
    """All of a tower but its layers."""
    layers = tuple(f"{name}." for name in model.layer_names(tower))
    found = {name: tensor for name, tensor in tower_of(model, tower).items() if not name.startswith(layers)}
    assert len(found) >= 4
    return found


def equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    assert left.keys() == right.keys()
    return all(left[name].shape == right[name].shape and torch.equal(left[name], right[name]) for name in left)


def test_student_has_its_teachers_sizes_where_its_configuration_names_none(teacher: DualEncoder) -> None:
    spec = sized(teacher, image=(1, 64), text=(2, 32))
    assert (spec.image.layers, spec.image.width, spec.text.layers, spec.text.width) == (1, 64, 2, 32)
    assert (spec.family, spec.embed_dim) == (teacher.spec.family, teacher.spec.embed_dim)
    assert spec.image.model_copy(update={"layers": 3}) == teacher.spec.image
    assert spec.text.model_copy(update={"layers": 3, "width": 64, "mlp_width": 256}) == teacher.spec.text


@pytest.mark.parametrize(
    ("mapping", "origins"),
    [
        (LayerMapping(kind="uniform"), (1, 2)),  # round(1.5), round(3)
        (LayerMapping(kind="last"), (1, 2)),
        (LayerMapping(kind="first"), (0, 1)),
        (LayerMapping(kind="monotone", layers=(1, 3)), (0, 2)),
    ],
)
def test_mapped_student_copies_the_mapped_layers_and_the_stem(
    teacher: DualEncoder, mapping: LayerMapping, origins: tuple[int, int]
) -> None:
    recipe = Recipe(strategy="fd", image_mapping=mapping, text_mapping=LayerMapping(kind="first"))
    student = make_student(sized(teacher), teacher, recipe, SEED)
    for place, origin in enumerate(origins):
        assert equal(layer(student, "image", place), layer(teacher, "image", origin))
        assert equal(layer(student, "text", place), layer(teacher, "text", place))
    for tower in ("image", "text"):
        assert equal(stem(student, tower), stem(teacher, tower))
    assert torch.equal(student.logit_scale, teacher.logit_scale)
    assert torch.equal(student.logit_bias, teacher.logit_bias)
    random = build_model(student.spec, SEED)
    assert not equal(layer(random, "image", 0), layer(student, "image", 0))


def test_tower_without_a_mapping_keeps_random_layers(teacher: DualEncoder) -> None:
    recipe = Recipe(strategy="fd", text_mapping=LayerMapping(kind="none"))
    student = make_student(sized(teacher), teacher, recipe, SEED)
    random = build_model(student.spec, SEED)
    for place in range(2):
        assert equal(layer(student, "text", place), layer(random, "text", place))
        assert not equal(layer(student, "image", place), layer(random, "image", place))
    assert equal(stem(student, "text"), stem(teacher, "text"))


def test_wider_tower_stays_random_where_its_teacher_has_less(teacher: DualEncoder) -> None:
    student = make_student(sized(teacher, text=(2, 96)), teacher, Recipe(strategy="fd"), SEED)
    random, source = build_model(student.spec, SEED).state_dict(), teacher.state_dict()
    for name, tensor in tower_of(student, "text").items():
        fits = name in source and source[name].shape == tensor.shape
        assert torch.equal(tensor, source[name] if fits else random[name]), name
    assert equal(layer(student, "image", 1), layer(teacher, "image", 2))


def test_random_student_depends_on_its_seed_alone(teacher: DualEncoder) -> None:
    recipe = Recipe(strategy="fd", initialise="random")
    spec = sized(teacher)
    first, again, other = (make_student(spec, teacher, recipe, seed).state_dict() for seed in (SEED, SEED, 8))
    assert equal(first, again)
    assert equal(first, build_model(spec, SEED).state_dict())
    assert not equal(first, other)


def test_student_is_a_copy_and_not_a_view_of_its_teacher(teacher: DualEncoder) -> None:
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    student = make_student(teacher.spec, teacher, Recipe(strategy="fd"), SEED)
    assert equal(student.state_dict(), before)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.zero_()
    assert equal(teacher.state_dict(), before)


def test_student_deeper_than_its_teacher_is_refused(teacher: DualEncoder) -> None:
    with pytest.raises(ValueError, match="at most the teacher's 3 layers"):
        make_student(sized(teacher, image=(4, 64)), teacher, Recipe(strategy="fd"), SEED)
