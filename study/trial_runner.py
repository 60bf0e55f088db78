"""Runs trainings on Ray Tune: those of the search and those of the confirmation, in one way."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from ray import tune
from ray.tune import RunConfig, TuneConfig, Tuner
from ray.tune.schedulers import TrialScheduler

from study.config import StudyConfig
from study.environment import interrupt
from study.ledger import Ledger, State, TrialRecord
from study.placement import TRIAL_RESOURCE
from study.ray_mends import count_no_callbacks, fail_one_trial_when_memory_runs_out
from study.ray_metrics import RayMetrics
from study.search import Recorder, RecordSearcher, Source
from study.trial_plan import Inputs, trial_plan
from trainables.remote_folder import RemoteError, RemoteFolder, is_url
from trainables.trial import ray_storage, run_trial

_RAY_FOLDER = "ray-"  # what Ray writes: nothing that a study needs later


class TrialRunner:
    """Runs what a `Source` hands out, as many at once as there is room for."""

    def __init__(
        self,
        config: StudyConfig,
        ledger: Ledger,
        inputs: Inputs,
        room: Callable[[], int],
        metrics: RayMetrics,
        profile: bool = False,
        trainable: Callable[[dict[str, Any]], None] = run_trial,
    ) -> None:
        """``profile``: whether the first training writes a trace. ``trainable``: what Tune runs; a benchmark has one that
        only waits."""
        self._trainable = trainable
        self._config = config
        self._metrics = metrics
        self._ledger = ledger
        self._inputs = inputs
        self._room = room  # for how many at once
        self._profile = profile
        self.profiled: TrialRecord | None = None  # the training that is to write a trace
        # Seconds over the trainings of this run: training, evaluation, and all else from hand-out to end.
        self.spent = {"training": 0.0, "evaluation": 0.0, "other": 0.0}

    def run(self, source: Source, scheduler: TrialScheduler | None) -> None:
        """Run trainings until the source has none left.

        Raises:
            KeyboardInterrupt: if the user stopped it; what has ended is kept.
            OSError: if the study's folder cannot be written.
            UserError: if Optuna's storage does not come back.
        """
        fail_one_trial_when_memory_runs_out()
        count_no_callbacks()
        remove_left_overs(self._ledger)
        ray_folder = _new_ray_folder(self._ledger)
        timed = _Timed(source, self.spent, self._metrics)
        searcher = RecordSearcher(timed, lambda record: self._tune_config(record, ray_folder), self._room)
        recorder = Recorder(self._ledger, timed, searcher, self._config.resources.retries)
        signal.signal(signal.SIGINT, interrupt)
        os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "0"
        try:
            tuner = Tuner(
                tune.with_resources(self._trainable, self._driver_resources()),
                tune_config=TuneConfig(
                    search_alg=searcher,
                    scheduler=scheduler,
                    num_samples=-1,  # the source says when there is nothing left
                    reuse_actors=self._config.resources.workers_per_trial == 0,
                    trial_dirname_creator=lambda trial: trial.trial_id,
                ),
                run_config=RunConfig(
                    name="tune",
                    **ray_storage(ray_folder),
                    verbose=0,
                    callbacks=[recorder],
                ),
            )
            tuner.fit()
        except Exception:
            if recorder.error is not None:
                raise recorder.error from None
            raise
        finally:
            # Tune returns from Ctrl-C as if it had finished, and has put this handler back; otherwise its own stays.
            was_interrupted = signal.getsignal(signal.SIGINT) is interrupt
            signal.signal(signal.SIGINT, interrupt)
            _remove(ray_folder)
        if was_interrupted or not searcher.is_done:
            raise KeyboardInterrupt

    def _tune_config(self, record: TrialRecord, ray_folder: str) -> dict[str, Any]:
        """What `run_trial` needs, and the trial's number for the scheduler."""
        if self._profile and self.profiled is None:
            self.profiled = record
        plan = trial_plan(
            self._config, self._inputs, record, self._ledger.place_of(record), profile=record is self.profiled
        )
        return {"number": record.number, "plan": plan.model_dump_json(), "ray_storage": ray_folder}

    def _driver_resources(self) -> dict[str, float]:
        """A trial with workers of its own leaves the CPUs to them; one without is its own worker, wherever there is room."""
        resources = self._config.resources
        if resources.workers_per_trial:
            return {TRIAL_RESOURCE: 1.0}
        gpu = {"GPU": resources.gpus_per_worker} if resources.gpus_per_worker else {}
        return {"CPU": resources.cpus_per_worker, **gpu}


def _new_ray_folder(ledger: Ledger) -> str:
    """A place in the study's folder that all nodes reach, for what Ray writes."""
    if ledger.remote is not None:
        return (ledger.remote.remote / f"{_RAY_FOLDER}{uuid.uuid4().hex[:8]}").url
    return tempfile.mkdtemp(prefix=_RAY_FOLDER, dir=ledger.folder)


def _remove(ray_folder: str) -> None:
    if is_url(ray_folder):
        with suppress(RemoteError):
            RemoteFolder(ray_folder).remove_all()
    else:
        shutil.rmtree(ray_folder, ignore_errors=True)


def remove_left_overs(ledger: Ledger) -> None:
    """Delete what Ray Tune wrote into a study's folder in runs that were killed; nothing of it is ever read again."""
    if ledger.remote is not None:
        first = {name.partition("/")[0] for name in ledger.remote.remote.names()}
        for name in sorted(name for name in first if name.startswith(_RAY_FOLDER)):
            _remove((ledger.remote.remote / name).url)
    for left_over in ledger.folder.glob(f"{_RAY_FOLDER}*"):
        shutil.rmtree(left_over, ignore_errors=True)


class _Timed:
    """A source that adds up what its trainings spent their time on, and counts what they were trained on."""

    def __init__(self, source: Source, spent: dict[str, float], metrics: RayMetrics) -> None:
        self._source = source
        self._spent = spent
        self._began: dict[TrialRecord, float] = {}
        self._metrics = metrics
        self.changed, self.place = source.changed, source.place

    def next(self) -> TrialRecord | None:
        record = self._source.next()
        if record is not None:
            self._began[record] = time.monotonic()
        return record

    def reported(self, record: TrialRecord, report: Mapping[str, Any]) -> None:
        self._source.reported(record, report)
        self._metrics.reported(record)

    def ended(self, record: TrialRecord, state: State, reason: str | None, last: Mapping[str, Any]) -> None:
        wall, timing = time.monotonic() - self._began.pop(record), last.get("timing", {})
        training, evaluation = timing.get("train", 0.0), timing.get("evaluate", 0.0)
        self._spent["training"] += training
        self._spent["evaluation"] += evaluation
        self._spent["other"] += max(0.0, wall - training - evaluation)
        self._source.ended(record, state, reason, last)
