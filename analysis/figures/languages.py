"""Languages: who loses what against the teacher, in which recipe and group."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns  # type: ignore[import-untyped, unused-ignore]
from matplotlib.figure import Figure

from analysis.figures.labels import place_labels
from analysis.figures.nothing import nothing_yet
from analysis.language_names import name
from analysis.languages import (
    TASKS,
    TEACHER,
    chosen_trial,
    language_changes,
    language_groups,
    worst_languages,
)
from analysis.load import StudyData
from analysis.style import (
    DIVERGING,
    FAINT,
    INK,
    PAIR,
    caption,
    headline,
    key,
    look,
    series,
    styled,
)
from analysis.units import signed

_MOST_RECIPES = 16  # rows of a heat map that can be read
_MANY = 20  # languages from which on cells are too small for numbers


def changes(data: StudyData) -> Figure:
    """A heat map of the change against the teacher, in percentage points, by recipe (rows) and language (columns).

    Rows are the front, best in retrieval first, then the best other trials, up to 16. Languages are in the order of
    the teacher's own retrieval mAP, best first; the last column is the mean.
    """
    table = language_changes(data)
    students = table[table["trial"] != TEACHER]
    if students["retrieval_map_change"].isna().all():
        return nothing_yet(data, "changes of languages against the teacher")
    rows = _rows(students)
    order = _by_teacher(table)
    height = 1.9 + 2 * (0.6 + 0.24 * len(rows))
    with styled():
        figure = Figure(figsize=(max(PAIR[0], 1.5 + 0.5 * len(order)), height), layout="constrained")
        for axes, (task, title) in zip(figure.subplots(2, 1), TASKS.items(), strict=True):
            wide = students.pivot(index="trial", columns="language", values=f"{task}_change")
            wide = wide.reindex(index=rows["trial"], columns=order)
            wide["mean"] = wide.mean(axis=1)
            most = float(np.nanmax(np.abs(wide.to_numpy())))
            small = len(order) > _MANY
            sns.heatmap(
                wide,
                cmap=DIVERGING,
                vmin=-most,
                vmax=most,
                annot=False if small else wide.map(_whole),
                fmt="",
                annot_kws={"fontsize": "x-small"},
                linewidths=0.5,
                ax=axes,
                cbar_kws={"label": "Change against\nthe teacher (points)"},
            )
            labels = [_trial_name(trial, rows) for trial in rows["trial"]]
            axes.set_yticks(np.arange(len(labels)) + 0.5, labels, rotation=0, fontsize="small")
            axes.set_xticks(np.arange(len(order) + 1) + 0.5, [*order, "mean"], rotation=0, fontsize="small")
            axes.set(xlabel="", ylabel="Recipe")
            axes.set_title(title, loc="left", fontsize="medium")
            axes.axvline(len(order), color="white", linewidth=3)
        of_rows = students[students["trial"].isin(rows["trial"])].dropna(subset="retrieval_map_change")
        mean = of_rows.groupby("language")["retrieval_map_change"].mean().sort_values()
        least, most_ = (signed(mean.iloc[place], 1) for place in (-1, 0))
        finding = f"{name(str(mean.index[0]))} loses most retrieval ({most_} points on average), {name(str(mean.index[-1]))} least ({least})"
        headline(figure, finding)
        caption(
            figure,
            f"{data.name}, validation; {len(rows)} of {students['trial'].nunique()} complete trials, ● on the front. Languages in the "
            f"order of the teacher's retrieval mAP: {', '.join(f'{code} {name(code)}' for code in order)}.",
        )
    return figure


def worst(data: StudyData) -> Figure:
    """Worst and best language of the teacher and of each recipe, in retrieval and VQA, in per cent.

    A line goes from the worst to the best language, a mark is the mean over languages; names are those of the two.
    Recipes are the front, then the best other trials, up to 16.
    """
    table = worst_languages(data)
    students = table[table["trial"] != TEACHER]
    if students.empty:
        return nothing_yet(data, "worst and best languages")
    rows = _rows(language_changes(data).query("trial != @TEACHER"))
    trials = [*([TEACHER] if (table["trial"] == TEACHER).any() else []), *rows["trial"]]
    with styled():
        figure = Figure(figsize=(PAIR[0], 1.6 + 0.26 * len(trials)), layout="constrained")
        for axes, (task, title) in zip(figure.subplots(1, 2, sharey=True), TASKS.items(), strict=True):
            of_task = table[table["task"] == task].set_index("trial")
            for place, trial in enumerate(trials):
                if trial not in of_task.index:
                    continue
                row = of_task.loc[trial]
                style = look(str(row["strategy"]))
                colour, marker = (INK, "*") if trial == TEACHER else (style.colour, style.marker)
                axes.plot([row["worst_score"], row["best_score"]], [place, place], color=colour, linewidth=1.4)
                axes.plot(
                    row["mean"], place, marker, color=colour, ms=10 if trial == TEACHER else 6, mec="white", mew=0.5
                )
                for side, (code, score) in {
                    "right": (row["worst"], row["worst_score"]),
                    "left": (row["best"], row["best_score"]),
                }.items():
                    shift = (-3, 0) if side == "right" else (3, 0)
                    axes.annotate(
                        code,
                        (score, place),
                        shift,
                        textcoords="offset points",
                        ha=side,
                        va="center",
                        fontsize="x-small",
                    )
            axes.set_xlabel(f"{title} (%)")
            axes.margins(x=0.08)
        axes.set_yticks(range(len(trials)), [_trial_name(trial, rows) for trial in trials], fontsize="small")
        axes.set_ylim(len(trials) - 0.4, -0.6)
        headline(figure, _gap_finding(table, rows))
        caption(
            figure,
            f"{data.name}, validation, ● on the front. Lines go from the worst to the best language; marks are means over languages.",
        )
    return figure


def retrieval_against_vqa(data: StudyData) -> Figure:
    """A language a point: retrieval mAP (x) against VQA accuracy (y) in per cent, from the teacher to a student.

    The student is the front's best compromise. Hollow points are the teacher's, arrows lead to the student's.
    """
    chosen = chosen_trial(data)
    table = language_changes(data)
    student, teacher = (table[table["trial"] == trial].set_index("language") for trial in (chosen, TEACHER))
    student = student.dropna(subset=list(TASKS))
    if student.empty:
        return nothing_yet(data, "languages in retrieval and VQA")
    style = look(str(student["strategy"].iloc[0]))
    with styled():
        figure = Figure(figsize=(PAIR[0] * 0.75, 4.8), layout="constrained")
        axes = figure.subplots()
        for code in student.index.intersection(teacher.index):
            start, end = teacher.loc[code, list(TASKS)], student.loc[code, list(TASKS)]
            axes.annotate(
                "", end, start, arrowprops={"arrowstyle": "-|>", "color": FAINT, "lw": 0.8, "shrinkA": 4, "shrinkB": 4}
            )
        axes.plot(*teacher[list(TASKS)].to_numpy(dtype=float).T, "o", mfc="white", mec=INK, ms=5.5)
        axes.plot(
            *student[list(TASKS)].to_numpy(dtype=float).T, style.marker, color=style.colour, ms=7, mec="white", mew=0.5
        )
        axes.margins(0.08)
        axes.set(xlabel="Retrieval mAP (%), higher is better", ylabel="VQA accuracy (%), higher is better")
        keys = [
            key("teacher", mfc="white", mec=INK, ms=6),
            key(f"trial {int(chosen)}, {style.label}", marker=style.marker, color=style.colour, ms=7),
        ]
        axes.legend(handles=keys, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)
        headline(figure, _relation(student))
        caption(figure, f"{data.name}, validation; the student is the front's best compromise. Codes are BCP 47.")
        points = student[list(TASKS)].to_numpy(dtype=float)
        place_labels(
            axes, points, list(student.index), side=(-1.0, 1.0), avoid=teacher[list(TASKS)].to_numpy(dtype=float)
        )
    return figure


def groups(data: StudyData) -> Figure:
    """The front's mean change against the teacher by script and by family, in percentage points, for both tasks.

    Bars are 95 % intervals over the group's languages (bootstrap), for groups of three or more.
    """
    table = language_groups(data)
    if table.empty:
        return nothing_yet(data, "groups of languages")
    tasks = series(TASKS.values())
    with styled():
        sizes = [table.loc[table["grouping"] == grouping, "group"].nunique() for grouping in ("script", "family")]
        figure = Figure(figsize=(PAIR[0], 1.5 + 0.36 * max(sizes)), layout="constrained")
        for axes, grouping in zip(figure.subplots(1, 2), ("script", "family"), strict=True):
            rows = table[table["grouping"] == grouping]
            order = rows[rows["task"] == "retrieval_map"].sort_values("change")["group"].tolist()
            for shift, (task, title) in zip((-0.14, 0.14), TASKS.items(), strict=True):
                of_task = rows[rows["task"] == task].set_index("group").reindex(order)
                style, places = tasks[title], np.arange(len(order)) + shift
                axes.hlines(places, of_task["low"], of_task["high"], color=style.colour, linewidth=1.3)
                axes.plot(of_task["change"], places, style.marker, color=style.colour, ms=6, mec="white", mew=0.5)
            named = rows.drop_duplicates("group").set_index("group")["languages"]
            axes.set_yticks(
                range(len(order)), [f"{group}\n({_few(named[group])})" for group in order], fontsize="small"
            )
            axes.axvline(0.0, color=FAINT, linewidth=0.8)
            axes.set(xlabel="Change against the teacher (points)", title=f"By {grouping}")
        keys = [key(style.label, marker=style.marker, color=style.colour) for style in tasks.values()]
        axes.legend(handles=keys, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)
        headline(figure, _group_finding(table))
        which = "recipes of the front" if data.trials["on_front"].any() else "complete trials"
        caption(
            figure,
            f"{data.name}, validation, mean of the {which}. Bars: 95 % over the languages of a group of three or more (bootstrap). "
            "Scripts: Unicode CLDR; families: Glottolog.",
        )
    return figure


def _rows(students: pd.DataFrame) -> pd.DataFrame:
    """Trial, strategy and on_front of the front, best in retrieval first, then of the best others."""
    means = students.groupby("trial", sort=False).agg(
        strategy=("strategy", "first"), on_front=("on_front", "first"), score=("retrieval_map", "mean")
    )
    means = means.astype({"on_front": bool}).dropna(subset="score")
    return means.sort_values(["on_front", "score"], ascending=False).head(_MOST_RECIPES).reset_index()


def _by_teacher(table: pd.DataFrame) -> list[str]:
    teacher = table[table["trial"] == TEACHER].sort_values("retrieval_map", ascending=False)
    return list(teacher["language"])


def _trial_name(trial: str, rows: pd.DataFrame) -> str:
    if trial == TEACHER:
        return "teacher"
    row = rows.set_index("trial").loc[trial]
    return f"{'● ' if row['on_front'] else ''}#{int(trial)} {look(str(row['strategy'])).label}"


def _gap_finding(table: pd.DataFrame, rows: pd.DataFrame) -> str:
    gaps = table[table["task"] == "retrieval_map"]
    students, teachers = gaps[gaps["trial"].isin(rows["trial"])], gaps[gaps["trial"] == TEACHER]
    if students.empty:
        return "No recipe has retrieval scores by language"
    worst_of = students["worst"].mode().iloc[0]
    often = int((students["worst"] == worst_of).sum())
    gap = f"a gap of {students['gap'].median():.0f} points (median)"
    teacher = f", {teachers['gap'].iloc[0]:.0f} in the teacher" if len(teachers) else ""
    return f"{name(worst_of)} retrieves worst in {often} of {len(students)} recipes; from worst to best language there is {gap}{teacher}"


def _relation(student: pd.DataFrame) -> str:
    if len(student) < 3:
        return "Languages in retrieval and in VQA: too few to relate the two"
    correlation = float(student[list(TASKS)].corr(method="spearman").to_numpy()[0, 1])
    if not np.isfinite(correlation):
        return "All languages score alike"
    if correlation > 0.5:
        strength = "the same languages are weak in both"
    elif correlation < -0.5:
        strength = "languages that are weak in one are strong in the other"
    else:
        strength = "weakness in one says little of the other"
    return f"Retrieval and VQA, a language a point: {strength} (rank correlation {correlation:.2f})"


def _group_finding(table: pd.DataFrame) -> str:
    rows = table[(table["grouping"] == "script") & (table["task"] == "retrieval_map")].sort_values("change")
    if len(rows) < 2:
        return "All languages are of one script"
    low, high = rows.iloc[0], rows.iloc[-1]
    overlap = "" if low["high"] < high["low"] else "; groups are too small, or too alike, to generalise"
    return f"{low['group']} script loses most retrieval ({low['change']:+.1f} points), {high['group']} least ({high['change']:+.1f}){overlap}"


def _whole(value: float) -> str:
    """A change in whole points, with a proper minus and no minus at 0; empty for NaN."""
    return "" if np.isnan(value) else f"{round(value)}".replace("-", "−")


def _few(codes: str) -> str:
    listed = codes.split(", ")
    return codes if len(listed) <= 6 else f"{', '.join(listed[:5])} and {len(listed) - 5} more"
