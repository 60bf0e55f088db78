"""Ray Tune's side of a study: a searcher that hands out trainings, and a callback that writes down what they report.

Ray's own `OptunaSearch` cannot carry this study: with several objectives it tells Optuna that stopped and crashed
trials are complete, it leaves trials running for ever when a metric is missing, and it knows neither constraints nor
what a restarted study has already done.
"""

from __future__ import annotations

import errno
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from ray.tune import Callback
from ray.tune.search import Searcher

from study.ledger import Ledger, State, TrialRecord
from trainables.resources import is_out_of_memory

_DISK_FULL = os.strerror(errno.ENOSPC)


class Source(Protocol):
    """Where trainings come from, and who hears how they went."""

    def next(self) -> TrialRecord | None:
        """The next training, None when there is none left."""
        ...

    def reported(self, record: TrialRecord, report: Mapping[str, Any]) -> None:
        """A training has reported something new; the ledger has it."""
        ...

    def ended(self, record: TrialRecord, state: State, reason: str | None, last: Mapping[str, Any]) -> None:
        """A training has ended; ``last`` is its last report, empty if there is none."""
        ...

    def changed(self, running: int) -> None:
        """Something happened, and so many trainings run now."""
        ...

    def place(self, record: TrialRecord) -> str | None:
        """Where a training stood when it was stopped at a rung, in words."""
        ...


class RecordSearcher(Searcher):  # type: ignore[misc]  # Ray is untyped
    """Hands a source's trainings to Tune, which takes whatever it is given: a limit of Tune's own would be for ever."""

    def __init__(self, source: Source, plan: Callable[[TrialRecord], dict[str, Any]], room: Callable[[], int]) -> None:
        """``plan`` turns a training into Tune's configuration of it. ``room``: for how many there is room at present."""
        super().__init__()
        self._source = source
        self._plan = plan
        self._room = room
        self.is_empty = False
        self.running: dict[str, TrialRecord] = {}  # by Tune's trial id
        self.again: list[TrialRecord] = []  # to be handed out once more

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if len(self.running) >= self._room():
            return None
        record = self.again.pop(0) if self.again else self._next()
        if record is None:
            # After FINISHED Tune never asks again, and one of those that run may have to be tried again.
            return None if self.running else str(Searcher.FINISHED)
        self.running[trial_id] = record
        return self._plan(record)

    @property
    def is_done(self) -> bool:
        """Whether everything that the source had has ended."""
        return self.is_empty and not self.running and not self.again

    def _next(self) -> TrialRecord | None:
        record = None if self.is_empty else self._source.next()
        self.is_empty = record is None
        return record

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Told by `Recorder`, which also hears why a trial failed."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # a study goes on from its ledger, never from the state that Tune pickles

    def save(self, checkpoint_path: str) -> None:
        """Nothing, for the same reason."""

    def restore(self, checkpoint_path: str) -> None:
        raise RuntimeError("a study goes on from its ledger, not from Ray's state")


class Recorder(Callback):  # type: ignore[misc]
    """Writes every report into the ledger, has trainings tried again, and tells the source how each one went.

    Tune's own retries, `FailureConfig(max_failures)`, will not do: a training whose process dies while it is handed
    from one trial to the next fails at once, since Tune retries only what it calls running
    (`TuneController._process_trial_failure`).

    What goes wrong in here is kept in ``error``: Tune's own report of it hides what it was.
    """

    def __init__(self, ledger: Ledger, source: Source, searcher: RecordSearcher, retries: int) -> None:
        self._ledger = ledger
        self._source = source
        self._searcher = searcher
        self._retries = retries  # of each training
        self._last: dict[TrialRecord, dict[str, Any]] = {}
        self._written: dict[TrialRecord, set[tuple[int, bool]]] = {}
        self._failures: Counter[TrialRecord] = Counter()
        self.error: Exception | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {}  # as for the searcher

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._guarded(self._source.changed, len(self._searcher.running))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._guarded(self._take, trial.trial_id, result)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        # The result that makes the scheduler stop a trial may reach callbacks only as the trial's last one.
        self._guarded(self._take, trial.trial_id, trial.last_result or {})
        self._guarded(self._end, trial.trial_id, None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._guarded(self._end, trial.trial_id, _error_text(trial))

    def _guarded(self, action: Callable[..., None], *arguments: Any) -> None:
        try:
            action(*arguments)
        except Exception as error:
            self.error = self.error or error
            raise

    def _take(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Append a report that is new to the ledger."""
        record = self._searcher.running.get(trial_id)
        if record is None or "result" not in result:
            return
        report = json.loads(result["result"])
        key = (report["step"], report["final"])
        if record not in self._written:  # a trial that goes on reports its last rung, or more, again
            self._written[record] = {(line["step"], line["final"]) for line in record.reports()}
        self._last[record] = report
        if key not in self._written[record] and "failure" not in report:
            self._written[record].add(key)
            self._ledger.report(record, report)
            self._source.reported(record, report)
        self._source.changed(len(self._searcher.running))

    def _end(self, trial_id: str, error: str | None) -> None:
        record = self._searcher.running.pop(trial_id, None)
        if record is None:
            return
        if error is not None and _DISK_FULL in error:
            # No fault of the recipe: the study ends, and the trial goes on from its last rung once there is room.
            raise OSError(errno.ENOSPC, _DISK_FULL, str(record.folder))
        if error is not None:
            self._failures[record] += 1
            if self._failures[record] <= self._retries:
                self._searcher.again.append(record)
                return
        last = self._last.pop(record, {})
        self._written.pop(record, None)
        state, reason = self._verdict(record, last, error)
        if state == "infeasible":
            last = {**last, "cause": "out_of_memory"}
        self._source.ended(record, state, reason, last)
        self._source.changed(len(self._searcher.running))

    def _verdict(self, record: TrialRecord, last: Mapping[str, Any], error: str | None) -> tuple[State, str | None]:
        if error is not None:
            reason = _reason(error)
            return ("infeasible", f"out of memory: {reason}") if is_out_of_memory(error) else ("failed", reason)
        if last.get("failure"):
            return "infeasible" if last.get("cause") == "out_of_memory" else "failed", last["failure"]
        if last.get("final"):
            return "complete", None
        if last:
            return "stopped", self._source.place(record) or f"at step {last['step']}"
        return "failed", "ended without a result"


def _error_text(trial: Any) -> str:
    """What Tune wrote of a trial's error; its own `get_error` looks where the file is copied only later."""
    path = Path(trial.error_file) if trial.error_file else None
    return path.read_text(encoding="utf-8", errors="replace") if path and path.exists() else ""


def _reason(traceback: str) -> str:
    """The last telling line of a traceback."""
    lines = [line.strip() for line in traceback.splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line or "Exception" in line or "died" in line]
    return (errors or lines or ["the process of the trial ended without a message"])[-1][:500]
