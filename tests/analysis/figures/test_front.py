from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from analysis.figures.front import pareto
from analysis.load import load_study
from analysis.style import look, save

if TYPE_CHECKING:
    from conftest import StudyFolder


def front_lines(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(line.get_xydata()) for axes in figure.axes for line in axes.lines if line.get_gid() == "front"]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def marks(figure: Figure, panel: int) -> set[tuple[float, float]]:
    """All places at which a panel has a mark."""
    offsets = [drawn.get_offsets() for drawn in figure.axes[panel].collections if isinstance(drawn, PathCollection)]
    return {(round(x, 6), round(y, 6)) for rows in offsets for x, y in np.asarray(rows)}


def legend_labels(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def intervals(figure: Figure, panel: int, along: int) -> list[list[float]]:
    """The ends of all bars along x (0) or y (1)."""
    bars = [c.get_segments() for c in figure.axes[panel].collections if hasattr(c, "get_segments")]
    bars = [bar[:, along].tolist() for group in bars for bar in group]
    return sorted(bar for bar in bars if bar[0] != bar[1])


def test_the_front_line_passes_through_the_front_in_the_units_of_the_axes(study_folder: StudyFolder) -> None:
    study_folder.teacher(0.6, 16.0)
    study_folder.trial(0, 0.20, 4.0, strategy="fd")
    study_folder.trial(1, 0.40, 16.0, strategy="ed")
    study_folder.trial(2, 0.15, 25.0, strategy="dr")
    study_folder.trial(3, 0.50, 1.0, strategy="mix", lift=0.1)
    study_folder.trial(4, 0.45, 2.25, strategy="sd", state="stopped")
    study_folder.trial(5, 0.40, 16.0, strategy="ed")
    study_folder.trial(6, state="failed", strategy="mcl")
    figure = pareto(load_study(study_folder.path))
    for line, axes in zip(front_lines(figure), figure.axes, strict=True):
        np.testing.assert_allclose(line[1:4], [[20, 2], [20, 4], [40, 4]])
        assert (line[0, 0], line[-1, 1]) == (axes.get_xlim()[0], axes.get_ylim()[1])
    random_student, teacher = (2.0, 1.0), (60.0, 4.0)
    assert marks(figure, 0) == {(20, 2), (40, 4), (15, 5), (50, 1), (45, 1.5), random_student, teacher}
    assert marks(figure, 1) >= {(20, 2), (40, 4)}
    assert set(texts(figure)) == {"#0", "#1 compromise, #5"}
    assert figure.get_suptitle() == "ED retrieves best; FD is most even over languages"
    labels = legend_labels(figure)
    assert labels[:5] == ["FD", "ED", "SD", "DR", "mix"]
    assert labels[5:] == [
        "Pareto front, with the\ninterval over items",
        "dominated",
        "violates a constraint",
        "stopped early, scored on\nfewer items: not comparable",
        "teacher",
        "student of random weights",
    ]


def test_thin_bars_span_the_interval_over_items(study_folder: StudyFolder) -> None:
    # The builder's standard errors are .01 of mAP and an eighth of the variance.
    study_folder.teacher().trial(0, 0.2, 8.0)
    figure = pareto(load_study(study_folder.path))
    np.testing.assert_allclose(intervals(figure, 1, 0), [[20 - 1.959964, 20 + 1.959964]])
    np.testing.assert_allclose(intervals(figure, 1, 1), np.sqrt([[8 - 1.959964, 8 + 1.959964]]))


def test_further_trainings_are_drawn_at_their_mean_with_their_interval(study_folder: StudyFolder) -> None:
    study_folder.teacher().trial(0, 0.2, 9.0)
    study_folder.confirmed(0, (0.18, 9.0), (0.20, 16.0))
    data = load_study(study_folder.path)
    figure = pareto(data)
    assert (19.0, round(12.5**0.5, 6)) in marks(figure, 1)
    # Student's with one degree of freedom: 12.7062 standard errors, of half the difference.
    half = 12.7062 * 1.0
    assert [pytest.approx([19.0 - half, 19.0 + half], rel=1e-4)] == [
        bar for bar in intervals(figure, 1, 0) if bar[1] - bar[0] > 5
    ]


def test_three_metrics_have_a_row_for_each_two(study_folder: StudyFolder) -> None:
    study_folder.teacher()
    study_folder.trial(0, 0.2, 4.0, lift=0.7)
    study_folder.trial(1, 0.3, 9.0, lift=0.6)
    study_folder.trial(2, 0.1, 6.0, lift=0.9)  # dominated but for its lift
    figure = pareto(load_study(study_folder.path), ("retrieval_map", "vqa_variance", "vqa_lift_kept"))
    assert len(figure.axes) == 6
    for panel, corners in ((1, [[20, 2], [30, 3]]), (3, [[10, 90], [20, 70], [30, 60]]), (5, [[2, 70], [6**0.5, 90]])):
        line = front_lines(figure)[panel]
        found = [row for row in line.tolist() if any(np.allclose(row, corner) for corner in corners)]
        assert len(found) == len(corners), panel
    assert {(10.0, 90.0), (20.0, 70.0), (30.0, 60.0)} <= marks(figure, 3)
    with pytest.raises(ValueError, match="'speed' is no metric"):
        pareto(load_study(study_folder.path), ("retrieval_map", "speed"))


@pytest.mark.parametrize("trials", ["none", "stopped", "infeasible", "violating", "one unknown strategy", "no teacher"])
def test_a_partial_study_still_has_a_figure(study_folder: StudyFolder, tmp_path: Path, trials: str) -> None:
    if trials != "none":
        study_folder.teacher()
        state = trials if trials in ("stopped", "infeasible") else "complete"
        strategy = "layerwise" if trials == "one unknown strategy" else "sd"
        study_folder.trial(0, state=state, strategy=strategy, lift=0.1 if trials == "violating" else 0.8)
    data = load_study(study_folder.path)
    if trials == "no teacher":
        data = dataclasses.replace(data, teacher=None)
    figure = pareto(data)
    has_front = trials in ("one unknown strategy", "no teacher")
    assert bool(front_lines(figure)) == has_front
    if has_front:
        assert texts(figure) == ["#0 compromise"]
        assert look(data.trials["strategy"][0]).label in figure.get_suptitle()
    else:
        assert "no complete, feasible trial" in texts(figure)
    assert ("violates a constraint" in legend_labels(figure)) == (trials in ("infeasible", "violating"))
    save(figure, tmp_path / "pareto")


@pytest.mark.parametrize(("again", "doubt"), [(0.41, ""), (0.1, ", which new seeds do not support")])
def test_a_title_does_not_claim_what_new_seeds_do_not_support(
    study_folder: StudyFolder, again: float, doubt: str
) -> None:
    study_folder.teacher()
    study_folder.trial(0, 0.40, 4.0, strategy="ed")
    study_folder.trial(1, 0.38, 5.0, strategy="fd")
    study_folder.confirmed(0, (again, 4.0 / again), (again, 4.1 / again))
    study_folder.confirmed(1, (0.38, 12.0), (0.38, 12.1))
    title = pareto(load_study(study_folder.path)).get_suptitle()
    assert title == f"One recipe, of ED, is best in every objective{doubt}"
