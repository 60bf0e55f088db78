"""Pareto fronts, hypervolume and the order in which a scheduler promotes trials: pure functions of numbers.

Everywhere, ``directions`` names the objectives in the order of the columns of ``values`` ([N, M]) and says
which way each improves. A row with a value that is not finite has not been measured: it dominates nothing
and is on no front.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import moocore  # type: ignore[import-untyped, unused-ignore]
import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import pandas as pd

Direction = Literal["maximise", "minimise"]
Directions = Mapping[str, Direction]
Constraints = Mapping[str, Mapping[str, float | None]]

_MINIMISE: Direction = "minimise"
# Outside the unit box, so that even the worst point of a normalised objective keeps some volume of its own.
_NORMALISED_REFERENCE = 1.1


def nondominated(values: ArrayLike, directions: Directions) -> NDArray[np.bool_]:
    """Which rows of ``values`` [N, M] no other row dominates, as a mask [N].

    A row dominates another if it is at least as good in every objective and better in one (Deb et al. 2002,
    "A fast and elitist multiobjective genetic algorithm: NSGA-II"). Equal rows do not dominate each other:
    all copies of a nondominated row are kept.

    Raises ValueError if ``values`` has not one column for each direction.
    """
    costs = as_costs(values, directions)
    mask = _finite_rows(costs)
    mask[mask] = moocore.is_nondominated(costs[mask], keep_weakly=True)
    return mask


def hypervolume(values: ArrayLike, directions: Directions, reference: Mapping[str, float]) -> float:
    """The volume of objective space that ``values`` [N, M] dominate and that dominates ``reference``.

    The unit is the product of the objectives' units; rows beyond the reference point in any objective
    contribute nothing (Zitzler & Thiele 1999, "Multiobjective evolutionary algorithms: a comparative case
    study and the strength Pareto approach").

    Raises ValueError if the shapes do not fit or ``reference`` lacks an objective.
    """
    costs = as_costs(values, directions)
    corner = _reference_costs(reference, directions)
    costs = costs[_finite_rows(costs)]
    return float(moocore.hypervolume(costs, ref=corner)) if len(costs) else 0.0


def hypervolume_contributions(
    values: ArrayLike, directions: Directions, reference: Mapping[str, float]
) -> NDArray[np.float64]:
    """How much hypervolume goes with each row of ``values`` [N, M] if it alone is removed, as an array [N].

    Dominated rows, rows that occur more than once and rows beyond the reference point contribute 0.
    Dominated rows are left out altogether: they do not lessen the contribution of the row that dominates
    them.

    Raises ValueError as ``hypervolume`` does.
    """
    costs = as_costs(values, directions)
    corner = _reference_costs(reference, directions)
    contributions = np.zeros(len(costs))
    finite = _finite_rows(costs)
    if finite.any() and len(directions) > 1:
        contributions[finite] = moocore.hv_contributions(costs[finite], ref=corner)
    elif finite.any():  # moocore starts at two objectives; in one, only a single best row contributes
        best = costs[:, 0] == costs[finite, 0].min()
        if best.sum() == 1:
            contributions[best] = np.maximum(corner - costs[best, 0], 0.0)
    return contributions


def reference_point(teacher_metrics: Mapping[str, float], directions: Directions) -> dict[str, float]:
    """Where hypervolume is measured from: 0 where more is better, twice the teacher's value where less is.

    Raises ValueError if the teacher lacks a finite value of an objective that is minimised.
    """
    corner = {}
    for name, direction in directions.items():
        value = 0.0 if direction == "maximise" else 2.0 * teacher_metrics.get(name, math.nan)
        if not math.isfinite(value):
            raise ValueError(f"the teacher has no finite {name!r} to measure hypervolume from")
        corner[name] = value
    return corner


def feasible(metrics: Mapping[str, float], constraints: Constraints) -> bool:
    """Whether every constrained metric lies within its ``min`` and ``max``, bounds included.

    A metric that is missing or NaN violates its constraint.
    """
    return violation(metrics, constraints) == 0


def violation(metrics: Mapping[str, float], constraints: Constraints) -> float:
    """By how much the constrained metrics miss their bounds, added up, in the metrics' own units; 0 if none does.

    A metric that is missing or NaN misses by infinity.
    """
    total = 0.0
    for name, bound in constraints.items():
        value = metrics.get(name, math.nan)
        low, high = bound.get("min"), bound.get("max")
        misses = [0.0 if low is None else low - value, 0.0 if high is None else value - high]
        total += math.inf if math.isnan(value) else max(0.0, *misses)
    return total


def front_mask(trials: pd.DataFrame, objectives: Directions, constraints: Constraints) -> NDArray[np.bool_]:
    """Which rows of ``trials`` [N] are on the front: complete, feasible, finite and nondominated among those.

    ``trials`` has a column ``state`` and one for each objective and constraint; KeyError if one is missing.
    Trials that were stopped early are never on it: they were trained and measured on less, so their numbers
    do not compare.
    """
    values = trials[list(objectives)].to_numpy(dtype=float, na_value=np.nan)
    mask: NDArray[np.bool_] = (trials["state"] == "complete").to_numpy(dtype=bool)
    mask = mask & _finite_rows(values)
    for name, bound in constraints.items():
        mask &= _within(trials[name].to_numpy(dtype=float, na_value=np.nan), bound)
    mask[mask] = nondominated(values[mask], objectives)
    return mask


def nondomination_rank(values: ArrayLike, directions: Directions) -> NDArray[np.int64]:
    """Which front each row of ``values`` [N, M] is on, as an array [N]: 0, or 1 for those behind 0, ...

    Equal rows share a rank; rows that are not finite get N, behind every other (nondominated sorting, Deb
    et al. 2002).

    Raises ValueError if ``values`` has not one column for each direction.
    """
    costs = as_costs(values, directions)
    ranks = np.full(len(costs), len(costs), dtype=np.int64)
    finite = _finite_rows(costs)
    if finite.any():
        ranks[finite] = moocore.pareto_rank(costs[finite])
    return ranks


def promotion_place(values: ArrayLike, directions: Directions, violations: ArrayLike, row: int) -> int:
    """How many rows of ``values`` [N, M] go before ``row`` in the order in which successive halving promotes them.

    Feasible rows (``violations``, float [N], of 0) come first, then infeasible ones, and rows that are not finite
    last. Infeasible rows go by the size of their violation before all else (Deb et al. 2002, section VI): their
    objectives may look good just because they break the constraint. Rows that are still together go by nondomination
    rank. Within a rank, the best rows of single objectives go first, so that the front keeps its extent, then the
    others by hypervolume contribution (as in SMS-EMOA, Beume, Naujoks & Emmerich 2007), with every objective scaled
    to [0, 1] over all finite rows. A second copy of a row adds nothing, so copies close their rank. What is still
    tied keeps its order.

    Raises ValueError if the shapes do not fit.
    """
    costs = as_costs(values, directions)
    violated = np.asarray(violations, dtype=float)
    if violated.shape != (len(costs),):
        raise ValueError(f"violations have shape {violated.shape}, but there are {len(costs)} points")
    finite = _finite_rows(costs)
    if not finite[row]:
        return int(finite.sum() + (~finite[:row]).sum())
    tier = np.flatnonzero(finite & (violated == violated[row]))
    less_is_better = dict.fromkeys(directions, _MINIMISE)
    rank = nondomination_rank(costs[tier], less_is_better)
    own = rank[np.searchsorted(tier, row)]
    front = tier[rank == own]
    distinct = np.sort(np.unique(costs[front], axis=0, return_index=True)[1])
    contribution, is_copy = np.zeros(len(front)), np.ones(len(front), dtype=bool)
    corner = dict.fromkeys(directions, _NORMALISED_REFERENCE)
    scaled = _scaled(costs, finite)[front[distinct]]
    contribution[distinct], is_copy[distinct] = hypervolume_contributions(scaled, less_is_better, corner), False
    is_inner = (costs[front] > costs[front].min(axis=0)).all(axis=1)
    order = front[np.lexsort((front, -contribution, is_inner, is_copy))]
    before = (finite & (violated < violated[row])).sum() + (rank < own).sum()
    return int(before + np.flatnonzero(order == row)[0])


def as_costs(values: ArrayLike, directions: Directions) -> NDArray[np.float64]:
    """A copy of ``values`` [N, M] in which less is better in every column.

    Raises ValueError if ``values`` has not one column for each direction.
    """
    unknown = sorted(set(directions.values()) - {"maximise", "minimise"})
    if unknown or not directions:
        raise ValueError(f"directions are 'maximise' or 'minimise', one or more, not {dict(directions)}")
    costs = np.array(values, dtype=float)
    if costs.shape == (0,):
        costs = costs.reshape(0, len(directions))
    if costs.ndim != 2 or costs.shape[1] != len(directions):
        raise ValueError(f"values have shape {costs.shape}, but the objectives are {list(directions)}")
    costs[:, [direction == "maximise" for direction in directions.values()]] *= -1.0
    return costs


def _reference_costs(reference: Mapping[str, float], directions: Directions) -> NDArray[np.float64]:
    missing = [name for name in directions if name not in reference]
    if missing:
        raise ValueError(f"the reference point has no value of {', '.join(missing)}")
    return as_costs([[reference[name] for name in directions]], directions).reshape(len(directions))


def _finite_rows(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(values).all(axis=1), dtype=bool)


def _scaled(costs: NDArray[np.float64], finite: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Finite rows of ``costs`` with each column stretched to [0, 1]; a column of equal values becomes 0."""
    scaled = np.zeros_like(costs)
    if finite.any():
        low, high = costs[finite].min(axis=0), costs[finite].max(axis=0)
        scaled[finite] = (costs[finite] - low) / np.where(high > low, high - low, 1.0)
    return scaled


def _within(value: ArrayLike, bound: Mapping[str, float | None]) -> NDArray[np.bool_]:
    """Elementwise; NaN lies within no bounds, and a bound that is absent or None does not bind."""
    low, high = bound.get("min"), bound.get("max")
    numbers = np.asarray(value, dtype=float)
    inside = ~np.isnan(numbers)
    if low is not None:
        inside = inside & (numbers >= low)
    if high is not None:
        inside = inside & (numbers <= high)
    return np.asarray(inside, dtype=bool)
