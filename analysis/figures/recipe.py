"""One recipe: how its training went, and what it keeps of each language."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter
from numpy.typing import NDArray

from analysis.load import StudyData, over_sets
from analysis.style import FAINT, INK, ROW, caption, explain, headline, key, look, series, styled
from analysis.units import shown

_CURVES = ("retrieval_map", "vqa_accuracy", "vqa_std")
_LOSS = "loss_"
_LABEL = 30  # letters in a line of an axis's label
TASKS = {"retrieval": "Retrieval mAP (%)", "vqa": "VQA accuracy (%)"}


def learning(data: StudyData, trial: str) -> Figure:
    """Scores and losses of a trial over its training steps, beside those of the study's other trials.

    Reports at rungs, hollow and joined, are scored on fewer items than the last one, filled: the two do not compare. The
    dashed line is the teacher on all items. Losses are as the strategies define them, unweighted, on a logarithmic axis
    where all are above 0; ``total`` is their weighted sum.
    """
    reports = data.reports.sort_values("step", kind="stable")
    own = reports[reports["trial"] == trial]
    colour = look(_strategy(data, trial)).colour
    with styled():
        figure = Figure(figsize=(ROW[0], ROW[1]), layout="constrained")
        *scores, losses = figure.subplots(1, len(_CURVES) + 1)
        for axes, metric in zip(scores, _CURVES, strict=True):
            unit = shown(metric)
            others = reports[reports["trial"] != trial]
            # A gap between trials keeps all of them one line, which draws thousands as fast as a few.
            faint = {"marker": ".", "ms": 4, "mew": 0, "color": FAINT, "alpha": 0.4, "zorder": 1}
            axes.plot(*_gapped(others[~others["final"]], metric), linewidth=0.8, **faint)
            ends = others[others["final"]]
            axes.plot(ends["step"], unit.of(ends[metric]), ls="", **faint)
            for is_final, fill in ((False, "white"), (True, colour)):
                part = own[own["final"] == is_final]
                mark = {"marker": "o", "color": colour, "mec": colour, "mew": 1.6, "ms": 6.5, "zorder": 4}
                axes.plot(part["step"], unit.of(part[metric]), mfc=fill, **mark)
            if data.teacher and np.isfinite(of_teacher := data.teacher.metrics["validation"].get(metric, np.nan)):
                axes.axhline(float(unit.of(of_teacher)), color=INK, linestyle="--", linewidth=1, zorder=2)
            axes.set(xlabel="steps", ylabel=textwrap.fill(unit.axis(), _LABEL))
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        _draw_losses(losses, own)
        keys = [
            key(f"trial {int(trial)}", ls="-", color=colour, mfc="white", mec=colour),
            key("other trials", ls="-", marker=".", color=FAINT, alpha=0.6),
            key("teacher", ls="--", marker="", color=INK),
        ]
        figure.legend(handles=keys, loc="outside upper right", ncols=3)
        headline(figure, f"Trial {int(trial)} of {data.name} over its training")
        rungs = "Hollow: rungs, scored on fewer items, where retrieval is easier; filled: the end, scored on all, not comparable"
        caption(figure, f"Validation. {rungs}.")
    return figure


def by_language(data: StudyData, trial: str) -> Figure:
    """What a trial keeps of its teacher, language by language: retrieval mAP and VQA accuracy in per cent.

    Bars are the trial's scores on validation, marks its teacher's; languages in the study's order.
    """
    scores = language_scores(data, trial)
    colour = look(_strategy(data, trial)).colour
    with styled():
        figure = Figure(figsize=(ROW[0], max(2.4, 1.3 + 0.24 * len(scores))), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        places = np.arange(len(scores))
        for axes, (task, label) in zip(panels, TASKS.items(), strict=True):
            if scores[task].isna().all():
                explain(axes, "no scores by language: the training did not end")
                continue
            axes.barh(places, scores[task], color=colour, height=0.62)
            axes.plot(scores[f"{task}_teacher"], places, ls="", marker="|", color=INK, ms=11, mew=2)
            axes.set(xlabel=label, yticks=places, yticklabels=list(scores["language"]), xlim=(0, None))
            axes.grid(visible=False, axis="y")
        panels[0].set_ylim(len(scores) - 0.5, -0.5)
        figure.legend(handles=[key("teacher", marker="|", color=INK, ms=11, mew=2)], loc="outside upper right")
        headline(figure, _finding(scores, trial))
        caption(figure, f"{data.name}, validation. Bars: the student of trial {int(trial)}.")
    return figure


def language_scores(data: StudyData, trial: str, split: str = "validation") -> pd.DataFrame:
    """A row a language of the study: language, retrieval, retrieval_teacher, vqa, vqa_teacher, in per cent; NaN if unknown.

    retrieval is mAP, the mean of both directions.
    """
    table = pd.DataFrame({"language": list(data.languages)})
    scores = over_sets(data)
    for name, suffix in ((trial, ""), ("teacher", "_teacher")):
        of_name = (scores["trial"] == name) & (scores["split"] == split)
        rows = scores[of_name].drop_duplicates("language").set_index("language").reindex(table["language"])
        table[f"retrieval{suffix}"] = 100.0 * rows[["map_i2t", "map_t2i"]].mean(axis=1, skipna=False).to_numpy()
        table[f"vqa{suffix}"] = 100.0 * rows["vqa_accuracy"].to_numpy()
    return table[["language", *(f"{task}{suffix}" for task in TASKS for suffix in ("", "_teacher"))]]


def _gapped(reports: pd.DataFrame, metric: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps and shown scores of several trials, with a NaN between one trial and the next."""
    steps, scores = reports["step"].to_numpy(dtype=float), shown(metric).of(reports[metric])
    order = np.argsort(reports["trial"].to_numpy(dtype=str), kind="stable")
    starts = np.flatnonzero(np.diff(np.unique(reports["trial"].to_numpy(dtype=str)[order], return_inverse=True)[1])) + 1
    return np.insert(steps[order], starts, np.nan), np.insert(scores[order], starts, np.nan)


def _draw_losses(axes: Axes, own: pd.DataFrame) -> None:
    losses = own[[name for name in own.columns if name.startswith(_LOSS)]].dropna(axis="columns", how="all")
    axes.set(xlabel="steps", ylabel="loss")
    if losses.empty:
        explain(axes, "no losses were reported")
        return
    for name, drawn in series(losses.columns).items():
        line = {"color": drawn.colour, "linestyle": drawn.line, "marker": drawn.marker, "ms": 4, "linewidth": 1.3}
        axes.plot(own["step"], losses[name], label=name.removeprefix(_LOSS), **line)
    if np.nanmin(losses.to_numpy(dtype=float)) > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.02, 0.5), borderaxespad=0)


def _finding(scores: pd.DataFrame, trial: str) -> str:
    """What a reader is to see: how much is kept, and of which language least."""
    said = list(_kept(scores))
    return f"Trial {int(trial)} keeps {' and '.join(said)}" if said else f"Trial {int(trial)} has no scores by language"


def _kept(scores: pd.DataFrame) -> Iterator[str]:
    for task, name in (("retrieval", "retrieval mAP"), ("vqa", "VQA accuracy")):
        teacher = scores[f"{task}_teacher"].to_numpy(dtype=float)
        shares = 100.0 * scores[task].to_numpy(dtype=float) / np.where(teacher > 0, teacher, np.nan)
        if np.isfinite(shares).any():
            least = int(np.nanargmin(shares))
            language = scores["language"].iloc[least]
            yield f"{np.nanmean(shares):.0f} % of the teacher's {name} (least: {language}, {shares[least]:.0f} %)"


def _strategy(data: StudyData, trial: str) -> str:
    return str(data.trials.loc[data.trials["trial"] == trial, "strategy"].iloc[0])
