"""What holds for every dual encoder: those that a study fits, and those that are published."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from tests.trainables.models.checkpoints import KINDS, save_checkpoint
from tests.trainables.models.tiny import FAMILIES, SIZE, VOCABULARY, pictures, texts, tiny_spec
from trainables.config import StudentConfig, StudentImageTower, StudentTextTower
from trainables.models.dual_encoder import DualEncoder, TowerName
from trainables.models.factory import build_model, load_model, parameter_count, read_spec
from trainables.models.pretrained import open_checkpoint
from trainables.models.spec import Family, ImageTower, ModelSpec, TextTower
from trainables.recipe import Recipe
from trainables.student import make_student, student_spec

TOWERS: tuple[TowerName, ...] = ("image", "text")
every_tower = pytest.mark.parametrize("tower", TOWERS)


@pytest.fixture(scope="module", params=[*FAMILIES, *(f"published {kind}" for kind in KINDS)])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> DualEncoder:
    """With random weights: of a published checkpoint, the architecture alone."""
    *published, name = request.param.split()
    if not published:
        return build_model(tiny_spec(name), seed=0).eval()
    folder = save_checkpoint(name, tmp_path_factory.mktemp(name))
    return build_model(open_checkpoint(str(folder), None).spec(None), seed=0).eval()


def batch(model: DualEncoder, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Image embeddings, embeddings of two captions each, and their weights; one is missing."""
    weight = torch.tensor([[0.5], [1.5]]).repeat(1, count)
    weight[1, 0] = 0
    image = model.encode_image(model.preprocess(pictures(count, model.spec))).embedding
    return image, model.encode_text(texts(2 * count, model.spec)).embedding.view(2, count, -1), weight


def task_loss(model: DualEncoder, count: int) -> torch.Tensor:
    return model.task_loss(*batch(model, count), model.logit_scale, model.logit_bias)


def test_towers_give_unit_vectors_and_a_state_a_layer(model: DualEncoder) -> None:
    with torch.no_grad():
        towers = [
            (model.encode_image(model.preprocess(pictures(3, model.spec))), model.spec.image),
            (model.encode_text(texts(3, model.spec)), model.spec.text),
        ]
    for encoded, sizes in towers:
        assert encoded.embedding.shape == (3, model.spec.embed_dim)
        torch.testing.assert_close(encoded.embedding.norm(dim=1), torch.ones(3))
        assert [state.shape for state in encoded.layers] == [(3, sizes.width)] * sizes.layers


def test_what_else_is_in_a_batch_has_no_effect(model: DualEncoder) -> None:
    pixels, tokens = model.preprocess(pictures(3, model.spec)), texts(41, model.spec)
    with torch.no_grad():
        together = [model.encode_image(pixels), model.encode_text(tokens)]
        alone = [model.encode_image(pixels[1:2]), model.encode_text(tokens[1:2])]
    for many, one in zip(together, alone, strict=True):
        for rows, row in zip([many.embedding, *many.layers], [one.embedding, *one.layers], strict=True):
            torch.testing.assert_close(rows[1:2], row, rtol=0, atol=1e-5)


@pytest.mark.parametrize("count", [5, 41])
def test_padding_may_be_left_off(model: DualEncoder, count: int) -> None:
    tokens, kept = texts(count, model.spec), model.spec.text.context_length - 4
    tokens[:, kept:] = model.spec.text.pad_id
    with torch.no_grad():
        whole, cut = model.encode_text(tokens), model.encode_text(tokens[:, :kept])
    for left, right in zip([whole.embedding, *whole.layers], [cut.embedding, *cut.layers], strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-5)


def test_bytes_and_shares_are_preprocessed_alike(model: DualEncoder) -> None:
    images = pictures(2, model.spec)
    shares = images.permute(0, 3, 1, 2).float() / 255
    torch.testing.assert_close(model.preprocess(images), model.preprocess(shares))


@every_tower
def test_names_of_layers_are_those_of_their_tensors(model: DualEncoder, tower: TowerName) -> None:
    state = model.state_dict()
    names, layers = model.layer_names(tower), model.layers(tower)
    assert len(names) == getattr(model.spec, tower).layers
    for name, layer in zip(names, layers, strict=True):
        inner = layer.state_dict()
        assert {key for key in state if key.startswith(f"{name}.")} == {f"{name}.{key}" for key in inner}
        assert all(state[f"{name}.{key}"].data_ptr() == tensor.data_ptr() for key, tensor in inner.items())


def test_every_parameter_learns_from_the_familys_own_loss(model: DualEncoder) -> None:
    model.zero_grad()
    task_loss(model, 6).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    model.zero_grad()


def test_familys_own_loss_falls_as_pairs_come_together(model: DualEncoder) -> None:
    image, text, weight = (tensor.detach() for tensor in batch(model, 6))
    losses = [
        float(
            model.task_loss(
                functional.normalize(image + share * target, dim=-1),
                functional.normalize(text + share * target, dim=-1),
                weight,
                model.logit_scale.detach(),
                model.logit_bias.detach(),
            )
        )
        for target in [torch.eye(6, model.spec.embed_dim)]
        for share in (0.0, 0.5, 2.0)
    ]
    assert losses[0] > losses[1] > losses[2]


def test_turning_to_the_familys_own_loss_lowers_it_and_moves_no_embedding(model: DualEncoder) -> None:
    turned = build_model(model.spec, seed=0).eval()
    with torch.no_grad():
        before = task_loss(turned, 6)
        turned.turn_to_task(*batch(turned, 6))
        assert task_loss(turned, 6) <= before
        for ours, theirs in zip(batch(turned, 6), batch(model, 6), strict=True):
            assert torch.equal(ours, theirs)
        assert torch.equal(turned.logit_scale, model.logit_scale)


def test_logits_have_a_positive_scale_and_a_bias(model: DualEncoder) -> None:
    copy = build_model(model.spec, seed=0)
    assert copy.logit_scale.shape == copy.logit_bias.shape == ()
    before = float(copy.logit_scale.detach())
    copy.clamp_logit_scale()
    assert float(copy.logit_scale.detach()) == before > 1


def test_saved_model_loads_as_it_was(model: DualEncoder, tmp_path: Path) -> None:
    model.save(tmp_path)
    loaded = load_model(tmp_path).eval()
    assert type(loaded) is type(model)
    assert read_spec(tmp_path) == loaded.spec == model.spec
    assert loaded.parameter_count() == sum(p.numel() for p in model.parameters()) == parameter_count(model.spec)
    with torch.no_grad():
        pixels, tokens = model.preprocess(pictures(2, model.spec)), texts(3, model.spec)
        assert torch.equal(loaded.encode_image(pixels).embedding, model.encode_image(pixels).embedding)
        assert torch.equal(loaded.encode_text(tokens).embedding, model.encode_text(tokens).embedding)
        assert torch.equal(loaded.logit_scale, model.logit_scale)
        assert torch.equal(loaded.logit_bias, model.logit_bias)


def test_saved_model_with_missing_or_foreign_weights_does_not_load(model: DualEncoder, tmp_path: Path) -> None:
    model.save(tmp_path)
    spec = json.loads((tmp_path / "spec.json").read_text(encoding="utf-8"))
    spec["text"]["vocab_size"] -= 1
    (tmp_path / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
    with pytest.raises(RuntimeError, match="size mismatch"):
        load_model(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path)


def test_weights_depend_on_the_seed_alone(model: DualEncoder) -> None:
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    again, other = build_model(model.spec, seed=0), build_model(model.spec, seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    for tower in TOWERS:
        weights = [next(p for p in m.layers(tower)[0].parameters() if p.ndim == 2) for m in (model, other)]
        assert not torch.equal(*weights)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("image_layers", "text_layers", "width"), [(1, 3, 64), (2, 1, 32)])
def test_parameters_are_counted_from_the_sizes_alone(
    family: Family, image_layers: int, text_layers: int, width: int
) -> None:
    spec = ModelSpec(
        family=family,
        embed_dim=width,
        image=ImageTower(layers=image_layers, width=width, head_width=32, patch_size=8, image_size=SIZE),
        text=TextTower(layers=text_layers, width=96, head_width=32, context_length=9, vocab_size=VOCABULARY),
    )
    assert parameter_count(spec) == build_model(spec, seed=0).parameter_count()


def test_a_student_of_half_the_layers_starts_from_its_teachers(model: DualEncoder) -> None:
    config = StudentConfig(image=StudentImageTower(layers=0.5, width=1.0), text=StudentTextTower(layers=0.5, width=1.0))
    spec = student_spec(config, model.spec)
    assert (spec.library, spec.preprocess) == (model.spec.library, model.spec.preprocess)
    student = make_student(spec, model, Recipe(strategy="fd"), seed=3).eval()
    image, text = (len(student.layers(tower)) for tower in TOWERS)
    assert (image, text) == (spec.image.layers, spec.text.layers)
    own, source = student.state_dict(), model.state_dict()
    last = {tower: (student.layer_names(tower)[-1], model.layer_names(tower)[-1]) for tower in TOWERS}
    for ours, theirs in last.values():  # a uniform map ends with the last layer
        inner = [name.removeprefix(ours) for name in own if name.startswith(f"{ours}.")]
        assert inner
        assert all(torch.equal(own[ours + name], source[theirs + name]) for name in inner)
    with torch.no_grad():
        assert student.encode_text(texts(9, spec)).embedding.isfinite().all()


def test_a_narrower_student_is_of_the_same_architecture(model: DualEncoder) -> None:
    width = 1.0 if not model.spec.projects_images else 0.5
    config = StudentConfig(image=StudentImageTower(layers=1, width=width), text=StudentTextTower(layers=1, width=0.5))
    spec = student_spec(config, model.spec)
    student = build_model(spec, seed=0).eval()
    with torch.no_grad():
        image = student.encode_image(student.preprocess(pictures(2, spec)))
        text = student.encode_text(texts(9, spec))
    assert image.embedding.shape[1] == text.embedding.shape[1] == model.spec.embed_dim
    assert [state.shape[1] for state in (*image.layers, *text.layers)] == [spec.image.width, spec.text.width]
    assert parameter_count(spec) == student.parameter_count() < model.parameter_count()
