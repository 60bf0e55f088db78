"""What recipes do to single languages: changes against the teacher, worst languages, groups, consistency, weights.

Scores are in per cent and changes in percentage points. Only complete trials count: others were measured on less.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from analysis.effects import complete
from analysis.fronts import directions_of, pick
from analysis.language_names import family, name, script
from analysis.ledger_files import Record, read_record
from analysis.load import StudyData, over_sets

TASKS = {"retrieval_map": "Retrieval mAP", "vqa_accuracy": "VQA accuracy"}
TEACHER = "teacher"
_DRAWS = 2000
_SEED = 0
_HARDEST = 1e-3  # as trainables.language_weights: keeps a negative power of 1 − AP finite

_CHANGES = ("trial", "strategy", "on_front", "language", "name", "script", "family")
_SCORES = tuple(f"{task}{suffix}" for task in TASKS for suffix in ("", "_change"))
_WORST = ("trial", "strategy", "on_front", "task", "mean", "worst", "worst_score", "best", "best_score", "gap")
_LOST = ("most_lost", "most_lost_change")
_GROUPS = ("grouping", "group", "languages", "task", "teacher", "change", "low", "high")


def language_changes(data: StudyData) -> pd.DataFrame:
    """A row a complete trial and language on validation: scores, and changes against the teacher's.

    ``retrieval_map`` is the mean of both directions. The teacher's own rows come first, with trial ``teacher`` and
    changes of 0; without a teacher there are no changes (NaN).
    """
    scores = over_sets(data)
    scores = scores[scores["split"] == "validation"]
    trials = complete(data)[["trial", "strategy", "on_front"]]
    teacher = pd.DataFrame({"trial": [TEACHER], "strategy": [""], "on_front": [False]})
    frame = pd.concat([teacher, trials]).merge(scores, on="trial")
    frame = frame.assign(
        retrieval_map=50.0 * (frame["map_i2t"] + frame["map_t2i"]), vqa_accuracy=100.0 * frame["vqa_accuracy"]
    )
    of_teacher = frame[frame["trial"] == TEACHER].set_index("language")
    for task in TASKS:
        frame[f"{task}_change"] = frame[task] - of_teacher[task].reindex(frame["language"]).to_numpy(dtype=float)
    for column, of in (("name", name), ("script", script), ("family", family)):
        frame[column] = frame["language"].map({code: of(code) for code in frame["language"].unique()})
    return frame[[*_CHANGES, *_SCORES]].astype(dict.fromkeys(_SCORES, "float64"))


def worst_languages(data: StudyData) -> pd.DataFrame:
    """A row a trial and task, the teacher first: mean, worst and best language, their gap, and who lost most.

    ``most_lost`` is the language whose score fell most from the teacher's, ``most_lost_change`` by how much.
    """
    changes = language_changes(data)
    trials = changes.drop_duplicates("trial").set_index("trial")[["strategy", "on_front"]]
    found = []
    for task in TASKS:
        scores = _wide(changes, task).dropna(how="all")
        lost = _wide(changes[changes["trial"] != TEACHER], f"{task}_change").dropna(how="all")
        frame = trials.loc[trials.index.isin(scores.index)].assign(task=task)
        frame["mean"] = scores.mean(axis=1)
        if len(scores):
            frame = frame.assign(worst=scores.idxmin(axis=1), worst_score=scores.min(axis=1))
            frame = frame.assign(best=scores.idxmax(axis=1), best_score=scores.max(axis=1))
            frame["gap"] = frame["best_score"] - frame["worst_score"]
            frame["most_lost"] = lost.idxmin(axis=1).reindex(frame.index).fillna("") if len(lost) else ""
            frame["most_lost_change"] = lost.min(axis=1).astype(float)
        found.append(frame.reset_index())
    table = pd.concat(found).reindex(columns=[*_WORST, *_LOST]).astype({"on_front": "bool"})
    order = table["trial"].map({trial: place for place, trial in enumerate(trials.index)})
    return table.assign(order=order).sort_values("order", kind="stable").drop(columns="order").reset_index(drop=True)


def language_groups(data: StudyData) -> pd.DataFrame:
    """A row a grouping (script, family), group and task: the teacher's mean and the mean change of the front's recipes.

    Without a front all complete trials count. ``low`` and ``high`` are the central 95 % over draws of the group's
    languages (bootstrap), missing for groups of fewer than three: so few say nothing of their kind.
    """
    changes = language_changes(data)
    teacher = changes[changes["trial"] == TEACHER].set_index("language")
    students = changes[changes["trial"] != TEACHER]
    front = students[students["on_front"].astype(bool)]
    mean = (students if front.empty else front).groupby("language")[[f"{task}_change" for task in TASKS]].mean()
    rng = np.random.default_rng(_SEED)
    rows = []
    for grouping in ("script", "family"):
        for group, members in teacher.groupby(grouping):
            for task in TASKS:
                change = mean[f"{task}_change"].reindex(members.index).dropna().to_numpy()
                if not len(change):
                    continue
                draws = change[rng.integers(len(change), size=(_DRAWS, len(change)))].mean(axis=1)
                bounds = np.quantile(draws, [0.025, 0.975]) if len(change) > 2 else (np.nan, np.nan)
                codes = ", ".join(members.index)
                rows.append((grouping, group, codes, task, members[task].mean(), change.mean(), *bounds))
    return pd.DataFrame(rows, columns=list(_GROUPS))


class _Consistency(Record):
    consistency: dict[str, list[list[float | None]]] = Field(default={})


class _OfSplits(Record):
    validation: _Consistency = _Consistency()


class _WithConsistency(Record):
    scores: _OfSplits = _OfSplits()


def consistency(data: StudyData, trial: str = TEACHER) -> pd.DataFrame:
    """How alike the model of ``trial`` ranks and answers in two languages: a row a task, language and other language.

    ``agreement`` of task ``retrieval`` is the rank-biased overlap of the ten images that come first for the same
    caption (Webber, Moffat & Zobel 2010; 1: the same), of ``vqa`` Cohen's kappa of right and wrong answers (1: the
    same items, 0: as chance has it); see trainables.evaluation.consistency. No rows where it was not recorded.
    """
    path = data.path / ("teacher.json" if trial == TEACHER else f"trials/{trial}/result.json")
    found: Mapping[str, Any] = {}
    if path.exists():
        found = read_record(_WithConsistency, path).scores.validation.consistency
    codes = data.languages
    rows = [
        (trial, task, one, other, math.nan if value is None else value)
        for task, matrix in found.items()
        for one, row in zip(codes, matrix, strict=True)
        for other, value in zip(codes, row, strict=True)
    ]
    frame = pd.DataFrame(rows, columns=["trial", "task", "language", "other", "agreement"])
    return frame.astype({"agreement": "float64"})


def language_weights(data: StudyData) -> pd.DataFrame:
    """A row a complete trial and language: its ``weight`` in the losses (mean 1), and the changes of its scores."""
    changes = language_changes(data)
    teacher = changes[changes["trial"] == TEACHER].set_index("language")["retrieval_map"] / 100
    recipes = complete(data).set_index("trial")["recipe"]
    weights = {
        trial: weights_of(json.loads(recipe).get("language_weighting", {}), teacher)
        for trial, recipe in recipes.items()
    }
    students = changes[changes["trial"] != TEACHER]
    pairs = zip(students["trial"], students["language"], strict=True)
    found = [weights[trial].get(language, np.nan) for trial, language in pairs]
    columns = ["trial", "strategy", "language", "weight", *(f"{task}_change" for task in TASKS)]
    return students.assign(weight=np.array(found, dtype=float))[columns].reset_index(drop=True)


def weight_effects(data: StudyData) -> pd.DataFrame:
    """A row a task: by how many points a language's score changes where its weight is doubled, with a 95 % interval.

    Languages differ, and trials do: only how a language stands within its trial, against how it stands in the other
    trials, counts (two-way fixed effects). The interval is over draws of trials (bootstrap); ``trials`` have languages
    of unequal weights. Missing with fewer than three of those.
    """
    frame = language_weights(data)
    rng = np.random.default_rng(_SEED)
    rows = []
    for task in TASKS:
        weights = _wide(frame.assign(weight=np.log2(frame["weight"])), "weight")
        outcome = _wide(frame, f"{task}_change")
        kept = weights.notna().all(axis=1) & outcome.notna().all(axis=1)
        x, y = weights[kept].to_numpy(), outcome[kept].to_numpy()
        weighted = int((np.ptp(x, axis=1) > 0).sum()) if x.size else 0
        slope, bounds = np.nan, np.array([np.nan, np.nan])
        if weighted >= 3:
            slope = two_way_slope(x, y)
            draws = [two_way_slope(x[rows_], y[rows_]) for rows_ in rng.integers(len(x), size=(_DRAWS // 4, len(x)))]
            bounds = np.nanquantile(draws, [0.025, 0.975])
        rows.append((task, slope, *bounds, weighted))
    return pd.DataFrame(rows, columns=["task", "points_per_doubling", "low", "high", "trials"])


def two_way_slope(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> float:
    """The slope of ``y`` on ``x`` [trials, languages] with an effect of each trial and language; NaN if x has none left."""
    inner_x, inner_y = within(x), within(y)
    square = float((inner_x**2).sum())
    return float((inner_x * inner_y).sum()) / square if square > 1e-12 else math.nan


def within(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """``values`` [trials, languages] without the means of trials and of languages."""
    rows, columns = values.mean(axis=1, keepdims=True), values.mean(axis=0, keepdims=True)
    found: np.ndarray[Any, Any] = values - rows - columns + values.mean()
    return found


def weights_of(weighting: Mapping[str, Any], teacher_map: pd.Series) -> dict[str, float]:
    """The weights, with mean 1, that a recipe gives languages, as trainables.language_weights computes them."""
    kind, logits = weighting.get("kind", "uniform"), weighting.get("logits") or {}
    if kind == "difficulty":
        raw = np.maximum(1 - teacher_map, _HARDEST) ** float(weighting.get("gamma", 0.0))
    elif kind == "free":
        return free_weights(logits)
    else:
        raw = pd.Series(1.0, index=teacher_map.index)
    return dict((raw / raw.mean()).items())


def free_weights(logits: Mapping[str, float]) -> dict[str, float]:
    """The weights w = L·softmax(z) of L languages, whose mean is 1."""
    raw = np.exp(pd.Series(logits, dtype=float) - max(logits.values(), default=0.0))
    return dict((raw / raw.mean()).items())


def chosen_trial(data: StudyData) -> str:
    """The front's best compromise, or the best complete trial in the first objective; empty if there is none."""
    directions = directions_of(data)
    front = data.trials[data.trials["on_front"]]
    if len(front):
        place = pick(front, directions).compromise
        return str(front["trial"].iloc[0 if place is None else place])
    objective, direction = next(iter(data.objectives.items()))
    trials = complete(data).dropna(subset=objective)
    if trials.empty:
        return ""
    ordered = trials.sort_values([objective, "number"], ascending=[direction == "minimise", True])
    return str(ordered["trial"].iloc[0])


def _wide(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    return frame.pivot(index="trial", columns="language", values=column)
