from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from analysis.figures import front_edge, pareto, save
from analysis.load import load_study

if TYPE_CHECKING:
    from conftest import StudyFolder


def front_line(figure: Figure) -> np.ndarray | None:
    (lines,) = [[line.get_xydata() for line in axes.lines if line.get_gid() == "front"] for axes in figure.axes]
    return np.asarray(lines[0]) if lines else None


def texts(figure: Figure) -> list[str]:
    (axes,) = figure.axes
    return [text.get_text() for text in axes.texts]


def legend_labels(figure: Figure) -> list[str]:
    (axes,) = figure.axes
    legends = [child for child in axes.get_children() if isinstance(child, mpl.legend.Legend)]
    return [text.get_text() for legend in legends for text in legend.get_texts()]


def test_the_edge_turns_at_every_point_on_its_dominated_side() -> None:
    edge = front_edge([3.0, 1.0], [5.0, 2.0], left=0.0, top=9.0)
    assert edge.tolist() == [[0, 2], [1, 2], [1, 5], [3, 5], [3, 9]]


def test_the_front_line_passes_through_the_front_in_the_units_of_the_axes(study_folder: StudyFolder) -> None:
    study_folder.teacher()
    study_folder.trial(0, 0.20, 4.0, strategy="fd")
    study_folder.trial(1, 0.40, 16.0, strategy="ed")
    study_folder.trial(2, 0.15, 25.0, strategy="dr")
    study_folder.trial(3, 0.50, 1.0, strategy="mix", lift=0.1)
    study_folder.trial(4, 0.45, 2.25, strategy="sd", state="stopped")
    study_folder.trial(5, 0.40, 16.0, strategy="ed")
    study_folder.trial(6, state="failed", strategy="mcl")
    figure = pareto(load_study(study_folder.path))
    line = front_line(figure)
    assert line is not None
    np.testing.assert_allclose(line[1:4], [[20, 2], [20, 4], [40, 4]])
    assert set(texts(figure)) == {"#0", "#1, #5"}
    (axes,) = figure.axes
    assert (line[0, 0], line[-1, 1]) == (axes.get_xlim()[0], axes.get_ylim()[1])
    labels = legend_labels(figure)
    assert labels[:5] == ["FD", "ED", "SD", "DR", "mix"]
    assert labels[5:] == [
        "Pareto front, ± 1 s.e.",
        "dominated",
        "violates a constraint",
        "stopped early, scored on\nfewer items: not comparable",
        "teacher, ± 1 s.e.",
    ]


def test_noise_bars_span_one_standard_error_of_the_variance(study_folder: StudyFolder) -> None:
    study_folder.teacher(0.6, 16.0).trial(0, 0.2, 8.0)  # the builder's standard error is an eighth of the variance
    (axes,) = pareto(load_study(study_folder.path)).axes
    bars = [segment for group in axes.collections if hasattr(group, "get_segments") for segment in group.get_segments()]
    np.testing.assert_allclose(sorted(bar[:, 1].tolist() for bar in bars), np.sqrt([[7.0, 9.0], [14.0, 18.0]]))


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
    assert (front_line(figure) is not None) == has_front
    assert texts(figure) == (["#0"] if has_front else ["no complete, feasible trial"])
    assert ("violates a constraint" in legend_labels(figure)) == (trials in ("infeasible", "violating"))
    save(figure, tmp_path / "pareto")


def test_save_writes_both_formats_and_leaves_the_process_as_it_was(study_folder: StudyFolder, tmp_path: Path) -> None:
    study_folder.teacher().trial(0)
    before = dict(mpl.rcParams)
    save(pareto(load_study(study_folder.path)), tmp_path / "front.v1")
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == []
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "front.v1.png",
        "front.v1.svg",
    ]
    image = imread(tmp_path / "front.v1.png")
    assert image.shape[1] == 1320
    assert image.std() > 0.01
    assert "Retrieval mAP" in (tmp_path / "front.v1.svg").read_text(encoding="utf-8")
