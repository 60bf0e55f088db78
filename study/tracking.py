"""Every report and every end of a trial, handed on to TensorBoard and MLflow; off unless `tracking` asks for it.

A tracker is never in the study's way: each works in a thread of its own, what it cannot write waits there, and the
study neither waits for it nor fails with it. The ledger stays the truth: when a study goes on, it feeds its trackers
from there whatever they lack.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from analysis.metric_names import of_set
from study.config import StudyConfig, TrackingConfig
from study.errors import UserError
from study.ledger import Ledger, TrialRecord, language_rows
from study.storage_config import sqlite_url
from trainables.recipe import Recipe

_log = logging.getLogger(__name__)

_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")  # what MLflow can keep its runs in; a driver may follow, by +
_LANGUAGE_SCORES = ("map_i2t", "map_t2i", "vqa_accuracy")  # what the objectives are made of
_LONGEST_PAUSE = 60.0  # seconds between two tries of a tracker that is out of order
_LAST_TRIES = 3  # failures in a row, when the study ends, after which a tracker is given up
_LAST_WAIT = 30.0  # seconds that the end of a study waits for its trackers at most


class Tracker(Protocol):
    """Where reports go.

    A call may raise anything, and is then made again later: what was written before, in this run of the study or in an
    earlier one, must not be written twice. An error's text goes into the study's log and must hold no secret.
    """

    name: str

    def report(self, record: TrialRecord, step: int, values: Mapping[str, float], at: float) -> None:
        """Take the `scalars` of a report that came at ``at``, in seconds since the epoch."""

    def finish(self, record: TrialRecord, result: Mapping[str, Any]) -> None:
        """Take the end of a trial, as `result.json` has it."""


@dataclass(frozen=True)
class MlflowStore:
    """Where MLflow keeps runs: ``uri``, and for a folder of ours also where it keeps their artifacts."""

    uri: str
    artifacts: str | None
    is_secret: bool


def check_tracking(config: TrackingConfig) -> None:
    """Whether what ``config`` asks for can be had at all; quick, and without a look at any server.

    Raises:
        UserError: if an extra is not installed, an environment variable is not set, or a URI cannot be one.
    """
    if config.tensorboard:
        _need("tensorboard", "tracking.tensorboard", "tensorboard")
    if config.mlflow is not None:
        _need("mlflow", "tracking.mlflow", "mlflow")
        mlflow_store(config.mlflow)


def _need(module: str, key: str, extra: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise UserError(f"{key}: needs an extra that is not installed: pip install 'polydistill[{extra}]'")


def mlflow_store(setting: str) -> MlflowStore:
    """What `tracking.mlflow` names.

    Raises:
        UserError: if it names nothing. What an environment variable holds is not repeated.
    """
    is_secret = setting.startswith("env:")
    value, shown = setting, repr(setting)
    if is_secret:
        variable = setting.removeprefix("env:")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable):
            raise UserError(f"tracking.mlflow: {shown} names no environment variable; write env:NAME")
        value, shown = os.environ.get(variable, ""), f"what {variable} holds"
        if not value:
            raise UserError(
                f"tracking.mlflow: the environment variable {variable} is not set; it must hold a tracking URI"
            )
    # To MLflow `databricks` alone is an address, of a service that this has not been tried with; it is no folder either.
    if ("://" in value or value == "databricks") and not value.startswith("file:"):
        return MlflowStore(_checked_uri(value, shown, is_secret), None, is_secret)
    folder = Path(re.sub("^file:(//)?", "", value)).expanduser().absolute()
    if not value or (folder.exists() and not folder.is_dir()):
        raise UserError(f"tracking.mlflow: {shown} is no tracking URI and no folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"tracking.mlflow: the folder {shown} cannot be made: {error.strerror}") from None
    # MLflow keeps runs in a database also on the local disk: its older store of plain files is closed to new studies.
    return MlflowStore(sqlite_url(folder / "mlflow.db"), (folder / "artifacts").as_uri(), is_secret)


def _checked_uri(value: str, shown: str, is_secret: bool) -> str:
    try:
        parts = urlsplit(value)
        has_place = parts.port != 0 and bool(parts.hostname if parts.scheme in ("http", "https") else parts.path)
    except ValueError:  # a port that is no number, or half an IPv6 address
        raise UserError(f"tracking.mlflow: {shown} is not a URI") from None
    if parts.password and not is_secret:
        raise UserError("tracking.mlflow: a URI with a password would be written down: set it as env:NAME")
    if parts.scheme not in ("http", "https") and parts.scheme.partition("+")[0] not in _DATABASES:
        raise UserError(
            f"tracking.mlflow: {shown} is neither of a tracking server (http, https) nor of a database "
            f"({', '.join(_DATABASES)}) nor a folder"
        )
    if not has_place:
        raise UserError(f"tracking.mlflow: {shown} does not say where the server or the database is")
    return value


def scalars(report: Mapping[str, Any]) -> dict[str, float]:
    """What a report says in numbers: ``seconds``, then metrics by their names and losses as ``loss/NAME``."""
    found = {"seconds": report.get("seconds", 0.0), **report.get("metrics", {})}
    found |= {f"loss/{name}": value for name, value in report.get("losses", {}).items()}
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}


def language_scores(result: Mapping[str, Any]) -> dict[str, float]:
    """What the objectives are made of, as ``SCORE/LANGUAGE``, and as ``SCORE@SET/LANGUAGE`` where sets are named; empty for
    a trial that was not scored to its end."""
    return {
        f"{of_set(score, of)}/{language}": float(row[score])
        for of, language, row in language_rows(result)
        for score in _LANGUAGE_SCORES
        if row.get(score) is not None
    }


def flat_recipe(recipe: Recipe) -> dict[str, str | float | bool]:
    """A recipe by dotted keys, for tables; a list becomes its JSON text."""
    flat: dict[str, str | float | bool] = {}

    def walk(prefix: str, branch: Mapping[str, Any]) -> None:
        for name, value in branch.items():
            if isinstance(value, dict):
                walk(f"{prefix}{name}.", value)
            else:
                flat[prefix + name] = value if isinstance(value, str | float | int) else json.dumps(value)

    walk("", recipe.model_dump(mode="json"))
    return flat


class Trackers:
    """The trackers of one study, none by default."""

    def __init__(self, trackers: Iterable[Tracker]) -> None:
        self._feeds = [_Feed(tracker) for tracker in trackers]

    @classmethod
    def open(cls, config: StudyConfig, folder: Path) -> Trackers:
        """The trackers that the configuration of the study in ``folder`` asks for.

        Raises:
            UserError: as `check_tracking` does.
        """
        check_tracking(config.tracking)
        found: list[Tracker] = []
        if config.tracking.tensorboard:
            from study.tracking_tensorboard import TensorBoardTracker

            found.append(TensorBoardTracker(folder / "tensorboard"))
        if config.tracking.mlflow is not None:
            from study.tracking_mlflow import MlflowTracker

            found.append(MlflowTracker(mlflow_store(config.tracking.mlflow), config.name, Ledger(folder).study_name))
        return cls(found)

    def report(self, record: TrialRecord, report: Mapping[str, Any]) -> None:
        """Hand on what a trial reported."""
        for feed in self._feeds:
            feed.put(partial(feed.tracker.report, record, report["step"], scalars(report), time.time()))

    def finish(self, record: TrialRecord, result: Mapping[str, Any]) -> None:
        """Hand on how a trial ended; ``result`` as `Ledger.finish` returns it."""
        for feed in self._feeds:
            feed.put(partial(feed.tracker.finish, record, result))

    def catch_up(
        self, finished: Mapping[TrialRecord, Mapping[str, Any]], unfinished: Iterable[TrialRecord] = ()
    ) -> None:
        """Hand on all that the ledger holds of these trials; trackers leave out what they have."""
        if not self._feeds:
            return
        for record in [*finished, *unfinished]:
            for report in record.reports():
                self.report(record, report)
        for record, result in finished.items():
            self.finish(record, result)

    def close(self) -> None:
        """Wait, not for long, until everything is written; what is not by then is given up for this run."""
        deadline = time.monotonic() + _LAST_WAIT
        for feed in self._feeds:
            feed.close()
        for feed in self._feeds:
            feed.wait(deadline - time.monotonic())


class _Feed:
    """One tracker in a thread of its own, which the study never waits for.

    What fails goes to the end of the queue and is tried again, at growing intervals, so that an hour without a server
    costs no report, and one report that a server will not have holds up no other.
    """

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self._waiting: deque[Callable[[], None]] = deque()  # only the thread takes from it
        self._changed = threading.Condition()
        self._closing = False
        self._has_complained = False
        # A daemon: a server that does not answer must not keep the process alive.
        self._thread = threading.Thread(target=self._work, name=f"tracking-{tracker.name}", daemon=True)
        self._thread.start()

    def put(self, job: Callable[[], None]) -> None:
        with self._changed:
            self._waiting.append(job)
            self._changed.notify_all()

    def close(self) -> None:
        """Let the thread end once all that waits has been tried for a last time."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        self._thread.join(max(0.0, seconds))
        if left := len(self._waiting):
            _log.warning("tracking.%s: %d reports were not written", self.tracker.name, left)

    def _work(self) -> None:
        failures = 0
        while self._next_is_due(min(_LONGEST_PAUSE, 2.0**failures) if failures else 0.0):
            failures = self._try_first(failures)
        failures = 0
        for _ in range(len(self._waiting)):
            failures = self._try_first(failures)
            if failures == _LAST_TRIES:
                return

    def _next_is_due(self, pause: float) -> bool:
        """Wait for the pause to pass and for something to do; False if the study ends meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing, pause)
            self._changed.wait_for(lambda: self._closing or self._waiting)
            return not self._closing

    def _try_first(self, failures: int) -> int:
        """Do what waits longest. Returns how many tries in a row have failed, ``failures`` of them before."""
        try:
            self._waiting[0]()
        except Exception as error:
            if not self._has_complained:
                self._has_complained = True
                reason = " ".join(str(error).split())[:300]
                _log.warning(
                    "tracking.%s: %s: %s; the study goes on, and reports are tried again",
                    self.tracker.name,
                    type(error).__name__,
                    reason,
                )
            with self._changed:
                self._waiting.rotate(-1)
            return failures + 1
        self._waiting.popleft()
        return 0
