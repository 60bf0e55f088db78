"""What a front says: its members with their intervals, the knee, the best compromise, and how much its scores flatter it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analysis.confirmation import confirm
from analysis.load import StudyData
from analysis.metric_names import noise_of
from analysis.pareto import Directions, as_costs, nondominated
from analysis.units import Shown, better, shown

_95 = 1.959964  # standard errors to either side of a normal mean
_FLAT = 1e-9  # a bulge below this share of the front's extent is none


class Picked(NamedTuple):
    """Rows of a front; None where there is no such row."""

    knee: int | None
    compromise: int | None


def knee(values: ArrayLike, directions: Directions) -> int | None:
    """The row of a front ``values`` [N, M] that bulges most towards the ideal, None if none does.

    Each objective is scaled to [0, 1] over the front, 0 the best. The knee is the row farthest, on the ideal's side, from
    the hyperplane through the M rows that are best in one objective each: in two objectives, from the line between the
    ends (Das 1999, "On characterizing the knee of the Pareto curve based on normal-boundary intersection"; Branke et al.
    2004, "Finding knees in multi-objective optimization"). Ends are never knees, so that a front of M members or fewer
    has none, nor has one without M different ends, or one that is straight or bulges away from the ideal.

    Raises ValueError if ``values`` has not one column for each direction.
    """
    scaled = _scaled(as_costs(values, directions))
    count = scaled.shape[1]
    # Among rows equally good in an objective, the one best in the others is the end.
    ends = [int(np.lexsort((scaled.sum(axis=1), scaled[:, place]))[0]) for place in range(count) if len(scaled)]
    if len(set(ends)) < count or np.linalg.matrix_rank(scaled[ends]) < count:
        return None
    normal = np.linalg.solve(scaled[ends], np.ones(count))
    if (normal <= 0).any():
        return None  # the plane does not separate the front from the ideal
    distance = (1.0 - scaled @ normal) / np.linalg.norm(normal)
    distance[ends] = -np.inf
    best = int(distance.argmax())
    return best if distance[best] > _FLAT else None


def compromise(values: ArrayLike, directions: Directions) -> int | None:
    """The row of a front ``values`` [N, M] whose worst objective is least bad, None if there are no rows.

    That is the smallest Chebyshev distance to the ideal point, with each objective scaled to [0, 1] over the front
    (compromise programming: Zeleny 1973, "Compromise programming"). Ties go to the smaller sum of the scaled
    objectives, then to the row better in the first one: of a front of two members, which are both ends, that is it.

    Raises ValueError if ``values`` has not one column for each direction.
    """
    scaled = _scaled(as_costs(values, directions))
    if not len(scaled):
        return None
    return int(np.lexsort((scaled[:, 0], scaled.sum(axis=1).round(9), scaled.max(axis=1).round(9)))[0])


def directions_of(data: StudyData, metrics: Sequence[str] = ()) -> Directions:
    """The study's objectives, or two or more ``metrics`` instead, with the way each improves.

    Raises ValueError if a metric is not known.
    """
    return {name: better(name, data.objectives) for name in metrics or data.objectives}


def on_front(data: StudyData, directions: Directions) -> NDArray[np.bool_]:
    """Which trials are on the front in ``directions``, as a mask over ``data.trials``: complete, feasible, nondominated."""
    trials = data.trials
    mask = ((trials["state"] == "complete") & trials["feasible"]).to_numpy(dtype=bool, copy=True)
    values = trials.reindex(columns=[*directions]).to_numpy(dtype=float, na_value=np.nan)
    mask[mask] = nondominated(values[mask], directions)
    return mask


def members(data: StudyData, metrics: Sequence[str] = (), as_stored: bool = False) -> pd.DataFrame:
    """A row a member of the front, best in the first objective first; values in the units of ``analysis.units``, or
    ``as_stored`` in those of result.json.

    Columns: trial, number, strategy, pick (``knee``, ``compromise``, both, or nothing); of each metric M its validation
    score in the search M, the 95 % interval M_low to M_high of that score, M_confirmed, M_confirmed_low and
    M_confirmed_high over further trainings, and M_test; seeds and support of the confirmation, and recipe, in words.

    The first interval is the score ± 1.96 bootstrap standard errors over evaluation items: it covers which items were
    drawn for this one training, not how trainings differ. The second, Student's over new seeds, covers that, on the same
    items. NaN is what was not measured. ``metrics`` replace the study's objectives.

    Raises ValueError if a metric is not known.
    """
    directions = directions_of(data, metrics)
    chosen = data.trials[on_front(data, directions)]
    leading, way = next(iter(directions.items()))
    chosen = chosen.sort_values([leading, "number"], ascending=[way == "minimise", True]).reset_index(drop=True)
    confirmed = confirm(data.confirmations, data.objectives, data.constraints)
    picked = pick(chosen, directions)
    table = chosen[["trial", "number", "strategy"]].copy()
    names = [" and ".join(name for name, at in picked._asdict().items() if at == row) for row in chosen.index]
    table["pick"] = pd.Series(names, dtype="str")
    for metric in directions:
        unit = Shown(metric, "") if as_stored else shown(metric)
        stored = chosen[metric].astype(float)
        margin = _95 * chosen.get(noise_of(metric), pd.Series(np.nan, index=chosen.index)).astype(float)
        table[metric] = unit.of(stored)
        table[f"{metric}_low"], table[f"{metric}_high"] = unit.of(stored - margin), unit.of(stored + margin)
        again = {trial: (found.mean, found.low, found.high) for trial, found in confirmed.items()}
        for place, suffix in enumerate(("confirmed", "confirmed_low", "confirmed_high")):
            values = [
                again[trial][place].get(metric, np.nan) if trial in again else np.nan for trial in chosen["trial"]
            ]
            table[f"{metric}_{suffix}"] = unit.of(np.array(values, dtype=float))
        test = [data.test_metrics.get(trial, {}).get(metric, np.nan) for trial in chosen["trial"]]
        table[f"{metric}_test"] = unit.of(np.array(test, dtype=float))
    seeds = [confirmed[trial].seeds if trial in confirmed else None for trial in chosen["trial"]]
    table["seeds"] = pd.array(seeds, dtype="Int64")
    table["support"] = np.array(
        [confirmed[t].support if t in confirmed else np.nan for t in chosen["trial"]], dtype=float
    )
    recipes = [recipe_in_words(json.loads(recipe)) for recipe in chosen["recipe"]]
    table["recipe"] = pd.Series(recipes, dtype="str")
    return table


def pick(chosen: pd.DataFrame, directions: Directions) -> Picked:
    """Knee and best compromise of the front's rows of ``data.trials``, as the figures show its objectives.

    So a variance counts by its root, the standard deviation.
    """
    values = np.column_stack([shown(metric).of(chosen[metric].astype(float)) for metric in directions])
    return Picked(knee(values, directions), compromise(values, directions))


def selection(data: StudyData) -> pd.DataFrame:
    """Validation against test, a row a member of the front and objective: trial, strategy, metric, ...

    ``validation`` and ``test`` are in the units of ``analysis.units``, with their intervals ``_low`` and ``_high`` (95 %,
    bootstrap over items); ``worse`` is by how much test is worse than validation, ``teacher_worse`` the same of the
    teacher, which no search selected, and ``flattered`` the difference: what selection on validation is to blame for.
    ``luck`` is by how much the mean of further trainings, on validation, is worse than the search's score, NaN without
    any. Positive numbers are a loss, whichever way the objective improves. Members without test scores have no row.
    """
    teacher = data.teacher.metrics if data.teacher else {}
    chosen = data.trials[data.trials["on_front"]].set_index("trial")
    means = {
        trial: found.mean for trial, found in confirm(data.confirmations, data.objectives, data.constraints).items()
    }
    rows = []
    for trial, row in chosen.iterrows():
        scored: dict[str, Mapping[Any, Any]] = {
            "validation": row.to_dict(),
            "test": data.test_metrics.get(str(trial), {}),
        }
        for metric, way in data.objectives.items():
            if np.isnan(scored["test"].get(metric, np.nan)):
                continue
            sign = 1.0 if way == "maximise" else -1.0
            intervals = {split: interval_over_items(scores, metric) for split, scores in scored.items()}
            of_teacher = {split: interval_over_items(teacher.get(split, {}), metric)[""] for split in scored}
            search = intervals["validation"][""]
            worse = sign * (search - intervals["test"][""])
            teacher_worse = sign * (of_teacher["validation"] - of_teacher["test"])
            again = float(shown(metric).of(means.get(str(trial), {}).get(metric, np.nan)))
            rows.append(
                {
                    "trial": trial,
                    "strategy": row["strategy"],
                    "metric": metric,
                    **{f"{split}{end}": value for split, ends in intervals.items() for end, value in ends.items()},
                    "worse": worse,
                    "teacher_worse": teacher_worse,
                    "flattered": worse - teacher_worse,
                    "luck": sign * (search - again),
                }
            )
    numbers = [f"{split}{end}" for split in ("validation", "test") for end in ("", "_low", "_high")]
    numbers += ["worse", "teacher_worse", "flattered", "luck"]
    columns = {**dict.fromkeys(("trial", "strategy", "metric"), "str"), **dict.fromkeys(numbers, "float64")}
    return pd.DataFrame(rows, columns=[*columns]).astype(columns)


def interval_over_items(scores: Mapping[Any, Any], metric: str) -> dict[str, float]:
    """A score, under an empty name, and the ends ``_low`` and ``_high`` of its 95 % interval over items, as shown."""
    value = float(scores.get(metric, np.nan))
    margin = _95 * float(scores.get(noise_of(metric), np.nan))
    low, middle, high = shown(metric).of([value - margin, value, value + margin]).tolist()
    return {"": middle, "_low": low, "_high": high}


def recipe_in_words(recipe: Mapping[str, Any]) -> str:
    """A recipe's settings in one line, parts of it by their ``kind``; empty for one that is not known."""
    words = [str(recipe["strategy"])] if "strategy" in recipe else []
    for name, value in recipe.items():
        if name == "strategy" or value in ({}, None) or (name == "replication" and "dr" not in _parts(recipe)):
            continue
        words.append(f"{name.replace('_', ' ')} {_in_words(value)}")
    return ", ".join(words)


def _parts(recipe: Mapping[str, Any]) -> list[str]:
    return [recipe.get("strategy", ""), *recipe.get("strategy_weights", {})]


def _in_words(value: Any) -> str:
    if isinstance(value, Mapping):
        kind, rest = value.get("kind"), {k: v for k, v in value.items() if k != "kind" and v not in ({}, [], ())}
        if kind is not None:
            wanted = {"monotone": "layers", "difficulty": "gamma", "free": "logits"}.get(kind)
            rest = {name: item for name, item in rest.items() if name == wanted}
        inner = ", ".join(f"{name.replace('_', ' ')} {_in_words(item)}" for name, item in rest.items())
        return " ".join(part for part in (kind, f"({inner})" if inner else "") if part)
    if isinstance(value, float):
        return f"{value:.3g}"
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _scaled(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each column stretched to [0, 1], 0 the best; a column of equal values becomes 0."""
    if not len(costs):
        return costs
    low, high = costs.min(axis=0), costs.max(axis=0)
    return np.asarray((costs - low) / np.where(high > low, high - low, 1.0))
