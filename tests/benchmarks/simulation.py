"""An asynchronous search on the surrogate, in virtual time: a worker's clock goes by the training steps that it runs."""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from analysis.pareto import Constraints, Directions, feasible, hypervolume
from tests.benchmarks.record import METRICS
from trainables.recipe import Recipe

Metrics = dict[str, float]


class Trained(Protocol):
    """What a training gives: `tests.benchmarks.surrogate.Surrogate`."""

    levels: tuple[int, ...]

    def training(self, recipe: Recipe, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]: ...


class Contender(Protocol):
    """A way to search."""

    def propose(self) -> tuple[Hashable, Recipe]:
        """The next trial: what the contender calls it, and its recipe."""
        ...

    def goes_on(self, trial: Hashable, step: int, metrics: Metrics) -> bool:
        """Whether a trial trains on after what it reported at a rung."""
        ...

    def ended(self, trial: Hashable, step: int, metrics: Metrics, is_complete: bool) -> None:
        """A trial is complete or was stopped; this is its last report."""
        ...


@dataclass
class Outcome:
    """What a search has spent and found."""

    spent: int = 0  # training steps
    begun: int = 0
    complete: list[Metrics] = field(default_factory=list)  # free of noise, of trials that ran to their end
    reported: list[Metrics] = field(default_factory=list)  # the same trials as they were measured

    def hypervolume(self, directions: Directions, constraints: Constraints, reference: Metrics) -> float:
        """Of the complete trials that are feasible, with neither values nor feasibility blurred by noise."""
        found = [metrics for metrics in self.complete if feasible(metrics, constraints)]
        return hypervolume([[metrics[name] for name in directions] for metrics in found], directions, reference)


@dataclass(order=True)
class _Segment:
    """A trial on its way to its next level."""

    time: int
    order: int
    trial: Hashable = field(compare=False)
    place: int = field(compare=False)  # of that level
    expected: np.ndarray = field(compare=False)
    measured: np.ndarray = field(compare=False)


def simulate(contender: Contender, trained: Trained, budget: int, workers: int, rng: np.random.Generator) -> Outcome:
    """Search until the next part of no trial fits into ``budget`` steps.

    Trials report at every level. The steps from one level to the next are spent when they begin; a trial that cannot
    go on is left as it is, and has cost what it cost.
    """
    outcome, queue = Outcome(), list[_Segment]()
    order = 0

    def advance(segment: _Segment, now: int) -> bool:
        """Send a trial on to its next level, if the budget allows."""
        nonlocal order
        before = trained.levels[segment.place] if segment.place >= 0 else 0
        steps = trained.levels[segment.place + 1] - before
        if outcome.spent + steps > budget:
            return False
        outcome.spent += steps
        order += 1
        segment.time, segment.order, segment.place = now + steps, order, segment.place + 1
        heapq.heappush(queue, segment)
        return True

    def begin(now: int) -> None:
        if outcome.spent + trained.levels[0] > budget:
            return
        trial, recipe = contender.propose()
        outcome.begun += 1
        advance(_Segment(now, 0, trial, -1, *trained.training(recipe, rng)), now)

    for _ in range(workers):
        begin(0)
    while queue:
        segment = heapq.heappop(queue)
        now, step = segment.time, trained.levels[segment.place]
        metrics = dict(zip(METRICS, segment.measured[segment.place].tolist(), strict=True))
        is_complete = segment.place == len(trained.levels) - 1
        if is_complete:
            outcome.complete.append(dict(zip(METRICS, segment.expected[-1].tolist(), strict=True)))
            outcome.reported.append(metrics)
        if is_complete or not contender.goes_on(segment.trial, step, metrics):
            contender.ended(segment.trial, step, metrics, is_complete)
            begin(now)
        else:
            advance(segment, now)
    return outcome
