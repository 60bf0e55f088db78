"""Multi-objective asynchronous successive halving on Ray Tune's scheduler interface.

ASHA (Li et al. 2020, arXiv 1810.05934) with the order of several objectives: nondomination rank, then hypervolume
contribution, infeasible trials last (MO-ASHA, Schmucker et al. 2021, arXiv 2106.12639).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from analysis.pareto import Constraints, Directions, promotion_order, violation


class MultiObjectiveHalving(FIFOScheduler):  # type: ignore[misc]  # Ray is untyped
    """Stops a trial at a rung unless it is among the best 1/reduction of the trials that have reached that rung."""

    def __init__(
        self, rungs: Sequence[int], reduction: float, objectives: Directions, constraints: Constraints
    ) -> None:
        super().__init__()
        self._reduction = reduction
        self._objectives = objectives
        self._constraints = constraints
        self._reached: dict[int, list[Mapping[str, float]]] = {rung: [] for rung in rungs}

    def set_search_properties(self, metric: str | None, mode: str | None, **_spec: Any) -> bool:
        return True  # the objectives are this scheduler's own

    def replay(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take in a report of an earlier run of the study."""
        if step in self._reached:
            self._reached[step].append(metrics)

    def goes_on(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Take in a report and decide on its trial."""
        if step not in self._reached:
            return True
        reached = self._reached[step]
        reached.append(metrics)
        values = [[trial.get(name, math.nan) for name in self._objectives] for trial in reached]
        violations = [violation(trial, self._constraints) for trial in reached]
        order = promotion_order(values, self._objectives, violations)
        place = int(np.flatnonzero(order == len(reached) - 1)[0])
        return place < math.ceil(len(reached) / self._reduction)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if "failure" in json.loads(result.get("result", "{}")):
            return str(TrialScheduler.CONTINUE)  # it ends by itself, and has been counted at its rungs
        goes_on = self.goes_on(int(result["step"]), result)
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)

    def debug_string(self) -> str:
        counts = ", ".join(f"{len(reached)} at step {rung}" for rung, reached in self._reached.items())
        return f"multi-objective successive halving: {counts}"
