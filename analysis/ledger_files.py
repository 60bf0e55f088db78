"""The files of a study's ledger as typed records: what every frame and figure is built from."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from analysis.pareto import Direction

_TRIAL_FOLDER = re.compile(r"\d{5,}")


class Record(BaseModel):
    """One file, or line of a file, of the ledger; keys that no frame needs are passed over."""

    model_config = ConfigDict(strict=True, frozen=True)


_R = TypeVar("_R", bound=Record)
Numbers = dict[str, float | None]


class Scores(Record):
    languages: dict[str, Numbers]
    summary: Numbers
    sets: dict[str, dict[str, Numbers]] | None = None  # by set and language, where sets have names

    @property
    def by_set(self) -> dict[str, dict[str, Numbers]]:
        """By set and language; one set without a name has the empty one."""
        return self.sets or {"": self.languages}


class SplitScores(Record):
    validation: Scores | None = None
    test: Scores | None = None


class TeacherScores(SplitScores):
    validation: Scores


class EncodingCost(Record):
    """What it takes to encode one image and one text."""

    parameters: int
    image_flops: int
    text_flops: int
    image_ms: float
    text_ms: float


class Encoding(Record):
    """Teacher and student, measured side by side."""

    device: str
    threads: int
    precision: str
    teacher: EncodingCost
    student: EncodingCost


class TeacherFile(Record):
    family: str
    parameters: int
    scores: TeacherScores
    random_student: Scores | None = None
    encoding: Encoding | None = None


class Recipe(Record):
    model_config = ConfigDict(extra="allow")
    strategy: str


class RecipeFile(Record):
    number: int
    recipe: Recipe
    created: str = ""


class Report(Record):
    step: int
    seconds: float
    final: bool
    metrics: Numbers
    losses: Numbers = {}


class Result(Record):
    state: Literal["complete", "stopped", "infeasible", "failed"]
    reason: str | None = None
    steps: int | None = None
    seconds: float | None = None
    finished: str = ""
    parameters: int | None = None
    metrics: Numbers = {}
    scores: SplitScores = SplitScores()


class TestFile(Record):
    metrics: Numbers
    scores: Scores


class Bound(Record):
    min: float | None = None
    max: float | None = None


class Search(Record):
    objectives: dict[str, Direction] = Field(min_length=1)
    constraints: dict[str, Bound] = {}


class Data(Record):
    languages: list[str]


class Config(Record):
    name: str
    data: Data
    search: Search


@dataclass(frozen=True)
class TrialFiles:
    name: str
    recipe: Recipe
    created: str
    reports: list[Report]
    result: Result | None
    test: TestFile | None
    confirmations: list[dict[str, float]]


def trial_folders(folder: Path) -> list[Path]:
    """Trials by number. A folder that holds no record yet is one that the study is just making."""
    if not folder.is_dir():
        return []
    records = ("recipe.json", "reports.jsonl", "result.json")
    named = (path for path in folder.iterdir() if _TRIAL_FOLDER.fullmatch(path.name))
    begun = (path for path in named if any((path / record).exists() for record in records))
    return sorted(begun, key=lambda path: int(path.name))


def read_trial(folder: Path) -> TrialFiles:
    """What the ledger holds of one trial. Raises ValueError, naming the file, if one is missing or malformed."""
    recipe = read_record(RecipeFile, folder / "recipe.json")
    if recipe.number != int(folder.name):
        raise ValueError(f"{folder / 'recipe.json'}: number: {recipe.number} is not the number of its folder")
    result, test = folder / "result.json", folder / "test.json"
    return TrialFiles(
        name=folder.name,
        recipe=recipe.recipe,
        created=recipe.created,
        reports=_read_reports(folder / "reports.jsonl"),
        result=read_record(Result, result) if result.exists() else None,
        test=read_record(TestFile, test) if test.exists() else None,
        confirmations=_read_confirmations(folder / "confirm"),
    )


def _read_confirmations(folder: Path) -> list[dict[str, float]]:
    """The metrics of the complete ones, in their order."""
    results = [read_record(Result, path) for path in sorted(folder.glob("*/result.json"))]
    return [as_numbers(result.metrics) for result in results if result.state == "complete"]


def as_numbers(values: Numbers) -> dict[str, float]:
    """``values`` with NaN for what is not known."""
    return {name: math.nan if value is None else value for name, value in values.items()}


def read_config(path: Path) -> Config:
    try:
        content = yaml.safe_load(_read(path))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise ValueError(f"{path}: it is no YAML{f' from line {mark.line + 1} on' if mark else ''}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: it is no study's configuration")
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        raise _malformed(path, error) from None


def read_record(kind: type[_R], path: Path) -> _R:
    try:
        return kind.model_validate_json(_read(path))
    except ValidationError as error:
        raise _malformed(path, error) from None


def _read_reports(path: Path) -> list[Report]:
    lines = _read(path).rstrip().split(b"\n") if path.exists() else []
    reports = []
    for number, line in enumerate(lines, start=1):
        try:
            reports.append(Report.model_validate_json(line))
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
    if first["type"] == "missing":
        return ValueError(f"{where}: it has no {field}")
    return ValueError(f"{where}: {f'{field}: ' if field else ''}{first['msg'].replace('Input should', 'should')}")
