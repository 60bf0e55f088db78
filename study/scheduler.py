"""Multi-objective asynchronous successive halving on Ray Tune's scheduler interface.

ASHA (Li et al. 2020, arXiv 1810.05934) with the order of several objectives: nondomination rank, then hypervolume
contribution, infeasible trials last (MO-ASHA, Schmucker et al. 2021, arXiv 2106.12639). Trials are dealt to brackets
as in Hyperband (Li et al. 2018, arXiv 1603.06560): a bracket that stops later hedges against rungs that mislead.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from analysis.pareto import Constraints, Directions, promotion_place, violation

Metrics = Mapping[str, float]


class MultiObjectiveHalving(FIFOScheduler):  # type: ignore[misc]  # Ray is untyped
    """Stops a trial at a rung unless it is among the best 1/reduction of its bracket's trials that reached that rung.

    A rung knows each trial once, by its number: what a trial reports again after a crash replaces what it reported
    before, and it is not judged there again, since a promotion is never taken back. So the rungs of a study that goes
    on are those that its ledger gives.
    """

    def __init__(
        self,
        rungs: Sequence[int],
        reduction: float,
        brackets: int,
        steps: int,
        objectives: Directions,
        constraints: Constraints,
    ) -> None:
        """``steps``: those of a whole trial. The trials of bracket b pass the first b rungs unjudged."""
        super().__init__()
        self._reduction = reduction
        self._objectives = objectives
        self._constraints = constraints
        self._brackets = Brackets(rungs, reduction, brackets, steps)
        # By bracket and rung, of each trial: its objectives and by how much it violates the constraints.
        self._reached: dict[tuple[int, int], dict[int, tuple[list[float], float]]] = {
            (bracket, rung): {} for bracket in range(brackets) for rung in rungs[bracket:]
        }
        self._places: dict[int, str] = {}
        self._promoted: set[tuple[int, int]] = set()  # trial, rung

    def set_search_properties(self, metric: str | None, mode: str | None, **_spec: Any) -> bool:
        return True  # the objectives are this scheduler's own

    def replay(self, trial: int, step: int, metrics: Metrics) -> None:
        """Take in what trial number ``trial`` reported in an earlier run of the study; it is not judged there again."""
        self._take(trial, step, metrics)
        self._promoted.add((trial, step))

    def goes_on(self, trial: int, step: int, metrics: Metrics) -> bool:
        """Take in a report and decide on its trial."""
        reached = self._take(trial, step, metrics)
        if reached is None or (trial, step) in self._promoted:
            return True
        numbers = list(reached)
        values, violations = zip(*reached.values(), strict=True)
        place = promotion_place(values, self._objectives, violations, numbers.index(trial))
        self._places[trial] = f"place {place + 1} of {len(numbers)} at step {step}"
        if place >= math.ceil(len(numbers) / self._reduction):
            return False
        self._promoted.add((trial, step))
        return True

    def _take(self, trial: int, step: int, metrics: Metrics) -> dict[int, tuple[list[float], float]] | None:
        """All that have reached the rung of this step, None if it is none of the trial's."""
        reached = self._reached.get((self._brackets.of(trial), step))
        if reached is not None:
            values = [metrics.get(name, math.nan) for name in self._objectives]
            reached[trial] = values, violation(metrics, self._constraints)
        return reached

    def place(self, trial: int) -> str | None:
        """Where a trial stood at the last rung at which it was judged, in words."""
        return self._places.get(trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if "failure" in json.loads(result.get("result", "{}")):
            return str(TrialScheduler.CONTINUE)  # it ends by itself, and has been counted at its rungs
        goes_on = self.goes_on(int(trial.config["number"]), int(result["step"]), result)
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)

    def debug_string(self) -> str:
        counts = ", ".join(
            f"{len(reached)} at step {rung} of bracket {bracket}" for (bracket, rung), reached in self._reached.items()
        )
        return f"multi-objective successive halving: {counts}"


class Brackets:
    """Deals trials to brackets so that each bracket gets about the same number of training steps.

    A trial's bracket depends on its number alone, so that it is the same in every run of a study.
    """

    def __init__(self, rungs: Sequence[int], reduction: float, brackets: int, steps: int) -> None:
        shares = [1 / _expected_steps([*rungs[bracket:], steps], reduction) for bracket in range(brackets)]
        self._shares = [share / sum(shares) for share in shares]
        self._dealt: list[int] = []
        self._sizes = [0] * brackets

    def of(self, trial: int) -> int:
        while len(self._dealt) <= trial:
            due = [share * (len(self._dealt) + 1) - size for share, size in zip(self._shares, self._sizes, strict=True)]
            bracket = due.index(max(due))
            self._sizes[bracket] += 1
            self._dealt.append(bracket)
        return self._dealt[trial]


def _expected_steps(milestones: Sequence[int], reduction: float) -> float:
    """Steps of a trial that 1 in ``reduction`` trials outlives at each milestone but the last."""
    return milestones[0] + sum(
        (later - earlier) / reduction**place for place, (earlier, later) in enumerate(pairwise(milestones), start=1)
    )
