"""Figures of a study, one function each, from a ``StudyData`` to a matplotlib Figure for ``save``."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns  # type: ignore[import-untyped, unused-ignore]
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike, NDArray

from analysis.load import StudyData, write_atomically
from analysis.pareto import Directions, nondominated


class _Look(NamedTuple):
    label: str
    colour: str
    marker: str


# A strategy looks the same in every figure. The colours are those of Okabe & Ito (2008), which stay apart in
# every kind of colour vision; in grey, the shapes tell the strategies apart.
_LOOKS = {
    "fd": _Look("FD", "#0072B2", "o"),
    "ed": _Look("ED", "#D55E00", "s"),
    "sd": _Look("SD", "#009E73", "^"),
    "mcl": _Look("MCL", "#CC79A7", "D"),
    "dr": _Look("DR", "#E69F00", "v"),
    "mix": _Look("mix", "#56B4E9", "P"),
}
_INK = "#222222"
_FAINT = "#8C8C8C"
_LABEL_SIZE = (0.3, 0.15)  # inches: within this of each other, two members share a label
_PLANE: Directions = {"x": "maximise", "y": "minimise"}


def pareto(data: StudyData) -> Figure:
    """Trials on validation data: retrieval against the spread of VQA accuracy over languages.

    x is retrieval mAP in per cent. y is the standard deviation of VQA accuracy over languages in percentage
    points: the root of the objective ``vqa_variance``, easier to read and with the same front. Bars are one
    standard error of the variance either way. The line is the edge of what the front dominates; where a
    study has other objectives too, it joins the members that are nondominated in this plane. Running and
    failed trials are left out.
    """
    groups = _groups(_in_plane(data.trials))
    teacher = _in_plane(pd.DataFrame([data.teacher.metrics["validation"]] if data.teacher else []))
    anything = not teacher.empty or any(not group.empty for group in groups.values())
    with _style():
        figure = Figure(figsize=(6.6, 4.1), layout="constrained")
        axes = figure.subplots()
        _scatter(axes, groups["stopped"], s=18, alpha=0.45, linewidth=0)
        _hollow(_scatter(axes, groups["violating"], s=30, linewidth=1.0))
        _scatter(axes, groups["dominated"], s=38, edgecolor="white", linewidth=0.6)
        _scatter(axes, groups["front"], s=76, edgecolor=_INK, linewidth=1.1, zorder=4)
        axes.scatter(teacher["x"], teacher["y"], s=190, marker="*", color=_INK, linewidth=0, zorder=5)
        _draw_noise(axes, groups["front"])
        _draw_noise(axes, teacher)
        _label_axes(axes, data.name)
        if not anything:
            axes.set(xticks=[], yticks=[])
        _draw_front(axes, groups["front"])
        _draw_legends(axes, groups, teacher)
    return figure


def save(figure: Figure, path: str | Path) -> None:
    """Write ``figure`` to ``path``.png (200 dots an inch) and ``path``.svg (whose text stays text)."""
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "polydistill"}):
        for suffix, metadata in ((".png", None), (".svg", {"Date": None})):
            content = io.BytesIO()
            figure.savefig(content, format=suffix[1:], dpi=200, metadata=metadata)
            write_atomically(Path(f"{path}{suffix}"), content.getvalue())


def front_edge(x: ArrayLike, y: ArrayLike, left: float, top: float) -> NDArray[np.float64]:
    """The corners [2N + 1, 2] of the staircase through N nondominated points, x [N] maximised, y minimised.

    It comes from ``left``, turns at each point and leaves to ``top``: what lies above it, to its left, is
    dominated. N is at least 1.
    """
    order = np.lexsort((np.asarray(y), np.asarray(x)))
    xs, ys = np.asarray(x, dtype=float)[order], np.asarray(y, dtype=float)[order]
    return np.column_stack([np.r_[left, np.repeat(xs, 2)], np.r_[np.repeat(ys, 2), top]])


@contextmanager
def _style() -> Iterator[None]:
    """The look of every figure while it is drawn; the process's own settings stay as they were."""
    ink = dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color"), _INK)
    style = sns.axes_style("ticks", rc={**ink, "axes.grid": True, "grid.color": "#EBEBEB"})
    with style, sns.plotting_context("paper"):
        yield


def _in_plane(metrics: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``metrics`` that have both objectives, with x, y, y_low and y_high as drawn."""
    numbers = metrics.reindex(columns=["retrieval_map", "vqa_variance", "vqa_variance_noise"]).astype(float)
    variance, noise = numbers["vqa_variance"], numbers["vqa_variance_noise"].fillna(0.0)
    placed = metrics.assign(
        x=100.0 * numbers["retrieval_map"],
        y=np.sqrt(variance),
        y_low=np.sqrt((variance - noise).clip(lower=0.0)),
        y_high=np.sqrt(variance + noise),
    )
    drawable: NDArray[np.bool_] = np.isfinite(placed["x"].to_numpy() + placed["y"].to_numpy())
    return placed.loc[drawable]


def _groups(points: pd.DataFrame) -> dict[str, pd.DataFrame]:
    complete, feasible, on_front = points["state"] == "complete", points["feasible"], points["on_front"]
    return {
        "front": points[on_front],
        "dominated": points[complete & feasible & ~on_front],
        "violating": points[(complete & ~feasible) | (points["state"] == "infeasible")],
        "stopped": points[points["state"] == "stopped"],
    }


def _look(strategy: str) -> _Look:
    return _LOOKS.get(strategy, _Look(strategy, "#666666", "X"))


def _scatter(axes: Axes, points: pd.DataFrame, **style: object) -> list[PathCollection]:
    """Draw ``points`` in the looks of their strategies, and return what was drawn."""
    if points.empty:
        return []
    before = len(axes.collections)
    looks = {strategy: _look(strategy) for strategy in points["strategy"].unique()}
    palette = {strategy: look.colour for strategy, look in looks.items()}
    markers = {strategy: look.marker for strategy, look in looks.items()}
    sns.scatterplot(
        data=points,
        x="x",
        y="y",
        hue="strategy",
        style="strategy",
        palette=palette,
        markers=markers,
        legend=False,
        ax=axes,
        **style,
    )
    return [drawn for drawn in axes.collections[before:] if isinstance(drawn, PathCollection)]


def _hollow(drawn: list[PathCollection]) -> None:
    for marks in drawn:
        marks.set_edgecolor(marks.get_facecolor())
        marks.set_facecolor("none")


def _draw_noise(axes: Axes, points: pd.DataFrame) -> None:
    bars = np.vstack([points["y"] - points["y_low"], points["y_high"] - points["y"]])
    axes.errorbar(points["x"], points["y"], yerr=bars, fmt="none", ecolor=_INK, elinewidth=0.8, capsize=2.5, zorder=3)


def _label_axes(axes: Axes, name: str) -> None:
    axes.margins(0.08)
    axes.set_title(name, loc="left", fontweight="bold")
    axes.set_xlabel("Retrieval mAP (%), higher is better")
    axes.set_ylabel("VQA accuracy over languages:\nstandard deviation (points), lower is better")
    sns.despine(ax=axes)


def _draw_front(axes: Axes, front: pd.DataFrame) -> None:
    """The staircase and the members' numbers, once all else has set the limits: it runs to the frame."""
    if front.empty:
        axes.text(0.5, 0.5, "no complete, feasible trial", transform=axes.transAxes, ha="center", color=_FAINT)
        return
    limits = {"xlim": axes.get_xlim(), "ylim": axes.get_ylim()}
    top = limits["ylim"][1]
    members = front[nondominated(front[["x", "y"]], _PLANE)]
    edge = front_edge(members["x"], members["y"], limits["xlim"][0], top)
    axes.plot(edge[:, 0], edge[:, 1], color=_FAINT, linewidth=1.5, zorder=2, gid="front")
    axes.fill_between(edge[:, 0], edge[:, 1], top, color=_INK, alpha=0.035, linewidth=0, zorder=0)
    axes.set(**limits)
    for group in _neighbours(axes, front.sort_values(["x", "y"])):
        text = ", ".join(f"#{number}" for number in group["number"])
        # Below and to the right of a member there is no dominated trial to write over.
        corner = (group["x"].max(), group["y"].min())
        label = axes.annotate(text, corner, xytext=(6, -5), textcoords="offset points", va="top", zorder=2.5)
        label.set(fontsize="small", path_effects=[withStroke(linewidth=1.5, foreground="white")])


def _neighbours(axes: Axes, members: pd.DataFrame) -> list[pd.DataFrame]:
    """The members, sorted by x, in runs that lie so close in the picture that their labels would overlap."""
    pixels = axes.transData.transform(members[["x", "y"]].to_numpy())
    far = np.abs(np.diff(pixels, axis=0)) > np.array(_LABEL_SIZE) * axes.figure.dpi
    starts = np.concatenate([[True], far.any(axis=1)]).cumsum()
    return [group for _, group in members.groupby(starts)]


def _draw_legends(axes: Axes, groups: dict[str, pd.DataFrame], teacher: pd.DataFrame) -> None:
    """Beside the axes: which strategy a colour and shape is, and what outlined, hollow and pale mean."""
    drawn = set(pd.concat([group["strategy"] for group in groups.values()]))
    ordered = [*(name for name in _LOOKS if name in drawn), *sorted(drawn - set(_LOOKS))]
    strategies = [
        _key(look.label, marker=look.marker, color=look.colour, mec="white", mew=0.5, ms=7)
        for look in map(_look, ordered)
    ]
    kinds = {
        "front": _key("Pareto front, ± 1 s.e.", color=_FAINT, ls="-", lw=1.5, mfc="white", mec=_INK, ms=8),
        "dominated": _key("dominated", color=_FAINT, mec="white", mew=0.5, ms=7),
        "violating": _key("violates a constraint", mfc="none", mec=_FAINT, ms=5.5),
        "stopped": _key(
            "stopped early, scored on\nfewer items: not comparable", color=_FAINT, alpha=0.45, mew=0, ms=4.5
        ),
        "teacher": _key("teacher, ± 1 s.e.", marker="*", color=_INK, mew=0, ms=13),
    }
    shown = {**groups, "teacher": teacher}
    trials = [key for name, key in kinds.items() if not shown[name].empty]
    place = {"borderaxespad": 0.0, "frameon": False, "alignment": "left"}
    if strategies:
        first = axes.legend(handles=strategies, title="Strategy", loc="upper left", bbox_to_anchor=(1.02, 1), **place)
        axes.add_artist(first)
    if trials:
        axes.legend(handles=trials, title="Trial", loc="lower left", bbox_to_anchor=(1.02, 0), **place)


def _key(label: str, **style: Any) -> Line2D:
    return Line2D([], [], label=label, **{"ls": "", "marker": "o", **style})
