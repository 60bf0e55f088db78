"""What a front's recipes score when they are trained again: means, intervals, and whether each keeps its place.

Only trainings that had no part in choosing the front count, so that the means are free of its selection bias.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit  # type: ignore[import-untyped, unused-ignore]

from analysis.pareto import Constraints, Directions, feasible, nondominated

_LEVEL = 0.95
_DRAWS = 4000
_SEED = 0
SUPPORTED = 0.5  # a place that more than every second draw gives

Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Confirmed:
    """One recipe over the seeds that it was trained again with.

    ``low`` and ``high`` bound the mean at 95 %; both are empty where no recipe has two trainings, since nothing then
    tells how much seeds differ.
    """

    seeds: int
    mean: dict[str, float]
    low: dict[str, float]
    high: dict[str, float]
    support: float  # the chance that the recipe is feasible and nondominated among the confirmed ones

    @property
    def is_supported(self) -> bool:
        return self.support >= SUPPORTED


def confirm(
    trainings: Mapping[str, Sequence[Metrics]], directions: Directions, constraints: Constraints
) -> dict[str, Confirmed]:
    """What each recipe's further trainings amount to; recipes without any are left out.

    A mean's interval is Student's, with a variance pooled over the recipes: two or three seeds each say little of a
    recipe's own, and training noise is much alike between neighbours on a front. Support is the share of draws from
    these distributions, objectives taken as independent, in which a recipe is nondominated; 0 if its mean violates a
    constraint.

    Args:
        trainings: metrics of each training, by recipe; each has every objective and constraint.
    """
    kept = {name: list(runs) for name, runs in trainings.items() if runs}
    if not kept:
        return {}
    metrics = [*directions, *(name for name in constraints if name not in directions)]
    values = {name: np.array([[run[metric] for metric in metrics] for run in runs]) for name, runs in kept.items()}
    means = {name: runs.mean(axis=0) for name, runs in values.items()}
    freedom = sum(len(runs) - 1 for runs in values.values())
    squares = sum(((runs - means[name]) ** 2).sum(axis=0) for name, runs in values.items())
    deviation = np.sqrt(squares / freedom) if freedom else np.full(len(metrics), np.nan)
    errors = {name: deviation / np.sqrt(len(runs)) for name, runs in values.items()}
    support = _support(means, errors, freedom, directions)
    margin = float(stdtrit(freedom, (1 + _LEVEL) / 2)) if freedom else np.nan
    found = {}
    for name, mean in means.items():
        named = dict(zip(metrics, mean.tolist(), strict=True))
        half = margin * errors[name]
        low, high = (
            (dict(zip(metrics, bound.tolist(), strict=True)) if freedom else {}) for bound in (mean - half, mean + half)
        )
        chance = support[name] if feasible(named, constraints) else 0.0
        found[name] = Confirmed(len(values[name]), named, low, high, chance)
    return found


def _support(
    means: Mapping[str, NDArray[np.float64]],
    errors: Mapping[str, NDArray[np.float64]],
    freedom: int,
    directions: Directions,
) -> dict[str, float]:
    """How often each recipe is nondominated, over draws of all means."""
    centre = np.array([mean[: len(directions)] for mean in means.values()])
    if not freedom:
        return dict(zip(means, nondominated(centre, directions).astype(float).tolist(), strict=True))
    spread = np.array([error[: len(directions)] for error in errors.values()])
    rng = np.random.default_rng(_SEED)
    count = np.zeros(len(centre))
    for draw in rng.standard_t(freedom, size=(_DRAWS, *centre.shape)):
        count += nondominated(centre + spread * draw, directions)
    return dict(zip(means, (count / _DRAWS).tolist(), strict=True))
