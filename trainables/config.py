"""The typed sections of a study's configuration that one trial and its teacher are made from."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from trainables.models.spec import Count, Family, ModelSpec, Typed
from trainables.recipe import NotNegative, Positive, Recipe

Precision = Literal["auto", "bf16", "fp32"]
Inherit = Literal["important", "leading"]
STATE = Path("checkpoint", "state.pt")  # in a trial's folder: what it goes on from, until its result is written down
PROFILE = "profile.json.gz"  # in the folder of a trial that was profiled


class TokenizerConfig(Typed):
    """A BPE tokenizer fitted on the training captions."""

    vocab_size: Annotated[int, Field(ge=300, strict=True)] = 4000
    context_length: Annotated[int, Field(ge=4, strict=True)] = 32


class TeacherTower(Typed):
    layers: Count
    width: Count
    head_width: Count = 64


class TeacherImageTower(TeacherTower):
    patch_size: Count = 16
    image_size: Count = 48


class TeacherModel(Typed):
    """The sizes of a teacher that the study fits itself."""

    embed_dim: Count = 192
    image: TeacherImageTower = TeacherImageTower(layers=6, width=192)
    text: TeacherTower = TeacherTower(layers=4, width=192)


class FitConfig(Typed):
    """How the teacher is fitted, one caption an image: with its family's own loss, siglip2 with CLIP's first."""

    steps: Count = 300
    batch_size: Annotated[int, Field(ge=2, strict=True)] = 256
    learning_rate: Positive = 5e-3
    weight_decay: NotNegative = 0.1
    language_exposure: Literal["zipf", "uniform"] = "zipf"
    # Of the steps, for siglip2 alone: random weights learn far more slowly from its sigmoid loss than from a softmax.
    softmax_share: Annotated[float, Field(ge=0, lt=1, strict=True)] | None = None


class TeacherConfig(Typed):
    """The model that students learn from: pretrained, or fitted by the study with a model, tokenizer and fit of its own."""

    family: Family = "clip"
    pretrained: Annotated[str, Field(min_length=1)] | None = None  # a source as `trainables.models.checkpoint` has it
    revision: Annotated[str, Field(min_length=1)] | None = None  # of the hub; default: its main branch as it is now
    image_size: Count | None = None  # default: as the pretrained teacher was trained
    model: TeacherModel | None = None
    tokenizer: TokenizerConfig | None = None
    fit: FitConfig | None = None

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


Size = Annotated[int | float, BeforeValidator(_number_or_share)]


def comes_to(size: Size, whole: int, unit: int = 1) -> int:
    """What a student's size comes to: a number as it is, a share of ``whole`` in whole units, halves up, at least one."""
    return size if isinstance(size, int) else max(1, math.floor(size * whole / unit + 0.5)) * unit


class StudentTower(Typed):
    """Sizes as numbers, or as shares of the teacher's; a width is whole heads, as wide as the teacher's."""

    layers: Size
    width: Size


class StudentImageTower(StudentTower):
    """None: the teacher's."""

    image_size: Count | None = None
    patch_size: Count | None = None


class StudentTextTower(StudentTower):
    """None: the teacher's."""

    context_length: Annotated[int, Field(ge=4, strict=True)] | None = None


class StudentConfig(Typed):
    """The sizes of the student; what it does not name, it has from its teacher."""

    image: StudentImageTower = StudentImageTower(layers=2, width=192)
    text: StudentTextTower = StudentTextTower(layers=2, width=192)
    # What a narrower student, of a recipe with `initialise: mapped`, has of its teacher: the channels, heads and neurons
    # with the largest weights, or simply the first ones.
    inherit: Inherit = "important"
    vocabulary: Literal["full", "trimmed"] = "full"  # trimmed: to the tokens that the study's texts use


class TrainingConfig(Typed):
    """What all trials of a study have in common."""

    steps: Count = 80
    batch_size: Annotated[int, Field(ge=2, strict=True)] = 128  # over all workers of a trial
    # Equal parts that a worker embeds its share of a batch in, one after another: the memory of one, and the same result.
    accumulation: Count = 1
    captions_per_image: Count = 1
    precision: Precision = "auto"
    schedule: Literal["wsd", "cosine"] = "wsd"
    warmup: Annotated[float, Field(ge=0, lt=1, strict=True)] = 0.1  # share of the steps
    decay: Annotated[float, Field(ge=0, le=1, strict=True)] = 0.3  # share of the steps, for wsd
    max_gradient_norm: Positive = 1.0

    @model_validator(mode="after")
    def _decay_follows_warmup(self) -> Self:
        if self.schedule == "wsd" and self.warmup + self.decay > 1:
            raise ValueError(
                f"warmup: {self.warmup:g} and decay, {self.decay:g}, are more than all steps: at most 1 together"
            )
        return self


class CacheConfig(Typed):
    """The teacher's outputs on the training data, computed once for all trials."""

    views: Count = 6  # augmented views of every image


class Paths(Typed):
    """Where one trial finds its inputs; sets by their names."""

    train: str
    retrieval: dict[str, str]
    vqa: dict[str, str]
    teacher: str
    cache: str
    vocabulary: str | None = None  # the folder of a trimmed one


class TrialPlan(Typed):
    """Everything that a worker needs to run one trial: plain data, so that it travels as JSON."""

    number: int
    seed: int
    recipe: Recipe
    student: ModelSpec
    inherit: Inherit = "important"
    training: TrainingConfig
    part_weights: tuple[float, ...] | None = None  # of the parts of a training mixture; None: drawn by their sizes
    language_weights: dict[str, float]
    control_language: str
    teacher_vqa_accuracy: dict[str, float]  # on the same validation questions, by set
    chance: dict[str, float]  # the VQA accuracy of guessing, by set
    rungs: tuple[Count, ...]
    rung_share: Positive  # of the validation items, for reports at rungs
    threads: int
    paths: Paths
    folder: str  # the trial's own, on storage that its workers share
    workers: int
    cpus_per_worker: float
    gpus_per_worker: float
    retries: Annotated[int, Field(ge=0)]  # of a training whose workers died, from its last rung
    memory_gb: Positive | None  # what a worker may take; None: all that there is
    profile: bool = False  # whether to write a trace of a part of it
