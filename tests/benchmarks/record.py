"""Real trials in one small file, for searches to be compared on without training.

`recorded_trials.csv` was made on two CPU cores, in about two hours, by

    python -m study.run --name record --set "search.start_from=[]" --set search.sampler=random \
        --set search.trials=170 --set search.scheduler.kind=none --set "search.scheduler.rungs=[10,20,30,50]" \
        --set training.batch_size=128 --set training.precision=fp32
    python -m tests.benchmarks.record runs/record

The study is the embedded one with half its batch: recipes drawn at random over the whole of `search_spaces/full.yaml`,
all trained to the end, measured at every rung on the way.

The file: a first line ``# {JSON}`` with what all trials share, then a row a complete trial: its number, its parameters
by the names that the space gives them (empty where a condition shuts them), and for each level, that is each rung and
the end, ``METRIC@STEP``. At a rung the metrics are those of a part of the validation items (`evaluation_share`).
"""

from __future__ import annotations

import argparse
import json
import sys
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
    """Recorded trials: ``recipes`` [N, parameters] and ``scores`` [N, METRIC@STEP] have one index, trial numbers."""

    levels: tuple[int, ...]  # steps at which every trial was measured, the last one its end
    reference: dict[str, float]  # where hypervolume is measured from, by objective
    recipes: pd.DataFrame
    scores: pd.DataFrame


def read_recording(path: Path = RECORDING) -> Recording:
    with open(path, encoding="utf-8") as file:
        shared = json.loads(file.readline().removeprefix("#"))
        table = pd.read_csv(file, index_col="trial", keep_default_na=False, na_values=[""])
    is_score = table.columns.str.contains("@")
    return Recording(
        tuple(shared["levels"]), shared["reference"], table.loc[:, ~is_score].dropna(axis=1, how="all"), table.loc[:, is_score]
    )


def write_recording(study: Path, path: Path) -> int:
    """Write what the study in folder ``study`` has completed; returns how many trials that are.

    Raises:
        UserError: if its configuration cannot be read.
        OSError: if it is no study, or ``path`` cannot be written.
    """
    config = load_config(str(study / "config.yaml"))
    space, around = load_space(config.search.space), surroundings(config)
    levels = [*config.search.scheduler.rungs, config.training.steps]
    teacher = json.loads((study / "teacher.json").read_text(encoding="utf-8"))["scores"]["validation"]["summary"]
    rows = []
    for record in Ledger(study).records():
        result = record.result
        if result is not None and result["state"] == "complete":
            parameters, _ = space.parameters_of(record.recipe.model_dump(mode="json"), around)
            rows.append({"trial": record.number, **parameters, **_scores(record, levels)})
    recipes = [name for name in dict.fromkeys(key for row in rows for key in row) if "@" not in name]
    scores = [name for name in dict.fromkeys(key for row in rows for key in row) if "@" in name]
    shared = {
        "levels": levels,
        "reference": reference_point(teacher, config.search.directions),
        "teacher": teacher,
        "batch_size": config.training.batch_size,
        "evaluation_share": config.search.scheduler.evaluation_share,
    }
    table = pd.DataFrame(rows, columns=[*recipes, *scores])
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(f"# {json.dumps(shared)}\n")
        table.to_csv(file, index=False, float_format=f"%.{_DIGITS}g", lineterminator="\n")
    return len(table)


def _scores(record: TrialRecord, levels: list[int]) -> dict[str, float]:
    """A trial's metrics and seconds at each level."""
    reports: dict[int, dict[str, Any]] = {report["step"]: report for report in record.reports()}
    found = {f"{name}@{level}": reports[level]["metrics"][name] for name in METRICS for level in levels}
    return found | {f"seconds@{level}": reports[level]["seconds"] for level in levels}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Turn a study's folder into the recording that the benchmark reads.")
    parser.add_argument("study", type=Path, help="the folder of the study that was recorded, for example runs/record")
    arguments = parser.parse_args()
    sys.stdout.write(f"{write_recording(arguments.study, RECORDING)} trials in {RECORDING}\n")
