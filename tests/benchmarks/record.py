"""Real trials in one small file, for searches to be compared on without training.

`recorded_trials.csv` was made on two CPU cores by

    SETTINGS='--set search.sampler=random --set search.scheduler.kind=none --set search.scheduler.rungs=[10,20,30,50]
        --set training.batch_size=128 --set training.precision=fp32'
    python -m study.run --name record $SETTINGS --set search.start_from=[] --set search.trials=69
    python -m study.run --name known $SETTINGS --set search.trials=6 --set search.confirm.seeds=1
    python -m study.run --name more $SETTINGS --set search.start_from=[] --set search.trials=1
    python -m study.run --name more $SETTINGS --set search.start_from=[] --set search.trials=78
    python -m tests.benchmarks.record runs/record runs/known runs/more

(A sampler draws anew in each run: the second run of `more` draws other recipes than `record` did.)
The studies are the embedded one: recipes drawn at random over the whole of
`search_spaces/full.yaml`, and the known ones that a search starts from, all trained to the end and measured at every
rung on the way. Confirmations train a recipe again with another seed: they tell how much of a score is noise.

The file: a first line ``# {JSON}`` with what all trials share, then a row a complete training: its recipe (the number
of the first trial that ran it), its parameters by the names that the space gives them (empty where a condition shuts
them), and for each level, that is each rung and the end, ``METRIC@STEP``. At a rung the metrics are those of a part of
the validation items (`evaluation_share`).
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.pareto import reference_point
from search_spaces.inverse import parameters_of
from search_spaces.space import load_space
from study.checks import surroundings
from study.config import load_config
from study.errors import UserError
from study.ledger import Ledger, TrialRecord

RECORDING = Path(__file__).parent / "recorded_trials.csv"
METRICS = ("retrieval_map", "vqa_variance", "vqa_accuracy", "vqa_lift_kept", "vqa_variance_noise")
_MEASURED_ALIKE = ("levels", "batch_size", "evaluation_share")
_DIGITS = 5
_AS_WRITTEN: dict[str, Any] = {"keep_default_na": False, "na_values": [""]}


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
    shared, table = _read(path)
    table = table.set_index("recipe")
    is_score = table.columns.str.contains("@")
    return Recording(tuple(shared["levels"]), shared["reference"], table.loc[:, ~is_score], table.loc[:, is_score])


def add_to_recording(studies: Sequence[Path], path: Path = RECORDING) -> int:
    """Add what the studies in these folders have completed to the recording in ``path``, which may not exist yet.

    A training that is there already is not added again. Returns how many were added.

    Raises:
        UserError: if a configuration cannot be read, or a study measured its trials otherwise than the recording.
        OSError: if a folder holds no study, or ``path`` cannot be written.
    """
    config = load_config(str(studies[0] / "config.yaml"))
    space, around = load_space(config.search.space), surroundings(config)
    shared = _shared(studies[0])
    known = pd.DataFrame()
    if path.exists():
        shared, known = _read(path)
    rows = []
    for study in studies:
        own = _shared(study)
        if different := [key for key in _MEASURED_ALIKE if own[key] != shared[key]]:
            raise UserError(f"{study}: its {different[0]} is not that of the trials in {path}: {shared[different[0]]}")
        for record in _trainings(study):
            result = record.result
            if result is not None and result["state"] == "complete":
                parameters, _ = parameters_of(space, record.recipe.model_dump(mode="json"), around)
                rows.append({**parameters, **_scores(record, shared["levels"])})
    # As the file will give it back, so that what is equal in it is equal here.
    fresh = pd.read_csv(io.StringIO(_csv(pd.DataFrame(rows))), **_AS_WRITTEN)
    table = pd.concat([known.drop(columns="recipe", errors="ignore"), fresh], ignore_index=True)
    scored = [name for name in table.columns if "@" in name]
    told_apart = [name for name in scored if not name.startswith("seconds")]
    parameters = [name for name in table.columns if "@" not in name]
    table = table[~table.duplicated([*parameters, *told_apart])]
    table.insert(0, "recipe", table.groupby(parameters, sort=False, dropna=False).ngroup())
    text = _csv(table[["recipe", *parameters, *scored]])
    path.write_text(f"# {json.dumps(shared)}\n{text}", encoding="utf-8", newline="")
    return len(table) - len(known)


def _read(path: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """What all trainings share, and the table."""
    with open(path, encoding="utf-8") as file:
        return json.loads(file.readline().removeprefix("#")), pd.read_csv(file, **_AS_WRITTEN)


def _csv(table: pd.DataFrame) -> str:
    return str(table.to_csv(index=False, float_format=f"%.{_DIGITS}g", lineterminator="\n"))


def _shared(study: Path) -> dict[str, Any]:
    config = load_config(str(study / "config.yaml"))
    teacher = json.loads((study / "teacher.json").read_text(encoding="utf-8"))["scores"]["validation"]["summary"]
    return {
        "levels": [*config.search.scheduler.rungs, config.training.steps],
        "reference": reference_point(teacher, config.search.directions),
        "teacher": teacher,
        "batch_size": config.training.batch_size,
        "evaluation_share": config.search.scheduler.evaluation_share,
    }


def _trainings(study: Path) -> Iterator[TrialRecord]:
    ledger = Ledger(study)
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
    print(f"{add_to_recording(arguments.studies)} trainings added to {RECORDING}")
