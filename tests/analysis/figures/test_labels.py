from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis.figures.labels import place_labels


@pytest.mark.parametrize("side", [(1.0, -1.0), (-1.0, 1.0)])
def test_names_of_a_crowd_cover_neither_each_other_nor_a_mark(side: tuple[float, float]) -> None:
    rng = np.random.default_rng(0)
    points = np.vstack([rng.normal(0.5, 0.04, (8, 2)), [[0.0, 0.0], [1.0, 1.0]]])
    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.subplots()
    axes.scatter(*points.T)
    figure.draw_without_rendering()
    labels = place_labels(axes, points, [f"#{number}" for number in range(10)], side)
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(label) for label in labels]
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[place + 1 :])
        assert not any(box.contains(*pixel) for pixel in axes.transData.transform(points))
        assert axes.get_window_extent().contains(*box.min)
        assert axes.get_window_extent().contains(*box.max)
    assert np.sign(labels[-1].xyann)[0] < 1.0  # beyond the point on the right there is no room


def test_points_in_one_place_share_a_name() -> None:
    axes = Figure().subplots()
    labels = place_labels(axes, [[0.5, 0.5], [0.2, 0.2], [0.5, 0.5]], ["a", "b", "c"])
    assert [label.get_text() for label in labels] == ["a, c", "b"]


def test_no_points_have_no_names() -> None:
    assert place_labels(Figure().subplots(), [], []) == []
