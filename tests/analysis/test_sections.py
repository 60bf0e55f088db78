"""Every section of the notebook, run as its cell is, on studies in every state that a study may be in."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from matplotlib.figure import Figure

from analysis.html import Html
from analysis.sections import SECTIONS

if TYPE_CHECKING:
    from conftest import StudyFolder


def run_sections(study: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run all cells where the notebook runs, show what each ends with, and return what is said in words."""
    report = study / "report"
    report.mkdir(exist_ok=True)
    monkeypatch.chdir(report)
    names: dict[str, Any] = {}
    said = []
    for section in SECTIONS:
        lines = [line for line in section.code.strip().splitlines() if not line.startswith("%")]
        exec("\n".join(lines[:-1]), names)
        shown = eval(lines[-1], names)
        if isinstance(shown, Figure):
            shown.draw_without_rendering()
            said += [text.get_text() for text in shown.findobj(match=lambda artist: hasattr(artist, "get_text"))]
        else:
            assert isinstance(shown, Html), section.title
            said.append(repr(shown))
    return "\n".join(said)


def nothing(study: StudyFolder) -> None:
    pass


def no_trial(study: StudyFolder) -> None:
    study.teacher(test=False)


def one_trial(study: StudyFolder) -> None:
    study.teacher(test=False).trial(0)


def only_failures(study: StudyFolder) -> None:
    study.teacher(test=False).trial(0, state="failed")
    study.trial(1, state="infeasible")


def a_running_one_with_a_broken_folder(study: StudyFolder) -> None:
    study.teacher().trial(0)
    study.confirmed(0, (0.3, 11.0))
    (study.trial(1) / "recipe.json").write_text("{", encoding="utf-8")
    study.trial(2, state=None)
    (study.trial(3, state=None) / "reports.jsonl").unlink()


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (nothing, ["No trial has begun.", "The study has not ended"]),
        (no_trial, ["No trial has begun.", "no complete, feasible trial", "No trial has been scored yet"]),
        (one_trial, ["1 trial: 1 complete.", "1 recipe is on the front.", "No recipe was trained again"]),
        (only_failures, ["The front is empty", "Trial 00000 failed: failed by the test", "Trial 00001 did not fit"]),
        (
            a_running_one_with_a_broken_folder,
            [
                "4 trials: 1 complete, 2 running or interrupted, 1 unreadable.",
                "The study has not ended",
                "1 recipe was trained again, with 1 new seed in all.",
                "Trial 00001 cannot be read and is left out: ../trials/00001/recipe.json",
            ],
        ),
    ],
)
def test_every_state_of_a_study_gives_a_report_that_says_so(
    study_folder: StudyFolder,
    monkeypatch: pytest.MonkeyPatch,
    state: Callable[[StudyFolder], None],
    expected: list[str],
) -> None:
    state(study_folder)
    said = run_sections(study_folder.path, monkeypatch)
    for sentence in expected:
        assert sentence in said


def test_names_that_look_like_formulas_are_drawn_as_they_are(
    hostile_study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = run_sections(hostile_study.path, monkeypatch)
    assert r"$\input{}$" in said
    assert os.getcwd() == str(hostile_study.path / "report")
