"""Whether a language that weighs more in the losses scores better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.nothing import nothing_yet
from analysis.languages import TASKS, language_weights, weight_effects, within
from analysis.load import StudyData
from analysis.style import INK, PAIR, caption, explain, headline, look, strategy_keys, styled


def weights(data: StudyData) -> Figure:
    """Language weights against outcome: a point a trial and language, both axes without the means of trial and language.

    x is how many doublings the weight is above what is usual for trial and language, y the change of the score in
    percentage points. The line is the slope with its 95 % interval over trials (`analysis.languages.weight_effects`).
    """
    frame = language_weights(data)
    slopes = {row["task"]: row for row in weight_effects(data).to_dict("records")}
    known = {task: row for task, row in slopes.items() if np.isfinite(row["points_per_doubling"])}
    if not known:
        return nothing_yet(data, "language weights: three complete trials that weigh languages unequally are needed,")
    with styled():
        figure = Figure(figsize=PAIR, layout="constrained")
        for axes, (task, title) in zip(figure.subplots(1, 2), TASKS.items(), strict=True):
            slope = slopes[task]
            if not np.isfinite(slope["points_per_doubling"]):
                explain(axes, f"{title} was not measured in every language.")
                continue
            _draw_weights(axes, frame, task, slope)
            axes.set(xlabel="Doublings of a language's weight", ylabel=f"{title} (points)", title=title)
        keys = strategy_keys(frame["strategy"])
        axes.legend(handles=keys, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)
        said = [
            f"{TASKS[task]} {row['points_per_doubling']:+.2f} points ({row['low']:+.2f} to {row['high']:+.2f})"
            for task, row in known.items()
        ]
        verb = "does not show in its scores"
        if any(row["low"] > 0 or row["high"] < 0 for row in known.values()):
            verb = "shows in its scores"
        headline(figure, f"Doubling a language's weight {verb}: {', '.join(said)}")
        trials = max(row["trials"] for row in known.values())
        caption(
            figure,
            f"{data.name}, validation; {trials} trials with unequal weights among {frame['trial'].nunique()} complete ones. Both axes without the "
            "means of trials and of languages (two-way fixed effects); band: 95 % over draws of trials (bootstrap).",
        )
    return figure


def _draw_weights(axes: Axes, frame: pd.DataFrame, task: str, slope: Mapping[Any, Any]) -> None:
    doublings = frame.assign(x=np.log2(frame["weight"])).pivot(index="trial", columns="language", values="x")
    outcome = frame.pivot(index="trial", columns="language", values=f"{task}_change")
    kept = doublings.notna().all(axis=1) & outcome.notna().all(axis=1)
    x, y = within(doublings[kept].to_numpy()), within(outcome[kept].to_numpy())
    strategies = frame.drop_duplicates("trial").set_index("trial")["strategy"].reindex(doublings.index[kept])
    for strategy in strategies.unique():
        own, style = (strategies == strategy).to_numpy(), look(strategy)
        axes.scatter(x[own], y[own], s=9, color=style.colour, marker=style.marker, alpha=0.6, linewidth=0)
    ends = np.array([x.min(), x.max()])
    axes.plot(ends, slope["points_per_doubling"] * ends, color=INK, linewidth=1.5)
    line = np.linspace(x.min(), x.max(), 50)
    edges = np.sort([slope["low"] * line, slope["high"] * line], axis=0)
    axes.fill_between(line, *edges, color=INK, alpha=0.15, linewidth=0)
