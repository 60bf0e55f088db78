"""Validation against test: how much the search's own choice flatters its front."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.fronts import interval_over_items, members
from analysis.fronts import selection as selection_table
from analysis.load import StudyData
from analysis.style import FAINT, INK, PAIR, caption, empty_figure, headline, key, legend_beside, look, styled
from analysis.units import shown

_OFFSETS = {"validation": 0.18, "confirmed": 0.0, "test": -0.18}


def selection(data: StudyData) -> Figure:
    """Each front member's score in the search, over new seeds, and on test, beside the teacher's, for each objective.

    A column an objective, in the units of ``analysis.units``; bars are 95 % intervals: over evaluation items (bootstrap) for
    validation and test, over seeds (Student's) for further trainings. The teacher was not selected on validation, so
    what it loses on test is the splits' own difference.
    """
    table = selection_table(data)
    if table.empty:
        return empty_figure(f"{data.name}: no member of a front has been scored on test yet")
    again = members(data).set_index("trial")
    trials = [trial for trial in again.index if trial in set(table["trial"])]
    with styled():
        height = max(PAIR[1] - 1.2, 1.9 + 0.42 * (len(trials) + 1))
        figure = Figure(figsize=(PAIR[0], height), layout="constrained")
        panels = np.atleast_1d(figure.subplots(1, len(data.objectives), sharey=True))
        for axes, (metric, way) in zip(panels, data.objectives.items(), strict=True):
            for place, trial in enumerate(trials):
                row = table[(table["trial"] == trial) & (table["metric"] == metric)]
                if len(row):
                    _draw_member(axes, row.iloc[0], again.loc[trial], metric, place)
            _draw_teacher(axes, data, metric, len(trials))
            axes.set_xlabel(textwrap.fill(shown(metric).axis(way), 46))
            axes.grid(visible=False, axis="y")
        names = [f"#{again.loc[trial, 'number']} {look(again.loc[trial, 'strategy']).label}" for trial in trials]
        panels[0].set_yticks(range(len(trials) + 1), [*names, "teacher"])
        panels[0].set_ylim(len(trials) + 0.5, -0.5)
        has_again = again.loc[trials].filter(regex="_confirmed$").notna().any(axis=None)
        legend_beside(figure, _keys(bool(has_again)))
        headline(figure, _finding(data, table))
        caption(
            figure,
            f"{data.name}. Bars are 95 % intervals: over items for validation and test, over seeds for new trainings.",
        )
    return figure


def _draw_member(axes: Axes, row: pd.Series, again: pd.Series, metric: str, place: int) -> None:
    colour = look(str(row["strategy"])).colour
    ends = {
        "validation": (row["validation"], row["validation_low"], row["validation_high"]),
        "confirmed": tuple(again[f"{metric}_confirmed{end}"] for end in ("", "_low", "_high")),
        "test": (row["test"], row["test_low"], row["test_high"]),
    }
    for kind, (value, low, high) in ends.items():
        _mark(axes, kind, (float(value), float(low), float(high)), place, colour)


def _draw_teacher(axes: Axes, data: StudyData, metric: str, place: int) -> None:
    if data.teacher is None:
        return
    for split, scores in data.teacher.metrics.items():
        found = interval_over_items(scores, metric)
        _mark(axes, split, (found[""], found["_low"], found["_high"]), place, INK)


def _mark(axes: Axes, kind: str, found: tuple[float, float, float], place: int, colour: str) -> None:
    value, low, high = found
    if not np.isfinite(value):
        return
    y = place - _OFFSETS[kind]
    if np.isfinite([low, high]).all():
        axes.hlines(y, low, high, color=colour, linewidth=1.2, zorder=2, gid=kind)
    face = {"validation": colour, "confirmed": FAINT, "test": "white"}[kind]
    marker = {"validation": "o", "confirmed": "d", "test": "s"}[kind]
    axes.scatter([value], [y], s=34, marker=marker, color=face, edgecolor=colour, linewidth=1.2, zorder=3)


def _keys(has_again: bool) -> list[Line2D]:
    keys = [key("validation, in the search", color=FAINT, mec=FAINT, ms=6)]
    if has_again:
        keys.append(key("validation, new seeds", marker="d", mfc=FAINT, mec=INK, color=FAINT, ms=6))
    return [*keys, key("test", marker="s", mfc="white", mec=FAINT, color=FAINT, ms=6)]


def _finding(data: StudyData, table: pd.DataFrame) -> str:
    """How much worse than the teacher's the members' scores get on test, in the first objective."""
    metric = next(iter(data.objectives))
    rows = table[table["metric"] == metric]
    label = shown(metric).label
    named = label if label.startswith("VQA") else label[0].lower() + label[1:]
    size = "points" if shown(metric).unit else ""
    worse, flattered = rows["worse"].mean(), rows["flattered"].mean()
    if not np.isfinite(flattered):
        return f"On test the front is {_amount(worse, size)} {_way(worse)} in {named}"
    kept = "no more than" if flattered <= 0.0 else f"{_amount(flattered, size)} more than"
    return f"On test the front is {_amount(worse, size)} {_way(worse)} in {named}, {kept} its teacher"


def _amount(value: float, size: str) -> str:
    return f"{abs(value):.2g} {size}".strip()


def _way(worse: float) -> str:
    return "worse" if worse >= 0.0 else "better"
