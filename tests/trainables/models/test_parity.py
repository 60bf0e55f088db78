"""Embeddings, hidden states and token ids of published checkpoints against the libraries' own documented paths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from tests.trainables.models.checkpoints import KINDS, TEXTS, Kind, save_checkpoint
from trainables.models.dual_encoder import DualEncoder
from trainables.models.factory import load_model, parameter_count
from trainables.models.pretrained import Checkpoint, load_pretrained, open_checkpoint, pretrained_tokenizer

CLOSE = {"rtol": 0, "atol": 1e-5}


@dataclass(frozen=True)
class Reference:
    """What the library makes of the same pictures and texts by its documented path."""

    image: Tensor
    text: Tensor
    tokens: Tensor
    image_layers: list[Tensor]  # [B, patches, H] each
    text_layers: list[Tensor]  # [B, T, H] each
    logit_scale: Tensor
    logit_bias: Tensor


def pictures(size: int) -> list[Image.Image]:
    pixels = np.random.default_rng(1).integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    return [Image.fromarray(row) for row in pixels]


def of_transformers(folder: Path, size: int) -> Reference:
    from transformers import AutoModel, AutoProcessor, Siglip2Tokenizer

    model, processor = AutoModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    # The class that transformers has for SigLIP2 lower-cases; the one that checkpoints name in their files does not.
    tokenizer = Siglip2Tokenizer.from_pretrained(folder)
    texts = tokenizer(TEXTS, padding="max_length", max_length=64, truncation=True, return_tensors="pt")
    patches = {"patch_size": 8, "max_num_patches": 16} if model.config.model_type == "siglip2" else {}
    images = processor(images=pictures(size), return_tensors="pt", **patches)
    with torch.no_grad():
        image = model.get_image_features(**images, output_hidden_states=True)
        text = model.get_text_features(input_ids=texts.input_ids, output_hidden_states=True)
    return Reference(
        functional.normalize(image.pooler_output, dim=-1),
        functional.normalize(text.pooler_output, dim=-1),
        texts.input_ids,
        list(image.hidden_states[1:]),
        list(text.hidden_states[1:]),
        model.logit_scale.exp().squeeze().detach(),
        model.logit_bias.squeeze().detach(),
    )


def of_open_clip(folder: Path) -> Reference:
    import open_clip

    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    model.eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS)
    images = torch.stack([preprocess(picture) for picture in pictures(model.visual.image_size[0])])
    with torch.no_grad():
        text = model.encode_text(tokens, normalize=True)
        image = model.encode_image(images, normalize=True)
        image_layers = model.visual.forward_intermediates(images, output_fmt="NLC")["image_intermediates"]
        text_layers = _text_layers(model, tokens)
    bias = torch.zeros(()) if model.logit_bias is None else model.logit_bias.detach()
    return Reference(image, text, tokens, image_layers, text_layers, model.logit_scale.exp().detach(), bias)


def _text_layers(model: Any, tokens: Tensor) -> list[Tensor]:
    if not hasattr(model, "text"):
        return list(model.forward_intermediates(text=tokens)["text_intermediates"])
    if hasattr(model.text, "forward_intermediates"):
        return list(model.text.forward_intermediates(tokens, output_fmt="NLC")["text_intermediates"])
    if hasattr(model.text.transformer, "layer_norm"):  # M2M100 shows its last layer's state after the tower's norm
        model.text.transformer.layer_norm = torch.nn.Identity()
    mask = (tokens != model.text.config.pad_token_id).long()
    states = model.text.transformer(input_ids=tokens, attention_mask=mask, output_hidden_states=True).hidden_states
    return list(states[1:])


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture(scope="module")
def folder(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(kind, tmp_path_factory.mktemp(kind))


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Checkpoint:
    return open_checkpoint(str(folder), None)


@pytest.fixture(scope="module")
def model(checkpoint: Checkpoint) -> DualEncoder:
    return load_pretrained(checkpoint, None).eval()


@pytest.fixture(scope="module")
def reference(kind: Kind, folder: Path, model: DualEncoder) -> Reference:
    return (
        of_transformers(folder, model.spec.image.image_size) if kind in ("siglip2", "naflex") else of_open_clip(folder)
    )


def test_texts_are_tokenised_as_the_library_tokenises_them(checkpoint: Checkpoint, reference: Reference) -> None:
    tokenizer = pretrained_tokenizer(checkpoint)
    np.testing.assert_array_equal(tokenizer.encode(TEXTS), reference.tokens.numpy())
    spec = checkpoint.spec(None)
    assert tokenizer.context_length == spec.text.context_length
    assert reference.tokens.max() < spec.text.vocab_size


def test_images_are_embedded_as_the_library_embeds_them(model: DualEncoder, reference: Reference) -> None:
    size = model.spec.image.image_size
    pixels = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures(size)]))
    with torch.no_grad():
        found = model.encode_image(model.preprocess(pixels))
    torch.testing.assert_close(found.embedding, reference.image, **CLOSE)
    assert len(found.layers) == len(reference.image_layers) == model.spec.image.layers
    for ours, theirs in zip(found.layers, reference.image_layers, strict=True):
        torch.testing.assert_close(ours, theirs.mean(dim=1), **CLOSE)


@pytest.mark.parametrize("count", [3, len(TEXTS)])  # the many are encoded by length where that is the same
def test_texts_are_embedded_as_the_library_embeds_them(
    kind: Kind, model: DualEncoder, reference: Reference, count: int
) -> None:
    tokens = reference.tokens[-count:]
    with torch.no_grad():
        found = model.encode_text(tokens)
    torch.testing.assert_close(found.embedding, reference.text[-count:], **CLOSE)
    assert len(found.layers) == len(reference.text_layers) == model.spec.text.layers
    for ours, theirs in zip(found.layers, reference.text_layers, strict=True):
        torch.testing.assert_close(ours, pooled(kind, theirs[-count:], tokens), **CLOSE)


def pooled(kind: Kind, states: Tensor, tokens: Tensor) -> Tensor:
    """As the towers pool their last layer, written down a second time."""
    if kind in ("siglip2", "naflex", "sigmoid"):
        return states[:, -1]
    if kind == "native":
        return torch.stack([row[int(ids.argmax())] for row, ids in zip(states, tokens, strict=True)])
    if kind == "nllb":
        return states[:, 0]
    return torch.stack([row[ids != 1].mean(dim=0) for row, ids in zip(states, tokens, strict=True)])


def test_logits_are_scaled_and_shifted_as_the_library_does(model: DualEncoder, reference: Reference) -> None:
    torch.testing.assert_close(model.logit_scale.detach(), reference.logit_scale)
    torch.testing.assert_close(model.logit_bias.detach(), reference.logit_bias)


def test_a_saved_teacher_is_built_again_from_its_spec_alone(
    folder: Path, model: DualEncoder, reference: Reference, tmp_path: Path
) -> None:
    model.save(tmp_path / "saved")
    folder.rename(tmp_path / "gone")
    try:
        again = load_model(tmp_path / "saved").eval()
    finally:
        (tmp_path / "gone").rename(folder)
    assert parameter_count(again.spec) == model.parameter_count() == again.parameter_count()
    with torch.no_grad():
        torch.testing.assert_close(again.encode_text(reference.tokens).embedding, reference.text, **CLOSE)


@pytest.mark.parametrize("size", [24, 40])
def test_naflex_takes_other_image_sizes_as_transformers_does(size: int, tmp_path: Path) -> None:
    """Fewer patches than the processor has room for, which are padded and masked there; and more."""
    from transformers import AutoModel, AutoProcessor

    folder = save_checkpoint("naflex", tmp_path)
    theirs, processor = AutoModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    room = {"patch_size": 8, "max_num_patches": 30, "do_resize": False}
    images = processor.image_processor(pictures(size), return_tensors="pt", **room)
    assert images.spatial_shapes.tolist() == [[size // 8, size // 8]] * 3
    assert (images.pixel_attention_mask.sum(dim=1) == (size // 8) ** 2).all()
    model = load_pretrained(open_checkpoint(str(folder), None), size).eval()
    assert model.spec.image.image_size == size
    pixels = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures(size)]))
    with torch.no_grad():
        found = model.encode_image(model.preprocess(pixels))
        own = theirs.get_image_features(**images, output_hidden_states=True)
    torch.testing.assert_close(found.embedding, functional.normalize(own.pooler_output, dim=-1), **CLOSE)
    for ours, states in zip(found.layers, own.hidden_states[1:], strict=True):
        torch.testing.assert_close(ours, states[:, : (size // 8) ** 2].mean(dim=1), **CLOSE)


def test_open_clips_own_towers_take_other_image_sizes_as_open_clip_does(tmp_path: Path) -> None:
    import open_clip

    folder = save_checkpoint("native", tmp_path)
    theirs, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}", force_image_size=48)
    model = load_pretrained(open_checkpoint(str(folder), None), 48).eval()
    pixels = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures(48)]))
    with torch.no_grad():
        own = theirs.eval().encode_image(torch.stack([preprocess(p) for p in pictures(48)]), normalize=True)
        torch.testing.assert_close(model.encode_image(model.preprocess(pixels)).embedding, own, **CLOSE)
