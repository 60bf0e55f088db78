"""Trains what a study has trained again, without interruption: what an interrupted training must have reported.

    python -m tests.crash.reference STUDY TRAINING...        folders; prints the reports of each as JSON

The seed of a training and its recipe are all that its reports depend on, so they must be equal to the last digit.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from study.checks import checked_space
from study.config import StudyConfig, load_config
from study.ledger import Ledger, TrialRecord
from study.ray_metrics import RayMetrics
from study.stages import Stages, mapped_teacher_layers
from study.trial_runner import Inputs, TrialRunner
from trainables.config import TrialPlan
from trainables.worker import train

COMPARED = ("step", "final", "metrics", "losses")


def main(arguments: Sequence[str]) -> None:
    study, *trainings = (Path(argument) for argument in arguments)
    config = load_config(str(study / "config.yaml"))
    ledger = Ledger(study)
    runner = TrialRunner(config, ledger, _inputs(config), lambda: 1, RayMetrics(config))
    known = [again for record in ledger.records() for again in (record, *ledger.confirmations(record))]
    found = {str(record.folder): _reports(runner, record) for record in known if record.folder in trainings}
    print(json.dumps(found))


def _inputs(config: StudyConfig) -> Inputs:
    """What the stages have made, from the cache."""
    stages = Stages(config, threads=1)
    prepared = _result(stages.prepare())
    teacher = _result(stages.teacher(prepared))
    scores, chance, student, parameters = _result(stages.score_teacher(teacher, prepared))
    cache = _result(stages.cache(teacher, prepared, mapped_teacher_layers(config, checked_space(config))))
    return Inputs(prepared, teacher, student, parameters, cache, scores, chance)


def _result(stage: Any) -> Any:
    *_progress, result = stage
    return result


def _reports(runner: TrialRunner, record: TrialRecord) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as place:
        plan = TrialPlan.model_validate_json(runner._tune_config(record, "")["plan"])
        reports: list[dict[str, Any]] = []
        train(plan.model_copy(update={"folder": place}), reports.append)
    return [{name: report[name] for name in COMPARED if name in report} for report in reports]


if __name__ == "__main__":
    main(sys.argv[1:])
