"""Every figure of every kind of study that is not whole, and of one that is large."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.comparison import differences, runs
from analysis.figures.comparison import attained, hypervolumes
from analysis.figures.compression import compression
from analysis.figures.consistency import consistency
from analysis.figures.front import pareto
from analysis.figures.languages import changes, groups, retrieval_against_vqa, worst
from analysis.figures.matters import effects, importance, pairs
from analysis.figures.progress import progress, rungs
from analysis.figures.selection import selection
from analysis.figures.strategies import strategies
from analysis.figures.weights import weights
from analysis.load import StudyData, load_study

if TYPE_CHECKING:
    from conftest import StudyFolder


def _hypervolumes(data: StudyData) -> Figure:
    groups = {"it": [data]}
    table = runs(groups)
    return hypervolumes(groups, table, differences({"it": table["hypervolume"].tolist()}))


FIGURES: dict[str, Callable[[StudyData], Figure]] = {
    "pareto": pareto,
    "progress": progress,
    "rungs": rungs,
    "selection": selection,
    "compression": lambda data: compression([data]),
    "attained": lambda data: attained({"it": [data]}),
    "hypervolumes": _hypervolumes,
    "importance": importance,
    "strategies": strategies,
    "effects": effects,
    "pairs": pairs,
    "changes": changes,
    "worst": worst,
    "retrieval_against_vqa": retrieval_against_vqa,
    "groups": groups,
    "consistency": consistency,
    "weights": weights,
}


def _nothing(folder: StudyFolder) -> None:
    pass


def _teacher_alone(folder: StudyFolder) -> None:
    folder.teacher(test=False)


def _one(folder: StudyFolder) -> None:
    folder.teacher().trial(0)


def _failures(folder: StudyFolder) -> None:
    folder.teacher().trial(0, state="failed")
    folder.trial(1, state="failed")


def _running(folder: StudyFolder) -> None:
    folder.teacher(test=False).trial(0, state=None)
    folder.trial(1, state="stopped", steps=40)


def _broken(folder: StudyFolder) -> None:
    (folder.teacher().trial(0) / "result.json").write_text('{"state"', encoding="utf-8")


def _old(folder: StudyFolder) -> None:
    """Without times, landmarks and encoding."""
    folder.teacher().trial(0)
    path = folder.path / "teacher.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({name: content[name] for name in ("family", "parameters", "scores")}), encoding="utf-8")
    for name in ("recipe.json", "result.json"):
        record = folder.path / "trials" / "00000" / name
        content = json.loads(record.read_text(encoding="utf-8"))
        record.write_text(
            json.dumps({k: v for k, v in content.items() if k not in ("created", "finished")}), encoding="utf-8"
        )


@pytest.mark.parametrize("fill", [_nothing, _teacher_alone, _one, _failures, _running, _broken, _old])
@pytest.mark.parametrize("name", FIGURES)
def test_each_figure_is_there_and_says_something(
    study_folder: StudyFolder, name: str, fill: Callable[[StudyFolder], None]
) -> None:
    fill(study_folder)
    figure = FIGURES[name](load_study(study_folder.path))
    figure.draw_without_rendering()
    said = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert figure.get_suptitle() or any(" " in text for text in said)


def test_a_study_of_five_thousand_trials_is_drawn_in_seconds(study_folder: StudyFolder) -> None:
    study_folder.teacher().trial(0)
    data = load_study(study_folder.path)
    rng, count = np.random.default_rng(0), 5000
    many = pd.concat([data.trials] * count, ignore_index=True)
    many["number"] = range(count)
    many["trial"] = [f"{number:05d}" for number in range(count)]
    many["retrieval_map"], many["vqa_variance"] = rng.uniform(0, 0.5, count), rng.uniform(1, 25, count)
    many["state"] = rng.choice(["complete", "stopped", "failed"], count)
    many["strategy"] = rng.choice(["fd", "ed", "mix"], count)
    many["on_front"] = False
    large = StudyData(**{**vars(data), "trials": many})
    before = time.process_time()
    for name in ("pareto", "progress", "rungs"):
        FIGURES[name](large).draw_without_rendering()
    assert time.process_time() - before < 30.0
