"""What students cost against what they keep of their teachers, over one or more studies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.comparison import labels
from analysis.compression import compression as compression_table
from analysis.figures.labels import place_labels
from analysis.load import StudyData
from analysis.style import (
    FAINT,
    INK,
    ROW,
    caption,
    empty_figure,
    headline,
    in_order,
    key,
    legend_beside,
    look,
    strategy_keys,
    styled,
)

_KEPT = {
    "map_kept": "Retrieval mAP kept\n(% of the teacher's)",
    "lift_kept": "VQA lift over chance kept\n(% of the teacher's)",
}
_COST = {
    "parameters_share": "Parameters\n(% of the teacher's)",
    "image_flops_share": "FLOPs of an image\n(% of the teacher's)",
    "text_flops_share": "FLOPs of a text\n(% of the teacher's)",
    "image_ms_share": "Time of an image\n(% of the teacher's)",
    "text_ms_share": "Time of a text\n(% of the teacher's)",
}


def compression(studies: Sequence[StudyData]) -> Figure:
    """Retained mAP and VQA lift of front members against parameters, FLOPs and milliseconds, in per cent of the teacher's.

    Marks are strategies, the star the teacher, at 100 %; the line is equal shares: above it, a student keeps more than its
    share. Of several studies, each has its number beside its best compromise. The caption has the absolute numbers of the
    first student, on which device they were measured, and the split. Studies without a front are left out.
    """
    table = compression_table(studies)
    if table.empty:
        return empty_figure("no study has a front and a scored teacher yet")
    names = [*dict.fromkeys(table["study"])]
    with styled():
        figure = Figure(figsize=(ROW[0] + 2.4, 5.4), layout="constrained")
        panels = figure.subplots(len(_KEPT), len(_COST), sharex="col", sharey="row", squeeze=False)
        for across, (kept, kept_label) in zip(panels, _KEPT.items(), strict=True):
            for axes, cost in zip(across, _COST, strict=True):
                _draw(axes, table, cost, kept)
            across[0].set_ylabel(kept_label)
        for axes, cost_label in zip(panels[-1], _COST.values(), strict=True):
            axes.set_xlabel(cost_label)
        keys = strategy_keys(in_order(table["strategy"]))
        keys.append(key("teacher", marker="*", color=INK, mew=0, ms=12))
        keys.append(key("equal shares", marker="", color=FAINT, ls=":", lw=1.2))
        legend_beside(figure, keys)
        headline(figure, _finding(table, names))
        caption(figure, _caption(table, studies, names))
        if len(names) > 1:
            figure.draw_without_rendering()
            for across, kept in zip(panels, _KEPT, strict=True):
                for axes, cost in zip(across, _COST, strict=True):
                    _number(axes, table, cost, kept, names)
    return figure


def _draw(axes: Axes, table: pd.DataFrame, cost: str, kept: str) -> None:
    axes.plot([0, 100], [0, 100], color=FAINT, linestyle=":", linewidth=1.2, zorder=1)
    axes.scatter([100], [100], s=130, marker="*", color=INK, linewidth=0, zorder=4)
    axes.set(xlim=(0, 112), ylim=(0, 112), xticks=[0, 50, 100], yticks=[0, 50, 100])
    known = table[table[cost].notna() & table[kept].notna()]
    if known.empty:
        axes.annotate("not recorded", (50, 80), ha="center", color=FAINT, fontsize="small")
        return
    axes.set_xlim(right=max(112.0, 112.0 * float(known[cost].max())))
    for strategy, rows in known.groupby("strategy"):
        style = look(str(strategy))
        axes.scatter(
            100.0 * rows[cost],
            100.0 * rows[kept],
            s=np.where(rows["is_pick"], 58, 34),
            color=style.colour,
            marker=style.marker,
            edgecolor=np.where(rows["is_pick"], INK, "white").tolist(),
            linewidth=0.9,
            zorder=3,
        )


def _number(axes: Axes, table: pd.DataFrame, cost: str, kept: str, names: list[str]) -> None:
    """The number of each study beside its best compromise."""
    known = 100.0 * table.loc[table["is_pick"], [cost, kept]].dropna()
    studies = table.loc[known.index, "study"]
    others = 100.0 * table[[cost, kept]].dropna()
    place_labels(axes, known, [str(names.index(study) + 1) for study in studies], (1.0, 1.0), others)


def _finding(table: pd.DataFrame, names: list[str]) -> str:
    best = table[table["is_pick"] & table["study"].eq(names[0])].iloc[0]
    share, kept, lift = (100.0 * best[name] for name in ("parameters_share", "map_kept", "lift_kept"))
    of = f" of {names[0]}" if len(names) > 1 else ""
    lifted = f" and {lift:.0f} % of its VQA lift" if np.isfinite(lift) else ""
    return (
        f"With {share:.0f} % of the teacher's parameters the best compromise{of} keeps {kept:.0f} % of its mAP{lifted}"
    )


def _caption(table: pd.DataFrame, studies: Sequence[StudyData], names: list[str]) -> str:
    first = table.iloc[0]
    splits = " and ".join(sorted(table["split"].unique()))
    text = f"Front members on {splits}; outlined: best compromises. "
    if len(names) > 1:
        text += ", ".join(f"{place}: {name}" for place, name in enumerate(names, start=1)) + ". "
    teacher_of = dict(zip(labels(studies), (study.teacher for study in studies), strict=True))[names[0]]
    encoding = teacher_of.encoding if teacher_of else None
    if encoding is None:
        return f"{text}FLOPs and times were not recorded."
    teacher, student = encoding.teacher, encoding.student
    text += f"{names[0]}, teacher and student: {teacher.parameters / 1e6:.3g} and {first['parameters'] / 1e6:.3g} M parameters; "
    text += f"{teacher.image_ms:.3g} and {student.image_ms:.3g} ms an image, {teacher.text_ms:.3g} and {student.text_ms:.3g} ms a text, "
    return f"{text}in batches of 64 on {encoding.device}, threads: {encoding.threads}, {encoding.precision}."
