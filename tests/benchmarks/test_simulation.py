from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks.record import METRICS
from tests.benchmarks.simulation import Metrics, Outcome, simulate
from trainables.recipe import Recipe

LEVELS = (10, 30)


class Known:
    """Trainings whose outcome is known: measured is the expected plus one."""

    levels = LEVELS

    def training(self, recipe: Recipe, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        expected = np.full((len(LEVELS), len(METRICS)), recipe.learning_rate)
        return expected, expected + 1


class EverySecond:
    """Stops every second trial at its rung, and remembers what it was told."""

    def __init__(self) -> None:
        self.begun = 0
        self.told: list[tuple[int, int, float, bool]] = []

    def propose(self) -> tuple[int, Recipe]:
        self.begun += 1
        return self.begun, Recipe(strategy="fd", learning_rate=float(self.begun))

    def goes_on(self, trial: int, step: int, metrics: Metrics) -> bool:
        assert step == LEVELS[0]
        return trial % 2 == 1

    def ended(self, trial: int, step: int, metrics: Metrics, is_complete: bool) -> None:
        self.told.append((trial, step, metrics["retrieval_map"], is_complete))


def run(budget: int, workers: int) -> tuple[EverySecond, Outcome]:
    contender = EverySecond()
    return contender, simulate(contender, Known(), budget, workers, np.random.default_rng(0))


def test_steps_are_spent_up_to_the_budget_by_whole_and_stopped_trials() -> None:
    contender, outcome = run(budget=80, workers=1)
    # 30 + 10 + 30 + 10 steps: trials 1 and 3 run to their end, 2 and 4 stop at their rung
    assert contender.told == [(1, 30, 2.0, True), (2, 10, 3.0, False), (3, 30, 4.0, True), (4, 10, 5.0, False)]
    assert (outcome.spent, outcome.begun) == (80, 4)


def test_values_without_noise_are_what_counts() -> None:
    _, outcome = run(budget=80, workers=1)
    assert [metrics["retrieval_map"] for metrics in outcome.complete] == [1.0, 3.0]
    directions, reference = {"retrieval_map": "maximise", "vqa_variance": "minimise"}, {"retrieval_map": 0.0}
    # (1, 1) and (3, 3) below a variance of 4: 3 · 1 + 1 · 2; a lift of at least 2 leaves (3, 3) alone
    assert outcome.hypervolume(directions, {}, reference | {"vqa_variance": 4.0}) == pytest.approx(5)
    bounds = {"vqa_lift_kept": {"min": 2.0, "max": None}}
    assert outcome.hypervolume(directions, bounds, reference | {"vqa_variance": 4.0}) == pytest.approx(3)


def test_workers_run_side_by_side_in_virtual_time() -> None:
    contender, outcome = run(budget=120, workers=2)
    # worker A: 1 until 30; worker B: 2 until 10, 3 until 40; A: 4 until 40, …
    assert [trial for trial, *_ in contender.told][:4] == [2, 1, 3, 4]
    assert outcome.spent == 120


def test_a_trial_that_the_budget_does_not_carry_to_its_end_counts_for_nothing() -> None:
    contender, outcome = run(budget=35, workers=2)
    # both begin (20), the first goes on (40) only if 20 more fit: they do not
    assert (outcome.spent, outcome.complete) == (30, [])
    assert [trial for trial, *_ in contender.told] == [2]
