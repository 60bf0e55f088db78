from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.effects import choice_effects, interactions, strategy_effects
from analysis.figures.matters import effects, effects_finding, importance, pairs
from analysis.figures.strategies import strategies
from analysis.importance import importance as importances
from analysis.load import load_study

if TYPE_CHECKING:
    from conftest import StudyFolder

    from analysis.load import StudyData


def dots(figure: Figure, panel: int, marker: str = "o") -> list[float]:
    """What single marks of a panel stand for, along x, from above."""
    lines = [line for line in figure.axes[panel].lines if line.get_marker() == marker]
    return [float(line.get_xdata()[0]) for line in lines]


def test_importances_are_drawn_in_per_cent_and_the_title_names_the_largest(study_folder: StudyFolder) -> None:
    study_folder.teacher()
    rng = np.random.default_rng(0)
    for number in range(16):
        score = 0.3 + 0.1 * (number % 2) + 0.01 * rng.normal()
        study_folder.trial(number, score, strategy="fd" if number % 2 else "ed")
    data = load_study(study_folder.path)
    figure, table = importance(data), importances(data).dropna(subset="importance")
    own = table[table["objective"] == "retrieval_map"]
    assert sorted(dots(figure, 0)) == pytest.approx(sorted(100 * own["importance"]))
    assert figure.get_suptitle().replace("\n", " ").startswith("Strategy ")
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["strategy"]
    assert "%" in figure.axes[0].get_xlabel()


def test_strategies_are_drawn_with_their_trials_medians_and_effects(varied: StudyData) -> None:
    figure = strategies(varied)
    table = strategy_effects(varied)
    own = table[table["objective"] == "retrieval_map"].set_index("strategy")
    left, right = figure.axes[:2]
    drawn = sum(len(np.asarray(marks.get_offsets())) for marks in left.collections)
    assert drawn == 40
    medians = [line.get_ydata()[0] for line in left.lines if len(set(line.get_ydata())) == 1]
    assert medians == pytest.approx(own.loc[["fd", "ed", "dr"], "median"].tolist())
    effects_drawn = [line.get_ydata()[0] for line in right.lines if line.get_marker() in ("o", "s", "v")]
    assert effects_drawn == pytest.approx(own.loc[["fd", "ed", "dr"], "effect"].tolist())
    assert figure.get_suptitle().startswith("FD is best for retrieval")


def test_effects_are_full_where_they_are_clear(varied: StudyData) -> None:
    figure = effects(varied)
    table = choice_effects(varied)
    own = table[(table["objective"] == "retrieval_map") & (table["choice"] != "strategy")]
    assert sorted(dots(figure, 0)) == pytest.approx(sorted(own["effect"]))
    marks = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    full = [line for line in marks if line.get_markerfacecolor() == line.get_color()]
    assert len(full) == own["is_clear"].sum() > 1
    assert "student's start" in figure.get_suptitle().lower()


def test_as_many_clear_effects_as_chance_gives_are_no_finding() -> None:
    row = {"label": "learning rate", "level": "1 → 2", "objective": "retrieval_map", "effect": -1.5, "is_clear": False}
    table = pd.DataFrame([row] * 40)
    assert effects_finding(table).startswith("No mapping")
    table.loc[:1, "is_clear"] = True
    assert effects_finding(table) == "2 of 40 intervals leave out 0, where 2 may if nothing matters"
    table.loc[2, "is_clear"] = True
    assert effects_finding(table) == "Learning rate (1 → 2) moves retrieval by −1.50 points"


def test_pairs_say_that_noise_explains_them(varied: StudyData) -> None:
    figure = pairs(varied)
    own = interactions(varied).query("objective == 'retrieval_map'")
    assert dots(figure, 0) == pytest.approx(own["size"].tolist())
    assert figure.get_suptitle().replace("\n", " ").startswith("No pair acts on retrieval beyond what noise explains")
    counted = [text.get_text().split("n = ")[1] for text in figure.axes[1].texts if "n = " in text.get_text()]
    assert sum(map(int, counted)) == 40
