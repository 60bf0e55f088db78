"""The front of a study among all of its trials, in two or three objectives."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns  # type: ignore[import-untyped, unused-ignore]
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from analysis.confirmation import SUPPORTED
from analysis.figures.edges import better_corner, front_edge, worst_corner
from analysis.figures.labels import place_labels
from analysis.fronts import directions_of, members, on_front
from analysis.load import StudyData
from analysis.pareto import Directions, nondominated
from analysis.style import FAINT, INK, PAIR, caption, explain, headline, key, legend_beside, look, strategy_keys, styled
from analysis.units import shown

_LABEL = 46  # letters in a line of an axis's label
_MOST_LABELS = 12  # of members in one panel: more would hide the picture


def pareto(data: StudyData, metrics: Sequence[str] = ()) -> Figure:
    """Trials on validation data, in the study's objectives or in two or more ``metrics``: a row for each two of them.

    On the left are all trials, the teacher and a student of random weights; on the right the front from near. Axes are in
    the units of ``analysis.units``: retrieval mAP in per cent, a variance of VQA accuracy over languages by its root, the
    standard deviation in percentage points, which has the same front. The line is the edge of what the front dominates;
    where there are three objectives, it joins the members that are nondominated in the two of the row. Thin bars are the
    95 % interval over evaluation items, of one training (bootstrap); thick ones are means of further trainings with
    their 95 % intervals (Student's), tied to the score of the search. The knee and the best compromise are those of
    ``analysis.fronts``. Running, failed and unreadable trials are left out.

    Raises ValueError if a metric is not known.
    """
    directions = directions_of(data, metrics)
    groups = _groups(data, directions)
    pairs = list(combinations(directions, 2))
    table = members(data, metrics)
    with styled():
        figure = Figure(figsize=(PAIR[0], PAIR[1] * (0.15 + 0.85 * len(pairs))), layout="constrained")
        rows = figure.subplots(len(pairs), 2, squeeze=False)
        for (left, right), pair in zip(rows, pairs, strict=True):
            seen = {name: directions[name] for name in pair}
            placed = {kind: _placed(group, *pair) for kind, group in groups.items()}
            _draw_trials(left, data, placed, seen)
            _draw_members(right, placed["front"], table, seen)
        rows[0, 0].set_title("All trials", loc="left", fontsize="medium")
        rows[0, 1].set_title("The front from near", loc="left", fontsize="medium")
        legend_beside(figure, _keys(data, groups, table))
        headline(figure, _finding(data, groups["front"], directions, table["support"]))
        caption(figure, _caption(data, table))
        figure.draw_without_rendering()
        for (_, right), pair in zip(rows, pairs, strict=True):
            seen = {name: directions[name] for name in pair}
            _name_members(right, _placed(groups["front"], *pair), table, seen)
    return figure


def _groups(data: StudyData, directions: Directions) -> dict[str, pd.DataFrame]:
    """The trials that can be drawn, by what became of them; those of the front best in the first objective first."""
    trials = data.trials.reindex(columns=[*dict.fromkeys([*data.trials.columns, *directions])])
    measured = np.isfinite(trials[[*directions]].to_numpy(dtype=float, na_value=np.nan)).all(axis=1)
    complete, feasible, front = trials["state"] == "complete", trials["feasible"], on_front(data, directions)
    leading, way = next(iter(directions.items()))
    members = trials[front].sort_values([leading, "number"], ascending=[way == "minimise", True])
    return {
        "front": members.reset_index(drop=True),
        "dominated": trials[measured & complete & feasible & ~front],
        "violating": trials[measured & ((complete & ~feasible) | (trials["state"] == "infeasible"))],
        "stopped": trials[measured & (trials["state"] == "stopped")],
    }


def _draw_trials(axes: Axes, data: StudyData, placed: dict[str, pd.DataFrame], directions: Directions) -> None:
    x, y = directions
    _scatter(axes, placed["stopped"], s=18, alpha=0.45, linewidth=0)
    _hollow(_scatter(axes, placed["violating"], s=30, linewidth=1.0))
    _scatter(axes, placed["dominated"], s=34, edgecolor="white", linewidth=0.6)
    _scatter(axes, placed["front"], s=52, edgecolor=INK, linewidth=1.1, zorder=4)
    for metrics, mark in _landmarks(data):
        point = [float(shown(name).of(metrics.get(name, np.nan))) for name in (x, y)]
        axes.scatter(*point, color=INK, linewidth=1.4 if mark["marker"] == "x" else 0, zorder=5, **mark)
    axes.margins(0.08)
    if axes.collections:
        _label_axes(axes, directions)
        _draw_edge(axes, placed["front"], directions)
    else:
        explain(axes, "no trial has been measured yet")


def _draw_members(axes: Axes, front: pd.DataFrame, table: pd.DataFrame, directions: Directions) -> None:
    if front.empty:
        explain(axes, "no complete, feasible trial")
        return
    _draw_intervals(axes, table, *directions)
    _draw_confirmed(axes, table, *directions)
    _scatter(axes, front, s=60, edgecolor=INK, linewidth=1.1, zorder=4)
    axes.margins(0.12)
    _label_axes(axes, directions)
    _draw_edge(axes, front, directions)


def _label_axes(axes: Axes, directions: Directions) -> None:
    x, y = directions
    axes.set_xlabel(textwrap.fill(shown(x).axis(directions[x]), _LABEL))
    axes.set_ylabel(textwrap.fill(shown(y).axis(directions[y]), _LABEL))


def _landmarks(data: StudyData) -> list[tuple[dict[str, float], dict[str, Any]]]:
    if data.teacher is None:
        return []
    found: list[tuple[dict[str, float], dict[str, Any]]] = [
        (data.teacher.metrics["validation"], {"marker": "*", "s": 190})
    ]
    if data.teacher.random_student:
        found.append((data.teacher.random_student, {"marker": "x", "s": 50}))
    return found


def _placed(trials: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    return trials.assign(x=shown(x).of(trials[x].astype(float)), y=shown(y).of(trials[y].astype(float)))


def _scatter(axes: Axes, points: pd.DataFrame, **style: Any) -> list[PathCollection]:
    """Draw ``points`` in the looks of their strategies, and return what was drawn."""
    if points.empty:
        return []
    before = len(axes.collections)
    looks = {strategy: look(strategy) for strategy in points["strategy"].unique()}
    palette = {strategy: each.colour for strategy, each in looks.items()}
    markers = {strategy: each.marker for strategy, each in looks.items()}
    by_strategy: dict[str, Any] = {
        "hue": "strategy",
        "style": "strategy",
        "palette": palette,
        "markers": markers,
        "legend": False,
    }
    sns.scatterplot(data=points, x="x", y="y", ax=axes, **by_strategy, **style)
    return [drawn for drawn in axes.collections[before:] if isinstance(drawn, PathCollection)]


def _hollow(drawn: list[PathCollection]) -> None:
    for marks in drawn:
        marks.set_edgecolor(marks.get_facecolor())
        marks.set_facecolor("none")


def _draw_intervals(axes: Axes, table: pd.DataFrame, x: str, y: str) -> None:
    """95 % over items, of the training of the search."""
    style: dict[str, Any] = {"fmt": "none", "ecolor": INK, "elinewidth": 0.7, "capsize": 2.0, "zorder": 3}
    for metric, along in ((x, "xerr"), (y, "yerr")):
        measured = table[table[f"{metric}_low"].notna()]
        bars = [measured[metric] - measured[f"{metric}_low"], measured[f"{metric}_high"] - measured[metric]]
        axes.errorbar(measured[x], measured[y], **style, **dict[str, Any]({along: np.vstack(bars)}))


def _draw_confirmed(axes: Axes, table: pd.DataFrame, x: str, y: str) -> None:
    """Means of further trainings, with their intervals, each tied to its score in the search."""
    confirmed = table[table[f"{x}_confirmed"].notna() & table[f"{y}_confirmed"].notna()]
    for _, row in confirmed.iterrows():
        colour = look(row["strategy"]).colour
        centre = [row[f"{metric}_confirmed"] for metric in (x, y)]
        axes.plot([row[x], centre[0]], [row[y], centre[1]], color=colour, linewidth=1.0, linestyle=":", zorder=2.6)
        for metric, draw, across in ((x, axes.hlines, centre[1]), (y, axes.vlines, centre[0])):
            ends = row[f"{metric}_confirmed_low"], row[f"{metric}_confirmed_high"]
            if np.isfinite(ends).all():
                draw(across, *ends, color=colour, linewidth=2.4, alpha=0.6, zorder=2.7)
        axes.scatter(centre[0], centre[1], s=34, marker="d", color=colour, edgecolor="white", linewidth=0.6, zorder=3.5)


def _draw_edge(axes: Axes, front: pd.DataFrame, directions: Directions) -> None:
    """The staircase, once all else has set the limits: it runs to the frame."""
    if front.empty:
        return
    limits = {"xlim": axes.get_xlim(), "ylim": axes.get_ylim()}
    seen = front.loc[nondominated(front[["x", "y"]], directions), ["x", "y"]]
    edge = front_edge(seen, directions, worst_corner(axes, directions))
    axes.plot(edge[:, 0], edge[:, 1], color=FAINT, linewidth=1.5, zorder=2, gid="front")
    axes.fill_between(edge[:, 0], edge[:, 1], edge[-1, 1], color=INK, alpha=0.035, linewidth=0, zorder=0)
    axes.set(**limits)


def _name_members(axes: Axes, front: pd.DataFrame, table: pd.DataFrame, directions: Directions) -> None:
    """The members' numbers, on the far side of each, where there is no dominated trial to write over."""
    picks = dict(zip(table["number"], table["pick"], strict=True))
    wanted = front if len(front) <= _MOST_LABELS else front[[bool(picks[number]) for number in front["number"]]]
    texts = [_named(number, picks[number]) for number in wanted["number"]]
    x, y = directions
    marks = [front[["x", "y"]], table[[f"{x}_confirmed", f"{y}_confirmed"]].dropna()]
    avoid = np.vstack([*marks, *_along_bars(table, x, y)])
    place_labels(axes, wanted[["x", "y"]], texts, better_corner(directions), avoid)


def _along_bars(table: pd.DataFrame, x: str, y: str) -> list[NDArray[np.float64]]:
    """Places [20, 2] along each member's bars of intervals over items, which a name should not cover."""
    found = []
    for row in table.to_dict("records"):
        for metric, at in ((x, 0), (y, 1)):
            ends = row[f"{metric}_low"], row[f"{metric}_high"]
            if np.isfinite(ends).all():
                places = np.tile([float(row[x]), float(row[y])], (20, 1))
                places[:, at] = np.linspace(*ends, 20)
                found.append(places)
    return found


def _named(number: int, picked: str) -> str:
    return f"#{number} {picked}" if picked else f"#{number}"


def _keys(data: StudyData, groups: dict[str, pd.DataFrame], table: pd.DataFrame) -> list[Line2D]:
    """Which strategy a colour and shape is, and what outlined, hollow and pale mean."""
    strategies = strategy_keys(pd.concat([group["strategy"] for group in groups.values()]))
    confirmed = table.filter(regex="_confirmed$").notna().any(axis=None)
    kinds = {
        "front": (len(groups["front"]), key("Pareto front, with the\ninterval over items", color=FAINT, ls="-", lw=1.5, mfc="white", mec=INK, ms=8)),
        "confirmed": (confirmed, key("trained again: mean and\ninterval over seeds", marker="d", color=FAINT, mec="white", ls="-", lw=2.4, ms=6)),
        "dominated": (len(groups["dominated"]), key("dominated", color=FAINT, mec="white", mew=0.5, ms=7)),
        "violating": (len(groups["violating"]), key("violates a constraint", mfc="none", mec=FAINT, ms=5.5)),
        "stopped": (len(groups["stopped"]), key("stopped early, scored on\nfewer items: not comparable", color=FAINT, alpha=0.45, mew=0, ms=4.5)),
        "teacher": (data.teacher, key("teacher", marker="*", color=INK, mew=0, ms=13)),
        "random": (data.teacher and data.teacher.random_student, key("student of random weights", marker="x", color=INK, ms=6)),
    }  # fmt: skip
    return [*strategies, *(entry for is_drawn, entry in kinds.values() if is_drawn)]


def _finding(data: StudyData, front: pd.DataFrame, directions: Directions, support: pd.Series) -> str:
    """Which strategy is best in each objective; ``support``: of the front's members, by new seeds."""
    if front.empty:
        return f"{data.name}: no trial is complete and feasible yet"
    best = {}
    for metric, way in directions.items():
        values = front[metric].to_numpy(dtype=float)
        at = int(values.argmax() if way == "maximise" else values.argmin())
        best[metric] = look(front["strategy"].iloc[at]).label
    one = next(iter(best.values()))
    if len(front) == 1:
        doubt = ", which new seeds do not support" if (support < SUPPORTED).any() else ""
        return f"One recipe, of {one}, is best in every objective{doubt}"
    if len(set(best.values())) == 1:
        return f"{one} holds every end of the front, of {len(front)} recipes"
    return "; ".join(
        f"{label} {_IS_BEST.get(metric, f'is best in {shown(metric).label}')}" for metric, label in best.items()
    )


_IS_BEST = {
    "retrieval_map": "retrieves best",
    "vqa_variance": "is most even over languages",
    "vqa_std": "is most even over languages",
    "vqa_accuracy": "answers best",
    "vqa_lift_kept": "keeps most of the teacher's VQA accuracy",
}


def _caption(data: StudyData, table: pd.DataFrame) -> str:
    counts = data.trials["state"].value_counts()
    said = ", ".join(f"{count} {state}" for state, count in counts.items())
    text = f"{data.name}: {len(data.trials)} trials{f' ({said})' if said else ''}, validation. Intervals are of 95 %."
    for name in ("knee", "compromise"):
        for row in table[table["pick"].str.contains(name)].itertuples():
            text += f"\n{'Knee' if name == 'knee' else 'Best compromise'}: #{row.number}, {row.recipe}."
    return text
