"""A study folder, finished or running, as tidy frames: built from its ledger alone, never from results/."""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from analysis.pareto import Direction, feasible, front_mask, hypervolume, reference_point

METRICS = ("retrieval_map", "vqa_variance", "vqa_std", "vqa_variance_noise", "vqa_accuracy", "vqa_lift_kept")
_RANKINGS = ("map", "recall_1", "recall_5", "recall_10", "mrr")
LANGUAGE_SCORES = (*(f"{score}_{way}" for score in _RANKINGS for way in ("i2t", "t2i")), "vqa_accuracy")

_TRIAL_FOLDER = re.compile(r"\d{5,}")
_TRIAL_COLUMNS = {
    "trial": "str",
    "number": "int64",
    "state": "str",
    "reason": "str",
    "strategy": "str",
    "steps": "Int64",
    "seconds": "float64",
    "parameters": "Int64",
}
_LAST_TRIAL_COLUMNS = {"feasible": "bool", "on_front": "bool", "recipe": "str"}
_REPORT_COLUMNS = {"trial": "str", "step": "int64", "seconds": "float64", "final": "bool"}
_LANGUAGE_COLUMNS = {"trial": "str", "split": "str", "language": "str"}


class _Record(BaseModel):
    """One file, or line of a file, of the ledger; keys that no frame needs are passed over."""

    model_config = ConfigDict(strict=True, frozen=True)


_R = TypeVar("_R", bound=_Record)
_Numbers = dict[str, float | None]


class _Scores(_Record):
    languages: dict[str, _Numbers]
    summary: _Numbers


class _SplitScores(_Record):
    validation: _Scores | None = None
    test: _Scores | None = None


class _TeacherScores(_SplitScores):
    validation: _Scores


class _TeacherFile(_Record):
    family: str
    parameters: int
    scores: _TeacherScores


class _Recipe(_Record):
    model_config = ConfigDict(extra="allow")
    strategy: str


class _RecipeFile(_Record):
    number: int
    recipe: _Recipe


class _Report(_Record):
    step: int
    seconds: float
    final: bool
    metrics: _Numbers


class _Result(_Record):
    state: Literal["complete", "stopped", "infeasible", "failed"]
    reason: str | None = None
    steps: int | None = None
    seconds: float | None = None
    parameters: int | None = None
    metrics: _Numbers = {}
    scores: _SplitScores = _SplitScores()


class _TestFile(_Record):
    metrics: _Numbers
    scores: _Scores


class _Bound(_Record):
    min: float | None = None
    max: float | None = None


class _Search(_Record):
    objectives: dict[str, Direction] = Field(min_length=1)
    constraints: dict[str, _Bound] = {}


class _Data(_Record):
    languages: list[str]


class _Config(_Record):
    name: str
    data: _Data
    search: _Search


@dataclass(frozen=True)
class Teacher:
    """The teacher. ``metrics`` by split: validation, and test once it is scored."""

    family: str
    parameters: int
    metrics: dict[str, dict[str, float]]


@dataclass(frozen=True)
class StudyData:
    """A study as frames. ``teacher`` is None until it is scored, which is before the first trial.

    ``trials`` has a row a trial, by number: trial, number, state (complete, stopped, infeasible, failed,
    running), reason, strategy, steps, seconds, parameters, a column a metric, feasible, on_front and recipe
    (JSON). A trial that was stopped or is running has the metrics of its last report.

    ``by_language`` is long: trial (or ``teacher``), split (validation, test), language, ``LANGUAGE_SCORES``
    and vqa_items. ``reports`` has a row a report: trial, step, seconds, final, a column a metric.
    ``test_metrics`` has the metrics on the test split, by trial, of the trials that were scored on it.

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


def load_study(path: str | Path) -> StudyData:
    """Read the study in folder ``path``.

    Raises ValueError, naming the file, if one is missing or malformed; only a torn last line of a
    reports.jsonl, which a crash leaves behind, is dropped.
    """
    study = Path(path)
    config = _read_config(study / "config.yaml")
    objectives, bounds = config.search.objectives, config.search.constraints
    constraints = {name: bound.model_dump(exclude_none=True) for name, bound in bounds.items()}
    ledger = [_read_trial(folder) for folder in _trial_folders(study / "trials")]
    teacher: Teacher | None = None
    language_rows: list[dict[str, Any]] = []
    if ledger or (study / "teacher.json").exists():
        file = _read_record(_TeacherFile, study / "teacher.json")
        scored = {"validation": file.scores.validation, "test": file.scores.test}
        summaries = {split: _numbers(scores.summary) for split, scores in scored.items() if scores}
        teacher = Teacher(file.family, file.parameters, summaries)
        language_rows = _language_rows("teacher", scored)
    for trial in ledger:
        validation = trial.result.scores.validation if trial.result else None
        scored = {"validation": validation, "test": trial.test.scores if trial.test else None}
        language_rows += _language_rows(trial.name, scored)
    trial_rows = [_trial_row(trial, constraints) for trial in ledger]
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
        test_metrics={trial.name: _numbers(trial.test.metrics) for trial in ledger if trial.test},
    )


def front(data: StudyData) -> dict[str, Any]:
    """What results/front.json holds: members, best in the first objective first, and their hypervolume.

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
    return {
        "objectives": data.objectives,
        "constraints": data.constraints,
        "reference_point": reference,
        "hypervolume": volume,
        "teacher": data.teacher.metrics if data.teacher else {},
        "members": [
            {
                "trial": row["trial"],
                "number": row["number"],
                "recipe": json.loads(row["recipe"]),
                "validation": {name: row[name] for name in metrics},
                "test": data.test_metrics.get(row["trial"]),
            }
            for row in members.to_dict("records")
        ],
    }


def write_results(data: StudyData) -> None:
    """Write results/trials.parquet, results/languages.parquet and results/front.json into the study's folder.

    Each is replaced whole: a reader sees the old file or the new one. Raises ValueError as ``front`` does.
    """
    folder = data.path / "results"
    folder.mkdir(exist_ok=True)
    text = json.dumps(_without_nan(front(data)), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / "trials.parquet", data.trials.to_parquet())
    write_atomically(folder / "languages.parquet", data.by_language.to_parquet())
    write_atomically(folder / "front.json", f"{text}\n".encode())


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the file ``path`` by ``content``, so that a reader sees the old or the new, never a part."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp hides its file from everybody else
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


@dataclass(frozen=True)
class _Trial:
    name: str
    recipe: _Recipe
    reports: list[_Report]
    result: _Result | None
    test: _TestFile | None


def _trial_folders(folder: Path) -> list[Path]:
    """Trials by number. A folder that holds no record yet is one that the study is just making."""
    if not folder.is_dir():
        return []
    records = ("recipe.json", "reports.jsonl", "result.json")
    named = (path for path in folder.iterdir() if _TRIAL_FOLDER.fullmatch(path.name))
    begun = (path for path in named if any((path / record).exists() for record in records))
    return sorted(begun, key=lambda path: int(path.name))


def _read_trial(folder: Path) -> _Trial:
    recipe = _read_record(_RecipeFile, folder / "recipe.json")
    if recipe.number != int(folder.name):
        raise ValueError(f"{folder / 'recipe.json'}: number: {recipe.number} is not the number of its folder")
    result, test = folder / "result.json", folder / "test.json"
    return _Trial(
        name=folder.name,
        recipe=recipe.recipe,
        reports=_read_reports(folder / "reports.jsonl"),
        result=_read_record(_Result, result) if result.exists() else None,
        test=_read_record(_TestFile, test) if test.exists() else None,
    )


def _trial_row(trial: _Trial, constraints: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    row: dict[str, Any] = {"trial": trial.name, "number": int(trial.name), "state": "running"}
    metrics: _Numbers = {}
    last = trial.reports[-1] if trial.reports else None
    if last:
        row |= {"steps": last.step, "seconds": last.seconds}
    if trial.result:
        fields = {"state", "reason", "steps", "seconds", "parameters"}
        row |= trial.result.model_dump(include=fields, exclude_none=True)
        metrics = trial.result.metrics
    if last and row["state"] in ("running", "stopped"):
        metrics = last.metrics
    numbers = _numbers(metrics)
    measured = bool(numbers) and row["state"] not in ("infeasible", "failed")
    row |= {"strategy": trial.recipe.strategy, "recipe": trial.recipe.model_dump_json()}
    return {**numbers, **row, "feasible": measured and feasible(numbers, constraints), "on_front": False}


def _report_rows(trial: _Trial) -> list[dict[str, Any]]:
    # A trial that goes on from a checkpoint reports the steps since then again: the later report holds.
    latest = {(report.step, report.final): report for report in trial.reports}
    return [
        {**_numbers(report.metrics), "trial": trial.name, **report.model_dump(exclude={"metrics"})}
        for report in latest.values()
    ]


def _language_rows(trial: str, scores: Mapping[str, _Scores | None]) -> list[dict[str, Any]]:
    return [
        {**_numbers(values), "trial": trial, "split": split, "language": language}
        for split, of_split in scores.items()
        if of_split
        for language, values in of_split.languages.items()
    ]


def _frame(
    rows: list[dict[str, Any]], first: Mapping[str, str], numbers: tuple[str, ...], last: Mapping[str, str]
) -> pd.DataFrame:
    """Columns ``first``, ``numbers``, other numbers that rows have, and ``last``: typed even without rows."""
    named = dict.fromkeys((*numbers, *(name for row in rows for name in row)), "float64")
    between = {name: kind for name, kind in named.items() if name not in first and name not in last}
    columns = {**first, **between, **last}
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)


def _numbers(values: _Numbers) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in values.items()}


def _without_nan(value: Any) -> Any:
    """``value`` with null for NaN and infinities, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read_config(path: Path) -> _Config:
    try:
        return _Config.model_validate(yaml.safe_load(_read(path)))
    except ValidationError as error:
        raise _malformed(path, error) from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: {error}") from None


def _read_record(kind: type[_R], path: Path) -> _R:
    try:
        return kind.model_validate_json(_read(path))
    except ValidationError as error:
        raise _malformed(path, error) from None


def _read_reports(path: Path) -> list[_Report]:
    lines = _read(path).rstrip().split(b"\n") if path.exists() else []
    reports = []
    for number, line in enumerate(lines, start=1):
        try:
            reports.append(_Report.model_validate_json(line))
        except ValidationError as error:
            is_torn = number == len(lines) and error.errors()[0]["type"] == "json_invalid"
            if not is_torn:
                raise _malformed(f"{path}, line {number}", error) from None
    return reports


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None


def _malformed(where: Path | str, error: ValidationError) -> ValueError:
    first = error.errors(include_url=False)[0]
    field = ".".join(map(str, first["loc"]))
    return ValueError(f"{where}: {field}: {first['msg']}" if field else f"{where}: {first['msg']}")
