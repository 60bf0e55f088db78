"""What matters: importance of choices, effects of every level, pairs of choices."""

from __future__ import annotations

import textwrap

import pandas as pd
import seaborn as sns  # type: ignore[import-untyped, unused-ignore]
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.choices import choices_of, halves, label
from analysis.effects import FEWEST, choice_effects, complete, interactions
from analysis.figures.nothing import nothing_yet
from analysis.figures.words import LETTERS, sentence, short, way, wrapped
from analysis.importance import FEWEST as FEWEST_FOR_FOREST
from analysis.importance import importance as importances
from analysis.load import StudyData
from analysis.style import FAINT, INK, SEQUENTIAL, caption, headline, look, styled
from analysis.units import shown, signed

_ROW = 0.21  # inches that a row of a forest of effects takes
_FLAT_HEAD = 1.7  # inches for title, axes and caption
_WIDTH = 9.6
_MISSED = 0.05  # of intervals where there is nothing, the share that leaves out 0


def importance(data: StudyData) -> Figure:
    """What share of each objective's variance each choice explains by itself (`analysis.importance.importance`).

    x is a share in per cent; dots are medians and lines the central 95 % over bootstrap draws of the complete trials.
    The dashed line is what a made-up choice reaches by chance. Conditional choices, hollow, are shares of the variance among
    the trials that make them, whose number stands beside the name.
    """
    table = importances(data).dropna(subset="importance")
    if table.empty:
        return nothing_yet(data, "the importance of choices", FEWEST_FOR_FOREST)
    names = list(dict.fromkeys(table["choice"]))
    return _forest(
        data,
        {objective: table[table["objective"] == objective].set_index("choice") for objective in data.objectives},
        {name: _named(table[table["choice"] == name].iloc[0]) for name in names},
        ("importance", 100.0, "Share of the variance of {label} (%)"),
        _importance_finding(data, table),
        f"{data.name}, {len(complete(data))} complete trials. fANOVA: median and central 95 % of forests on bootstrap draws of "
        "the trials. Hollow: among the n trials that make the choice. Dashed: what a made-up choice stays below in 19 of 20 draws.",
    )


def effects(data: StudyData) -> Figure:
    """The effect of every level of every choice on each objective (`analysis.effects.choice_effects`).

    x is the effect in the objective's unit, with 95 % intervals; full where the interval leaves out 0. A category's
    level is against its average level, a number from the lowest tenth of its trials to the highest.
    """
    table = choice_effects(data).dropna(subset="effect")
    table = table[table["choice"] != "strategy"]
    if table.empty:
        return nothing_yet(data, "the effects of choices", FEWEST)
    table = table.assign(row=table["choice"] + "\n" + table["level"])
    names = {row["row"]: f"{row['label']}: {row['level']}" for row in table.to_dict("records")}
    return _forest(
        data,
        {objective: table[table["objective"] == objective].set_index("row") for objective in data.objectives},
        names,
        ("effect", 1.0, "Effect on {label} (points)"),
        effects_finding(table),
        f"{data.name}, {len(complete(data))} complete trials. Additive model of all choices, 95 % intervals; hollow where they "
        "hold 0: of intervals where there is nothing, one in 20 leaves it out. A level is against the average level of its choice, a number from the lowest tenth of trials to the highest.",
    )


def effects_finding(table: pd.DataFrame) -> str:
    """What rows of `analysis.effects.choice_effects` say, if more of their intervals leave out 0 than chance has do so."""
    clear = table[table["is_clear"]]
    largest = clear.loc[clear.groupby("objective")["effect"].apply(lambda of: of.abs().idxmax())]
    said = [
        f"{row['label']} ({row['level']}) moves {short(row['objective'])} by {signed(row['effect'], 2)} points"
        for row in largest.to_dict("records")
    ]
    by_chance = _MISSED * len(table)
    if clear.empty:
        return "No mapping, weighting or number has an effect that can be told from 0"
    if len(clear) <= by_chance:
        return f"{len(clear)} of {len(table)} intervals leave out 0, where {by_chance:.0f} may if nothing matters"
    return sentence(said)


def pairs(data: StudyData) -> Figure:
    """Pairs of choices: how much each moves an objective beyond both alone, and the medians of the largest pair.

    A row an objective. Left: size in the objective's unit with its 95 % interval (`analysis.effects.interactions`).
    Right: the median of the trials in each cell of the largest pair, and how many they are; numbers are halved at their median.
    """
    table = interactions(data)
    if table.empty:
        return nothing_yet(data, "pairs of choices", FEWEST)
    objectives = [name for name in data.objectives if (table["objective"] == name).any()]
    said = []
    with styled():
        figure = Figure(figsize=(_WIDTH, 1.2 + 2.9 * len(objectives)), layout="constrained")
        for (left, right), objective in zip(
            figure.subplots(len(objectives), 2, squeeze=False), objectives, strict=True
        ):
            rows = table[table["objective"] == objective].reset_index(drop=True)
            names = {str(place): textwrap.fill(row["label"], LETTERS) for place, row in rows.iterrows()}
            _draw_rows(left, rows.set_index(rows.index.astype(str)), names, "size", 1.0, hollow=False)
            left.set_xlabel(wrapped(f"What the pair adds to {shown(objective).label} (points, s.d.)"))
            first = rows.iloc[0]
            _draw_cells(right, data, objective, (first["first"], first["second"]))
            together = f"{first['label']} act together on {short(objective)} ({first['size']:.2g} points)"
            said.append(
                together if first["is_clear"] else f"no pair acts on {short(objective)} beyond what noise explains"
            )
        headline(figure, sentence(said))
        caption(
            figure,
            f"{data.name}, complete trials. Left: the standard deviation over trials of what a pair adds to both of its choices, 95 % "
            "intervals; grey: noise may explain it. Right: medians of the largest pair's trials, not adjusted, and their number.",
        )
    return figure


def _forest(
    data: StudyData,
    tables: dict[str, pd.DataFrame],
    names: dict[str, str],
    drawn: tuple[str, float, str],
    finding: str,
    below: str,
) -> Figure:
    """One panel an objective with shared rows, a dot and an interval a row.

    ``drawn``: the column that the dots are, what it and its interval are multiplied by, and the axis's label.
    """
    value, scale, axis = drawn
    with styled():
        figure = Figure(figsize=(_WIDTH, _FLAT_HEAD + _ROW * len(names)), layout="constrained")
        panels = figure.subplots(1, len(tables), sharey=True, squeeze=False)[0]
        for axes, (objective, table) in zip(panels, tables.items(), strict=True):
            _draw_rows(axes, table, names, value, scale, hollow=True)
            axes.set_xlabel(
                wrapped(axis.format(label=shown(objective).label) + (way(data, objective) if value == "effect" else ""))
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
        axes.axvline(
            scale * table.loc[table["condition"] == "", "chance"].median(), color=FAINT, linestyle="--", linewidth=1.0
        )
    if value == "effect":
        axes.axvline(0.0, color=FAINT, linewidth=0.8)
    else:
        axes.set_xlim(left=0.0)
    axes.set_yticks(range(len(names)), list(names.values()), fontsize="small")
    axes.set_ylim(len(names) - 0.4, -0.6)


def _draw_cells(axes: Axes, data: StudyData, objective: str, pair: tuple[str, str]) -> None:
    trials = complete(data)
    choices = choices_of(trials)
    frame = pd.DataFrame({"one": halves(choices[pair[0]]).to_numpy(), "two": halves(choices[pair[1]]).to_numpy()})
    for side, name in zip(("one", "two"), pair, strict=True):
        frame[side] = frame[side].map(lambda level: look(level).label) if name == "strategy" else frame[side]
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
        cbar_kws={"label": wrapped(shown(objective).axis())},
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
            said.append(f"no choice stands out from chance for {short(objective)}")
        elif len(rest) and rest["high"].max() >= first["low"]:
            said.append(f"{first['label']} seems to matter most for {short(objective)}, but intervals overlap")
        else:
            said.append(
                f"{first['label']} matters most for {short(objective)} ({100 * first['importance']:.0f} % of its variance)"
            )
    return sentence(said)
