"""All that a study knows of one trial, gathered: for the terminal, for programs, and for a page."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.confirmation import Confirmed, confirm
from analysis.examples import Example, read_examples, thumbnail
from analysis.files import without_nan
from analysis.load import StudyData
from analysis.page import data_url, render
from analysis.units import shown
from analysis.words import STATES, in_sentences

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HEADINGS = {
    "retrieval": "retrieval mAP, %",
    "retrieval_teacher": "teacher",
    "vqa": "VQA accuracy, %",
    "vqa_teacher": "teacher ",
}


@dataclass(frozen=True)
class RecipeReport:
    """One trial. ``scores`` has a row a metric, ``languages`` one a language, in the units of ``analysis.units``."""

    data: StudyData
    trial: str
    row: Mapping[str, Any]
    recipe: dict[str, Any]
    scores: pd.DataFrame
    languages: pd.DataFrame
    confirmed: Confirmed | None
    examples: list[Example]
    notes: list[str]  # what is missing, and why

    @property
    def words(self) -> list[str]:
        """The recipe in sentences."""
        return in_sentences(self.recipe)

    @property
    def languages_in_words(self) -> pd.DataFrame:
        """`languages` under the headings that people read."""
        return self.languages.rename(columns=_HEADINGS)

    @property
    def standing(self) -> str:
        """How the training ended, and where that put the recipe."""
        said = [STATES[self.row["state"]]]
        if self.row["on_front"]:
            said.append("on the front")
        elif self.row["state"] == "complete":
            said.append("behind the front" if self.row["feasible"] else "violates a constraint")
        reason = self.row["reason"]
        return ", ".join(said) + (f": {' '.join(str(reason).split())}" if pd.notna(reason) else "")

    def as_json(self) -> dict[str, Any]:
        """The report as JSON: what is not known is null."""
        reports = self.data.reports[self.data.reports["trial"] == self.trial]
        found = {
            "study": self.data.name,
            "trial": self.trial,
            "state": self.row["state"],
            "reason": None if pd.isna(self.row["reason"]) else self.row["reason"],
            "on_front": bool(self.row["on_front"]),
            "feasible": bool(self.row["feasible"]),
            "words": self.words,
            "recipe": self.recipe,
            "scores": self.scores.to_dict("records"),
            "languages": self.languages.to_dict("records"),
            "confirmed": None if self.confirmed is None else vars(self.confirmed),
            "reports": reports.drop(columns="trial").to_dict("records"),
            "examples": [example.as_json() for example in self.examples],
            "notes": self.notes,
        }
        return {name: without_nan(value) for name, value in found.items()}


def gather(data: StudyData, trial: str) -> RecipeReport:
    """The report of a trial that can be read."""
    from analysis.figures.recipe import language_scores

    (named,) = data.trials[data.trials["trial"] == trial].to_dict("records")
    row = {str(name): value for name, value in named.items()}
    languages, notes = language_scores(data, trial), []
    if languages[["retrieval", "vqa"]].isna().all(axis=None):
        notes.append("It has no scores by language: only a training that ends is scored on all items.")
    path = data.path / "trials" / trial / "examples.parquet"
    try:
        examples = read_examples(path)
    except FileNotFoundError:
        examples = []
        notes.append("It has no examples: only a training that ends stores its best and worst cases.")
    except (OSError, ValueError) as error:
        examples = []
        notes.append(f"Its examples cannot be read: {error}")
    confirmed = confirm(data.confirmations, data.objectives, data.constraints).get(trial)
    if confirmed is None and row["on_front"]:
        notes.append("It was not trained again: how much seeds differ is not known.")
    if row["on_front"] and trial not in data.test_metrics:
        notes.append("It was not scored on test.")
    recipe = json.loads(row["recipe"])
    scores = _scores(data, trial, row, confirmed)
    return RecipeReport(data, trial, row, recipe, scores, languages, confirmed, examples, notes)


def figures(report: RecipeReport) -> dict[str, Figure]:
    """The report's figures by the names that their files end with."""
    from analysis.figures.recipe import by_language, learning

    return {
        "learning": learning(report.data, report.trial),
        "languages": by_language(report.data, report.trial),
    }


def page(report: RecipeReport, pictures: Mapping[str, bytes]) -> str:
    """The report as one HTML file; ``pictures``: PNGs of its figures, by their names."""
    values = {
        "title": f"Trial {int(report.trial)} of {report.data.name}",
        "report": report,
        "recipe": json.dumps(report.recipe, indent=1, ensure_ascii=False),
        "pictures": {name: data_url(picture) for name, picture in pictures.items()},
        "scores": _table(report.scores),
        "languages": _table(report.languages_in_words),
        "cases": list(_cases(report)),
    }
    return render("trial.html.j2", values)


def _scores(data: StudyData, trial: str, row: Mapping[str, Any], confirmed: Confirmed | None) -> pd.DataFrame:
    """A row a metric: metric, validation, again (mean of further trainings), test, teacher, teacher_test."""
    teacher = data.teacher.metrics if data.teacher else {}
    scored: dict[str, Mapping[str, Any]] = {
        "validation": row,
        "again": confirmed.mean if confirmed else {},
        "test": data.test_metrics.get(trial, {}),
        "teacher": teacher.get("validation", {}),
        "teacher_test": teacher.get("test", {}),
    }
    metrics = [name for name in dict.fromkeys((*data.objectives, "vqa_accuracy", *data.constraints)) if name in row]
    rows = [
        {
            "metric": shown(metric).axis(),
            **{name: shown(metric).of(values.get(metric, np.nan)).item() for name, values in scored.items()},
        }
        for metric in metrics
    ]
    return pd.DataFrame(rows, columns=["metric", *scored])


def _table(frame: pd.DataFrame) -> dict[str, Any]:
    """Headings and cells as text; columns of numbers without any are left out."""
    kept = frame.dropna(axis="columns", how="all")
    rows = [["" if _is_missing(cell) else _number(cell) for cell in row] for row in kept.itertuples(index=False)]
    return {"headings": [str(name).replace("_", " ") for name in kept.columns], "rows": rows}


def _cases(report: RecipeReport) -> Iterator[dict[str, Any]]:
    """A row a task and language: its best and worst examples, with their pictures as data URLs."""
    order = {language: place for place, language in enumerate(report.data.languages)}
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for example in sorted(report.examples, key=lambda each: order.get(each.language, len(order))):
        key = (example.task, example.language)
        group = groups.setdefault(key, {"task": example.task, "language": example.language, "best": [], "worst": []})
        side = "best" if example.case == "best" else "worst"
        group[side].append({"example": example, "pictures": [thumbnail(picture) for picture in example.pictures]})
    yield from groups.values()


def _number(cell: Any) -> str:
    return f"{cell:.3g}" if isinstance(cell, float) else str(cell)


def _is_missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))
