"""How alike a model treats two languages."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns  # type: ignore[import-untyped, unused-ignore]
from matplotlib.figure import Figure

from analysis.figures.nothing import nothing_yet
from analysis.languages import TEACHER, chosen_trial
from analysis.languages import consistency as consistencies
from analysis.load import StudyData
from analysis.style import PAIR, SEQUENTIAL, caption, headline, styled

_MANY = 20  # languages from which on cells are too small for numbers


def consistency(data: StudyData) -> Figure:
    """Cross-lingual consistency, a matrix of languages a task: teacher above the diagonal, the best compromise below it.

    Retrieval: rank-biased overlap of the first ten images for the same caption, 0 to 1. VQA: Cohen's kappa of right and
    wrong answers to the same questions.
    """
    chosen = chosen_trial(data)
    student, teacher = (consistencies(data, trial) if trial else pd.DataFrame() for trial in (chosen, TEACHER))
    if student.empty or teacher.empty:
        return nothing_yet(data, "consistency between languages, which this study did not record,")
    codes = list(data.languages)
    said = []
    with styled():
        figure = Figure(
            figsize=(max(PAIR[0], 2 + 0.62 * len(codes)), max(PAIR[1], 1.1 + 0.28 * len(codes))), layout="constrained"
        )
        units = {"retrieval": "Rank-biased overlap (0 to 1)", "vqa": "Cohen's kappa (up to 1)"}
        for axes, (task, unit) in zip(figure.subplots(1, 2), units.items(), strict=True):
            matrix = _matrix(teacher, task, codes)
            lower = np.tril_indices(len(codes), -1)
            below = _matrix(student, task, codes)
            means = [float(np.nanmean(each[lower])) for each in (below, matrix)]
            said.append(f"{'rankings' if task == 'retrieval' else 'answers'} {means[0]:.2f} (teacher {means[1]:.2f})")
            matrix[lower] = below[lower]
            np.fill_diagonal(matrix, np.nan)
            sns.heatmap(
                pd.DataFrame(matrix, codes, codes),
                cmap=SEQUENTIAL,
                annot=len(codes) <= _MANY,
                fmt=".2f",
                annot_kws={"fontsize": 5.5},
                square=True,
                ax=axes,
                cbar_kws={"label": unit, "shrink": 0.8},
            )
            axes.tick_params(axis="both", rotation=0, length=0, labelsize="small")
            axes.grid(False)
            axes.set_title("Retrieval" if task == "retrieval" else "VQA", loc="left", fontsize="medium")
        headline(figure, f"How much two languages agree on average, student: {', '.join(said)}")
        caption(
            figure,
            f"{data.name}, validation. Above the diagonal: teacher; below: trial {int(chosen)}, the front's best compromise. "
            "Retrieval: the ten images that come first for a caption. VQA: right and wrong answers beyond chance.",
        )
    return figure


def _matrix(table: pd.DataFrame, task: str, codes: list[str]) -> np.ndarray:
    rows = table[table["task"] == task]
    return (
        rows.pivot(index="language", columns="other", values="agreement")
        .reindex(index=codes, columns=codes)
        .to_numpy(copy=True)
    )
