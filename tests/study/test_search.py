from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.search import Searcher

from study.ledger import Ledger, TrialRecord
from study.search import Recorder, RecordSearcher
from trainables.recipe import Recipe

METRICS = {"retrieval_map": 0.3, "vqa_variance": 9.0}
ERROR = """Failure # 2 (occurred at 2026-01-01_00-00-00)
ray::ImplicitFunc.train() (pid=1, ip=127.0.0.1, actor_id=0)
  File "trial.py", line 1, in run_trial
ValueError: a sentence
"""


def report(step: int = 12, final: bool = True, **values: Any) -> dict[str, Any]:
    return {"step": step, "final": final, "seconds": 1.0, "metrics": METRICS, **values}


class Few:
    """A source of a few trainings, which keeps what it hears."""

    def __init__(self, records: list[TrialRecord]) -> None:
        self._records = list(records)
        self.heard: list[tuple[Any, ...]] = []

    def next(self) -> TrialRecord | None:
        return self._records.pop(0) if self._records else None

    def reported(self, record: TrialRecord, report: Mapping[str, Any]) -> None:
        self.heard.append(("reported", record.number, report["step"]))

    def ended(self, record: TrialRecord, state: str, reason: str | None, last: Mapping[str, Any]) -> None:
        self.heard.append(("ended", record.number, state, reason, last.get("step")))

    def changed(self, running: int) -> None:
        self.running = running

    def place(self, record: TrialRecord) -> str | None:
        return "place 3 of 4 at step 6"


class Tune:
    """Plays Tune's events for one training."""

    def __init__(self, folder: Path, error: str = ERROR, retries: int = 0) -> None:
        ledger = Ledger(folder)
        self.record = ledger.begin(0, Recipe(strategy="fd"), 1)
        self.source = Few([self.record])
        searcher = RecordSearcher(self.source, lambda record: {"number": record.number}, lambda: 2)
        self.recorder = Recorder(ledger, self.source, searcher, retries)
        assert searcher.suggest("t") == {"number": 0}
        # Tune copies this file to its storage, where `get_error` looks, only after callbacks have run.
        (folder / "error.txt").write_text(error, encoding="utf-8")
        self.searcher = searcher
        self.trial = SimpleNamespace(trial_id="t", last_result=None, error_file=str(folder / "error.txt"))

    def result(self, value: dict[str, Any], reaches_callbacks: bool = True) -> None:
        self.trial.last_result = {**value["metrics"], "step": value["step"], "result": json.dumps(value)}
        if reaches_callbacks:
            self.recorder.on_trial_result(0, [], self.trial, self.trial.last_result)

    def complete(self) -> tuple[Any, ...]:
        self.recorder.on_trial_complete(0, [], self.trial)
        return self.source.heard[-1]

    def fail(self) -> tuple[Any, ...]:
        self.recorder.on_trial_error(0, [], self.trial)
        return self.source.heard[-1]

    def lines(self) -> list[tuple[int, bool]]:
        return [(line["step"], line["final"]) for line in self.record.reports()]


def test_no_more_trainings_are_handed_out_than_there_is_room_for_at_the_time(tmp_path: Path) -> None:
    ledger, room = Ledger(tmp_path), [1]
    source = Few([ledger.begin(number, Recipe(strategy="fd"), 1) for number in range(3)])
    searcher = RecordSearcher(source, lambda record: {"number": record.number}, lambda: room[0])
    assert [searcher.suggest(str(place)) for place in range(2)] == [{"number": 0}, None]
    room[0] = 2
    assert [searcher.suggest(str(place)) for place in range(2, 4)] == [{"number": 1}, None]
    del searcher.running["0"], searcher.running["2"]
    assert searcher.suggest("4") == {"number": 2}


def test_trainings_are_handed_out_until_the_source_has_none_and_it_is_not_asked_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    source = Few([ledger.begin(number, Recipe(strategy="fd"), 1) for number in range(2)])
    searcher = RecordSearcher(source, lambda record: {"number": record.number}, lambda: 3)
    assert [searcher.suggest(str(place)) for place in range(3)] == [{"number": 0}, {"number": 1}, None]
    source._records = [ledger.begin(2, Recipe(strategy="fd"), 1)]
    assert searcher.suggest("3") is None  # two are running, and may be lost
    assert (searcher.is_empty, searcher.is_done) == (True, False)
    searcher.running.clear()
    assert searcher.suggest("4") == Searcher.FINISHED
    assert searcher.is_done


def test_each_report_is_written_once_and_the_last_one_decides_how_the_trial_ended(tmp_path: Path) -> None:
    tune = Tune(tmp_path)
    tune.result(report(6, final=False))
    tune.result(report(6, final=False))  # Tune hands a result on again when it stops a trial
    tune.result(report(12), reaches_callbacks=False)
    assert tune.complete() == ("ended", 0, "complete", None, 12)
    assert tune.source.heard == [("reported", 0, 6), ("reported", 0, 12), ("ended", 0, "complete", None, 12)]
    assert tune.lines() == [(6, False), (12, True)]
    assert tune.source.running == 0


def test_what_an_earlier_run_wrote_is_not_written_again(tmp_path: Path) -> None:
    tune = Tune(tmp_path)
    for step in (3, 6):  # written by a run that was killed
        Ledger(tmp_path).report(tune.record, report(step, final=False))
    for step in (3, 6, 9):  # its state could not be read, so that it began anew
        tune.result(report(step, final=False))
    assert tune.lines() == [(3, False), (6, False), (9, False)]
    assert tune.source.heard == [("reported", 0, 9)]


def test_a_trial_that_was_stopped_at_a_rung_says_where_it_stood(tmp_path: Path) -> None:
    tune = Tune(tmp_path)
    tune.result(report(6, final=False), reaches_callbacks=False)
    assert tune.complete() == ("ended", 0, "stopped", "place 3 of 4 at step 6", 6)
    assert tune.lines() == [(6, False)]


@pytest.mark.parametrize(("cause", "state"), [("diverged", "failed"), ("out_of_memory", "infeasible")])
def test_a_recipe_that_failed_ends_with_its_reason_and_leaves_no_report(tmp_path: Path, cause: str, state: str) -> None:
    tune = Tune(tmp_path)
    tune.result(report(7, metrics={}, scores={}, failure="it did", cause=cause))
    assert tune.complete() == ("ended", 0, state, "it did", 7)
    assert tune.lines() == []


def test_a_process_that_failed_gives_the_last_line_of_its_error(tmp_path: Path) -> None:
    assert Tune(tmp_path).fail() == ("ended", 0, "failed", "ValueError: a sentence", None)


def test_a_trial_is_handed_out_again_as_often_as_it_may_fail_and_keeps_what_it_had_reported(tmp_path: Path) -> None:
    tune = Tune(tmp_path, retries=2)
    tune.result(report(6, final=False))
    for place in ("second", "third"):
        tune.recorder.on_trial_error(0, [], tune.trial)
        assert (tune.source.heard, tune.searcher.is_done) == ([("reported", 0, 6)], False)
        tune.trial.trial_id = place
        assert tune.searcher.suggest(place) == {"number": 0}
    assert tune.fail() == ("ended", 0, "failed", "ValueError: a sentence", 6)
    assert tune.searcher.suggest("more") == Searcher.FINISHED
    assert tune.lines() == [(6, False)]


def test_a_process_that_was_killed_for_memory_is_recognised(tmp_path: Path) -> None:
    killed = "ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory."
    ended = Tune(tmp_path, killed).fail()
    assert ended[2] == "infeasible"
    assert ended[3].startswith("out of memory: ")


def test_a_trial_that_ended_without_a_result_has_failed(tmp_path: Path) -> None:
    assert Tune(tmp_path).complete() == ("ended", 0, "failed", "ended without a result", None)


def test_what_breaks_in_writing_down_is_kept_as_it_was(tmp_path: Path) -> None:
    tune = Tune(tmp_path)
    tune.record.folder.joinpath("reports.jsonl").mkdir()
    with pytest.raises(OSError, match=r"reports\.jsonl"):
        tune.result(report(6, final=False))
    assert isinstance(tune.recorder.error, OSError)
