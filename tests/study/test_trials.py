from __future__ import annotations

import math
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from search_spaces.space import Choice, FloatRange, SearchSpace
from study.checks import checked_space, surroundings
from study.config import load_config
from study.errors import UserError
from study.ledger import Ledger, TrialRecord
from study.samplers import _FewTrials, open_storage, patiently
from study.selection import front
from study.storage_config import storage_url
from study.trials import Trials
from study.warm_start import StartingPoint
from trainables.layer_mapping import mapped_layers

GOOD = {"retrieval_map": 0.3, "vqa_variance": 9.0, "vqa_std": 3.0, "vqa_accuracy": 0.4, "vqa_lift_kept": 0.75}
BAD = {"retrieval_map": 0.4, "vqa_variance": 1.0, "vqa_std": 1.0, "vqa_accuracy": 0.3, "vqa_lift_kept": 0.25}

# Two entries: every answer is a write to the database.
SPACE = SearchSpace(
    "small", {"strategy": Choice(choice=["fd", "ed", "dr"]), "learning_rate": FloatRange(float=(0.001, 0.01), log=True)}
)

Opener = Callable[..., Trials]


def report(step: int = 12, final: bool = True, **values: Any) -> dict[str, Any]:
    return {"step": step, "final": final, "seconds": 1.0, "metrics": GOOD, **values}


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with Optuna's tables and another study in it: making the tables takes longer than most tests."""
    path = tmp_path_factory.mktemp("database") / "study.db"
    open_storage(load_config("emoji_clip"), f"sqlite:///{path}", "other").ask()
    return path


@pytest.fixture
def opened(tmp_path: Path, database: Path) -> Opener:
    """Opens the study as the next process would: whatever is not in its files is forgotten."""

    def open_again(*overrides: str) -> Trials:
        config = load_config("emoji_clip", overrides)
        folder = tmp_path / config.name
        ledger = Ledger(folder)
        study = open_storage(config, f"sqlite:///{folder / 'study.db'}", ledger.study_name)
        trials = Trials(study, ledger, config.search, 0, SPACE, surroundings(config))
        trials.reconcile()
        return trials

    (tmp_path / "emoji-clip" / "trials").mkdir(parents=True)
    shutil.copy(database, tmp_path / "emoji-clip")
    return open_again


def told(trials: Trials, record: TrialRecord) -> FrozenTrial:
    return trials.study.get_trials()[record.number]


def test_a_complete_trial_is_told_with_values_constraints_and_all_its_metrics(opened: Opener) -> None:
    trials = opened()
    feasible, infeasible = trials.ask(), trials.ask()
    trials.finish(feasible, "complete", None, report())
    trials.finish(infeasible, "complete", None, report(metrics=BAD))
    frozen = told(trials, feasible)
    assert frozen.state == TrialState.COMPLETE
    assert dict(zip(trials.study.metric_names or [], frozen.values or [], strict=True)) == {
        "retrieval_map": 0.3,
        "vqa_variance": 9.0,
    }
    assert frozen.user_attrs == {**GOOD, "strategy": feasible.recipe.strategy, "state": "complete"}
    assert frozen.constraints == {"vqa_lift_kept": 0.0}
    assert told(trials, infeasible).constraints == {"vqa_lift_kept": 0.25}
    assert [trial.number for trial in trials.study.best_trials] == [feasible.number]
    assert front(trials.finished, load_config("emoji_clip").search) == [feasible]


@pytest.mark.parametrize(("state", "expected"), [("stopped", TrialState.PRUNED), ("failed", TrialState.FAIL)])
def test_a_trial_that_did_not_complete_is_told_without_values(opened: Opener, state: Any, expected: TrialState) -> None:
    trials = opened()
    record = trials.ask()
    trials.finish(record, state, "some reason", report(final=False))
    frozen = told(trials, record)
    assert (frozen.state, frozen.values, frozen.constraints) == (expected, None, {})
    assert frozen.user_attrs["retrieval_map"] == 0.3
    assert record.result is not None
    assert (record.result["state"], record.result["reason"]) == (state, "some reason")
    assert frozen.user_attrs["reason"] == "some reason"


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
    record = trials.ask()
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
    record = trials.ask()
    trials.ledger.finish(record, state, None, report())  # the process ends here
    assert told(trials, record).state == TrialState.RUNNING
    first = told(opened(), record)
    assert first.state == expected
    assert first.values == ([0.3, 9.0] if state == "complete" else None)
    assert first.user_attrs["vqa_accuracy"] == 0.4
    assert told(opened(), record) == first


def test_a_crash_between_the_parts_of_telling_changes_nothing(opened: Opener) -> None:
    trials = opened()
    record = trials.ask()
    trials.ledger.finish(record, "complete", None, report(metrics=BAD))
    half = told(trials, record)
    trials.study._storage.set_trial_user_attr(half._trial_id, "retrieval_map", 0.4)
    frozen = told(opened(), record)
    assert (frozen.state, frozen.values, frozen.constraints) == (
        TrialState.COMPLETE,
        [0.4, 1.0],
        {"vqa_lift_kept": 0.25},
    )


def test_a_recipe_that_is_to_blame_is_told_as_bad_and_one_that_does_not_fit_as_infeasible(opened: Opener) -> None:
    trials = opened()
    diverged, too_large, refused = trials.ask(), trials.ask(), trials.ask()
    trials.finish(diverged, "failed", "diverged", report(final=False, cause="diverged"))
    trials.finish(too_large, "infeasible", "out of memory", report(final=False, cause="out_of_memory"))
    trials.finish(refused, "infeasible", "foreseen", {})
    assert [told(trials, record).state for record in (diverged, too_large, refused)] == [TrialState.PRUNED] * 3
    assert told(trials, diverged).constraints == {}
    assert told(trials, too_large).constraints == told(trials, refused).constraints == {"fits": 1.0}


def test_scores_by_language_are_attributes_that_a_dashboard_can_plot(opened: Opener) -> None:
    trials = opened()
    record = trials.ask()
    row = {"map_i2t": 0.2, "map_t2i": 0.4, "vqa_accuracy": 0.5}
    sets = {"photos": {"tr": {"map_i2t": 0.1, "map_t2i": 0.3}}, "cvqa": {"tr": {"vqa_accuracy": 0.75}}}
    scores = {"languages": {"tr": row}, "sets": sets, "summary": GOOD}
    trials.finish(record, "complete", None, report(scores=scores))
    attributes = told(trials, record).user_attrs
    assert attributes["map/tr"] == pytest.approx(0.3)
    assert attributes["vqa_accuracy/tr"] == 0.5
    assert attributes["map@photos/tr"] == pytest.approx(0.2)
    assert attributes["vqa_accuracy@cvqa/tr"] == 0.75
    assert "map@cvqa/tr" not in attributes


def test_a_trial_that_the_ledger_never_saw_runs_with_what_optuna_chose_for_it(opened: Opener) -> None:
    trials = opened()
    trials.finish(trials.ask(), "complete", None, report())
    trials.study.enqueue_trial({"strategy": "dr"})
    lost = trials.study.ask()
    chosen = lost.suggest_float("learning_rate", 0.001, 0.01, log=True)  # the process ends between two choices
    again = opened()
    assert [record.number for record in again.unfinished] == [lost.number]
    recipe = again.unfinished[0].recipe
    assert (recipe.strategy, recipe.learning_rate) == ("dr", chosen)
    assert opened().unfinished[0].recipe == recipe
    assert [trial.state for trial in again.study.get_trials()] == [TrialState.COMPLETE, TrialState.RUNNING]


def test_unfinished_trials_keep_recipe_seed_and_folder(opened: Opener) -> None:
    trials = opened()
    before = [trials.ask() for _ in range(4)]
    trials.finish(before[1], "stopped", None, report())
    again = opened()
    assert [record.number for record in again.finished] == [1]
    for old, new in zip((before[0], before[2], before[3]), again.unfinished, strict=True):
        assert (new.number, new.recipe, new.seed, new.folder) == (old.number, old.recipe, old.seed, old.folder)
    again.finish(again.unfinished[0], "complete", None, report())
    assert told(again, before[0]).state == TrialState.COMPLETE
    assert opened().ask().number == 4


def test_a_storage_that_lost_the_ledgers_trials_is_refused(opened: Opener, tmp_path: Path) -> None:
    trials = opened()
    trials.finish(trials.ask(), "complete", None, report())
    (tmp_path / "emoji-clip" / "study.db").unlink()
    with pytest.raises(UserError, match=r"storage lacks trial 0.*--fresh"):
        opened()


def test_a_ledger_that_lost_a_trial_that_optuna_was_told_is_refused(opened: Opener) -> None:
    trials = opened()
    record = trials.ask()
    trials.finish(record, "stopped", None, report())
    shutil.rmtree(record.folder)
    with pytest.raises(UserError, match=r"trials lacks trial 0.*--fresh"):
        opened()


def test_studies_of_one_name_in_one_database_stay_apart(tmp_path: Path, database: Path) -> None:
    config = load_config("emoji_clip")
    studies = []
    for place in ("a", "b"):
        ledger = Ledger(tmp_path / place / config.name)
        assert ledger.study_name == ledger.study_name
        study = open_storage(config, f"sqlite:///{database}", ledger.study_name)
        trials = Trials(study, ledger, config.search, 0, SPACE, surroundings(config))
        trials.reconcile()
        studies.append(trials)
    studies[0].finish(studies[0].ask(), "complete", None, report())
    assert studies[1].study.get_trials() == []
    assert studies[1].ask().number == 0


def test_a_storage_that_does_not_answer_for_a_while_costs_nothing(opened: Opener, tmp_path: Path) -> None:
    trials = opened()
    first = trials.ask()
    # SQLite itself waits five seconds for another process to let go of a database.
    with locked(tmp_path / "emoji-clip" / "study.db", seconds=8):
        began = time.monotonic()
        trials.finish(first, "complete", None, report())
        second = trials.ask()
        assert time.monotonic() - began > 5
    assert told(trials, first).values == [0.3, 9.0]
    assert [trial.number for trial in trials.study.get_trials()] == [0, second.number]


def test_what_was_done_for_a_call_whose_answer_was_lost_is_not_done_again(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = [StartingPoint(f"known {name}", {"strategy": name}, ()) for name in ("dr", "fd")]
    trials = opened("search.sampler=random")

    def lose_the_answer_of(method: str) -> None:
        done = getattr(trials.study._storage, method)

        def lost(*arguments: Any, **named: Any) -> Any:
            monkeypatch.undo()
            done(*arguments, **named)
            raise optuna.exceptions.StorageInternalError("the connection is gone")

        monkeypatch.setattr(trials.study._storage, method, lost)

    lose_the_answer_of("create_new_trial")
    assert trials.start_from(points) == points
    lose_the_answer_of("set_trial_state_values")
    first = trials.ask()
    second = trials.ask()
    lose_the_answer_of("create_new_trial")
    third = trials.ask()
    assert [record.number for record in (first, second, third)] == [0, 1, 2]
    assert [record.recipe.strategy for record in (first, second)] == ["dr", "fd"]
    assert [trial.number for trial in trials.study.get_trials()] == [0, 1, 2]


def test_a_storage_that_does_not_come_back_ends_the_study_with_what_has_finished(tmp_path: Path) -> None:
    def gone() -> None:
        optuna.load_study(study_name="x", storage=f"sqlite:///{tmp_path / 'nowhere' / 'study.db'}")

    with pytest.raises(UserError, match=r"storage\.optuna: the storage has not answered for 0 s .*bring it back"):
        patiently(gone, patience=0.2)


@contextmanager
def locked(database: Path, seconds: float) -> Iterator[None]:
    """While inside, for so long, another process has the database for itself."""
    code = (
        "import sqlite3, sys, time; c = sqlite3.connect(sys.argv[1], isolation_level=None); "
        "c.execute('BEGIN EXCLUSIVE'); print('locked', flush=True); time.sleep(float(sys.argv[2])); c.rollback()"
    )
    command = [sys.executable, "-c", code, str(database), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        yield


def test_the_database_lies_in_the_studys_folder_whatever_that_is_called(tmp_path: Path) -> None:
    config, folder = load_config("emoji_clip"), tmp_path / "a b#c%20ü?d"
    folder.mkdir()
    open_storage(config, storage_url(config.storage, folder), "here")
    assert (folder / "study.db").stat().st_size


@pytest.mark.parametrize("sampler", ["tpe", "tpe_grouped", "nsga2", "random", "gp"])
def test_every_sampler_proposes_valid_recipes_while_trials_fail_and_stop(sampler: str, tmp_path: Path) -> None:
    searched = "mix" if sampler == "gp" else "full"
    config = load_config("emoji_clip", [f"search.sampler={sampler}", "search.trials=15", f"search.space={searched}"])
    around, space = surroundings(config), checked_space(config)

    def fresh(name: str, seed: int) -> Trials:
        seeded = config.model_copy(update={"seed": seed})
        study = open_storage(seeded, "sqlite:///:memory:", name)
        return Trials(study, Ledger(tmp_path / name), config.search, seed, space, around)

    trials, same, other = fresh("a", 5), fresh("b", 5), fresh("c", 6)
    recipes = []
    for place in range(15):
        record = trials.ask()
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
    assert [same.ask().recipe for _ in range(2)] == recipes[:2]
    assert other.ask().recipe != recipes[0]


def test_a_resumed_study_does_not_draw_its_first_proposals_again(opened: Opener) -> None:
    trials = opened("search.sampler=random")
    first = [trials.ask().recipe for _ in range(2)]
    again = opened("search.sampler=random")
    assert again.ask().recipe not in first


def test_starting_points_are_the_first_trials_also_where_putting_them_down_was_cut_short(opened: Opener) -> None:
    points = [StartingPoint(f"known {name}", {"strategy": name}, ()) for name in ("dr", "fd", "ed")]
    trials = opened("search.sampler=random")
    trials.start_from(points[:1])  # the process ends here
    again = opened("search.sampler=random")
    again.start_from(points)
    tried = [again.ask()]
    again.finish(tried[0], "failed", None, {})
    last = opened("search.sampler=random")
    last.start_from(points)
    tried += [last.ask() for _ in range(3)]
    assert [record.recipe.strategy for record in tried[:3]] == ["dr", "fd", "ed"]
    assert [record.number for record in tried] == [0, 1, 2, 3]
    sources = [trial.user_attrs.get("source") for trial in last.study.get_trials()]
    assert sources == ["known dr", "known fd", "known ed", None]


def test_a_long_study_is_modelled_by_its_best_and_latest_trials(tmp_path: Path) -> None:
    study = open_storage(load_config("emoji_clip"), "sqlite:///:memory:", "long")
    for number in range(250):
        state = TrialState.COMPLETE if number % 3 else TrialState.PRUNED
        good = number in (7, 40)
        values = [0.5 if good else 0.001 * (number % 50), 1.0 if good else 20.0] if number % 3 else None
        study.add_trial(
            optuna.trial.create_trial(
                state=state,
                values=values,
                params={"x": number / 250},
                distributions={"x": optuna.distributions.FloatDistribution(0, 1)},
            )
        )
    running = study.ask()
    seen: list[FrozenTrial] = _FewTrials(study, running.number)._get_trials(deepcopy=False)
    numbers = [trial.number for trial in seen]
    assert numbers == sorted(set(numbers))
    assert len(numbers) <= 201
    assert {7, 40, running.number} <= set(numbers)
    assert set(range(101, 250)) <= set(numbers)
    assert 0.0 <= running.suggest_float("x", 0, 1) <= 1.0
