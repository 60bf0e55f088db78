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

from study.config import StudyConfig, load_config
from study.ledger import Ledger, TrialRecord
from study.trial_plan import Inputs, trial_plan
from tests.study.prepared import inputs_of
from trainables.worker import train

COMPARED = ("step", "final", "metrics", "losses")


def main(arguments: Sequence[str]) -> None:
    study, *trainings = (Path(argument) for argument in arguments)
    config = load_config(str(study / "config.yaml"))
    ledger = Ledger(study)
    inputs = inputs_of(config, threads=1)
    known = [again for record in ledger.records() for again in (record, *ledger.confirmations(record))]
    found = {str(record.folder): _reports(config, inputs, record) for record in known if record.folder in trainings}
    print(json.dumps(found))


def _reports(config: StudyConfig, inputs: Inputs, record: TrialRecord) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as place:
        reports: list[dict[str, Any]] = []
        train(trial_plan(config, inputs, record, place), reports.append)
    return [{name: report[name] for name in COMPARED if name in report} for report in reports]


if __name__ == "__main__":
    main(sys.argv[1:])
