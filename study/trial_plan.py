"""What a worker is told of one training: its recipe, and all that the stages before it made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.config import StudyConfig
from study.data_config import CONTROL_LANGUAGE
from study.ledger import TrialRecord
from study.stages import Prepared
from trainables.config import Paths, TrialPlan
from trainables.evaluation.summary import accuracies_of
from trainables.language_weights import language_weights
from trainables.models.spec import ModelSpec


@dataclass(frozen=True)
class Inputs:
    """What the earlier stages made."""

    prepared: Prepared
    teacher: Path
    student: ModelSpec
    student_parameters: int
    cache: Path
    teacher_scores: dict[str, Any]  # on validation
    chance: dict[str, float]  # by VQA set


def trial_plan(
    config: StudyConfig, inputs: Inputs, record: TrialRecord, place: str, profile: bool = False
) -> TrialPlan:
    """The plan of one training; ``place``: the folder or URL that is its own."""
    resources, scores, folders = config.resources, inputs.teacher_scores, inputs.prepared.folders
    teacher_map = {name: (row["map_i2t"] + row["map_t2i"]) / 2 for name, row in scores["languages"].items()}
    return TrialPlan(
        number=record.number,
        seed=record.seed,
        recipe=record.recipe,
        student=inputs.student,
        inherit=config.student.inherit,
        training=config.training,
        part_weights=config.data.weights,
        language_weights=language_weights(record.recipe.language_weighting, config.data.languages, teacher_map),
        control_language=CONTROL_LANGUAGE,
        teacher_vqa_accuracy=accuracies_of(scores["summary"], inputs.chance),
        chance=inputs.chance,
        rungs=config.search.scheduler.rungs,
        rung_share=config.search.scheduler.evaluation_share,
        threads=max(1, int(resources.cpus_per_worker)),
        paths=Paths(
            train=str(inputs.prepared.train),
            retrieval={name: str(folder) for name, folder in folders["retrieval"].items()},
            vqa={name: str(folder) for name, folder in folders["vqa"].items()},
            teacher=str(inputs.teacher),
            cache=str(inputs.cache),
            vocabulary=str(inputs.prepared.vocabulary) if inputs.prepared.vocabulary else None,
        ),
        folder=place,
        workers=resources.workers_per_trial,
        cpus_per_worker=resources.cpus_per_worker,
        gpus_per_worker=resources.gpus_per_worker,
        retries=resources.retries,
        memory_gb=config.search.limits.memory_gb,
        prefetch=resources.prefetch,
        compile=resources.compile,
        profile=profile,
    )
