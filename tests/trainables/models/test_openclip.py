"""The CLIP encoder against open_clip's own methods."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from trainables.models.dual_encoder import DualEncoder
from trainables.models.factory import build_model, load_model, read_spec
from trainables.models.spec import ImageTower, ModelSpec, TextTower
from trainables.models.tokenizer import END_ID

CONTEXT, VOCABULARY = 12, 320
START_ID = 2
PLAIN, BINNED, MANY = 5, 41, 1100  # texts: all but the first batch are encoded by length, the last in more parts


@pytest.fixture(scope="module")
def model() -> DualEncoder:
    spec = ModelSpec(
        embed_dim=24,
        image=ImageTower(layers=3, width=64, head_width=32, patch_size=12, image_size=24),
        text=TextTower(layers=2, width=64, head_width=32, context_length=CONTEXT, vocab_size=VOCABULARY),
    )
    return build_model(spec, seed=0).eval()


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
    return torch.randint(0, 256, (count, 24, 24, 3), generator=generator, dtype=torch.uint8)


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
def test_texts_are_embedded_as_open_clip_embeds_them_at_full_length(model: DualEncoder, count: int) -> None:
    tokens = texts(count)
    end = (tokens == END_ID).int().argmax(dim=1)
    with torch.no_grad():
        found = model.encode_text(tokens)
        own = model.clip.encode_text(tokens, normalize=True)
        inner = model.clip.text.forward_intermediates(tokens, output_fmt="NLC")["text_intermediates"]
    torch.testing.assert_close(found.embedding, own, rtol=0, atol=1e-5)
    assert len(found.layers) == len(inner) == 2
    for layer, states in zip(found.layers, inner, strict=True):
        torch.testing.assert_close(layer, states[torch.arange(count), end], rtol=0, atol=1e-5)


def test_gradients_by_length_are_those_at_full_length(model: DualEncoder) -> None:
    tokens, generator = texts(BINNED), torch.Generator().manual_seed(2)
    wanted = torch.randn(BINNED, 24, generator=generator)
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


def test_bytes_and_shares_are_preprocessed_alike(model: DualEncoder) -> None:
    images = pictures(2)
    shares = images.permute(0, 3, 1, 2).float() / 255
    torch.testing.assert_close(model.preprocess(images), model.preprocess(shares))
    white = model.preprocess(torch.ones(1, 3, 24, 24))[0, :, 0, 0]
    expected = [(1 - 0.48145466) / 0.26862954, (1 - 0.4578275) / 0.26130258, (1 - 0.40821073) / 0.27577711]
    assert white.tolist() == pytest.approx(expected, rel=1e-6)


def test_saved_model_loads_as_it_was(model: DualEncoder, tmp_path: Path) -> None:
    model.save(tmp_path)
    loaded = load_model(tmp_path).eval()
    assert read_spec(tmp_path) == loaded.spec == model.spec
    assert loaded.parameter_count() == sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        pixels = model.preprocess(pictures(2))
        assert torch.equal(loaded.encode_image(pixels).embedding, model.encode_image(pixels).embedding)
        assert torch.equal(loaded.encode_text(texts(3)).embedding, model.encode_text(texts(3)).embedding)
        assert torch.equal(loaded.logit_scale, model.logit_scale)


def test_saved_model_with_missing_or_foreign_weights_does_not_load(model: DualEncoder, tmp_path: Path) -> None:
    model.save(tmp_path)
    spec = json.loads((tmp_path / "spec.json").read_text(encoding="utf-8"))
    (tmp_path / "spec.json").write_text(json.dumps({**spec, "embed_dim": 16}), encoding="utf-8")
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
    assert not torch.equal(model.clip.visual.proj, other.clip.visual.proj)


@pytest.mark.parametrize(("scale", "clamped"), [(0.5, 1.0), (50.0, 50.0), (1000.0, 100.0)])
def test_logit_scale_is_kept_within_clips_range(model: DualEncoder, scale: float, clamped: float) -> None:
    copy = build_model(model.spec, seed=0)
    with torch.no_grad():
        copy.clip.logit_scale.fill_(scale).log_()
        copy.clamp_logit_scale()
    assert float(copy.logit_scale.detach()) == pytest.approx(clamped, rel=1e-5)


@pytest.mark.parametrize(("image_layers", "text_layers", "width"), [(1, 3, 64), (2, 1, 32)])
def test_parameters_are_counted_from_the_sizes_alone(image_layers: int, text_layers: int, width: int) -> None:
    spec = ModelSpec(
        embed_dim=48,
        image=ImageTower(layers=image_layers, width=width, head_width=32, patch_size=8, image_size=24),
        text=TextTower(layers=text_layers, width=96, head_width=32, context_length=9, vocab_size=500),
    )
    assert spec.parameter_count() == build_model(spec, seed=0).parameter_count()
