from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from search_spaces.space import Choice, FloatRange, SearchSpace
from study.checks import checked_space, surroundings
from study.config import load_config
from study.errors import UserError
from study.ledger import Ledger, TrialRecord
from study.search import OptunaSearcher, Recorder, Trials, open_storage
from trainables.layer_mapping import mapped_layers

GOOD = {"retrieval_map": 0.3, "vqa_variance": 9.0, "vqa_std": 3.0, "vqa_accuracy": 0.4, "vqa_lift_kept": 0.75}
BAD = {"retrieval_map": 0.4, "vqa_variance": 1.0, "vqa_std": 1.0, "vqa_accuracy": 0.3, "vqa_lift_kept": 0.25}

# Two entries: every answer is a write to the database.
SPACE = SearchSpace(
    "small", {"strategy": Choice(choice=["fd", "ed", "dr"]), "learning_rate": FloatRange(float=(0.001, 0.01), log=True)}
)

ERROR = """Failure # 2 (occurred at 2026-01-01_00-00-00)
ray::ImplicitFunc.train() (pid=1, ip=127.0.0.1, actor_id=0)
  File "trial.py", line 1, in run_trial
ValueError: a sentence
"""
Opener = Callable[..., Trials]


def report(step: int = 12, final: bool = True, **values: Any) -> dict[str, Any]:
    return {"step": step, "final": final, "seconds": 1.0, "metrics": GOOD, **values}


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with Optuna's tables and another study in it: making the tables takes longer than most tests."""
    path = tmp_path_factory.mktemp("database") / "study.db"
    open_storage(load_config("emoji_clip", name="other"), f"sqlite:///{path}").ask()
    return path


@pytest.fixture
def opened(tmp_path: Path, database: Path) -> Opener:
    """Opens the study as the next process would: whatever is not in its files is forgotten."""

    def open_again(*overrides: str) -> Trials:
        config = load_config("emoji_clip", overrides)
        folder = tmp_path / config.name
        trials = Trials(open_storage(config, f"sqlite:///{folder / 'study.db'}"), Ledger(folder), config.search, 0)
        trials.reconcile()
        return trials

    (tmp_path / "emoji-clip" / "trials").mkdir(parents=True)
    shutil.copy(database, tmp_path / "emoji-clip")
    return open_again


def ask(trials: Trials) -> TrialRecord:
    return trials.ask(SPACE, surroundings(load_config("emoji_clip")))


def told(trials: Trials, record: TrialRecord) -> FrozenTrial:
    return trials.study.get_trials()[record.number]


def test_a_complete_trial_is_told_with_values_constraints_and_all_its_metrics(opened: Opener) -> None:
    trials = opened()
    feasible, infeasible = ask(trials), ask(trials)
    trials.finish(feasible, "complete", None, report())
    trials.finish(infeasible, "complete", None, report(metrics=BAD))
    frozen = told(trials, feasible)
    assert frozen.state == TrialState.COMPLETE
    assert dict(zip(trials.study.metric_names or [], frozen.values or [], strict=True)) == {
        "retrieval_map": 0.3,
        "vqa_variance": 9.0,
    }
    assert frozen.user_attrs == {**GOOD, "strategy": feasible.recipe.strategy}
    assert frozen.constraints == {"vqa_lift_kept": 0.0}
    assert told(trials, infeasible).constraints == {"vqa_lift_kept": 0.25}
    assert [trial.number for trial in trials.study.best_trials] == [feasible.number]
    assert trials.front() == [feasible]


@pytest.mark.parametrize(("state", "expected"), [("stopped", TrialState.PRUNED), ("failed", TrialState.FAIL)])
def test_a_trial_that_did_not_complete_is_told_without_values(opened: Opener, state: Any, expected: TrialState) -> None:
    trials = opened()
    record = ask(trials)
    trials.finish(record, state, "some reason", report(final=False))
    frozen = told(trials, record)
    assert (frozen.state, frozen.values, frozen.constraints) == (expected, None, {})
    assert frozen.user_attrs["retrieval_map"] == 0.3
    assert record.result is not None
    assert (record.result["state"], record.result["reason"]) == (state, "some reason")
    assert trials.front() == []


@pytest.mark.parametrize(
    ("metrics", "lost"),
    [
        ({**GOOD, "vqa_variance": math.nan}, "vqa_variance"),
        ({**GOOD, "retrieval_map": math.inf, "vqa_lift_kept": math.nan}, "retrieval_map, vqa_lift_kept"),
        ({"retrieval_map": 0.3, "vqa_lift_kept": 1.0}, "vqa_variance"),
    ],
)
def test_a_complete_trial_without_a_finite_objective_or_constraint_has_failed(
    opened: Opener, metrics: dict[str, float], lost: str
) -> None:
    trials = opened()
    record = ask(trials)
    trials.finish(record, "complete", None, report(metrics=metrics))
    assert told(trials, record).state == TrialState.FAIL
    assert record.result is not None
    assert record.result["state"] == "failed"
    assert record.result["reason"] == f"no finite {lost}"


@pytest.mark.parametrize(
    ("state", "expected"),
    [("complete", TrialState.COMPLETE), ("stopped", TrialState.PRUNED), ("failed", TrialState.FAIL)],
)
def test_a_trial_that_only_the_ledger_finished_is_told_exactly_once(
    opened: Opener, state: Any, expected: TrialState
) -> None:
    trials = opened()
    record = ask(trials)
    trials.ledger.finish(record, state, None, report())  # the process ends here
    assert told(trials, record).state == TrialState.RUNNING
    first = told(opened(), record)
    assert first.state == expected
    assert first.values == ([0.3, 9.0] if state == "complete" else None)
    assert first.user_attrs["vqa_accuracy"] == 0.4
    assert told(opened(), record) == first


def test_a_crash_between_the_parts_of_telling_changes_nothing(opened: Opener) -> None:
    trials = opened()
    record = ask(trials)
    trials.ledger.finish(record, "complete", None, report(metrics=BAD))
    half = told(trials, record)
    trials.study._storage.set_trial_user_attr(half._trial_id, "retrieval_map", 0.4)
    frozen = told(opened(), record)
    assert (frozen.state, frozen.values, frozen.constraints) == (
        TrialState.COMPLETE,
        [0.4, 1.0],
        {"vqa_lift_kept": 0.25},
    )


def test_a_trial_that_the_ledger_never_saw_is_told_failed_and_costs_no_budget(opened: Opener) -> None:
    trials = opened()
    trials.finish(ask(trials), "complete", None, report())
    lost = trials.study.ask()
    again = opened()
    assert [trial.state for trial in again.study.get_trials()] == [TrialState.COMPLETE, TrialState.FAIL]
    assert again.ledger.records()[-1].number == 0
    assert OptunaSearcher(again, 3, lambda: ask(again), lambda record: {}).left == 2
    assert ask(again).number == lost.number + 1


def test_unfinished_trials_are_handed_out_first_with_their_recipe_and_then_new_ones_up_to_the_budget(
    opened: Opener,
) -> None:
    trials = opened()
    before = [ask(trials) for _ in range(4)]
    trials.finish(before[1], "stopped", None, report())
    again = opened()
    handed: list[TrialRecord] = []

    def plan(record: TrialRecord) -> dict[str, Any]:
        handed.append(record)
        return {"number": record.number}

    searcher = OptunaSearcher(again, 6, lambda: ask(again), plan)
    assert searcher.left == 5
    assert [searcher.suggest(f"tune{place}") for place in range(5)] == [{"number": n} for n in (0, 2, 3, 4, 5)]
    assert (searcher.left, searcher.suggest("tune5")) == (0, Searcher.FINISHED)
    for old, new in zip((before[0], before[2], before[3]), handed, strict=False):
        assert (new.recipe, new.seed, new.folder) == (old.recipe, old.seed, old.folder)
    again.finish(handed[0], "complete", None, report())
    assert told(again, handed[0]).state == TrialState.COMPLETE
    states = [trial.state.name for trial in opened().study.get_trials()]
    assert states == ["COMPLETE", "PRUNED", *["RUNNING"] * 4]


def test_a_budget_below_what_has_run_hands_out_what_is_unfinished_and_nothing_new(opened: Opener) -> None:
    trials = opened()
    records = [ask(trials) for _ in range(3)]
    trials.finish(records[0], "complete", None, report())
    searcher = OptunaSearcher(opened(), 1, lambda: ask(trials), lambda record: {"number": record.number})
    handed = [searcher.suggest(str(place)) for place in range(3)]
    assert handed == [{"number": 1}, {"number": 2}, Searcher.FINISHED]


def test_a_storage_that_lost_the_ledgers_trials_is_refused(opened: Opener, tmp_path: Path) -> None:
    trials = opened()
    trials.finish(ask(trials), "complete", None, report())
    (tmp_path / "emoji-clip" / "study.db").unlink()
    with pytest.raises(UserError, match=r"lacks trial 0.*--fresh"):
        opened()


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random", "gp"])
def test_every_sampler_proposes_valid_recipes_while_trials_fail_and_stop(sampler: str, tmp_path: Path) -> None:
    config = load_config("emoji_clip", [f"search.sampler={sampler}", "search.trials=15"])
    around, space = surroundings(config), checked_space(config)

    def fresh(name: str, seed: int) -> Trials:
        seeded = config.model_copy(update={"seed": seed})
        return Trials(open_storage(seeded, "sqlite:///:memory:"), Ledger(tmp_path / name), config.search, seed)

    trials, same, other = fresh("a", 5), fresh("b", 5), fresh("c", 6)
    recipes = []
    for place in range(15):
        record = trials.ask(space, around)
        recipe = record.recipe
        recipes.append(recipe)
        mapped_layers(recipe.image_mapping, 2, 6)
        mapped_layers(recipe.text_mapping, 2, 4)
        if recipe.language_weighting.kind == "free":
            assert set(recipe.language_weighting.logits) == set(config.data.languages)
        metrics = {**GOOD, "retrieval_map": 0.1 + 0.01 * place, "vqa_lift_kept": 0.3 + 0.05 * (place % 7)}
        state, last = ("complete", report(metrics=metrics))
        if place % 4 == 1:
            state, last = "stopped", report(final=False, metrics=metrics)
        elif place % 4 == 2:
            state, last = "failed", {}
        trials.finish(record, state, None, last)  # type: ignore[arg-type]
    states = [trial.state.name for trial in trials.study.get_trials()]
    assert (states.count("COMPLETE"), states.count("PRUNED"), states.count("FAIL")) == (7, 4, 4)
    assert len({recipe.model_dump_json() for recipe in recipes}) > 10
    assert [same.ask(space, around).recipe for _ in range(2)] == recipes[:2]
    assert other.ask(space, around).recipe != recipes[0]


def test_a_resumed_study_does_not_draw_its_first_proposals_again(opened: Opener) -> None:
    trials = opened("search.sampler=random")
    first = [ask(trials).recipe for _ in range(2)]
    again = opened("search.sampler=random")
    assert ask(again).recipe not in first


def test_the_first_trials_try_every_strategy_once_also_across_a_restart(opened: Opener) -> None:
    names = ["dr", "fd", "ed"]
    trials = opened("search.sampler=random")
    trials.try_each("strategy", names)
    tried = [ask(trials)]
    trials.finish(tried[0], "failed", None, {})
    again = opened("search.sampler=random")
    again.try_each("strategy", names)
    tried += [ask(again) for _ in range(2)]
    assert [record.recipe.strategy for record in tried] == names
    assert [record.number for record in tried] == [0, 1, 2]


class Tune:
    """Plays Tune's events to a `Recorder`, for one trial."""

    def __init__(self, trials: Trials) -> None:
        # Tune copies this file to its storage, where `get_error` looks, only after callbacks have run.
        error = trials.ledger.folder / "error.txt"
        error.write_text(ERROR, encoding="utf-8")
        searcher = OptunaSearcher(trials, 1, lambda: ask(trials), lambda record: {"number": record.number})
        self.events = 0
        self.recorder = Recorder(trials, searcher, self._count)
        searcher.suggest("t")
        self.record = searcher.running["t"]
        self.trial = SimpleNamespace(
            trial_id="t",
            last_result=None,
            error_file=str(error),
            get_error=lambda: None,
            get_pickled_error=lambda: None,
        )

    def _count(self) -> None:
        self.events += 1

    def result(self, value: dict[str, Any], reaches_callbacks: bool = True) -> None:
        self.trial.last_result = {**value["metrics"], "step": value["step"], "result": json.dumps(value)}
        if reaches_callbacks:
            self.recorder.on_trial_result(0, [], self.trial, self.trial.last_result)

    def complete(self) -> dict[str, Any]:
        self.recorder.on_trial_complete(0, [], self.trial)
        assert self.record.result is not None
        return self.record.result


def test_each_report_is_written_once_and_the_last_one_decides_how_the_trial_ended(opened: Opener) -> None:
    tune = Tune(opened())
    tune.result(report(6, final=False))
    tune.result(report(6, final=False))  # Tune hands a result on again when it stops a trial
    tune.result(report(12, scores={"languages": {}, "summary": GOOD}), reaches_callbacks=False)
    result = tune.complete()
    assert (result["state"], result["steps"], result["metrics"]) == ("complete", 12, GOOD)
    assert result["scores"] == {"validation": {"languages": {}, "summary": GOOD}}
    assert [(line["step"], line["final"]) for line in tune.record.reports()] == [(6, False), (12, True)]
    assert tune.events == 3


def test_a_trial_that_was_stopped_at_a_rung_says_where(opened: Opener) -> None:
    tune = Tune(opened())
    tune.result(report(6, final=False), reaches_callbacks=False)
    result = tune.complete()
    assert (result["state"], result["steps"]) == ("stopped", 6)
    assert "step 6" in result["reason"]
    assert [line["step"] for line in tune.record.reports()] == [6]


def test_a_recipe_that_diverged_has_failed_with_its_reason(opened: Opener) -> None:
    trials = opened()
    tune = Tune(trials)
    tune.result(report(7, metrics={}, scores={}, failure="diverged: the gradient is nan at step 8"))
    result = tune.complete()
    assert (result["state"], result["steps"]) == ("failed", 7)
    assert result["reason"] == "diverged: the gradient is nan at step 8"
    assert told(trials, tune.record).state == TrialState.FAIL


def test_a_trial_whose_process_failed_has_failed_with_the_last_line_of_its_error(opened: Opener) -> None:
    trials = opened()
    tune = Tune(trials)
    tune.recorder.on_trial_error(0, [], tune.trial)
    assert tune.record.result is not None
    assert (tune.record.result["state"], tune.record.result["reason"]) == ("failed", "ValueError: a sentence")
    assert told(trials, tune.record).state == TrialState.FAIL


def test_a_trial_that_ended_without_a_result_has_failed(opened: Opener) -> None:
    result = Tune(opened()).complete()
    assert (result["state"], result["reason"]) == ("failed", "ended without a result")
