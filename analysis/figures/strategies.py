"""Strategies: what was found with each, and what each adds by itself."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.effects import FEWEST, complete, seed_noise, strategy_effects
from analysis.figures.nothing import nothing_yet
from analysis.figures.words import sentence, short, way, wrapped
from analysis.load import StudyData
from analysis.style import FAINT, INK, PAIR, caption, explain, headline, in_order, look, styled
from analysis.units import shown


def strategies(data: StudyData) -> Figure:
    """Strategies: every complete trial, and what the strategy itself adds when all other choices are held.

    A row an objective. Left: trials, hollow where they violate a constraint, with the median and its 95 % interval
    (bootstrap). Right: the effect against the average strategy in the unit of the objective, with 95 % intervals
    (`analysis.effects.strategy_effects`). The grey band is twice the deviation over seeds, where it is known.
    """
    trials, table = complete(data), strategy_effects(data)
    if trials.empty:
        return nothing_yet(data, "strategies", 1)
    order, objectives = in_order(trials["strategy"]), list(data.objectives)
    noise = seed_noise(data).set_index("objective")["deviation"]
    with styled():
        figure = Figure(figsize=(PAIR[0], 1.0 + 2.6 * len(objectives)), layout="constrained")
        for (left, right), objective in zip(
            figure.subplots(len(objectives), 2, squeeze=False), objectives, strict=True
        ):
            rows = table[table["objective"] == objective].set_index("strategy").reindex(order)
            _draw_trials(left, trials, objective, order, rows)
            left.set_ylabel(wrapped(shown(objective).axis(data.objectives[objective])))
            if rows["effect"].isna().all():
                explain(right, f"{len(trials)} complete trials: {FEWEST} are needed to hold the other choices.")
                continue
            _draw_effects(right, rows, order, noise[objective])
            right.set_ylabel(wrapped(f"Effect on {shown(objective).label} (points){way(data, objective)}"))
        headline(figure, _strategy_finding(data, table))
        caption(
            figure,
            f"{data.name}, validation. Left: {len(trials)} complete trials, hollow where they violate a constraint; line: median "
            "with its 95 % interval (bootstrap). Right: against the average strategy, all other choices held (additive model, "
            "95 % intervals); grey: twice the standard deviation over seeds, where recipes were trained again.",
        )
    return figure


def _draw_trials(axes: Axes, trials: pd.DataFrame, objective: str, order: list[str], rows: pd.DataFrame) -> None:
    rng = np.random.default_rng(0)
    for place, strategy in enumerate(order):
        own, style = trials[trials["strategy"] == strategy], look(strategy)
        x = place + rng.uniform(-0.22, 0.22, len(own))
        y = shown(objective).of(own[objective])
        kept = own["feasible"].to_numpy(dtype=bool)
        size = 22 if len(trials) < 300 else 6
        axes.scatter(x[kept], y[kept], s=size, color=style.colour, marker=style.marker, linewidth=0, alpha=0.75)
        axes.scatter(
            x[~kept], y[~kept], s=size, facecolor="none", edgecolor=style.colour, marker=style.marker, linewidth=0.9
        )
        low, middle, high = (float(value) for value in rows.loc[strategy, ["low", "median", "high"]].to_numpy())
        axes.plot([place - 0.3, place + 0.3], [middle, middle], color=INK, linewidth=1.6)
        if np.isfinite(low):
            axes.plot([place, place], [low, high], color=INK, linewidth=1.2)
    _name_strategies(axes, order, [int(n) if np.isfinite(n) else 0 for n in rows["trials"]])


def _draw_effects(axes: Axes, rows: pd.DataFrame, order: list[str], noise: float) -> None:
    if np.isfinite(noise):
        axes.axhspan(-2 * noise, 2 * noise, color=FAINT, alpha=0.18, linewidth=0)
    axes.axhline(0.0, color=FAINT, linewidth=0.8)
    for place, strategy in enumerate(order):
        row, style = rows.loc[strategy], look(strategy)
        if np.isfinite(row["effect"]):
            axes.plot([place, place], [row["effect_low"], row["effect_high"]], color=style.colour, linewidth=1.6)
            axes.plot(place, row["effect"], style.marker, color=style.colour, ms=8, mec="white", mew=0.6)
    _name_strategies(axes, order, [])


def _name_strategies(axes: Axes, order: list[str], counts: list[int]) -> None:
    names = [look(strategy).label for strategy in order]
    labels = [f"{name}\nn = {count}" for name, count in zip(names, counts, strict=True)] if counts else names
    axes.set_xticks(range(len(order)), labels)
    axes.set_xlim(-0.6, len(order) - 0.4)
    axes.grid(False, axis="x")


def _strategy_finding(data: StudyData, table: pd.DataFrame) -> str:
    said = []
    for objective, direction in data.objectives.items():
        rows = table[(table["objective"] == objective)].dropna(subset="effect")
        if rows.empty:
            continue
        sign = 1 if direction == "maximise" else -1
        best = rows.iloc[int((sign * rows["effect"]).argmax())]
        clear = sign * (best["effect_low"] if sign > 0 else best["effect_high"]) > 0
        name = look(best["strategy"]).label
        says = f"{name} is best for {short(objective)}, other choices held ({best['effect']:+.2g} points)"
        said.append(says if clear else f"no strategy is clearly best for {short(objective)}, other choices held")
    return sentence(said) or f"{data.name}: too few complete trials to tell strategies from what goes along with them"
