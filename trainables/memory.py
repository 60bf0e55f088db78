"""What a trial is expected to take of a node's memory, from the sizes of its models: so many fit beside each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.artifacts import artifact, write_json

if TYPE_CHECKING:
    from trainables.config import TrainingConfig
    from trainables.cost import EncodingCost, StepCost
    from trainables.models.spec import ModelSpec

_STAGE_VERSION = 1  # raise it when the same sizes give another estimate
# Bytes of a process that has imported torch, open_clip and Ray, without the files that it maps (measured).
_LIBRARIES = 500_000_000


def of_process(step: StepCost, encoding: EncodingCost) -> int:
    """Bytes of a process that does such training steps and such an evaluation: its libraries, and whichever is more."""
    return _LIBRARIES + max(step.memory, encoding.memory)


def worker_memory(student: ModelSpec, teacher: ModelSpec, training: TrainingConfig, workers: int) -> int:
    """Bytes of one of a trial's ``workers`` on a CPU, without the files that it shares with others; kept in the cache.

    It is counted as by `trainables.cost`. An evaluation takes less where texts are shorter than the context.
    """
    fields = {
        "student": student.model_dump(mode="json"),
        "teacher": teacher.model_dump(mode="json"),
        "batch": [training.batch_size, training.captions_per_image, workers, training.accumulation],
        "stage": _STAGE_VERSION,
    }

    def build(folder: Path) -> None:
        from trainables.cost import BatchShape, encoding_cost, step_cost
        from trainables.encoding import IMAGES, TEXTS

        step = step_cost(student, teacher, BatchShape.of(training, workers))
        encoding = encoding_cost(student, IMAGES, TEXTS)
        write_json(folder / "memory.json", {"bytes": of_process(step, encoding)})

    found = artifact("worker-memory", fields, build) / "memory.json"
    return int(json.loads(found.read_text(encoding="utf-8"))["bytes"])
