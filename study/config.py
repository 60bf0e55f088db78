# PYTHON_ARGCOMPLETE_OK
"""`StudyConfig`: the typed form of a study's YAML file, checked as a whole before anything slow starts.

What its keys mean is told by `python -m study.config` (`study.config_reference`).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from search_spaces.yaml_file import parse_yaml
from study.data_config import DataConfig
from study.errors import UserError
from study.metrics import mistaken_set
from study.mistakes import did_you_mean, first_mistake, read_mapping
from study.search_config import SearchConfig
from study.storage_config import StorageConfig
from trainables.config import CacheConfig, StudentConfig, TeacherConfig, TrainingConfig, comes_to
from trainables.models.spec import UNPROJECTED_IMAGES, Count, Typed, shaped_like
from trainables.remote_folder import is_url

_PRESETS = Path(__file__).parent / "presets"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
DEFAULT_PRESET = "emoji_clip"


class ResourcesConfig(Typed):
    """What one trial gets, and how many run at once."""

    workers_per_trial: Annotated[int, Field(ge=0, strict=True)] = 0
    """0: the trial trains in its own process; N: it trains on N Ray Train workers."""
    cpus_per_worker: Annotated[float, Field(gt=0, strict=True)] = 1
    """CPU cores of each worker, or of the trial's own process."""
    gpus_per_worker: Annotated[float, Field(ge=0, strict=True)] = 0
    """GPUs of each worker: a whole number, or a share of one."""
    concurrent_trials: Count | Literal["auto"] = "auto"
    """`auto`: as many as the nodes have GPUs for, or else cores and memory, of a cluster those that are up at the time; a
    number: so many, and on a cluster what does not fit yet waits, for which an autoscaler adds nodes."""
    retries: Annotated[int, Field(ge=0, strict=True)] = 1
    """How often a trial whose process died or broke goes on from its last rung."""
    prefetch: Annotated[int, Field(ge=0, strict=True)] = 0
    """Batches that each worker reads ahead in a thread of its own while it trains on the one before, for a GPU into pinned
    memory; 0: none. It trains the same, and holds so many batches more in memory."""
    compile: Annotated[bool, Field(strict=True)] = False
    """Whether `torch.compile` makes code of the student's transformer layers, at the start of each process that trains: from
    some seconds to a minute. It trains the same up to rounding, and needs a C++ compiler where there is no GPU."""

    @model_validator(mode="after")
    def _gpus_can_be_had(self) -> Self:
        gpus, workers = self.gpus_per_worker, self.workers_per_trial
        if gpus > 1 and gpus % 1:
            raise ValueError(f"gpus_per_worker: {gpus:g} is neither a share of one GPU nor a whole number")
        if 0 < gpus < 1 and workers > 1:
            raise ValueError(
                f"gpus_per_worker: with {gpus:g}, several of the {workers} workers of a trial may share a GPU, where NCCL "
                "does not let them exchange gradients: make it 1, or workers_per_trial 0 or 1"
            )
        return self


class TrackingConfig(Typed):
    """Where else reports go; both need an extra: pip install 'polydistill[tensorboard]' or 'polydistill[mlflow]'."""

    tensorboard: bool = False
    """Event files in the study's folder, `tensorboard/`."""
    mlflow: str | None = None
    """A tracking URI, a folder, or `env:NAME` for a URI in the environment, which is never written down."""


class StudyConfig(Typed):
    """A whole study. Every key has a default; a preset names them all."""

    name: Annotated[str, shaped_like(_NAME)] = "emoji-clip"
    """The study's name, which is also its folder's: letters, digits, `.`, `_` and `-`; by default that of its file."""
    seed: Annotated[int, Field(ge=0, lt=2**31, strict=True)] = 0
    """Of everything that is drawn at random."""
    storage: StorageConfig = StorageConfig()
    data: DataConfig = DataConfig()
    teacher: TeacherConfig = TeacherConfig()
    cache: CacheConfig = CacheConfig()
    student: StudentConfig = StudentConfig()
    training: TrainingConfig = TrainingConfig()
    search: SearchConfig = SearchConfig()
    resources: ResourcesConfig = ResourcesConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="before")
    @classmethod
    def _answers_are_read_as_the_teacher_can(cls, given: Any) -> Any:
        """The default prompt of questions: a teacher fitted on captions has never read a question."""
        if not isinstance(given, dict) or not isinstance(given.get("data"), dict):
            return given
        teacher = given.get("teacher")
        is_pretrained = isinstance(teacher, dict) and teacher.get("pretrained") is not None
        return {**given, "data": _with_prompts(given["data"], "{question} {answer}" if is_pretrained else "{answer}")}

    @model_validator(mode="before")
    @classmethod
    def _students_of_published_teachers_are_half_as_deep(cls, given: Any) -> Any:
        """What sizes a student has by default, no number can say for teachers of all sizes."""
        teacher = given.get("teacher") if isinstance(given, dict) else None
        if not isinstance(teacher, dict) or teacher.get("pretrained") is None:
            return given
        student = given.get("student") or {}
        if not isinstance(student, dict):
            return given
        half = {"layers": 0.5, "width": 1.0}
        own = {tower: student.get(tower) or {} for tower in ("image", "text")}
        return {
            **given,
            "student": {**student, **{key: {**half, **tower} for key, tower in own.items() if isinstance(tower, dict)}},
        }

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if not re.fullmatch(_NAME, name):
            raise ValueError(
                f"should be letters, digits, '.', '_' and '-', beginning with one of the first two, not {name!r}"
            )
        return name

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        beyond = [rung for rung in self.search.scheduler.rungs if rung >= self.training.steps]
        if beyond:
            raise ValueError(
                f"search.scheduler.rungs: rung {beyond[0]} is not below training.steps, {self.training.steps}"
            )
        workers = self.resources.workers_per_trial
        if workers > 1 and self.training.batch_size % workers:
            raise ValueError(
                f"training.batch_size: {self.training.batch_size} is not a multiple of "
                f"resources.workers_per_trial, {workers}"
            )
        parts = max(1, workers) * self.training.accumulation
        if self.training.batch_size % parts:
            shared = f" times resources.workers_per_trial, {workers}" if workers > 1 else ""
            raise ValueError(
                f"training.accumulation: {self.training.accumulation}{shared} does not divide training.batch_size, "
                f"{self.training.batch_size}"
            )
        if self.teacher.model is None:
            return self  # `study.models` holds the student against what is published
        for tower in ("image", "text"):
            student, teacher = getattr(self.student, tower), getattr(self.teacher.model, tower)
            if comes_to(student.layers, teacher.layers) > teacher.layers:
                raise ValueError(
                    f"student.{tower}.layers: {student.layers} cannot be mapped into the teacher's {teacher.layers} "
                    f"layers (teacher.model.{tower}.layers): at most {teacher.layers}"
                )
            if comes_to(student.width, teacher.width, teacher.head_width) % teacher.head_width:
                raise ValueError(
                    f"student.{tower}.width: {student.width} is not a multiple of the head width {teacher.head_width}; "
                    "a share, such as 0.5, comes to whole heads"
                )
            if teacher.width % teacher.head_width:
                raise ValueError(
                    f"teacher.model.{tower}.width: {teacher.width} is not a multiple of the head width "
                    f"{teacher.head_width}"
                )
        return self

    @model_validator(mode="after")
    def _has_a_storage(self) -> Self:
        if is_url(self.storage.path) and self.storage.optuna == "sqlite":
            raise ValueError(
                f"storage.optuna: sqlite is a file, which cannot lie at {self.storage.path} (storage.path): name a "
                "database, env:NAME for a URL in the environment variable NAME"
            )
        return self

    @model_validator(mode="after")
    def _metrics_are_of_sets(self) -> Self:
        for key, metrics in (("objectives", self.search.objectives), ("constraints", self.search.constraints)):
            for metric in metrics:
                if mistake := mistaken_set(metric, {"retrieval": self.data.retrieval, "vqa": self.data.vqa}):
                    raise ValueError(f"search.{key}.{metric}: {mistake}")
        return self

    @model_validator(mode="after")
    def _images_and_texts_fit(self) -> Self:
        if self.teacher.model is None or self.teacher.tokenizer is None:
            return self
        teacher, student = self.teacher.model.image, self.student.image
        width = comes_to(student.width, teacher.width, teacher.head_width)
        shown = f"{width}" if width == student.width else f"{student.width:g}, that is {width},"
        joint = self.teacher.model.embed_dim
        for key, found, value in (("teacher.model", teacher.width, f"{teacher.width}"), ("student", width, shown)):
            if found != joint and self.teacher.family in UNPROJECTED_IMAGES:
                raise ValueError(
                    f"{key}.image.width: {value} is not teacher.model.embed_dim, {joint}: {self.teacher.family} does "
                    "not project images, so that the two are one"
                )
        size, patch = student.image_size or teacher.image_size, student.patch_size or teacher.patch_size
        for key, side, of in (("teacher.model", teacher.image_size, teacher.patch_size), ("student", size, patch)):
            if side % of:
                raise ValueError(f"{key}.image.image_size: {side} is not a multiple of the patch size {of}")
        if size > teacher.image_size:
            raise ValueError(
                f"student.image.image_size: {size} is more than the pictures have, {teacher.image_size} "
                "(teacher.model.image.image_size)"
            )
        length, whole = self.student.text.context_length, self.teacher.tokenizer.context_length
        if length is not None and length > whole:
            raise ValueError(
                f"student.text.context_length: {length} is more than the teacher's {whole} "
                "(teacher.tokenizer.context_length)"
            )
        return self


def _with_prompts(section: dict[str, Any], prompt: str) -> dict[str, Any]:
    """A section whose sources of questions, however deep, all have a prompt: their own, or else this one."""
    found = {key: _with_prompts(value, prompt) if isinstance(value, dict) else value for key, value in section.items()}
    if section.get("layout") == "cvqa" and section.get("prompt") is None:
        found["prompt"] = prompt
    return found


def available_presets() -> list[str]:
    return sorted(path.stem for path in _PRESETS.glob("*.yaml"))


def load_config(source: str, overrides: Sequence[str] = (), name: str | None = None) -> StudyConfig:
    """The configuration in a preset or file, with ``KEY=VALUE`` overrides, checked.

    Raises:
        UserError: naming file, key, value and what would be right.
    """
    path, content = _read(source)
    for override in overrides:
        _apply(content, override)
    if name is not None:
        content["name"] = name
    try:
        return StudyConfig.model_validate(content)
    except ValidationError as error:
        key, reason = first_mistake(StudyConfig, error)
        given = [override.partition("=")[0] for override in overrides]
        is_given = any(f"{key}.".startswith(f"{one}.") or one.startswith(f"{key}.") for one in given)
        where = "--name" if key == "name" and name is not None else "--set" if is_given else path
        raise UserError(f"{where}: {reason}") from None


def dump_config(config: StudyConfig) -> str:
    """The resolved configuration as YAML."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read(source: str) -> tuple[str, dict[str, Any]]:
    path = _PRESETS / f"{source}.yaml"
    if not path.is_file():
        path = Path(source)
        if not path.is_file():
            if (written := path / "config.yaml").is_file():
                raise UserError(f"{source} is a study's folder: to go on with it, name its configuration, {written}")
            beside = [str(path.parent / one.name) for one in path.parent.glob("*.y*ml")]
            raise UserError(
                f"no preset or file '{source}': {did_you_mean(source, [*available_presets(), *beside])}presets are "
                f"{', '.join(available_presets())}, anything else is the path of a YAML file"
            )
    content = read_mapping(path, "a configuration")
    # Two files that name no study are two studies.
    return str(path), {"name": path.stem, **content}


def checked_override(override: str) -> str:
    """An override as it is, if it has a key and a value.

    Raises:
        UserError: if it has not.
    """
    key, separator, _ = override.partition("=")
    if not separator or not all(key.split(".")):
        raise UserError(f"--set {override}: write it as KEY=VALUE, for example --set search.trials=40")
    return override


def _apply(content: dict[str, Any], override: str) -> None:
    """Set a dotted key; values are read as YAML, so that numbers, lists and null are what they look like."""
    key, _, text = checked_override(override).partition("=")
    try:
        value = parse_yaml(text)
    except ValueError as error:
        raise UserError(f"--set {override}: the value {text!r} is not YAML: {error}") from None
    *path, last = key.split(".")
    branch = content
    for name in path:
        found = branch.setdefault(name, {})
        if not isinstance(found, dict):
            raise UserError(f"--set {override}: {name} is a value, not a section")
        branch = found
    branch[last] = value


if __name__ == "__main__":
    # Not imported once more under its name: of a file's second module pydantic does not find the texts below keys.
    sys.modules["study.config"] = sys.modules[__name__]
    from study.config_reference import main

    sys.exit(main())
