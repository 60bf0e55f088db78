"""What models and their training cost, computed on torch's meta device: no memory is taken and nothing is multiplied.

FLOPs are those of matrix products and convolutions, a multiplication and an addition each, as
`torch.utils.flop_counter` counts them. Bytes are those of fp32; attention counts as the plain kernel computes it, which
keeps its weights for the backward pass, where a fused one would not.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.weak import WeakIdKeyDictionary

from trainables.accumulation import Outputs, backward_in_parts
from trainables.config import TrainingConfig
from trainables.layer_mapping import layer_distances, layer_loss
from trainables.models.dual_encoder import DualEncoder
from trainables.models.factory import build_model
from trainables.models.spec import ModelSpec
from trainables.optimizer import Muon
from trainables.recipe import Replication
from trainables.strategies import STRATEGIES, DistillationBatch

Part = Literal[
    "token embedding",
    "positions",
    "patch embedding",
    "image layers",
    "text layers",
    "pooling head",
    "projections",
    "the rest",
]
T = TypeVar("T")
PARTS: tuple[Part, ...] = get_args(Part)
# What tensors outside the transformer layers are called in open_clip, transformers and timm; the first that is found.
_NAMES: tuple[tuple[Part, re.Pattern[str]], ...] = (
    ("token embedding", re.compile(r"token_embedding|word_embeddings|embed_tokens|shared\.weight")),
    ("positions", re.compile(r"position(al)?_embedding|pos_embed|embed_positions")),
    ("patch embedding", re.compile(r"patch_embed|visual\.conv1")),
    ("pooling head", re.compile(r"vision_model\.head\.|attn_pool")),
    ("projections", re.compile(r"proj|text_model\.head\.|visual\.head\.")),
)


@dataclass(frozen=True)
class StepCost:
    """Of one training step of one worker, with all losses at once: no recipe needs more."""

    forward_flops: int
    backward_flops: int
    optimizer_flops: int
    weights: int  # bytes
    gradients: int  # bytes
    optimizer_state: int  # bytes
    kept_for_backward: int  # bytes

    @property
    def flops(self) -> int:
        return self.forward_flops + self.backward_flops + self.optimizer_flops

    @property
    def memory(self) -> int:
        """Bytes, without what a single operation takes beside."""
        return self.weights + self.gradients + self.optimizer_state + self.kept_for_backward


@dataclass(frozen=True)
class EncodingCost:
    """Of encoding without gradients."""

    image_flops: int  # of one image
    text_flops: int  # of one text, whatever its length: on a CPU short ones cost less
    images_at_once: int
    texts_at_once: int
    memory: int  # bytes: weights, and the most that so many images or texts take beside


def on_meta(spec: ModelSpec) -> DualEncoder:
    """A model without storage."""
    with torch.device("meta"):
        return build_model(spec, seed=0)


@contextmanager
def _meta() -> Iterator[None]:
    """New tensors have no storage, and transformers does not ask what is in a mask to save computing with it."""
    from transformers import masking_utils

    asked = masking_utils._ignore_bidirectional_mask_sdpa
    masking_utils._ignore_bidirectional_mask_sdpa = lambda *_arguments, **_names: False
    try:
        with torch.device("meta"):
            yield
    finally:
        masking_utils._ignore_bidirectional_mask_sdpa = asked


def parameters_by_part(model: DualEncoder) -> dict[Part, int]:
    """The parameters of each part; they add up to `DualEncoder.parameter_count`."""
    layers: tuple[tuple[Part, list[str]], ...] = (
        ("image layers", model.layer_names("image")),
        ("text layers", model.layer_names("text")),
    )
    counted: dict[Part, int] = dict.fromkeys(PARTS, 0)
    for name, parameter in model.named_parameters():
        found = [part for part, names in layers if any(name.startswith(f"{layer}.") for layer in names)]
        found += [part for part, pattern in _NAMES if pattern.search(name)]
        counted[found[0] if found else "the rest"] += parameter.numel()
    return counted


@dataclass(frozen=True)
class BatchShape:
    """What one training step takes in."""

    images: int  # of all workers
    captions: int  # of an image
    workers: int = 1
    accumulation: int = 1  # parts of a worker's share
    queue_size: int = Replication().queue_size  # of DR

    @classmethod
    def of(cls, training: TrainingConfig, workers: int) -> BatchShape:
        """That of a study's trials, of so many workers each."""
        return cls(training.batch_size, training.captions_per_image, workers, training.accumulation)


def step_cost(student: ModelSpec, teacher: ModelSpec, batch: BatchShape) -> StepCost:
    """The cost of a step to one of its workers."""
    model = on_meta(student)
    with _meta(), FlopCounterMode(display=False) as flops:
        step = Step(model, teacher, batch)
        meter = _Meter(flops, nn.ModuleList([model, step.projections]))
        if batch.accumulation == 1:
            torch.autograd.backward(meter.forward(lambda: step.loss(step.encoded())))
        else:
            backward_in_parts(
                lambda _: meter.forward(step.encoded),
                batch.accumulation,
                lambda whole: meter.forward(lambda: step.loss(whole), whole.tensors()),
                nullcontext,
            )
        forward = meter.flops
        backward = flops.get_total_flops() - forward
        optimizer = Muon(model, step.projections.parameters(), learning_rate=1e-3, weight_decay=0.1)
        parameters = [*model.parameters(), *step.projections.parameters()]
        gradients = sum(map(_bytes, (p.grad for p in parameters if p.grad is not None)))
        optimizer.step(1.0)
    return StepCost(
        forward_flops=forward,
        backward_flops=backward,
        optimizer_flops=flops.get_total_flops() - forward - backward,
        weights=sum(map(_bytes, parameters)),
        gradients=gradients,
        optimizer_state=sum(_bytes(leaf) for leaf in tree_leaves(optimizer.state_dict()) if isinstance(leaf, Tensor)),
        kept_for_backward=meter.most_kept,
    )


class Step:
    """One training step's losses as `Distiller` takes them, on inputs of the right shapes, on torch's default device."""

    def __init__(self, model: DualEncoder, teacher: ModelSpec, batch: BatchShape) -> None:
        self._model, self._batch = model, batch
        self._rows = batch.images // batch.workers
        spec = model.spec
        self._widths = (teacher.image.width, teacher.text.width)
        self.projections = nn.ModuleList()
        for own, source in ((spec.image, teacher.image), (spec.text, teacher.text)):
            for _ in range(own.layers if own.width != source.width else 0):
                self.projections.append(nn.Linear(own.width, source.width))

    def encoded(self) -> Outputs:
        """Of one part of a worker's share."""
        model, rows, captions = self._model, self._rows // self._batch.accumulation, self._batch.captions
        size, length = model.spec.image.image_size, model.spec.text.context_length
        image = model.encode_image(model.preprocess(torch.zeros(rows, size, size, 3, dtype=torch.uint8)))
        text = model.encode_text(torch.zeros(rows * captions, length, dtype=torch.long))
        projections = iter(self.projections)
        image_states, text_states = (
            tuple(state if state.shape[-1] == width else next(projections)(state) for state in encoded.layers)
            for encoded, width in zip((image, text), self._widths, strict=True)
        )
        shape = (captions, rows, -1)
        return Outputs(
            image.embedding,
            text.embedding.reshape(shape),
            image_states,
            tuple(state.reshape(shape) for state in text_states),
            model.logit_scale,
            model.logit_bias,
        )

    def loss(self, outputs: Outputs) -> Tensor:
        """The sum of all strategies, the family's own loss and that of matched layers, of a worker's whole share."""
        joint, rows, captions = self._model.spec.embed_dim, self._rows * self._batch.workers, self._batch.captions
        scale, bias = outputs.logit_scale, outputs.logit_bias
        batch = DistillationBatch(
            image=self._gathered(outputs.image[None])[0],
            text=self._gathered(outputs.text),
            teacher_image=torch.ones(rows, joint),
            teacher_text=torch.ones(captions, rows, joint),
            teacher_control=torch.ones(rows, joint),
            weight=torch.ones(captions, rows),
            logit_scale=scale,
            teacher_logit_scale=torch.ones(()),
            queue=torch.ones(self._batch.queue_size, joint),
            replication=Replication(),
        )
        losses = [strategy(batch) for strategy in STRATEGIES.values()]
        losses.append(self._model.task_loss(batch.image, batch.text, batch.weight, scale, bias))
        for states in (outputs.image_states, outputs.text_states):
            distances = layer_distances(states, [torch.ones_like(state) for state in states]).flatten(1)
            losses.append(layer_loss(distances, torch.ones(distances.shape[1])))
        return torch.stack(losses).sum()

    def _gathered(self, own: Tensor) -> Tensor:
        """[G, B/N, D] of one worker to [G, B, D] of all N, whose embeddings are constants to it."""
        return torch.cat([own, *(torch.ones_like(own) for _ in range(self._batch.workers - 1))], dim=1)


def encoding_flops(spec: ModelSpec) -> tuple[int, int]:
    """The FLOPs of encoding one image and one text without gradients."""
    model = on_meta(spec)

    def flops(encode: Callable[[int], Any]) -> int:
        with FlopCounterMode(display=False) as counter:
            encode(1)
        return int(counter.get_total_flops())

    with _meta(), torch.no_grad():
        return flops(_image_encoder(model)), flops(_text_encoder(model))


def encoding_cost(spec: ModelSpec, images: int, texts: int) -> EncodingCost:
    """The cost of encoding one image and one text, and the memory for so many ``images`` or ``texts`` at once."""
    model = on_meta(spec)

    def peak(encode: Callable[[int], Any], count: int) -> int:
        tracked = _Peak(model)
        with tracked:
            encode(count)
        return tracked.peak

    with _meta(), torch.no_grad():
        most = max(peak(_image_encoder(model), images), peak(_text_encoder(model), texts))
        weights = sum(map(_bytes, model.parameters()))
    return EncodingCost(*encoding_flops(spec), images, texts, weights + most)


def _image_encoder(model: DualEncoder) -> Callable[[int], Any]:
    """Encodes so many images."""
    size = model.spec.image.image_size
    return lambda count: model.encode_image(model.preprocess(torch.zeros(count, size, size, 3, dtype=torch.uint8)))


def _text_encoder(model: DualEncoder) -> Callable[[int], Any]:
    """Encodes so many texts."""
    length = model.spec.text.context_length
    return lambda count: model.encode_text(torch.zeros(count, length, dtype=torch.long))


class _Meter:
    """Measures forward passes: their FLOPs in all, and the most bytes that are kept for a backward pass at once."""

    def __init__(self, counter: FlopCounterMode, model: nn.Module) -> None:
        self._counter, self._model = counter, model
        self._waiting = 0  # bytes of gradients by outputs, from when they are known to the end of the step
        self.flops = self.most_kept = 0

    def forward(self, work: Callable[[], T], of: Sequence[Tensor] = ()) -> T:
        """Do a pass; gradients by ``of`` are to wait for the passes that follow."""
        before, kept = self._counter.get_total_flops(), _Kept(self._model)
        with saved_tensors_hooks(kept.pack, lambda tensor: tensor):
            found = work()
        self.flops += self._counter.get_total_flops() - before
        self.most_kept = max(self.most_kept, self._waiting + kept.bytes)
        self._waiting += sum(map(_bytes, of))
        return found


class _Kept:
    """What autograd keeps for the backward pass, each storage once, weights apart."""

    def __init__(self, model: nn.Module) -> None:
        self._seen = _weights(model)
        self.bytes = 0

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage not in self._seen:
            self._seen[storage] = None
            self.bytes += storage.nbytes()
        return tensor


class _Peak(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The most bytes that tensors other than weights have held at once."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._seen = _weights(model)
        self._live = self.peak = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor) and (storage := tensor.untyped_storage()) not in self._seen:
                self._seen[storage] = None
                self._live += storage.nbytes()
                self.peak = max(self.peak, self._live)
                weakref.finalize(storage, self._freed, storage.nbytes())
        return output

    def _freed(self, size: int) -> None:
        self._live -= size


def _weights(model: nn.Module) -> Any:
    """The storages of a model, as keys that do not keep them alive."""
    seen = WeakIdKeyDictionary()
    for tensor in (*model.parameters(), *model.buffers()):
        seen[tensor.untyped_storage()] = None
    return seen


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
