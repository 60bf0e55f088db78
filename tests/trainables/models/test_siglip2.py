"""The SigLIP2 encoder against transformers' own methods."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from tests.trainables.models.tiny import pictures, texts, tiny_spec
from trainables.models.dual_encoder import DualEncoder
from trainables.models.factory import build_model
from trainables.models.spec import ModelSpec

FEW = 5


@pytest.fixture(scope="module")
def model() -> DualEncoder:
    return build_model(tiny_spec("siglip2"), seed=0).eval()


def test_images_are_embedded_as_transformers_embeds_them(model: DualEncoder) -> None:
    pixels = model.preprocess(pictures(FEW))
    with torch.no_grad():
        found = model.encode_image(pixels)
        own = model.siglip.get_image_features(pixels, output_hidden_states=True)
    torch.testing.assert_close(found.embedding, functional.normalize(own.pooler_output, dim=-1), rtol=0, atol=1e-5)
    inner = own.hidden_states[1:]  # the first is what goes into the first layer
    assert len(found.layers) == len(inner) == 3
    for layer, patches in zip(found.layers, inner, strict=True):
        torch.testing.assert_close(layer, patches.mean(dim=1), rtol=0, atol=1e-5)


def test_texts_are_embedded_as_transformers_embeds_them(model: DualEncoder) -> None:
    tokens = texts(FEW)
    with torch.no_grad():
        found = model.encode_text(tokens)
        own = model.siglip.get_text_features(tokens, output_hidden_states=True)
    torch.testing.assert_close(found.embedding, functional.normalize(own.pooler_output, dim=-1), rtol=0, atol=1e-5)
    inner = own.hidden_states[1:]
    assert len(found.layers) == len(inner) == 2
    for layer, states in zip(found.layers, inner, strict=True):
        torch.testing.assert_close(layer, states[:, -1], rtol=0, atol=1e-5)


def test_gradients_are_those_of_transformers_whole_text_tower(model: DualEncoder) -> None:
    tokens, generator = texts(FEW), torch.Generator().manual_seed(2)
    wanted = torch.randn(FEW, model.spec.embed_dim, generator=generator)
    parameters = list(model.siglip.text_model.parameters())
    whole = functional.normalize(model.siglip.get_text_features(tokens).pooler_output, dim=-1)
    ours = torch.autograd.grad((model.encode_text(tokens).embedding * wanted).sum(), parameters)
    theirs = torch.autograd.grad((whole * wanted).sum(), parameters)
    for left, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)


def test_task_loss_is_that_of_transformers(model: DualEncoder) -> None:
    pixels, tokens = model.preprocess(pictures(FEW)), texts(FEW)
    with torch.no_grad():
        own = model.siglip(input_ids=tokens, pixel_values=pixels, return_loss=True).loss
        image, text = model.encode_image(pixels).embedding, model.encode_text(tokens).embedding
        loss = model.task_loss(image, text[None], torch.ones(1, FEW), model.logit_scale, model.logit_bias)
    torch.testing.assert_close(loss, own)


def test_every_token_counts_padding_included(model: DualEncoder) -> None:
    tokens = texts(FEW)
    for place in range(tokens.shape[1]):
        changed = tokens.clone()
        changed[:, place] = 77
        with torch.no_grad():
            apart = (model.encode_text(changed).embedding - model.encode_text(tokens).embedding).norm(dim=1)
        assert float(apart.min()) > 1e-4


def test_pixels_are_preprocessed_to_between_minus_one_and_one(model: DualEncoder) -> None:
    black, white = model.preprocess(torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 24, 24))
    assert (black == -1).all()
    assert (white == 1).all()


def test_scale_and_bias_start_where_siglip_starts_them(model: DualEncoder) -> None:
    assert float(model.logit_scale.detach()) == pytest.approx(10)
    assert float(model.logit_bias.detach()) == -10


def test_joint_dimension_is_the_width_of_images(model: DualEncoder) -> None:
    with pytest.raises(ValidationError, match=r"embed_dim 32 is not image\.width 64: siglip2 does not project images"):
        ModelSpec.model_validate({**model.spec.model_dump(), "embed_dim": 32})
