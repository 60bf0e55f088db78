"""What matters: importance of choices, effects of strategies and of every level, pairs of choices."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
import seaborn as sns  # type: ignore[import-untyped, unused-ignore]
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.choices import choices_of, halves, label
from analysis.effects import FEWEST, choice_effects, complete, interactions, seed_noise, strategy_effects
from analysis.importance import FEWEST as FEWEST_FOR_FOREST
from analysis.importance import importance as importances
from analysis.load import StudyData
from analysis.pareto import Direction
from analysis.style import FAINT, INK, SEQUENTIAL, caption, explain, headline, in_order, look, styled
from analysis.units import better, shown

_ROW = 0.21  # inches that a row of a forest of effects takes
_FLAT_HEAD = 1.7  # inches for title, axes and caption
_WIDTH = 9.6
_LETTERS = 34  # of a row's label


def importance(data: StudyData) -> Figure:
    """What share of each objective's variance each choice explains by itself (`analysis.importance.importance`).

    x is a share in per cent; dots are medians and lines the central 95 % over bootstrap draws of the complete trials.
    The dashed line is what a made-up choice reaches by chance. Conditional choices, hollow, are shares of the variance among
    the trials that make them, whose number stands beside the name.
    """
    table = importances(data).dropna(subset="importance")
    if table.empty:
        return _too_few(data, FEWEST_FOR_FOREST, "the importance of choices")
    names = list(dict.fromkeys(table["choice"]))
    return _forest(
        data,
        {objective: table[table["objective"] == objective].set_index("choice") for objective in data.objectives},
        {name: _named(table[table["choice"] == name].iloc[0]) for name in names},
        ("importance", "low", "high", 100.0, "Share of the variance of\n{label} (%)"),
        _importance_finding(data, table),
        f"{data.name}, {len(complete(data))} complete trials. fANOVA: median and central 95 % of forests on bootstrap draws of "
        "the trials. Hollow: among the n trials that make the choice. Dashed: what a made-up choice reaches in 19 of 20 draws.",
    )


def strategies(data: StudyData) -> Figure:
    """Strategies: every complete trial, and what the strategy itself adds when all other choices are held.

    A row an objective. Left: trials, hollow where they violate a constraint, with the median and its 95 % interval
    (bootstrap). Right: the effect against the average strategy in the unit of the objective, with 95 % intervals
    (`analysis.effects.strategy_effects`). The grey band is twice the deviation over seeds, where it is known.
    """
    trials, table = complete(data), strategy_effects(data)
    if trials.empty:
        return _too_few(data, 1, "strategies")
    order, objectives = in_order(trials["strategy"]), list(data.objectives)
    noise = seed_noise(data).set_index("objective")["deviation"]
    with styled():
        figure = Figure(figsize=(_WIDTH, 1.0 + 2.6 * len(objectives)), layout="constrained")
        for (left, right), objective in zip(
            figure.subplots(len(objectives), 2, squeeze=False), objectives, strict=True
        ):
            rows = table[table["objective"] == objective].set_index("strategy").reindex(order)
            _draw_trials(left, trials, objective, order, rows)
            left.set_ylabel(_wrapped(shown(objective).axis(data.objectives[objective])))
            if rows["effect"].isna().all():
                explain(right, f"{len(trials)} complete trials: {FEWEST} are needed to hold the other choices.")
                continue
            _draw_effects(right, rows, order, noise[objective])
            right.set_ylabel(_wrapped(f"Effect on {shown(objective).label} (points){_way(data, objective)}"))
        headline(figure, _strategy_finding(data, table))
        caption(
            figure,
            f"{data.name}, validation. Left: {len(trials)} complete trials, hollow where they violate a constraint; line: median "
            "with its 95 % interval (bootstrap). Right: against the average strategy, all other choices held (additive model, "
            "95 % intervals); grey: twice the standard deviation over seeds, where recipes were trained again.",
        )
    return figure


def effects(data: StudyData) -> Figure:
    """The effect of every level of every choice on each objective (`analysis.effects.choice_effects`).

    x is the effect in the objective's unit, with 95 % intervals; full where the interval leaves out 0. A category's
    level is against its average level, a number from the lowest tenth of its trials to the highest.
    """
    table = choice_effects(data).dropna(subset="effect")
    table = table[table["choice"] != "strategy"]
    if table.empty:
        return _too_few(data, FEWEST, "the effects of choices")
    table = table.assign(row=table["choice"] + "\n" + table["level"])
    names = {row["row"]: f"{row['label']}: {row['level']}" for row in table.to_dict("records")}
    clear = table[table["is_clear"]]
    largest = clear.loc[clear.groupby("objective")["effect"].apply(lambda of: of.abs().idxmax())]
    said = [
        f"{row['label']} ({row['level']}) moves {_short(row['objective'])} by {row['effect']:+.2g}"
        for row in largest.to_dict("records")
    ]
    return _forest(
        data,
        {objective: table[table["objective"] == objective].set_index("row") for objective in data.objectives},
        names,
        ("effect", "low", "high", 1.0, "Effect on {label}\n(points)"),
        "; ".join(said) if said else "No mapping, weighting or number has an effect that can be told from 0",
        f"{data.name}, {len(complete(data))} complete trials. Additive model of all choices, 95 % intervals; hollow where they "
        "hold 0. A level is against the average level of its choice, a number from the lowest tenth of trials to the highest.",
    )


def pairs(data: StudyData) -> Figure:
    """Pairs of choices: how much each moves an objective beyond both alone, and the medians of the largest pair.

    A row an objective. Left: size in the objective's unit with its 95 % interval (`analysis.effects.interactions`).
    Right: the median of the trials in each cell of the largest pair, and how many they are; numbers are halved at their median.
    """
    table = interactions(data)
    if table.empty:
        return _too_few(data, FEWEST, "pairs of choices")
    objectives = [name for name in data.objectives if (table["objective"] == name).any()]
    said = []
    with styled():
        figure = Figure(figsize=(_WIDTH, 1.2 + 2.9 * len(objectives)), layout="constrained")
        for (left, right), objective in zip(
            figure.subplots(len(objectives), 2, squeeze=False), objectives, strict=True
        ):
            rows = table[table["objective"] == objective].reset_index(drop=True)
            names = {str(place): textwrap.fill(row["label"], _LETTERS) for place, row in rows.iterrows()}
            _draw_rows(left, rows.set_index(rows.index.astype(str)), names, "size", 1.0, hollow=False)
            left.set_xlabel(_wrapped(f"What the pair adds to {shown(objective).label} (points, s.d.)"))
            first = rows.iloc[0]
            _draw_cells(right, data, objective, (first["first"], first["second"]))
            share = first["size"] / first["noise"]
            strength = "more than" if first["low"] > 0.1 * first["noise"] and share > 0.5 else "little"
            said.append(
                f"for {_short(objective)}, {first['label']} {'add' if strength == 'little' else 'matter together,'} {strength}"
                f"{' beyond each alone' if strength == 'little' else ' each alone'}"
            )
        headline(figure, "; ".join(said)[:1].upper() + "; ".join(said)[1:])
        caption(
            figure,
            f"{data.name}, complete trials. Left: the standard deviation over trials of what a pair adds to both of its choices, 95 % "
            "intervals, which touch 0 where there is nothing. Right: medians of the largest pair's trials, not adjusted, and their number.",
        )
    return figure


def _forest(
    data: StudyData,
    tables: dict[str, pd.DataFrame],
    names: dict[str, str],
    columns: tuple[str, str, str, float, str],
    finding: str,
    below: str,
) -> Figure:
    """One panel an objective with shared rows, a dot and an interval a row."""
    value, _, _, scale, axis = columns
    with styled():
        figure = Figure(figsize=(_WIDTH, _FLAT_HEAD + _ROW * len(names)), layout="constrained")
        panels = figure.subplots(1, len(tables), sharey=True, squeeze=False)[0]
        for axes, (objective, table) in zip(panels, tables.items(), strict=True):
            _draw_rows(axes, table, names, value, scale, hollow=True)
            axes.set_xlabel(
                axis.format(label=shown(objective).label) + (_way(data, objective) if value == "effect" else "")
            )
        headline(figure, finding)
        caption(figure, below)
    return figure


def _draw_rows(axes: Axes, table: pd.DataFrame, names: dict[str, str], value: str, scale: float, hollow: bool) -> None:
    places = {name: place for place, name in enumerate(names)}
    for name, row in table.iterrows():
        place = places[str(name)]
        is_clear = bool(row["is_clear"]) if "is_clear" in row else True
        is_full = not hollow or (row["condition"] == "" if value == "importance" else is_clear)
        colour = INK if is_clear else FAINT
        axes.plot(
            [scale * row["low"], scale * row["high"]],
            [place, place],
            color=colour,
            linewidth=1.3,
            solid_capstyle="butt",
        )
        axes.plot(scale * row[value], place, "o", color=colour, mfc=colour if is_full else "white", ms=4.5)
    if "chance" in table:
        axes.axvline(scale * table["chance"].median(), color=FAINT, linestyle="--", linewidth=1.0)
    if value == "effect":
        axes.axvline(0.0, color=FAINT, linewidth=0.8)
    else:
        axes.set_xlim(left=0.0)
    axes.set_yticks(range(len(names)), list(names.values()), fontsize="small")
    axes.set_ylim(len(names) - 0.4, -0.6)


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
        low, middle, high = rows.loc[strategy, ["low", "median", "high"]].astype(float)
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


def _draw_cells(axes: Axes, data: StudyData, objective: str, pair: tuple[str, str]) -> None:
    trials = complete(data)
    choices = choices_of(trials)
    frame = pd.DataFrame({"one": halves(choices[pair[0]]).to_numpy(), "two": halves(choices[pair[1]]).to_numpy()})
    frame["value"] = shown(objective).of(trials[objective])
    cells = frame.pivot_table(index="one", columns="two", values="value", aggfunc=["median", "count"])
    words = cells["median"].map("{:.3g}".format) + "\nn = " + cells["count"].fillna(0).astype(int).astype(str)
    sns.heatmap(
        cells["median"],
        annot=words.where(cells["median"].notna(), ""),
        fmt="",
        cmap=SEQUENTIAL,
        ax=axes,
        linewidths=0.5,
        annot_kws={"fontsize": "x-small"},
        cbar_kws={"label": _wrapped(shown(objective).axis())},
    )
    axes.set(xlabel=_halved(choices, pair[1]), ylabel=_halved(choices, pair[0]))
    axes.tick_params(axis="both", rotation=0, length=0)


def _halved(choices: pd.DataFrame, name: str) -> str:
    numeric = pd.api.types.is_numeric_dtype(choices[name])
    return f"{label(name)}, halved at {choices[name].median():.2g}" if numeric else label(name)


def _named(row: pd.Series) -> str:
    return f"{row['label']} (n = {row['trials']})" if row["condition"] else str(row["label"])


def _importance_finding(data: StudyData, table: pd.DataFrame) -> str:
    said = []
    for objective in data.objectives:
        rows = table[(table["objective"] == objective) & (table["condition"] == "")]
        if rows.empty:
            continue
        first, rest = rows.iloc[0], rows.iloc[1:]
        if not first["is_clear"]:
            said.append(f"no choice stands out from chance for {_short(objective)}")
        elif len(rest) and rest["high"].max() >= first["low"]:
            said.append(f"{first['label']} seems to matter most for {_short(objective)}, but intervals overlap")
        else:
            said.append(
                f"{first['label']} matters most for {_short(objective)} ({first['importance']:.0%} of its variance)"
            )
    return _sentence(said)


def _strategy_finding(data: StudyData, table: pd.DataFrame) -> str:
    said = []
    for objective, direction in data.objectives.items():
        rows = table[(table["objective"] == objective)].dropna(subset="effect")
        if rows.empty:
            continue
        sign = 1 if direction == "maximise" else -1
        best = rows.loc[(sign * rows["effect"]).idxmax()]
        clear = sign * (best["effect_low"] if sign > 0 else best["effect_high"]) > 0
        name = look(best["strategy"]).label
        says = f"{name} is best for {_short(objective)}, other choices held ({best['effect']:+.2g} points)"
        said.append(says if clear else f"no strategy is clearly best for {_short(objective)}, other choices held")
    return _sentence(said) or f"{data.name}: too few complete trials to tell strategies from what goes along with them"


def _too_few(data: StudyData, needed: int, what: str) -> Figure:
    count = len(complete(data))
    with styled():
        figure = Figure(figsize=(_WIDTH / 2, 3.0), layout="constrained")
        reason = f"{count} complete trials of {len(data.trials)}: {needed} that differ are needed for {what}."
        explain(figure.subplots(), reason)
        headline(figure, f"{data.name}: nothing to say about {what} yet")
    return figure


def _short(objective: str) -> str:
    return {"retrieval_map": "retrieval", "vqa_variance": "the spread of VQA"}.get(objective, shown(objective).label)


def _way(data: StudyData, objective: str) -> str:
    direction: Direction = better(objective, data.objectives)
    return f",\n{'more' if direction == 'maximise' else 'less'} is better"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _LETTERS)


def _sentence(said: list[str]) -> str:
    text = "; ".join(said)
    return text[:1].upper() + text[1:]
