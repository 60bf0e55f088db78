"""A study folder, finished or running, as tidy frames: built from its ledger alone, never from results/."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.confirmation import Confirmed, confirm
from analysis.files import without_nan, write_atomically
from analysis.ledger_files import (
    Encoding,
    Numbers,
    Scores,
    TeacherFile,
    TrialFiles,
    as_numbers,
    read_config,
    read_record,
    read_trial,
    trial_folders,
)
from analysis.pareto import Direction, feasible, front_mask, hypervolume, reference_point

METRICS = (
    "retrieval_map",
    "retrieval_map_noise",
    "vqa_variance",
    "vqa_std",
    "vqa_variance_noise",
    "vqa_accuracy",
    "vqa_lift_kept",
)
_RANKINGS = ("map", "recall_1", "recall_5", "recall_10", "mrr")
LANGUAGE_SCORES = (*(f"{score}_{way}" for score in _RANKINGS for way in ("i2t", "t2i")), "vqa_accuracy")

_TIMES = ("created", "finished")
_TRIAL_COLUMNS = {
    "trial": "str",
    "number": "int64",
    "state": "str",
    "reason": "str",
    "strategy": "str",
    "steps": "Int64",
    "seconds": "float64",
    "parameters": "Int64",
    **dict.fromkeys(_TIMES, "datetime64[us, UTC]"),
}
_LAST_TRIAL_COLUMNS = {"feasible": "bool", "on_front": "bool", "recipe": "str"}
_REPORT_COLUMNS = {"trial": "str", "step": "int64", "seconds": "float64", "final": "bool"}
_LANGUAGE_COLUMNS = {"trial": "str", "split": "str", "set": "str", "language": "str"}


@dataclass(frozen=True)
class Teacher:
    """The teacher. ``metrics`` by split: validation, and test once it is scored.

    ``random_student`` has the validation metrics of a student of random weights, and ``encoding`` what it takes teacher
    and student to encode; None where a study did not record it.
    """

    family: str
    parameters: int
    metrics: dict[str, dict[str, float]]
    random_student: dict[str, float] | None = None
    encoding: Encoding | None = None


@dataclass(frozen=True)
class StudyData:
    """A study as frames. ``teacher`` is None until it is scored, which is before the first trial.

    ``trials`` has a row a trial, by number: trial, number, state (complete, stopped, infeasible, failed,
    running, unreadable), reason, strategy, steps, seconds, parameters, created, finished, a column a metric, feasible,
    on_front and recipe (JSON). A trial that was stopped or is running has the metrics of its last report. One with a
    file that cannot be read has the state unreadable, the reason, and nothing else.

    ``by_language`` is long: trial (or ``teacher``), split (validation, test), set (empty for one without a name),
    language, ``LANGUAGE_SCORES`` and vqa_items; a set lacks the scores of the other kind, and ``over_sets`` has means
    over the sets. ``reports`` has a row a report: trial, step, seconds, final, a column a metric, and loss_NAME for a
    loss. ``test_metrics`` has the metrics on the test split, by trial, of the trials that were scored on it.
    ``confirmations`` has the validation metrics of each further training that a trial's recipe completed.

    Scores are shares of 1; ``vqa_variance`` and its standard error ``vqa_variance_noise`` are in squared
    percentage points, ``vqa_std`` in percentage points. What is not known is missing (NaN or NA).
    """

    path: Path
    name: str
    languages: tuple[str, ...]
    objectives: dict[str, Direction]
    constraints: dict[str, dict[str, float]]
    teacher: Teacher | None
    trials: pd.DataFrame
    by_language: pd.DataFrame
    reports: pd.DataFrame
    test_metrics: dict[str, dict[str, float]]
    confirmations: dict[str, list[dict[str, float]]]

    @property
    def unreadable(self) -> dict[str, str]:
        """Why it cannot be read, by trial, of those with a file that is missing or malformed."""
        rows = self.trials[self.trials["state"] == "unreadable"]
        return dict(zip(rows["trial"], rows["reason"], strict=True))


def over_sets(data: StudyData) -> pd.DataFrame:
    """``by_language`` without sets: a row a trial, split and language, means over the sets; vqa_items is their sum."""
    frame = data.by_language
    if not frame.duplicated(["trial", "split", "language"]).any():
        return frame.drop(columns="set")
    keys = ["trial", "split", "language"]
    grouped = frame.drop(columns="set").groupby(keys, sort=False)
    items = grouped["vqa_items"].sum(min_count=1)
    return grouped.mean().assign(vqa_items=items).reset_index()[[name for name in frame.columns if name != "set"]]


def load_study(path: str | Path) -> StudyData:
    """Read the study in folder ``path``.

    A torn last line of a reports.jsonl, which a crash leaves behind, is dropped.

    Raises ValueError, naming the file, if config.yaml or teacher.json is missing or malformed.
    """
    study = Path(path)
    config = read_config(study / "config.yaml")
    objectives, bounds = config.search.objectives, config.search.constraints
    constraints = {name: bound.model_dump(exclude_none=True) for name, bound in bounds.items()}
    ledger, unreadable = _read_trials(study / "trials")
    teacher: Teacher | None = None
    language_rows: list[dict[str, Any]] = []
    has_teacher = (study / "teacher.json").exists()
    if not has_teacher and (ledger or unreadable):
        raise ValueError(f"{study / 'teacher.json'}: is missing, though there are trials: {study} is not a whole study")
    if has_teacher:
        file = read_record(TeacherFile, study / "teacher.json")
        scored = {"validation": file.scores.validation, "test": file.scores.test}
        untrained = as_numbers(file.random_student.summary) if file.random_student else None
        summaries = {split: as_numbers(scores.summary) for split, scores in scored.items() if scores}
        teacher = Teacher(file.family, file.parameters, summaries, untrained, file.encoding)
        language_rows = _language_rows("teacher", scored)
    for trial in ledger:
        validation = trial.result.scores.validation if trial.result else None
        scored = {"validation": validation, "test": trial.test.scores if trial.test else None}
        language_rows += _language_rows(trial.name, scored)
    trial_rows = [*(_trial_row(trial, constraints) for trial in ledger), *unreadable]
    trial_rows.sort(key=lambda row: row["number"])
    metrics = (*METRICS, *objectives, *constraints)
    trials = _frame(trial_rows, _TRIAL_COLUMNS, metrics, _LAST_TRIAL_COLUMNS)
    trials["on_front"] = front_mask(trials, objectives, constraints)
    report_rows = [row for trial in ledger for row in _report_rows(trial)]
    return StudyData(
        path=study,
        name=config.name,
        languages=tuple(config.data.languages),
        objectives=objectives,
        constraints=constraints,
        teacher=teacher,
        trials=trials,
        by_language=_frame(language_rows, _LANGUAGE_COLUMNS, LANGUAGE_SCORES, {"vqa_items": "Int64"}),
        reports=_frame(report_rows, _REPORT_COLUMNS, METRICS, {}),
        test_metrics={trial.name: as_numbers(trial.test.metrics) for trial in ledger if trial.test},
        confirmations={trial.name: trial.confirmations for trial in ledger if trial.confirmations},
    )


def front(data: StudyData) -> dict[str, Any]:
    """What results/front.json holds: members, best in the first objective first, and their hypervolume.

    ``confirmed`` of a member is what its further trainings amount to, None without any (see `analysis.confirmation`).
    ``neighbours`` are the recipes behind the front that were trained again, since noise alone may have put them there.

    The reference point is empty, and the hypervolume 0, as long as no teacher is scored.

    Raises ValueError if the teacher lacks an objective that is minimised.
    """
    leading, direction = next(iter(data.objectives.items()))
    members = data.trials[data.trials["on_front"]]
    members = members.sort_values([leading, "number"], ascending=[direction == "minimise", True])
    reference, volume = dict[str, float](), 0.0
    if data.teacher:
        reference = reference_point(data.teacher.metrics["validation"], data.objectives)
        volume = hypervolume(members[list(data.objectives)], data.objectives, reference)
    metrics = [name for name in members.columns if name not in {**_TRIAL_COLUMNS, **_LAST_TRIAL_COLUMNS}]
    confirmed = confirm(data.confirmations, data.objectives, data.constraints)
    is_neighbour = data.trials["trial"].isin(list(confirmed)) & ~data.trials["on_front"]

    def described(row: Mapping[Any, Any]) -> dict[str, Any]:
        return {
            "trial": row["trial"],
            "number": row["number"],
            "recipe": json.loads(row["recipe"]),
            "validation": {name: row[name] for name in metrics},
            "confirmed": _confirmed(confirmed.get(row["trial"])),
            "test": data.test_metrics.get(row["trial"]),
        }

    return {
        "objectives": data.objectives,
        "constraints": data.constraints,
        "reference_point": reference,
        "hypervolume": volume,
        "teacher": data.teacher.metrics if data.teacher else {},
        "members": [described(row) for row in members.to_dict("records")],
        "neighbours": [described(row) for row in data.trials[is_neighbour].to_dict("records")],
    }


def _confirmed(found: Confirmed | None) -> dict[str, Any] | None:
    return None if found is None else {**asdict(found), "is_supported": found.is_supported}


def write_results(data: StudyData) -> None:
    """Write results/trials.parquet, results/languages.parquet and results/front.json into the study's folder.

    Each is replaced whole: a reader sees the old file or the new one. Raises ValueError as ``front`` does.
    """
    folder = data.path / "results"
    folder.mkdir(exist_ok=True)
    text = json.dumps(without_nan(front(data)), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / "trials.parquet", data.trials.to_parquet())
    write_atomically(folder / "languages.parquet", data.by_language.to_parquet())
    write_atomically(folder / "front.json", f"{text}\n".encode())


def _read_trials(folder: Path) -> tuple[list[TrialFiles], list[dict[str, Any]]]:
    """The trials that can be read, and rows of those that cannot: one broken file hides one trial, not the study."""
    ledger, unreadable = [], []
    for path in trial_folders(folder):
        try:
            ledger.append(read_trial(path))
        except ValueError as error:
            row = {"trial": path.name, "number": int(path.name), "state": "unreadable", "reason": str(error)}
            unreadable.append({**row, "strategy": "", "recipe": "{}", "feasible": False, "on_front": False})
    return ledger, unreadable


def _trial_row(trial: TrialFiles, constraints: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    row: dict[str, Any] = {"trial": trial.name, "number": int(trial.name), "state": "running"}
    metrics: Numbers = {}
    last = trial.reports[-1] if trial.reports else None
    if last:
        row |= {"steps": last.step, "seconds": last.seconds}
    if trial.result:
        fields = {"state", "reason", "steps", "seconds", "parameters", "finished"}
        row |= trial.result.model_dump(include=fields, exclude_none=True)
        metrics = trial.result.metrics
    if last and row["state"] in ("running", "stopped"):
        metrics = last.metrics
    numbers = as_numbers(metrics)
    measured = bool(numbers) and row["state"] not in ("infeasible", "failed")
    row |= {"strategy": trial.recipe.strategy, "recipe": trial.recipe.model_dump_json(), "created": trial.created}
    return {**numbers, **row, "feasible": measured and feasible(numbers, constraints), "on_front": False}


def _report_rows(trial: TrialFiles) -> list[dict[str, Any]]:
    # A trial that goes on from a checkpoint reports the steps since then again: the later report holds.
    latest = {(report.step, report.final): report for report in trial.reports}
    return [
        {
            **as_numbers({f"loss_{name}": loss for name, loss in report.losses.items()}),
            **as_numbers(report.metrics),
            "trial": trial.name,
            **report.model_dump(exclude={"metrics", "losses"}),
        }
        for report in latest.values()
    ]


def _language_rows(trial: str, scores: Mapping[str, Scores | None]) -> list[dict[str, Any]]:
    return [
        {**as_numbers(values), "trial": trial, "split": split, "set": name, "language": language}
        for split, of_split in scores.items()
        if of_split
        for name, languages in of_split.by_set.items()
        for language, values in languages.items()
    ]


def _frame(
    rows: list[dict[str, Any]], first: Mapping[str, str], numbers: tuple[str, ...], last: Mapping[str, str]
) -> pd.DataFrame:
    """Columns ``first``, ``numbers``, other numbers that rows have, and ``last``: typed even without rows."""
    named = dict.fromkeys((*numbers, *(name for row in rows for name in row)), "float64")
    between = {name: kind for name, kind in named.items() if name not in first and name not in last}
    columns = {**first, **between, **last}
    frame = pd.DataFrame(rows, columns=list(columns))
    for name in [name for name in _TIMES if name in frame]:  # what is no time is missing
        frame[name] = pd.to_datetime(frame[name], format="ISO8601", utc=True, errors="coerce")
    return frame.astype(columns)
