"""The sizes of a study's teacher and student, known before anything slow starts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, Protocol

from study.config import StudyConfig
from study.errors import UserError
from trainables.config import TeacherConfig, comes_to
from trainables.models.checkpoint import CheckpointError, find_source
from trainables.models.spec import ModelSpec

Tower = Literal["image", "text"]
TOWERS: tuple[Tower, ...] = ("image", "text")


class Sizes(Protocol):
    """Of a tower."""

    @property
    def layers(self) -> int: ...

    @property
    def width(self) -> int: ...

    @property
    def head_width(self) -> int: ...


def teacher_towers(config: StudyConfig) -> Mapping[Tower, Sizes]:
    """Of a fitted teacher as configured, of a pretrained one as published.

    Raises:
        UserError: if what is to be its teacher is none.
    """
    model = config.teacher.model or published_spec(config.teacher)
    return {"image": model.image, "text": model.text}


def student_layers(config: StudyConfig) -> dict[Tower, int]:
    """How many layers each tower of the student has."""
    teacher = teacher_towers(config)
    return {tower: comes_to(getattr(config.student, tower).layers, teacher[tower].layers) for tower in TOWERS}


def published_spec(config: TeacherConfig) -> ModelSpec:
    """What the published configuration of a pretrained teacher makes.

    Raises:
        UserError: if there is no such checkpoint, or it can be no teacher, or is one of another family.
    """
    assert config.pretrained is not None
    try:
        return _published_spec(config.pretrained, config.revision, config.image_size, config.family)
    except CheckpointError as error:
        raise UserError(f"teacher.pretrained: {error}") from None


@lru_cache
def _published_spec(pretrained: str, revision: str | None, image_size: int | None, family: str) -> ModelSpec:
    source = find_source(pretrained, revision)  # without the libraries: most mistakes are found at once
    if source.family != family:
        raise UserError(f"teacher.family: {family} is not what {pretrained} is: make it {source.family}")
    command = [sys.executable, "-m", "trainables.models.pretrained", pretrained]
    command += ["--revision", revision] if revision else []
    command += ["--image-size", str(image_size)] if image_size else []
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in (0, 2):
        raise CheckpointError(f"{pretrained} cannot be read: {' '.join(done.stderr.split())[-300:]}")
    answer = done.stdout.splitlines()[-1]
    if done.returncode == 2:
        raise CheckpointError(json.loads(answer)["mistake"])
    return ModelSpec.model_validate_json(answer)


def check_student(config: StudyConfig) -> None:
    """Hold the student of a pretrained teacher against it; those of fitted ones are checked with the configuration.

    Raises:
        UserError: naming the key, its value and what would be right.
    """
    if config.teacher.pretrained is None:
        return
    spec = published_spec(config.teacher)
    for tower in TOWERS:
        own, source = getattr(config.student, tower), teacher_towers(config)[tower]
        layers, width = comes_to(own.layers, source.layers), comes_to(own.width, source.width, source.head_width)
        if layers > source.layers:
            raise UserError(f"student.{tower}.layers: {own.layers} is more than the teacher has, {source.layers}")
        if width % source.head_width:
            raise UserError(
                f"student.{tower}.width: {own.width} is not a multiple of the teacher's head width {source.head_width}"
            )
        if tower == "image" and not spec.projects_images and width != spec.embed_dim:
            raise UserError(
                f"student.image.width: {own.width} comes to {width}, but the teacher does not project images: it must be "
                f"its {spec.embed_dim}"
            )
    image, text = config.student.image, config.student.text
    size, patch = image.image_size or spec.image.image_size, image.patch_size or spec.image.patch_size
    if size > spec.image.image_size:
        raise UserError(f"student.image.image_size: {size} is more than the pictures have, {spec.image.image_size}")
    if size % patch:
        raise UserError(f"student.image.image_size: {size} is not a multiple of the patch size {patch}")
    if text.context_length is not None and text.context_length > spec.text.context_length:
        raise UserError(
            f"student.text.context_length: {text.context_length} is more than the teacher's {spec.text.context_length}"
        )
