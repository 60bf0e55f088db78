"""Real trials in one small file, for searches to be compared on without training.

`recorded_trials.csv` was made on two CPU cores by

    SETTINGS='--set search.sampler=random --set search.scheduler.kind=none --set search.scheduler.rungs=[10,20,30,50]
        --set training.batch_size=128 --set training.precision=fp32'
    python -m study.run --name record $SETTINGS --set search.start_from=[] --set search.trials=170
    python -m study.run --name known $SETTINGS --set search.trials=6 --set search.confirm.seeds=1
    python -m tests.benchmarks.record runs/record runs/known

The studies are the embedded one with half its batch: recipes drawn at random over the whole of
`search_spaces/full.yaml`, and the known ones that a search starts from, all trained to the end and measured at every
rung on the way. Confirmations train a recipe again with another seed: they tell how much of a score is noise.

The file: a first line ``# {JSON}`` with what all trials share, then a row a complete training: its recipe (the number
of the first trial that ran it), its parameters by the names that the space gives them (empty where a condition shuts
them), and for each level, that is each rung and the end, ``METRIC@STEP``. At a rung the metrics are those of a part of
the validation items (`evaluation_share`).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.pareto import reference_point
from search_spaces.space import load_space
from study.checks import surroundings
from study.config import load_config
from study.ledger import Ledger, TrialRecord

RECORDING = Path(__file__).parent / "recorded_trials.csv"
METRICS = ("retrieval_map", "vqa_variance", "vqa_accuracy", "vqa_lift_kept", "vqa_variance_noise")
_DIGITS = 5


@dataclass(frozen=True)
class Recording:
    """Recorded trainings: ``recipes`` [N, parameters] and ``scores`` [N, METRIC@STEP] have one index, recipe numbers.

    A number that occurs several times is a recipe that was trained several times.
    """

    levels: tuple[int, ...]  # steps at which every training was measured, the last one its end
    reference: dict[str, float]  # where hypervolume is measured from, by objective
    recipes: pd.DataFrame
    scores: pd.DataFrame


def read_recording(path: Path = RECORDING) -> Recording:
    with open(path, encoding="utf-8") as file:
        shared = json.loads(file.readline().removeprefix("#"))
        table = pd.read_csv(file, index_col="recipe", keep_default_na=False, na_values=[""])
    is_score = table.columns.str.contains("@")
    return Recording(tuple(shared["levels"]), shared["reference"], table.loc[:, ~is_score], table.loc[:, is_score])


def write_recording(studies: Sequence[Path], path: Path) -> int:
    """Write what the studies in these folders have completed; returns how many trainings that are.

    Raises:
        UserError: if a configuration cannot be read.
        OSError: if a folder holds no study, or ``path`` cannot be written.
    """
    config = load_config(str(studies[0] / "config.yaml"))
    space, around = load_space(config.search.space), surroundings(config)
    levels = [*config.search.scheduler.rungs, config.training.steps]
    teacher = json.loads((studies[0] / "teacher.json").read_text(encoding="utf-8"))["scores"]["validation"]["summary"]
    numbers: dict[str, int] = {}  # of recipes, by their content
    rows = []
    for record in _trainings(studies):
        result = record.result
        if result is not None and result["state"] == "complete":
            number = numbers.setdefault(record.recipe.model_dump_json(), len(numbers))
            parameters, _ = space.parameters_of(record.recipe.model_dump(mode="json"), around)
            rows.append({"recipe": number, **parameters, **_scores(record, levels)})
    names = dict.fromkeys(name for row in rows for name in row)
    ordered = [*(name for name in names if "@" not in name), *(name for name in names if "@" in name)]
    shared = {
        "levels": levels,
        "reference": reference_point(teacher, config.search.directions),
        "teacher": teacher,
        "batch_size": config.training.batch_size,
        "evaluation_share": config.search.scheduler.evaluation_share,
    }
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(f"# {json.dumps(shared)}\n")
        table = pd.DataFrame(rows, columns=ordered)
        table.to_csv(file, index=False, float_format=f"%.{_DIGITS}g", lineterminator="\n")
    return len(rows)


def _trainings(studies: Sequence[Path]) -> Iterator[TrialRecord]:
    for ledger in map(Ledger, studies):
        for record in ledger.records():
            yield record
            yield from ledger.confirmations(record)


def _scores(record: TrialRecord, levels: Sequence[int]) -> dict[str, float]:
    """A training's metrics and seconds at each level."""
    reports: dict[int, dict[str, Any]] = {report["step"]: report for report in record.reports()}
    found = {f"{name}@{level}": reports[level]["metrics"][name] for level in levels for name in METRICS}
    return found | {f"seconds@{level}": reports[level]["seconds"] for level in levels}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Turn studies into the recording that the benchmark reads.")
    parser.add_argument("studies", type=Path, nargs="+", help="folders of the studies, for example runs/record")
    arguments = parser.parse_args()
    print(f"{write_recording(arguments.studies, RECORDING)} trainings in {RECORDING}")
