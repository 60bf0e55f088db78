"""Trials as MLflow runs, one each, in an experiment named after the study.

A run is found again by its tags: the study's own name in Optuna's storage, and the trial's number.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from study.ledger import TrialRecord
from study.tracking import MlflowStore, flat_recipe, language_scores

_STUDY_TAG, _TRIAL_TAG = "polydistill.study", "polydistill.trial"
_STATUS = {"complete": "FINISHED", "failed": "FAILED"}  # any other end is somebody's decision: KILLED
# Read by MLflow when it is imported, or at each request. By default it tries for minutes, prints the server's address
# into the study's log, and reports its own use to its makers.
_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the feed tries again
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_CONFIGURE_LOGGING": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


@dataclass
class _Run:
    """What is known of a trial's run."""

    id: str
    has_recipe: bool = False
    has_ended: bool = False
    steps: set[int] = field(default_factory=set)  # whose reports it has


class MlflowTracker:
    """Writes the recipe as parameters, what trials report as metrics by step, and how each ended as its run's status."""

    name = "mlflow"

    def __init__(self, store: MlflowStore, experiment: str, study: str) -> None:
        """``study`` is the name that no other study has, also not one of the same ``experiment``."""
        self._store = store
        self._experiment = experiment
        self._study = study
        self._api: Any = None
        self._experiment_id = ""
        self._runs: dict[int, _Run] | None = None  # by trial number; None: to be looked up
        for name, value in _SETTINGS.items():
            os.environ.setdefault(name, value)

    def report(self, record: TrialRecord, step: int, values: Mapping[str, float], at: float) -> None:
        with self._forgetting():
            run = self._run(record, at - values["seconds"])
            if not run.has_ended and step not in run.steps:
                self._write(run, record, _metrics(values, step, at))
                run.steps.add(step)

    def finish(self, record: TrialRecord, result: Mapping[str, Any]) -> None:
        at = datetime.fromisoformat(result["finished"]).timestamp()
        with self._forgetting():
            run = self._run(record, at - result["seconds"])
            if not run.has_ended:
                self._write(run, record, _metrics(language_scores(result), result["steps"], at))
                self._api.set_tag(run.id, "state", result["state"])
                if result["reason"]:
                    self._api.set_tag(run.id, "reason", result["reason"])
                self._api.set_terminated(run.id, _STATUS.get(result["state"], "KILLED"), round(1000 * at))
                run.has_ended = True

    @contextmanager
    def _forgetting(self) -> Iterator[None]:
        """After an error nothing is sure, for example whether the server has made a run whose id never arrived."""
        try:
            yield
        except Exception as error:
            self._runs = None
            # MLflow's own messages hold the address of the server.
            told = getattr(error, "error_code", "") if self._store.is_secret else str(error)
            raise ConnectionError(f"{type(error).__name__} {told}") from None

    def _run(self, record: TrialRecord, began: float) -> _Run:
        """The trial's run, made if it is not there; ``began`` in seconds since the epoch."""
        if self._runs is None:
            self._runs = self._look_up()
        if record.number not in self._runs:
            made = self._api.create_run(
                self._experiment_id,
                start_time=round(1000 * began),
                tags={_STUDY_TAG: self._study, _TRIAL_TAG: str(record.number)},
                run_name=f"{record.number:05d} {record.recipe.strategy}",
            )
            self._runs[record.number] = _Run(made.info.run_id)
        return self._runs[record.number]

    def _write(self, run: _Run, record: TrialRecord, metrics: Sequence[Any]) -> None:
        """Add metrics, and the recipe if the run has none yet."""
        from mlflow.entities import Param

        recipe = {} if run.has_recipe else flat_recipe(record.recipe)
        self._api.log_batch(run.id, metrics, [Param(key, str(value)) for key, value in recipe.items()])
        run.has_recipe = True

    def _look_up(self) -> dict[int, _Run]:
        """The runs that the store has of this study."""
        if self._api is None:
            from mlflow import MlflowClient

            logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # its messages may hold the address, too
            self._api = MlflowClient(self._store.uri)
        found = self._api.get_experiment_by_name(self._experiment)
        self._experiment_id = (
            found.experiment_id
            if found
            else self._api.create_experiment(self._experiment, artifact_location=self._store.artifacts)
        )
        runs: dict[int, _Run] = {}
        token = None
        while True:
            page = self._api.search_runs(
                [self._experiment_id], f"tags.`{_STUDY_TAG}` = '{self._study}'", page_token=token
            )
            for run in page:
                runs[int(run.data.tags[_TRIAL_TAG])] = self._known(run)
            if (token := page.token) is None:
                return runs

    def _known(self, run: Any) -> _Run:
        has_ended = run.info.status in ("FINISHED", "FAILED", "KILLED")
        history = [] if has_ended else self._api.get_metric_history(run.info.run_id, "seconds")
        return _Run(run.info.run_id, bool(run.data.params), has_ended, {metric.step for metric in history})


def _metrics(values: Mapping[str, float], step: int, at: float) -> list[Any]:
    from mlflow.entities import Metric

    # In a name MLflow takes no @, by which a set follows its metric.
    return [Metric(name.replace("@", ":"), value, round(1000 * at), step) for name, value in values.items()]
