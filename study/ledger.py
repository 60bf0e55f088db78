"""The append-only record of a study on disk: with the Optuna storage, the truth about it.

Ray only executes. Everything that a study needs in order to go on after a crash is in its folder, in plain files that
are written whole or not at all.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal, TypeVar

from pydantic import ValidationError

from study.errors import UserError
from study.mistakes import first_mistake
from study.remote_study import RemoteStudy
from trainables.artifacts import remove_half_written, write_json
from trainables.config import STATE
from trainables.recipe import Recipe

_LOCK = "study.lock"
_CONFIRMATIONS = "confirm"
State = Literal["complete", "stopped", "infeasible", "failed"]
_OF_RESULTS = ("state", "reason", "steps", "seconds", "metrics", "scores", "finished")  # what a study reads of them
_OF_REPORTS = ("step", "final", "metrics")
Value = TypeVar("Value", str, int, float, dict[str, Any])
_NAMES = {str: "a text", int: "a whole number", float: "a number", dict: "a record"}


@dataclass(frozen=True, eq=False)
class TrialRecord:
    """One training of a recipe as the ledger knows it; equal to itself alone.

    A trial of the search is its recipe's first training; a confirmation is a later one, with another seed, in a
    folder of its own inside the trial's.
    """

    number: int
    recipe: Recipe
    seed: int
    folder: Path

    @property
    def result(self) -> dict[str, Any] | None:
        """What ``result.json`` holds, None while the trial is not finished.

        Raises:
            UserError: if it cannot be read, or lacks what a study needs of it.
        """
        path = self.folder / "result.json"
        if not path.exists():
            return None
        result = _read(path)
        for key in _OF_RESULTS:
            if key not in result:
                raise _lacking(path, key)
        return result

    def reports(self) -> list[dict[str, Any]]:
        """All whole lines of ``reports.jsonl``.

        Raises:
            UserError: if one cannot be read, or lacks what a study needs of it.
        """
        path = self.folder / "reports.jsonl"
        lines = path.read_bytes().splitlines() if path.exists() else []
        try:
            reports = [json.loads(line) for line in lines]
        except ValueError as error:
            raise _unreadable(path, _no_json(error)) from None
        for number, report in enumerate(reports, 1):
            for key in _OF_REPORTS:
                if not isinstance(report, dict) or key not in report:
                    raise _lacking(path, f"{key} in line {number}")
        return reports


def language_rows(result: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Set, language and scores in a trial's result, as in ``result.json``: first, under the empty name, the means over
    all sets, then those of named sets; none for a trial that was not scored to its end."""
    scores = result["scores"].get("validation", {})
    named = {of: rows for of, rows in scores.get("sets", {}).items() if of}
    for of, rows in {"": scores.get("languages", {}), **named}.items():
        for language, row in rows.items():
            yield of, language, row


@dataclass
class Ledger:
    """A study's folder. Only the process that holds its lock writes to it."""

    folder: Path
    remote: RemoteStudy | None = None  # of a study at a URL: ``folder`` is a copy of it then
    _lock: IO[str] | None = field(default=None, repr=False)

    @property
    def place(self) -> str:
        """Where the study lies, for messages."""
        return self.remote.remote.url if self.remote else str(self.folder)

    def place_of(self, record: TrialRecord) -> str:
        """The folder of a training, as the process that trains is to find it: a path or a URL."""
        return self.remote.place_of(record.folder) if self.remote else str(record.folder)

    def has_begun(self) -> bool:
        """Whether the study has trials; it need not be open."""
        if self.remote is not None:
            return any(name.endswith("/recipe.json") for name in self.remote.remote.names())
        return any(self.folder.glob("trials/*/recipe.json"))

    def keep(self, path: Path) -> None:
        """Say that a file of the folder was written: of a study at a URL it goes there."""
        if self.remote is not None:
            self.remote.keep(path)

    def keep_all(self) -> None:
        """Like `keep`, for all files that were written or deleted."""
        if self.remote is not None:
            self.remote.keep_all()

    @property
    def trials_folder(self) -> Path:
        return self.folder / "trials"

    def open(self) -> None:
        """Create the folder and take its lock; it is free again when this process ends, however it ends.

        Raises:
            UserError: if the folder cannot be written, or another process has the study open.
        """
        try:
            self.trials_folder.mkdir(parents=True, exist_ok=True)
            lock = open(self.folder / _LOCK, "a+", encoding="utf-8")  # noqa: SIM115  held until the process ends
        except OSError as error:
            raise UserError(
                f"storage.path: cannot write the study folder {self.folder}: {error.strerror}; name a writable one, "
                "for example --set storage.path=/tmp/runs"
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            lock.close()
            raise UserError(
                f"the study in {self.place} is already running ({holder}); wait for it or stop it"
            ) from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()} since {_now()}\n")
        lock.flush()
        self._lock = lock
        if self.remote is not None:
            self.remote.open()
        remove_half_written(self.folder)
        for path in self.trials_folder.glob("**/reports.jsonl"):
            _cut_torn_tail(path)
        for path in self.trials_folder.glob("**/result.json"):
            _forget_state(path.parent)

    def close(self) -> None:
        """Let other processes have the study."""
        if self.remote is not None:
            self.remote.close()
        if self._lock is not None:
            self._lock.close()

    def set_aside(self) -> Path | str | None:
        """Move the study to a folder beside this one, whole, and open an empty one; None if there was no study.

        Raises:
            UserError: as `open` does.
        """
        if self.remote is not None:
            return self.remote.set_aside()
        if not (self.folder / "config.yaml").exists():
            return None
        number = 1
        while (aside := self.folder.with_name(f"{self.folder.name}.{number}")).exists():
            number += 1
        self.folder.rename(aside)
        (aside / _LOCK).unlink()
        self.open()
        return aside

    @property
    def study_name(self) -> str:
        """The study's name in Optuna's storage, made once: studies that share a database stay apart, --fresh ones too."""
        path = self.folder / "study.json"
        if not path.exists():
            write_json(path, {"optuna_study": f"{self.folder.name}-{uuid.uuid4().hex[:8]}", "created": _now()})
            self.keep(path)
        return read_field(path, "optuna_study", of=str)

    def records(self) -> list[TrialRecord]:
        """All trials that have a recipe, by number."""
        return list(_records(self.trials_folder))

    def what_is_kept(self) -> str:
        """What whoever sees the study end early wants to know."""
        ended = sum(record.result is not None for record in self.records())
        return f"{ended} finished trials are kept in {self.place}. The same command goes on from there."

    def confirmations(self, record: TrialRecord) -> list[TrialRecord]:
        """The further trainings of a trial's recipe, in their order."""
        return list(_records(record.folder / _CONFIRMATIONS))

    def begin(self, number: int, recipe: Recipe, seed: int) -> TrialRecord:
        """Record that trial ``number`` is to run this recipe."""
        return self._begin(TrialRecord(number, recipe, seed, self.trials_folder / f"{number:05d}"))

    def begin_confirmation(self, of: TrialRecord, place: int, seed: int) -> TrialRecord:
        """Record that the recipe of a trial is to be trained again, for the ``place``-th time, counted from 1."""
        return self._begin(TrialRecord(of.number, of.recipe, seed, of.folder / _CONFIRMATIONS / f"{place:02d}"))

    def _begin(self, record: TrialRecord) -> TrialRecord:
        recipe = record.recipe.model_dump(mode="json")
        content = {"number": record.number, "recipe": recipe, "seed": record.seed, "created": _now()}
        write_json(record.folder / "recipe.json", content)
        self.keep(record.folder / "recipe.json")
        return record

    def search_seconds(self) -> float:
        """Wall time of the search so far, over all runs."""
        path = self.folder / "search.json"
        return read_field(path, "seconds", of=float) if path.exists() else 0.0

    def spent(self, seconds: float) -> None:
        """Record the wall time of the search so far, over all runs."""
        write_json(self.folder / "search.json", {"seconds": round(seconds, 1)})
        self.keep(self.folder / "search.json")

    def report(self, record: TrialRecord, report: Mapping[str, Any]) -> None:
        """Append what a trial reported."""
        kept = {
            key: report[key] for key in ("step", "seconds", "timing", "final", "metrics", "losses") if key in report
        }
        with open(record.folder / "reports.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(kept) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.keep(record.folder / "reports.jsonl")

    def finish(self, record: TrialRecord, state: State, reason: str | None, last: Mapping[str, Any]) -> dict[str, Any]:
        """Record how a trial ended; ``last`` is its last report, empty if it never reported. Returns the result."""
        result = {
            "state": state,
            "reason": reason,
            "steps": last.get("step", 0),
            "seconds": last.get("seconds", 0.0),
            "parameters": last.get("parameters"),
            "timing": last.get("timing", {}),
            "memory_gb": last.get("memory_gb"),
            "trained_parameters": last.get("trained_parameters"),
            "cause": last.get("cause"),
            "metrics": last.get("metrics", {}),
            "scores": {"validation": last["scores"]} if last.get("scores") else {},
            "finished": _now(),
        }
        write_json(record.folder / "result.json", result)
        self.keep(record.folder / "result.json")
        _forget_state(record.folder)
        if self.remote is not None:
            self.remote.forget_state(record.folder)
        return result


def read_field(path: Path, *keys: str, of: type[Value]) -> Value:
    """What a record of the study has under these keys, each inside the one before: a value ``of`` this type.

    Raises:
        UserError: if it cannot be read, lacks one, or has something else there.
    """
    return _field(path, _read(path), *keys, of=of)


def _field(path: Path, content: dict[str, Any], *keys: str, of: type[Value]) -> Value:
    """`read_field` of a record that was read from ``path``."""
    value: Any = content
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            raise _lacking(path, ".".join(keys))
        value = value[key]
    if isinstance(value, int) and of is float:
        value = float(value)
    if not isinstance(value, of):
        raise _unreadable(path, f"{'.'.join(keys)} is {json.dumps(value)[:50]} instead of {_NAMES[of]}")
    return value


def _records(folder: Path) -> Iterator[TrialRecord]:
    for path in sorted(folder.glob("*/recipe.json")):
        content = _read(path)
        number, seed = (_field(path, content, key, of=int) for key in ("number", "seed"))
        fields = _field(path, content, "recipe", of=dict)
        try:
            recipe = Recipe.model_validate(fields)
        except ValidationError as error:
            raise _unreadable(path, first_mistake(Recipe, error)[1]) from None
        yield TrialRecord(number, recipe, seed, path.parent)


def _read(path: Path) -> dict[str, Any]:
    """A record. Raises UserError if a disk or a hand has damaged it: a study does not go on without knowing its trials."""
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise _unreadable(path, _no_json(error)) from None
    if not isinstance(content, dict):
        raise _unreadable(path, "it is no record")
    return content


def _no_json(error: ValueError) -> str:
    where = f" from line {error.lineno}, column {error.colno} on" if isinstance(error, json.JSONDecodeError) else ""
    return f"it is no JSON{where}"


def _lacking(path: Path, key: str) -> UserError:
    return _unreadable(path, f"it has no {key}")


def _unreadable(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path} cannot be read ({reason}): restore it from a copy, or give --fresh to set the study aside and start anew"
    )


def _cut_torn_tail(path: Path) -> None:
    """Drop a last line that a crash left unfinished, so that the next one starts on a line of its own."""
    if path.exists():
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            with open(path, "r+b") as file:
                file.truncate(len(whole))


def _forget_state(training: Path) -> None:
    """What a training would go on from is not needed once its result is written, and never goes before."""
    with suppress(OSError):  # it only takes room
        (training / STATE).unlink(missing_ok=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
