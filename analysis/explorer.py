"""The interactive front: a fragment of HTML with its data, style and script, for a notebook's output or a page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.figures.edges import front_edge
from analysis.html import Html
from analysis.load import StudyData, over_sets
from analysis.metric_names import noise_of
from analysis.page import asset, json_for_script
from analysis.pareto import Directions, nondominated
from analysis.style import in_order, look
from analysis.units import better, shown
from analysis.words import in_sentences

# Which trials are drawn, the first on top of the later ones.
KINDS = {
    "front": "Pareto front",
    "dominated": "dominated",
    "violating": "violates a constraint",
    "stopped": "stopped early, not comparable",
}
TASKS = ("Retrieval mAP (%)", "VQA accuracy (%)")
_SPARE = ("retrieval_map", "vqa_std")  # axes of a study that has one objective
_DIGITS = 3
# Matplotlib's markers as SVG paths around 0, 0.
_PATHS = {
    "o": "M-5.5 0a5.5 5.5 0 1 0 11 0a5.5 5.5 0 1 0-11 0z",
    "s": "M-5-5h10v10h-10z",
    "^": "M0-6.5L6 5H-6z",
    "v": "M0 6.5L6-5H-6z",
    "D": "M0-6.5L6.5 0L0 6.5L-6.5 0z",
    "P": "M-2.2-6h4.4v3.8h3.8v4.4h-3.8v3.8h-4.4v-3.8h-3.8v-4.4h3.8z",
    "X": "M-6-3.5L-3.5-6L0-2.5L3.5-6L6-3.5L2.5 0L6 3.5L3.5 6L0 2.5L-3.5 6L-6 3.5L-2.5 0z",
}
_STAR = "M0-10L2.4-3.2H9.6L3.9 1.2L5.9 8.2L0 4.1L-5.9 8.2L-3.9 1.2L-9.6-3.2H-2.4z"


def explorer(data: StudyData) -> Html:
    """The study's front to hover over, to step through by keys and to filter; a click opens a recipe's languages.

    x and y are the first two objectives, on validation. Bars are one standard error of a member of the front. Trials
    that are running, failed or unreadable, or lack an objective, are not drawn.
    """
    found = payload(data)
    if not found["trials"]:
        return Html.paragraph("No trial has been scored yet: there is nothing to explore.")
    markup = (
        f"<style>{asset('explorer.css')}</style>"
        '<div class="pd-explorer tex2jax_ignore mathjax_ignore">'
        f'<script type="application/json">{json_for_script(found)}</script>'
        "<noscript>The interactive front needs JavaScript; the figure of the front shows the same.</noscript></div>"
        f"<script>{asset('explorer.js')}</script>"
    )
    return Html(markup, f"Interactive front of {len(found['trials'])} trials: it shows in a browser.")


def payload(data: StudyData) -> dict[str, Any]:
    """What explorer.js draws; all scores in the units of ``analysis.units``, None for what is not known."""
    axes = _axes(data)
    trials = data.trials.assign(kind=_kinds(data.trials))
    places = np.column_stack([shown(name).of(trials[name].astype(float)) for name in axes])
    drawn = trials["kind"].notna().to_numpy() & np.isfinite(places).all(axis=1)
    trials, places = trials[drawn], places[drawn]
    strategies = in_order(trials["strategy"])
    metrics = [name for name in dict.fromkeys((*data.objectives, "vqa_accuracy", *data.constraints)) if name in trials]
    languages = _by_language(data)
    scores = np.column_stack([shown(name).of(trials[name].astype(float)) for name in metrics])
    rows = [
        {
            "name": str(row["number"]),
            "look": strategies.index(row["strategy"]),
            "kind": list(KINDS).index(row["kind"]),
            "at": place.tolist(),
            "bar": _bar(row, axes),
            "words": " ".join(in_sentences(json.loads(row["recipe"]))),
            "scores": _rounded(scored),
            "test": _scores(data.test_metrics.get(row["trial"]), metrics),
            "languages": languages.get(row["trial"]),
        }
        for row, place, scored in zip(trials.to_dict("records"), places, scores, strict=True)
    ]
    teacher = _teacher(data, axes, metrics, languages)
    on_front = (trials["kind"] == "front").to_numpy()
    barred = [row for row in [*rows, teacher] if row and row["at"] and row["bar"] and row.get("kind", 0) == 0]
    ends = [[row["at"][0], end] for row in barred for end in row["bar"]]
    ranges = _ranges([*places, *ends, *([teacher["at"]] if teacher and teacher["at"] else [])])
    return {
        "axes": [shown(name).axis(way) for name, way in axes.items()],
        "range": ranges,
        "edge": _edge(places[on_front], axes, ranges),
        "looks": [_look(name, int((trials["strategy"] == name).sum())) for name in strategies],
        "kinds": [
            {"name": name, "label": label, "count": int((trials["kind"] == name).sum())}
            for name, label in KINDS.items()
        ],
        "metrics": [shown(name).axis() for name in metrics],
        "tasks": TASKS,
        "languages": data.languages,
        "teacher": teacher,
        "trials": rows,
    }


def _axes(data: StudyData) -> Directions:
    """The metrics on x and y, and which way each improves."""
    names = list(dict.fromkeys((*data.objectives, *_SPARE)))[:2]
    return {name: better(name, data.objectives) for name in names}


def _kinds(trials: pd.DataFrame) -> pd.Series[str]:
    complete, stopped = trials["state"] == "complete", trials["state"] == "stopped"
    kinds = pd.Series(None, index=trials.index, dtype="object")
    kinds[stopped] = "stopped"
    kinds[(complete & ~trials["feasible"]) | (trials["state"] == "infeasible")] = "violating"
    kinds[complete & trials["feasible"]] = "dominated"
    kinds[trials["on_front"]] = "front"
    return kinds


def _by_language(data: StudyData) -> dict[str, list[list[float | None]]]:
    """Retrieval mAP and VQA accuracy in per cent, on validation, by trial; each in the order of the study's languages."""
    scores = over_sets(data)
    scores = scores[scores["split"] == "validation"]
    both = scores[["map_i2t", "map_t2i"]].mean(axis=1, skipna=False)
    tasks = scores.assign(retrieval=100.0 * both, vqa=100.0 * scores["vqa_accuracy"])
    tasks = tasks.drop_duplicates(["trial", "language"])
    tables = [tasks.pivot(index="trial", columns="language", values=task) for task in ("retrieval", "vqa")]
    rows = [table.reindex(columns=list(data.languages)).to_numpy(dtype=float) for table in tables]
    return {str(trial): [_rounded(row[place]) for row in rows] for place, trial in enumerate(tables[0].index)}


def _teacher(
    data: StudyData, axes: Directions, metrics: list[str], languages: Mapping[str, list[list[float | None]]]
) -> dict[str, Any] | None:
    if data.teacher is None:
        return None
    scored = data.teacher.metrics["validation"]
    at = [shown(name).of(scored.get(name, np.nan)).item() for name in axes]
    return {
        "at": at if np.isfinite(at).all() else None,
        "bar": _bar(scored, axes),
        "path": _STAR,
        "scores": _scores(scored, metrics),
        "languages": languages.get("teacher"),
    }


def _look(strategy: str, count: int) -> dict[str, Any]:
    found = look(strategy)
    path = _PATHS.get(found.marker, _PATHS["X"])
    return {"name": strategy, "label": found.label, "colour": found.colour, "path": path, "count": count}


def _scores(scored: Mapping[Any, Any] | None, metrics: list[str]) -> list[float | None] | None:
    return None if scored is None else _rounded(shown(name).of(scored.get(name, np.nan)).item() for name in metrics)


def _bar(scored: Mapping[Any, Any], axes: Directions) -> list[float] | None:
    """One standard error to either side of the score on y, where it is known."""
    name = list(axes)[1]
    noise = float(scored.get(noise_of(name), np.nan))
    low, high = shown(name).of(float(scored.get(name, np.nan)) + np.array([-noise, noise])).tolist()
    return [low, high] if np.isfinite([low, high]).all() else None


def _ranges(places: list[Any]) -> list[list[float]]:
    """What x and y run over, with some room."""
    if not places:
        return [[0.0, 1.0], [0.0, 1.0]]
    low, high = np.min(places, axis=0), np.max(places, axis=0)
    room = np.where(high > low, 0.07 * (high - low), np.maximum(0.1 * np.abs(high), 1e-3))
    ranges: list[list[float]] = np.column_stack([low - room, high + room]).tolist()
    return ranges


def _edge(members: NDArray[np.float64], axes: Directions, ranges: list[list[float]]) -> list[Any]:
    """The corners of the staircase through the members of the front that are nondominated in this plane."""
    members = members[nondominated(members, axes)] if len(members) else members
    if not len(members):
        return []
    (low_x, high_x), (low_y, high_y) = ranges
    x_way, y_way = axes.values()
    worst = (low_x if x_way == "maximise" else high_x, low_y if y_way == "maximise" else high_y)
    corners: list[Any] = front_edge(members, axes, worst).tolist()
    return corners


def _rounded(values: Iterable[float]) -> list[float | None]:
    return [float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None for value in values]
