"""The typed sections of a study's configuration that one trial and its teacher are made from."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from trainables.models.spec import Count, Family, ModelSpec, Typed
from trainables.recipe import NotNegative, Positive, Recipe

Precision = Literal["auto", "bf16", "fp32"]
Inherit = Literal["important", "leading"]
STATE = Path("checkpoint", "state.pt")  # in a trial's folder: what it goes on from, until its result is written down
PROFILE = "profile.json.gz"  # in the folder of a trial that was profiled


class TokenizerConfig(Typed):
    """A BPE tokenizer fitted on the training captions."""

    vocab_size: Annotated[int, Field(ge=300, strict=True)] = 4000
    """Tokens, at most."""
    context_length: Annotated[int, Field(ge=4, strict=True)] = 32
    """Tokens of a text; longer ones are cut."""


class TeacherTower(Typed):
    """The sizes of a tower."""

    layers: Count
    """Transformer layers."""
    width: Count
    """Width of the hidden states: a multiple of `head_width`."""
    head_width: Count = 64
    """Width of one attention head, the student's too."""


class TeacherImageTower(TeacherTower):
    """The sizes of an image tower, a vision transformer over square patches."""

    patch_size: Count = 16
    """Side of a patch, in pixels."""
    image_size: Count = 48
    """Side of a picture, in pixels: a multiple of `patch_size`."""


class TeacherModel(Typed):
    """The sizes of a teacher that the study fits itself."""

    embed_dim: Count = 192
    """Dimension of the embeddings; of `siglip2` it is the image tower's width."""
    image: TeacherImageTower = TeacherImageTower(layers=6, width=192)
    text: TeacherTower = TeacherTower(layers=4, width=192)


class FitConfig(Typed):
    """How the teacher is fitted, one caption an image: with its family's own loss, siglip2 with CLIP's first."""

    steps: Count = 300
    """Optimiser steps."""
    batch_size: Annotated[int, Field(ge=2, strict=True)] = 256
    """Pictures a step."""
    learning_rate: Positive = 5e-3
    """At its highest."""
    weight_decay: NotNegative = 0.1
    """Of the optimiser."""
    language_exposure: Literal["zipf", "uniform"] = "zipf"
    """How often the teacher sees a language: `zipf`, as 1/rank in the order of `data.languages`; `uniform`, all alike."""
    softmax_share: Annotated[float, Field(ge=0, lt=1, strict=True)] | None = None
    """Of the steps, for `siglip2` alone, where it is required: random weights learn far more slowly from its sigmoid loss
    than from a softmax."""


class TeacherConfig(Typed):
    """The model that students learn from: pretrained, or fitted by the study with a model, tokenizer and fit of its own."""

    family: Family = "clip"
    """The architecture, and with it the loss of its own."""
    pretrained: Annotated[str, Field(min_length=1)] | None = None
    """A hub id, a folder in the hub's format, or `NAME:TAG` of open_clip, in place of `model`, `tokenizer` and `fit`."""
    revision: Annotated[str, Field(min_length=1)] | None = None
    """Of a hub id; null: its main branch as it is now."""
    image_size: Count | None = None
    """Of a pretrained teacher that takes pictures of any size; null: as it was trained."""
    model: TeacherModel | None = None
    """Null, of a teacher that is not pretrained: all defaults."""
    tokenizer: TokenizerConfig | None = None
    """Null, of a teacher that is not pretrained: all defaults."""
    fit: FitConfig | None = None
    """Null, of a teacher that is not pretrained: all defaults."""

    @model_validator(mode="before")
    @classmethod
    def _is_pretrained_or_fitted(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        fitted, published = ("model", "tokenizer", "fit"), ("revision", "image_size")
        if given.get("pretrained") is None:
            for key in published:
                if given.get(key) is not None:
                    raise ValueError(f"{key}: {given[key]} is for a pretrained teacher: name it as teacher.pretrained")
            return {**given, **{key: {} for key in fitted if given.get(key) is None}}
        for key in fitted:
            if given.get(key) is not None:
                raise ValueError(f"{key}: a pretrained teacher has its own: leave out either {key} or pretrained")
        return given

    @model_validator(mode="after")
    def _fit_is_the_familys(self) -> Self:
        if self.fit is None:
            return self
        share = self.fit.softmax_share
        if self.family == "siglip2" and share is None:
            raise ValueError("fit.softmax_share: siglip2 needs a number, for example 0.7 (0: the sigmoid loss alone)")
        if self.family == "clip" and share is not None:
            raise ValueError(
                f"fit.softmax_share: {share:g} is for siglip2: clip has a softmax throughout; make it null"
            )
        return self


def _number_or_share(size: Any) -> Any:
    is_number = isinstance(size, int) and not isinstance(size, bool) and size >= 1
    if not is_number and not (isinstance(size, float) and 0 < size <= 1):
        raise ValueError(
            f"should be a whole number from 1 on, or a share of the teacher's, above 0.0 and up to 1.0, not {size!r}"
        )
    return size


Size = Annotated[
    int | float,
    BeforeValidator(_number_or_share),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "number", "exclusiveMinimum": 0, "maximum": 1}]}
    ),
]


def comes_to(size: Size, whole: int, unit: int = 1) -> int:
    """What a student's size comes to: a number as it is, a share of ``whole`` in whole units, halves up, at least one."""
    return size if isinstance(size, int) else max(1, math.floor(size * whole / unit + 0.5)) * unit


class StudentTower(Typed):
    """Sizes as numbers, or as shares of the teacher's; a width is whole heads, as wide as the teacher's."""

    layers: Size
    """Transformer layers, at most the teacher's; of a pretrained teacher 0.5 if it is not said."""
    width: Size
    """Width of the hidden states, in whole heads; of a pretrained teacher 1.0 if it is not said."""


class StudentImageTower(StudentTower):
    """Sizes of the image tower, as numbers or as shares of the teacher's (`0.5`; `1` is one layer, `1.0` all of them)."""

    image_size: Count | None = None
    """Side of a picture, in pixels; null: the teacher's."""
    patch_size: Count | None = None
    """Side of a patch, in pixels; null: the teacher's."""


class StudentTextTower(StudentTower):
    """Sizes of the text tower, as numbers or as shares of the teacher's (`0.5`; `1` is one layer, `1.0` all of them)."""

    context_length: Annotated[int, Field(ge=4, strict=True)] | None = None
    """Tokens of a text, longer ones are cut; null: the teacher's."""


class StudentConfig(Typed):
    """The sizes of the student; what it does not name, it has from its teacher."""

    image: StudentImageTower = StudentImageTower(layers=2, width=192)
    text: StudentTextTower = StudentTextTower(layers=2, width=192)
    inherit: Inherit = "important"
    """What a narrower student, of a recipe with `initialise: mapped`, has of its teacher: the channels, heads and neurons
    with the largest weights, or simply the first ones."""
    vocabulary: Literal["full", "trimmed"] = "full"
    """`trimmed`: to the tokens that the study's texts use."""


class TrainingConfig(Typed):
    """What all trials of a study have in common."""

    steps: Count = 80
    """Optimiser steps of a trial that is not stopped."""
    batch_size: Annotated[int, Field(ge=2, strict=True)] = 128
    """Pictures a step, over all workers of a trial."""
    accumulation: Count = 1
    """Equal parts that a worker embeds its share of a batch in, one after another: the memory of one, and the same result."""
    captions_per_image: Count = 1
    """Captions of each picture in a batch, in languages drawn at random."""
    precision: Precision = "auto"
    """Of the forward pass; `auto`: bf16 where the device is made for it, as GPUs are from Ampere on."""
    schedule: Literal["wsd", "cosine"] = "wsd"
    """The learning rate after the warm-up: with `wsd` it stays, and falls over the last steps; with `cosine` it falls all
    along."""
    warmup: Annotated[float, Field(ge=0, lt=1, strict=True)] = 0.1
    """Share of the steps over which the learning rate rises."""
    decay: Annotated[float, Field(ge=0, le=1, strict=True)] = 0.3
    """Share of the steps over which it falls, for `wsd`."""
    max_gradient_norm: Positive = 1.0
    """Gradients with a larger norm are scaled down to it."""

    @model_validator(mode="after")
    def _decay_follows_warmup(self) -> Self:
        if self.schedule == "wsd" and self.warmup + self.decay > 1:
            raise ValueError(
                f"warmup: {self.warmup:g} and decay, {self.decay:g}, are more than all steps: at most 1 together"
            )
        return self


class CacheConfig(Typed):
    """The teacher's outputs on the training data, computed once for all trials."""

    views: Count = 6
    """Augmented views of every picture."""


class Paths(Typed):
    """Where one trial finds its inputs; sets by their names."""

    train: str
    retrieval: dict[str, str]
    vqa: dict[str, str]
    teacher: str
    cache: str
    vocabulary: str | None = None
    """The folder of a trimmed one."""


class TrialPlan(Typed):
    """Everything that a worker needs to run one trial: plain data, so that it travels as JSON."""

    number: int
    seed: int
    recipe: Recipe
    student: ModelSpec
    inherit: Inherit = "important"
    training: TrainingConfig
    part_weights: tuple[float, ...] | None = None
    """Of the parts of a training mixture; None: drawn by their sizes."""
    language_weights: dict[str, float]
    control_language: str
    teacher_vqa_accuracy: dict[str, float]
    """On the same validation questions, by set."""
    chance: dict[str, float]
    """The VQA accuracy of guessing, by set."""
    rungs: tuple[Count, ...]
    rung_share: Positive
    """Of the validation items, for reports at rungs."""
    threads: int
    paths: Paths
    folder: str
    """The trial's own, on storage that its workers share."""
    workers: int
    cpus_per_worker: float
    gpus_per_worker: float
    retries: Annotated[int, Field(ge=0)]
    """Of a training whose workers died, from its last rung."""
    memory_gb: Positive | None
    """What a worker may take; None: all that there is."""
    prefetch: Annotated[int, Field(ge=0)] = 0
    """Batches that a worker reads ahead."""
    compile: bool = False
    """Whether `torch.compile` makes code of the student's layers."""
    profile: bool = False
    """Whether to write a trace of a part of it."""
