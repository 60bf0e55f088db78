"""How a search went: its hypervolume, and what its rungs stopped."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from analysis.load import StudyData
from analysis.progress import endings, history, study_reference
from analysis.style import (
    FAINT,
    INK,
    ROW,
    WITH_LEGEND,
    caption,
    empty_figure,
    explain,
    headline,
    in_order,
    legend_beside,
    look,
    strategy_keys,
    styled,
)

_AXES = {
    "trials": "Trials that have ended",
    "steps": "Training steps, in all",
    "hours": "Hours since the first proposal",
}
# How trials end that no rung stopped, each with its hatch.
_OTHERS = {"running": "....", "failed": "xxxx", "infeasible": "////"}


def progress(data: StudyData) -> Figure:
    """Hypervolume of the feasible front so far, over ended trials, training steps and hours of wall time.

    Its unit is the product of the objectives' own units (mAP as a share of 1, a variance in squared percentage points);
    the caption has the reference point. Marks are the trials that made it grow, in the looks of their strategies.
    """
    table = history(data)
    if table.empty:
        return empty_figure(f"{data.name}: no trial has ended yet")
    strategies = data.trials.set_index("trial")["strategy"]
    with styled():
        figure = Figure(figsize=ROW, layout="constrained")
        panels = figure.subplots(1, 3, sharey=True)
        for axes, (column, label) in zip(panels, _AXES.items(), strict=True):
            axes.set_xlabel(label)
            _draw_history(axes, table, column, strategies)
        panels[0].set_ylabel("Hypervolume of the front")
        panels[0].set_ylim(bottom=0.0)
        grown = in_order(strategies[table.loc[table["grew"], "trial"]])
        legend_beside(figure, strategy_keys(grown), "raised by")
        headline(figure, _growth(table))
        corner = ", ".join(f"{name} {value:.4g}" for name, value in (study_reference(data) or {}).items())
        caption(figure, f"{data.name}, validation. Reference point: {corner}. Hours include breaks of the study.")
    return figure


def rungs(data: StudyData) -> Figure:
    """How the trials of each strategy ended: at which rung they were stopped, or complete, or otherwise.

    A bar a strategy, its length in trials; the numbers are counts.
    """
    table = endings(data)
    if table.empty:
        return empty_figure(f"{data.name}: no trial yet")
    strategies = in_order(table["strategy"])
    with styled():
        figure = Figure(figsize=WITH_LEGEND, layout="constrained")
        axes = figure.subplots()
        left = np.zeros(len(strategies))
        handles = []
        for label, rows, style in _parts(table):
            counts = rows.groupby("strategy")["trials"].sum().reindex(strategies, fill_value=0).to_numpy()
            fill = [look(strategy).colour for strategy in strategies] if style is None else style["color"]
            hatch = (style or {}).get("hatch")
            bars = axes.barh(range(len(strategies)), counts, left=left, color=fill, hatch=hatch, edgecolor=INK, lw=0.6)
            for bar, count in zip(bars, counts, strict=True):
                if count:
                    at = (bar.get_x() + bar.get_width() / 2, bar.get_y() + bar.get_height() / 2)
                    text = axes.annotate(str(count), at, ha="center", va="center", fontsize="small", gid="count")
                    text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
            face = "white" if style is None else style["color"]
            handles.append(Patch(facecolor=face, hatch=hatch, edgecolor=INK, linewidth=0.6, label=label))
            left += counts
        axes.set_yticks(range(len(strategies)), [look(strategy).label for strategy in strategies])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="Trials", ylabel="Strategy")
        legend_beside(figure, handles)
        headline(figure, _stopped(table, strategies))
        caption(figure, f"{data.name}: {int(table['trials'].sum())} trials.")
    return figure


def _parts(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame, dict[str, str] | None]]:
    """What bars are made of, in order, where there is any: label, rows, and style; None for the strategy's own."""
    steps = sorted(int(step) for step in table["step"].dropna().unique())
    greys = np.linspace(0.35, 0.85, max(len(steps), 2))
    parts: list[tuple[str, pd.DataFrame, dict[str, str] | None]] = [
        (f"stopped at step {step}", table[table["step"].eq(step).fillna(False)], {"color": str(grey)})
        for step, grey in zip(steps, greys, strict=False)
    ]
    parts.append(("complete: the\nstrategy's colour", table[table["ending"] == "complete"], None))
    for ending, hatch in _OTHERS.items():
        parts.append((ending, table[table["ending"] == ending], {"color": "white", "hatch": hatch}))
    return [part for part in parts if len(part[1])]


def _draw_history(axes: Axes, table: pd.DataFrame, column: str, strategies: pd.Series) -> None:
    known = table[table[column].notna()]
    if known.empty:
        explain(axes, "the ledger has no times")
        return
    x = np.r_[0.0, known[column]]
    axes.step(x, np.r_[0.0, known["hypervolume"]], where="post", color=FAINT, linewidth=1.4, gid="hypervolume")
    grown = known[known["grew"]]
    for strategy, rows in grown.groupby(strategies[grown["trial"]].to_numpy()):
        style = look(str(strategy))
        axes.scatter(
            rows[column],
            rows["hypervolume"],
            color=style.colour,
            marker=style.marker,
            s=34,
            edgecolor="white",
            linewidth=0.6,
            zorder=3,
        )
    axes.set_xlim(left=0.0)


def _growth(table: pd.DataFrame) -> str:
    final = table["hypervolume"].iloc[-1]
    if final == 0.0:
        return f"{len(table)} trials have ended, and none dominates the reference point"
    last = int(table.loc[table["grew"], "trials"].iloc[-1])
    near = int(table.loc[table["hypervolume"] >= 0.9 * final, "trials"].iloc[0])
    since = len(table) - last
    tail = f"; the last {since} did not raise it" if since > 1 else ""
    return f"90 % of the final hypervolume, {final:.3g}, came within {near} of {len(table)} trials{tail}"


def _stopped(table: pd.DataFrame, strategies: list[str]) -> str:
    total, stopped = int(table["trials"].sum()), table[table["ending"] == "stopped"]
    if stopped.empty:
        return f"No rung stopped any of {total} trials"
    by_step = stopped.groupby("step")["trials"].sum()
    said = ", ".join(f"step {step} stopped {count}" for step, count in by_step.items())
    complete = (
        table[table["ending"] == "complete"].groupby("strategy")["trials"].sum().reindex(strategies, fill_value=0)
    )
    if not complete.any():
        return f"Of {total} trials {said}; none is complete"
    share = complete / table.groupby("strategy")["trials"].sum().reindex(strategies)
    most = share.index[share == share.max()]
    if len(most) > 1 or len(strategies) == 1:
        return f"Of {total} trials {said}"
    return f"Of {total} trials {said}; {look(most[0]).label} came through most often ({100 * share.max():.0f} %)"
