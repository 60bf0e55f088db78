"""The CLIP encoder against open_clip's own methods."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch

from tests.trainables.models.tiny import pictures, texts, tiny_spec
from trainables.models.dual_encoder import DualEncoder
from trainables.models.factory import build_model
from trainables.models.tokenizer import END_ID

PLAIN, BINNED, MANY = 5, 41, 1100  # texts: all but the first batch are encoded by length, the last in more parts


@pytest.fixture(scope="module")
def model() -> DualEncoder:
    return build_model(tiny_spec("clip"), seed=0).eval()


def test_images_are_embedded_as_open_clip_embeds_them(model: DualEncoder) -> None:
    pixels = model.preprocess(pictures(4))
    with torch.no_grad():
        found = model.encode_image(pixels)
        own = model.clip.encode_image(pixels, normalize=True)
        inner = model.clip.visual.forward_intermediates(pixels, output_fmt="NLC")["image_intermediates"]
    torch.testing.assert_close(found.embedding, own, rtol=0, atol=1e-5)
    assert len(found.layers) == len(inner) == 3
    for layer, patches in zip(found.layers, inner, strict=True):
        torch.testing.assert_close(layer, patches.mean(dim=1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("count", [PLAIN, BINNED, MANY])
@pytest.mark.parametrize("without_gradients", [torch.no_grad, torch.inference_mode], ids=["by length", "by beginning"])
def test_texts_are_embedded_as_open_clip_embeds_them_at_full_length(
    model: DualEncoder, count: int, without_gradients: Callable[[], AbstractContextManager[None]]
) -> None:
    tokens = texts(count)
    tokens[3:] = torch.where(torch.arange(count - 3)[:, None] % 3 > 0, tokens[3:], tokens[:-3])  # some twice
    tokens[1::2, :4] = tokens[0, :4]  # many that begin alike
    end = (tokens == END_ID).int().argmax(dim=1)
    with without_gradients():
        found = model.encode_text(tokens)
        own = model.clip.encode_text(tokens, normalize=True)
        inner = model.clip.text.forward_intermediates(tokens, output_fmt="NLC")["text_intermediates"]
    torch.testing.assert_close(found.embedding, own, rtol=0, atol=1e-5)
    assert len(found.layers) == len(inner) == 2
    for layer, states in zip(found.layers, inner, strict=True):
        torch.testing.assert_close(layer, states[torch.arange(count), end], rtol=0, atol=1e-5)


def test_gradients_by_length_are_those_at_full_length(model: DualEncoder) -> None:
    tokens, generator = texts(BINNED), torch.Generator().manual_seed(2)
    wanted = torch.randn(BINNED, model.spec.embed_dim, generator=generator)
    parameters = [p for name, p in model.clip.text.named_parameters()]
    by_length = torch.autograd.grad((model.encode_text(tokens).embedding * wanted).sum(), parameters)
    whole = torch.autograd.grad((model.clip.encode_text(tokens, normalize=True) * wanted).sum(), parameters)
    for ours, theirs in zip(by_length, whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_what_follows_the_end_mark_has_no_effect(model: DualEncoder) -> None:
    tokens = texts(BINNED)
    after = (tokens == END_ID).int().cumsum(dim=1) - (tokens == END_ID).int()
    with torch.no_grad():
        changed = model.encode_text(torch.where(after > 0, 77, tokens)).embedding
        torch.testing.assert_close(changed, model.encode_text(tokens).embedding, rtol=0, atol=1e-5)


def test_white_is_preprocessed_by_clips_own_mean_and_deviation(model: DualEncoder) -> None:
    white = model.preprocess(torch.ones(1, 3, 24, 24))[0, :, 0, 0]
    expected = [(1 - 0.48145466) / 0.26862954, (1 - 0.4578275) / 0.26130258, (1 - 0.40821073) / 0.27577711]
    assert white.tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("scale", "clamped"), [(0.5, 1.0), (50.0, 50.0), (1000.0, 100.0)])
def test_logit_scale_is_kept_within_clips_range(model: DualEncoder, scale: float, clamped: float) -> None:
    copy = build_model(model.spec, seed=0)
    with torch.no_grad():
        copy.clip.logit_scale.fill_(scale).log_()
        copy.clamp_logit_scale()
    assert float(copy.logit_scale.detach()) == pytest.approx(clamped, rel=1e-5)
