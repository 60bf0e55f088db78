"""Costs against closed forms, and against what real tensors take."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.trainables.models.tiny import FAMILIES, tiny_spec
from trainables.cost import PARTS, BatchShape, Step, encoding_cost, on_meta, parameters_by_part, step_cost
from trainables.data.prepared import CaptionedImages
from trainables.device import attention_with_gradients
from trainables.models.dual_encoder import DualEncoder
from trainables.models.factory import build_model
from trainables.models.spec import Family, ModelSpec
from trainables.teacher_cache import TeacherCache, cache_bytes

BATCH, QUEUE = 6, 16
every_family = pytest.mark.parametrize("family", FAMILIES)


def narrow(family: Family) -> ModelSpec:
    """A student of the tiny teacher whose text tower is half as wide."""
    spec = tiny_spec(family)
    return spec.model_copy(update={"text": spec.text.resized(spec.text.layers, 32)})


@every_family
def test_parts_are_those_of_the_architecture_and_add_up(family: Family) -> None:
    spec = narrow(family)
    image, text, joint = spec.image, spec.text, spec.embed_dim
    w, t, patches = image.width, text.width, (image.image_size // image.patch_size) ** 2
    is_clip = family == "clip"
    pooling = 0 if is_clip else w + (4 * w**2 + 4 * w) + (8 * w**2 + 5 * w) + 2 * w  # probe, attention, MLP, norm
    found = parameters_by_part(on_meta(spec))
    assert found == {
        "token embedding": text.vocab_size * t,
        "positions": text.context_length * t + (patches + is_clip) * w,
        "patch embedding": 3 * image.patch_size**2 * w + (0 if is_clip else w),
        "image layers": image.layers * (12 * w**2 + 13 * w),
        "text layers": text.layers * (12 * t**2 + 13 * t),
        "pooling head": pooling,
        "projections": (w + t) * joint if is_clip else (t + 1) * joint,
        "the rest": (w + 4 * w + 2 * t + 1) if is_clip else (2 * w + 2 * t + 2),  # class token, norms, logit scale
    }
    assert tuple(found) == PARTS
    assert sum(found.values()) == build_model(spec, seed=0).parameter_count()


def layer_flops(tokens: int, width: int) -> int:
    """24·T·H² of products with weights and 4·T²·H of attention."""
    return 24 * tokens * width**2 + 4 * tokens**2 * width


def last_place_flops(tokens: int, width: int) -> int:
    """A layer of which one token is wanted: keys and values of all, everything else of one."""
    return 4 * tokens * width**2 + 20 * width**2 + 4 * tokens * width


@every_family
def test_flops_of_encoding_are_those_of_transformer_layers(family: Family) -> None:
    spec = narrow(family)
    image, text = spec.image, spec.text
    w, t, joint, length = image.width, text.width, spec.embed_dim, text.context_length
    patches = (image.image_size // image.patch_size) ** 2
    embed = 2 * patches * 3 * image.patch_size**2 * w
    if family == "clip":  # a class token beside the patches, and a projection
        of_image = embed + image.layers * layer_flops(patches + 1, w) + 2 * w * joint
    else:  # attention pooling: one query of a layer over all patches
        of_image = embed + image.layers * layer_flops(patches, w) + last_place_flops(patches, w)
    of_text = (text.layers - 1) * layer_flops(length, t) + last_place_flops(length, t) + 2 * t * joint
    cost = encoding_cost(spec, images=4, texts=4)
    assert (cost.image_flops, cost.text_flops) == (of_image, of_text)


def newton_schulz_flops(model: DualEncoder) -> int:
    """Muon's five rounds on every matrix of a layer: X Xᵀ, its square, and both times X."""
    layers = [*model.layers("image"), *model.layers("text")]
    matrices = [parameter for layer in layers for parameter in layer.parameters() if parameter.ndim == 2]
    total = 0
    for matrix in matrices:
        short, long = sorted(matrix.shape)
        total += 5 * (4 * short**2 * long + 2 * short**3)
    return total


@every_family
def test_flops_of_a_step_follow_from_those_of_encoding(family: Family) -> None:
    spec = tiny_spec(family)
    cost = step_cost(spec, spec, BatchShape(BATCH, captions=2, queue_size=QUEUE))
    towers = encoding_cost(spec, images=1, texts=1)
    encoding = BATCH * (towers.image_flops + 2 * towers.text_flops)
    square, queue = 2 * BATCH**2 * spec.embed_dim, 2 * BATCH * QUEUE * spec.embed_dim
    # For each caption of an image: SD compares student and teacher, MCL thrice, the task once; DR all with the queue.
    losses = 2 * (2 + 3 + 1) * square + 2 * (1 + 2) * queue
    assert cost.forward_flops == encoding + losses
    # A product is two backward, but for what leads to pixels, to the queue, and to teacher embeddings that MCL compares
    # the student's images with: all others it multiplies by the logit scale, which is learned.
    patches = (spec.image.image_size // spec.image.patch_size) ** 2
    pixels = BATCH * 2 * patches * 3 * spec.image.patch_size**2 * spec.image.width
    assert cost.backward_flops == 2 * encoding - pixels + 2 * (2 + 5 + 2) * square + (1 + 2) * queue
    assert cost.optimizer_flops == newton_schulz_flops(on_meta(spec))


@every_family
def test_memory_of_a_step_is_what_real_tensors_take(family: Family) -> None:
    teacher, spec, batch = tiny_spec(family), narrow(family), BatchShape(BATCH, captions=1, queue_size=QUEUE)
    cost = step_cost(spec, teacher, batch)
    model = build_model(spec, seed=0)
    step = Step(model, teacher, batch)  # on the CPU
    parameters = [*model.parameters(), *step.projections.parameters()]
    weights = {tensor.data_ptr() for tensor in (*parameters, *model.buffers())}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        attention_with_gradients(torch.device("cpu"), spec.image.patches),
    ):
        loss = step.loss(step.encoded())
    assert cost.kept_for_backward == sum(kept.values())
    loss.backward()
    assert cost.weights == cost.gradients == 4 * sum(parameter.numel() for parameter in parameters)
    assert len(step.projections) == spec.text.layers
    # Muon keeps one moment of a layer's matrices, AdamW two of all else and a count of steps.
    layers = [*model.layers("image"), *model.layers("text")]
    matrices = [p for layer in layers for p in layer.parameters() if p.ndim == 2]
    muons = sum(p.numel() for p in matrices)
    others = cost.weights // 4 - muons
    assert cost.optimizer_state == 4 * (muons + 2 * others + len(parameters) - len(matrices))


def test_workers_share_a_batch() -> None:
    spec = tiny_spec("clip")
    one, two = (step_cost(spec, spec, BatchShape(8, 1, workers, queue_size=QUEUE)) for workers in (1, 2))
    assert one.forward_flops / 2 < two.forward_flops < 0.6 * one.forward_flops
    assert two.kept_for_backward < 0.75 * one.kept_for_backward
    assert two.weights == one.weights


def test_parts_of_a_batch_cost_a_forward_pass_more_and_keep_less() -> None:
    spec = tiny_spec("clip")
    whole, parts = (step_cost(spec, spec, BatchShape(32, 1, 1, parts, QUEUE)) for parts in (1, 8))
    towers = encoding_cost(spec, images=1, texts=1)
    assert parts.forward_flops - whole.forward_flops == 32 * (towers.image_flops + towers.text_flops)
    assert parts.backward_flops == pytest.approx(whole.backward_flops, rel=0.01)
    assert whole.kept_for_backward / 8 < parts.kept_for_backward < whole.kept_for_backward / 4
    assert parts.weights == whole.weights


def test_memory_of_encoding_grows_with_what_is_encoded_at_once() -> None:
    """A layer's input, its normed copy, queries, keys, values and what they give: a few times its hidden states."""
    few, many = (encoding_cost(tiny_spec("siglip2"), images=1, texts=texts).memory for texts in (1000, 2000))
    weights = 4 * on_meta(tiny_spec("siglip2")).parameter_count()
    assert (many - weights) == pytest.approx(2 * (few - weights), rel=0.01)
    hidden = 2000 * 12 * 64 * 4
    assert 5 * hidden < many - weights < 20 * hidden


def test_a_large_model_takes_no_memory() -> None:
    spec = tiny_spec("siglip2")
    huge = spec.model_copy(update={"text": spec.text.model_copy(update={"vocab_size": 10**9})})
    model = on_meta(huge)
    assert parameters_by_part(model)["token embedding"] == 64 * 10**9
    assert all(parameter.device.type == "meta" for parameter in model.parameters())


def test_bytes_of_a_cache_are_those_on_disk(
    cache_folder: Path, teacher: DualEncoder, cache: TeacherCache, train_data: CaptionedImages
) -> None:
    layers = {"image": cache.image_layer_numbers, "text": cache.text_layer_numbers}
    images, captions = len(train_data.images), train_data.present.size
    found = sum(path.stat().st_size for path in cache_folder.glob("*.npy"))
    header = 128 * len(list(cache_folder.glob("*.npy")))
    assert cache_bytes(teacher.spec, images, captions, views=2, layers=layers) == found - header
