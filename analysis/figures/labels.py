"""Names beside points, placed where they cover neither each other nor the points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox
from numpy.typing import ArrayLike, NDArray

from analysis.style import FAINT

_DISTANCES = (7.0, 14.0, 24.0, 36.0)  # points from a mark to its name
_SIDES = ((1, -1), (1, 0), (1, 1), (0, -1), (0, 1), (-1, -1), (-1, 0), (-1, 1))
_LEADER = 10.0  # from this distance on, a line leads from the name to its mark
_MARK = 5.0  # pixels around a point that a name keeps clear of
_SAME = 2.0  # pixels within which points share a name


def place_labels(
    axes: Axes, points: ArrayLike, texts: Sequence[str], side: tuple[float, float] = (1.0, -1.0), avoid: ArrayLike = ()
) -> list[Annotation]:
    """Write ``texts`` [N] beside ``points`` [N, 2], in data coordinates.

    It comes last, after ``figure.draw_without_rendering()``, which lays the figure out: only then is it known where in
    the picture a point is.
    ``side`` is where a name goes if there is room: to the right (1) or left, and above (1) or below. Points in one place
    share a name. ``avoid`` [K, 2] are further points to keep clear of.
    """
    where = np.asarray(points, dtype=float).reshape(-1, 2)
    pixels = axes.transData.transform(where)
    others = axes.transData.transform(np.vstack([where, np.asarray(avoid, dtype=float).reshape(-1, 2)]))
    taken: list[Bbox] = []
    found = []
    for rows in _together(pixels):
        text = ", ".join(texts[row] for row in rows)
        found.append(_placed(axes, where[rows[0]], text, side, others, taken))
    return found


def _together(pixels: NDArray[np.float64]) -> list[list[int]]:
    groups: list[list[int]] = []
    for row, pixel in enumerate(pixels):
        near = [group for group in groups if np.abs(pixels[group[0]] - pixel).max() < _SAME]
        near[0].append(row) if near else groups.append([row])
    return groups


def _placed(
    axes: Axes,
    point: NDArray[np.float64],
    text: str,
    side: tuple[float, float],
    others: NDArray[np.float64],
    taken: list[Bbox],
) -> Annotation:
    """The first place that is free, else the one that covers least."""
    frame = axes.get_window_extent()
    best, least = None, np.inf
    for distance in _DISTANCES:
        for right, up in _SIDES:
            x, y = right * np.sign(side[0]), -up * np.sign(side[1])
            label = axes.annotate(
                text,
                (float(point[0]), float(point[1])),
                (distance * x, distance * y),
                textcoords="offset points",
                ha={1: "left", 0: "center", -1: "right"}[int(x)],
                va={1: "bottom", 0: "center", -1: "top"}[int(y)],
                fontsize="small",
                zorder=6,
                path_effects=[withStroke(linewidth=2.0, foreground="white")],
                arrowprops={"arrowstyle": "-", "color": FAINT, "linewidth": 0.6} if distance > _LEADER else None,
            )
            label.set_in_layout(False)
            label.get_window_extent()  # brings the text to its place
            box = Text.get_window_extent(label)  # without the line that leads to the mark
            covers = _covered(box, frame, others, taken)
            if covers < least:
                if best is not None:
                    best[0].remove()
                best, least = (label, box), covers
            else:
                label.remove()
            if least == 0:
                break
        if least == 0:
            break
    assert best is not None
    taken.append(best[1])
    return best[0]


def _covered(box: Bbox, frame: Bbox, others: NDArray[np.float64], taken: list[Bbox]) -> float:
    """How much a name in ``box`` would cover: pixels of other names and beyond the frame, and marks."""
    hidden = sum(_area(Bbox.intersection(box, other)) for other in taken)
    outside = _area(box) - _area(Bbox.intersection(box, frame))
    marks = (
        (others[:, 0] > box.x0 - _MARK)
        & (others[:, 0] < box.x1 + _MARK)
        & (others[:, 1] > box.y0 - _MARK)
        & (others[:, 1] < box.y1 + _MARK)
    )
    return hidden + 4.0 * outside + 60.0 * float(marks.sum())


def _area(box: Bbox | None) -> float:
    return 0.0 if box is None else float(box.width * box.height)
