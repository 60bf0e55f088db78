"""What a study is and how it went, in a few lines: before anything is made of its numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
import yaml

from analysis.html import Html, table
from analysis.load import StudyData
from analysis.units import shown
from analysis.words import STATES

_MOST_REASONS = 10
# Keys of config.yaml that say what kind of study it is, and how they are called.
_SETTINGS = {
    "seed": "seed",
    "training.steps": "steps of a trial",
    "training.batch_size": "pictures a step",
    "search.space": "search space",
    "search.sampler": "sampler",
    "search.trials": "trials at most",
    "search.scheduler.rungs": "rungs, in steps",
    "search.confirm.seeds": "further trainings of a recipe of the front",
    "student.image": "student's image tower",
    "student.text": "student's text tower",
    "student.vocabulary": "student's vocabulary",
}


def overview(data: StudyData) -> Html:
    """The study's state, its teacher and student, its settings and versions, and what went wrong."""
    found = Html.paragraph(
        f"{data.name}: {_aims(data)}, in {len(data.languages)} languages: {', '.join(data.languages)}."
    )
    found += Html.points([*state(data), *troubles(data)])
    if data.teacher:
        found += _sizes(data)
    return found + _settings(data)


def state(data: StudyData) -> list[str]:
    """How far the study is: lines for a list."""
    counts = data.trials["state"].value_counts()
    parts = [f"{counts[name]} {words}" for name, words in STATES.items() if name in counts]
    lines = [f"{_counted(len(data.trials), 'trial')}: {', '.join(parts)}." if parts else "No trial has begun."]
    if not (data.path / "results" / "front.json").exists():
        lines.append("The study has not ended: all that follows is as of now, and may change.")
    members = int(data.trials["on_front"].sum())
    if members:
        lines.append(f"{_counted(members, 'recipe')} {'is' if members == 1 else 'are'} on the front.")
    elif len(data.trials):
        lines.append("The front is empty: no trial is complete and meets the constraints.")
    trainings = sum(map(len, data.confirmations.values()))
    if trainings:
        again = _counted(len(data.confirmations), "recipe")
        lines.append(
            f"{again} {'was' if len(data.confirmations) == 1 else 'were'} trained again, with {_counted(trainings, 'new seed')} in all."
        )
    elif members:
        lines.append("No recipe was trained again: how much seeds differ is not known.")
    if members and not data.test_metrics:
        lines.append("No recipe was scored on test: all scores are of validation, on which the recipes were chosen.")
    return lines


def troubles(data: StudyData) -> list[str]:
    """Trials that failed, did not fit or cannot be read, and why: lines for a list."""
    lines = []
    for name in ("unreadable", "failed", "infeasible"):
        rows = data.trials[data.trials["state"] == name]
        for row in rows.head(_MOST_REASONS).to_dict("records"):
            reason = " ".join(str(row["reason"]).split()) if pd.notna(row["reason"]) else "for no recorded reason"
            lines.append(f"Trial {row['trial']} {_WENT[name]}: {reason}")
        if len(rows) > _MOST_REASONS:
            lines.append(f"{len(rows) - _MOST_REASONS} more trials {_WENT[name]}.")
    return lines


_WENT = {"unreadable": "cannot be read and is left out", "failed": "failed", "infeasible": "did not fit"}


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _aims(data: StudyData) -> str:
    wanted = [f"{way} {name}" for name, way in data.objectives.items()]
    bounds = [
        f"{name} {'at least' if side == 'min' else 'at most'} {value:g}"
        for name, bound in data.constraints.items()
        for side, value in bound.items()
    ]
    return " and ".join(wanted) + (f", with {' and '.join(bounds)}" if bounds else "")


def _sizes(data: StudyData) -> Html:
    """Teacher, and what is known of students, as a table."""
    assert data.teacher is not None
    metrics = dict.fromkeys((*data.objectives, "vqa_accuracy"))
    students = data.trials["parameters"].dropna()
    rows = []
    for split, scored in data.teacher.metrics.items():
        scores = {shown(name).axis(): shown(name).of(scored.get(name, float("nan"))).item() for name in metrics}
        rows.append(
            {"": f"teacher ({data.teacher.family}), {split}", "parameters, M": data.teacher.parameters / 1e6, **scores}
        )
    if len(students):
        rows.append({"": "student", "parameters, M": float(students.iloc[0]) / 1e6})
    return table(pd.DataFrame(rows), "Teacher and student")


def _settings(data: StudyData) -> Html:
    config = yaml.safe_load((data.path / "config.yaml").read_bytes())
    lines = [f"{words}: {_said(value)}" for key, words in _SETTINGS.items() if (value := _at(config, key)) is not None]
    return Html.points([*lines, *_versions(data)])


def _versions(data: StudyData) -> Iterator[str]:
    path = data.path / "environment.json"
    try:
        environment = json.loads(path.read_bytes())
        packages = ", ".join(f"{name} {version}" for name, version in environment.get("packages", {}).items())
        revision = environment.get("git_revision")
        yield f"versions: Python {environment.get('python')}, {packages}"
        if revision:
            yield f"revision of the code: {revision}"
    except FileNotFoundError:
        yield "versions: not recorded"
    except (OSError, ValueError, AttributeError):
        yield "versions: environment.json cannot be read"


def _at(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, Mapping) else None
    return tree


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_said(item)}" for name, item in value.items() if item is not None)
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
