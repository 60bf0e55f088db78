from __future__ import annotations

import math
from types import SimpleNamespace

from ray.tune.schedulers import TrialScheduler

from analysis.pareto import Directions
from study.scheduler import Brackets, MultiObjectiveHalving

TWO: Directions = {"map": "maximise", "variance": "minimise"}
CONSTRAINTS = {"lift": {"min": 0.5, "max": None}}


class Halving(MultiObjectiveHalving):
    """Numbers trials as they come, where a test does not care which they are."""

    def come(self, step: int, metrics: dict[str, float]) -> bool:
        self._come = getattr(self, "_come", -1) + 1
        return self.goes_on(self._come, step, metrics)


def halving(
    rungs: tuple[int, ...] = (10, 20), reduction: float = 2, objectives: Directions = TWO, brackets: int = 1
) -> Halving:
    return Halving(rungs, reduction, brackets, 40, objectives, CONSTRAINTS)


def metrics(mean: float, variance: float, lift: float = 1.0) -> dict[str, float]:
    return {"map": mean, "variance": variance, "lift": lift}


def tune_trial(number: int) -> SimpleNamespace:
    return SimpleNamespace(trial_id=str(number), config={"number": number})


def test_the_first_to_reach_a_rung_goes_on_however_bad_it_is() -> None:
    scheduler = halving()
    assert scheduler.come(10, metrics(0.0, 99.0, lift=-1.0))
    assert scheduler.come(20, metrics(math.nan, 99.0))


def test_one_in_so_many_goes_on_and_a_dominated_one_stops() -> None:
    scheduler = halving()
    reports = [metrics(0.5, 5.0), metrics(0.4, 6.0), metrics(0.6, 4.0), metrics(0.55, 4.5), metrics(0.3, 7.0)]
    # Of 1, 2, 3, 4, 5 arrivals the best 1, 1, 2, 2, 3 go on; these rank 1, 2, 1, 2, 5.
    assert [scheduler.come(10, report) for report in reports] == [True, False, True, True, False]


def test_a_larger_reduction_stops_more() -> None:
    scheduler = halving(reduction=4)
    rising = [metrics(0.1 * place, 9.0 - place) for place in (3, 2, 4, 1, 3.5)]
    assert [scheduler.come(10, report) for report in rising] == [True, False, True, False, True]


def test_nondominated_trials_compete_by_what_they_add_to_the_front() -> None:
    scheduler = halving(reduction=2)
    for number, corner in enumerate((metrics(0.9, 9.0), metrics(0.1, 1.0)), start=100):
        scheduler.replay(number, 10, corner)
    assert scheduler.come(10, metrics(0.95, 9.5))  # a new extreme, 2 of 3 go on
    assert not scheduler.come(10, metrics(0.11, 1.2))  # hardly beside a corner, 2 of 4


def test_an_infeasible_trial_stands_behind_every_feasible_one() -> None:
    scheduler = halving()
    assert scheduler.come(10, metrics(0.1, 9.0))
    assert not scheduler.come(10, metrics(0.9, 0.1, lift=0.49))
    assert scheduler.come(10, metrics(0.2, 8.0))
    # 4 have arrived and 2 go on: nearer to its bound than the other infeasible one, behind both feasible ones.
    assert not scheduler.come(10, metrics(0.8, 0.2, lift=0.495))


def test_among_infeasible_trials_the_one_nearest_to_its_bound_goes_on() -> None:
    scheduler = halving()
    scheduler.replay(100, 10, metrics(0.9, 0.1, lift=0.1))
    assert scheduler.come(10, metrics(0.1, 9.0, lift=0.4))
    assert not scheduler.come(10, {"map": 0.9, "variance": 0.1})  # does not know its lift


def test_rungs_are_apart_and_other_steps_do_not_count() -> None:
    scheduler = halving()
    for _ in range(5):
        assert scheduler.come(15, metrics(0.0, 99.0))
    assert scheduler.come(10, metrics(0.9, 1.0))
    assert scheduler.come(20, metrics(0.1, 9.0))
    assert not scheduler.come(10, metrics(0.1, 9.0))


def test_replayed_reports_decide_as_if_they_had_been_seen() -> None:
    reports = [(0, 10, 0.5, 5.0), (1, 10, 0.4, 6.0), (0, 20, 0.6, 3.0), (2, 15, 0.1, 1.0), (2, 10, 0.6, 5.5)]
    later = [(3, 10, 0.55, 5.2), (2, 20, 0.65, 2.5), (4, 10, 0.7, 7.0), (5, 10, 0.2, 9.0), (4, 20, 0.5, 3.5)]
    seen, replayed = halving(), halving()
    for number, step, *values in reports:
        seen.goes_on(number, step, metrics(*values))
        replayed.replay(number, step, metrics(*values))
    expected = [seen.goes_on(number, step, metrics(*values)) for number, step, *values in later]
    assert [replayed.goes_on(number, step, metrics(*values)) for number, step, *values in later] == expected
    assert set(expected) == {True, False}


def test_a_trial_that_reports_a_rung_again_after_a_crash_is_counted_once_and_not_judged_again() -> None:
    scheduler = halving()
    assert scheduler.goes_on(0, 10, metrics(0.1, 9.0))
    for number, mean in enumerate((0.9, 0.8), start=1):
        assert scheduler.goes_on(number, 10, metrics(mean, 5.0))
    assert scheduler.goes_on(0, 10, metrics(0.1, 9.0))  # now the worst of three
    scheduler.replay(3, 10, metrics(0.05, 9.5))
    assert scheduler.goes_on(3, 10, metrics(0.05, 9.5))
    # Of 5 trials 3 go on, of 6 three too. Were 0 and 3 counted twice, this one would be the third of eight.
    assert scheduler.goes_on(4, 10, metrics(0.7, 6.0))
    assert not scheduler.goes_on(5, 10, metrics(0.6, 7.0))
    assert scheduler.place(5) == "place 4 of 6 at step 10"


def test_brackets_judge_apart_pass_their_first_rungs_and_get_like_shares_of_the_steps() -> None:
    # 1 in 4 outlives each rung of 10 and 20 of 40 steps: 10 + 10/4 + 20/16 = 13.75 steps a trial in the first bracket,
    # 20 + 20/4 = 25 in the second: 20 of 31 trials to the first give both 275 steps.
    dealt = [Brackets((10, 20), 4, 2, 40).of(number) for number in range(31)]
    assert dealt.count(0) == 20
    assert dealt == [Brackets((10, 20), 4, 2, 40).of(number) for number in range(31)]
    scheduler = halving(reduction=4, brackets=2)
    first = [number for number in range(31) if dealt[number] == 0]
    second = [number for number in range(31) if dealt[number] == 1]
    assert scheduler.goes_on(first[0], 10, metrics(0.9, 1.0))
    assert not scheduler.goes_on(first[1], 10, metrics(0.1, 9.0))
    assert scheduler.goes_on(second[0], 10, metrics(0.1, 9.0))
    assert scheduler.goes_on(second[0], 20, metrics(0.1, 9.0))
    assert not scheduler.goes_on(second[1], 20, metrics(0.05, 10.0))


def test_three_objectives_are_judged_together() -> None:
    three: Directions = {"map": "maximise", "variance": "minimise", "seconds": "minimise"}
    scheduler = halving(objectives=three)
    assert scheduler.come(10, {**metrics(0.5, 5.0), "seconds": 30.0})
    assert not scheduler.come(10, {**metrics(0.5, 5.0), "seconds": 31.0})
    # Worst of all in two objectives, best in the third: on the front, so among the best 2 of 3.
    assert scheduler.come(10, {**metrics(0.1, 9.0), "seconds": 1.0})


def test_a_recipe_that_diverges_behind_a_rung_does_not_count_there_twice() -> None:
    scheduler, diverging, later = halving(), tune_trial(0), tune_trial(1)
    scheduler.on_trial_result(None, diverging, {"step": 10, "result": '{"final": false}', **metrics(0.5, 5.0)})
    # Its last whole step was the one at the rung, so its failure comes with that step and without metrics.
    scheduler.on_trial_result(None, diverging, {"step": 10, "result": '{"final": true, "failure": "diverged"}'})
    assert scheduler.on_trial_result(None, later, {"step": 10, **metrics(0.4, 6.0)}) == TrialScheduler.STOP


def test_tune_is_told_to_stop_or_to_continue_and_asked_for_no_single_metric() -> None:
    scheduler, trial = halving(), tune_trial(0)
    assert scheduler.set_search_properties(None, None)
    assert scheduler.on_trial_result(None, trial, {"step": 10, **metrics(0.5, 5.0)}) == TrialScheduler.CONTINUE
    worse = scheduler.on_trial_result(None, tune_trial(1), {"step": 10, **metrics(0.4, 6.0)})
    assert worse == TrialScheduler.STOP
    assert "2 at step 10 of bracket 0, 0 at step 20 of bracket 0" in scheduler.debug_string()
