"""The edge of what points in a plane dominate, for figures of fronts and of attainment."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from analysis.pareto import Directions


def front_edge(points: ArrayLike, directions: Directions, corner: tuple[float, float]) -> NDArray[np.float64]:
    """The corners [2N + 1, 2] of the staircase through N nondominated ``points`` [N, 2], N at least 1.

    It comes from the side of ``corner`` that is worst in the first objective, turns at each point on its dominated side,
    and leaves to the side that is worst in the second: what lies between it and ``corner`` is dominated.
    """
    signs = _signs(directions)
    values = np.asarray(points, dtype=float) * signs
    order = np.lexsort((values[:, 1], values[:, 0]))
    x, y = values[order].T
    left, top = np.asarray(corner) * signs
    return np.column_stack([np.r_[left, np.repeat(x, 2)], np.r_[np.repeat(y, 2), top]]) * signs


def worst_corner(axes: Axes, directions: Directions) -> tuple[float, float]:
    """The corner of ``axes`` that is worst in both objectives."""
    x_way, y_way = directions.values()
    low_x, high_x = axes.get_xlim()
    low_y, high_y = axes.get_ylim()
    return (low_x if x_way == "maximise" else high_x), (low_y if y_way == "maximise" else high_y)


def better_corner(directions: Directions) -> tuple[float, float]:
    """Which way both objectives improve: 1 to the right or upwards, -1 the other way."""
    x_way, y_way = directions.values()
    return (1.0 if x_way == "maximise" else -1.0), (1.0 if y_way == "maximise" else -1.0)


def _signs(directions: Directions) -> NDArray[np.float64]:
    """What turns the plane into one with x to maximise and y to minimise."""
    return np.array(better_corner(directions)) * (1.0, -1.0)
