"""What the stages of a study make, in this process: no Ray, and from the cache where it is there."""

from __future__ import annotations

from typing import Any

from study.checks import checked_space
from study.config import StudyConfig
from study.stages import Stages, mapped_teacher_layers
from study.trial_plan import Inputs
from trainables.models.factory import parameter_count


def inputs_of(config: StudyConfig, threads: int) -> Inputs:
    """All that a training of this study needs."""
    return _inputs(Stages(config, threads), config)


def prepare(config: StudyConfig, threads: int) -> None:
    """Leave all in the cache that a study leaves there before its first trial."""
    stages = Stages(config, threads)
    inputs = _inputs(stages, config)
    _result(stages.landmarks(inputs.teacher, inputs.prepared, inputs.student))


def _inputs(stages: Stages, config: StudyConfig) -> Inputs:
    prepared = _result(stages.prepare())
    teacher = _result(stages.teacher(prepared))
    scores, chance, student = _result(stages.score_teacher(teacher, prepared))
    cache = _result(stages.cache(teacher, prepared, mapped_teacher_layers(config, checked_space(config))))
    return Inputs(prepared, teacher, student, parameter_count(student), cache, scores, chance)


def _result(stage: Any) -> Any:
    *_progress, result = stage
    return result
