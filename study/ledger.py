"""The append-only record of a study on disk: with the Optuna storage, the truth about it.

Ray only executes. Everything that a study needs in order to go on after a crash is in its folder, in plain files that
are written whole or not at all.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal

from study.errors import UserError
from trainables.artifacts import write_json
from trainables.recipe import Recipe

_LOCK = "study.lock"
State = Literal["complete", "stopped", "failed"]


@dataclass(frozen=True, eq=False)
class TrialRecord:
    """One trial as the ledger knows it; equal to itself alone."""

    number: int
    recipe: Recipe
    seed: int
    folder: Path

    @property
    def result(self) -> dict[str, Any] | None:
        """What ``result.json`` holds, None while the trial is not finished."""
        path = self.folder / "result.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def reports(self) -> list[dict[str, Any]]:
        """All whole lines of ``reports.jsonl``."""
        path = self.folder / "reports.jsonl"
        return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


@dataclass
class Ledger:
    """A study's folder. Only the process that holds its lock writes to it."""

    folder: Path
    _lock: IO[str] | None = field(default=None, repr=False)

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
                f"the study in {self.folder} is already running ({holder}); wait for it or stop it"
            ) from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()} since {_now()}\n")
        lock.flush()
        self._lock = lock
        for record in self.records():
            _cut_torn_tail(record.folder / "reports.jsonl")

    def set_aside(self) -> Path | None:
        """Move everything but the lock to a folder beside this one; None if there was no study."""
        entries = [entry for entry in self.folder.iterdir() if entry.name != _LOCK]
        if not any(entry.name == "config.yaml" for entry in entries):
            return None
        number = 1
        while (aside := self.folder.with_name(f"{self.folder.name}.{number}")).exists():
            number += 1
        aside.mkdir()
        for entry in entries:
            entry.rename(aside / entry.name)
        self.trials_folder.mkdir()
        return aside

    def records(self) -> list[TrialRecord]:
        """All trials that have a recipe, by number."""
        return list(self._records())

    def _records(self) -> Iterator[TrialRecord]:
        for path in sorted(self.trials_folder.glob("*/recipe.json")):
            content = json.loads(path.read_text(encoding="utf-8"))
            recipe = Recipe.model_validate(content["recipe"])
            yield TrialRecord(content["number"], recipe, content["seed"], path.parent)

    def begin(self, number: int, recipe: Recipe, seed: int) -> TrialRecord:
        """Record that trial ``number`` is to run this recipe."""
        record = TrialRecord(number, recipe, seed, self.trials_folder / f"{number:05d}")
        content = {"number": number, "recipe": recipe.model_dump(mode="json"), "seed": seed, "created": _now()}
        write_json(record.folder / "recipe.json", content)
        return record

    def report(self, record: TrialRecord, report: Mapping[str, Any]) -> None:
        """Append what a trial reported."""
        kept = {key: report[key] for key in ("step", "seconds", "final", "metrics", "losses") if key in report}
        with open(record.folder / "reports.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(kept) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def finish(self, record: TrialRecord, state: State, reason: str | None, last: Mapping[str, Any]) -> dict[str, Any]:
        """Record how a trial ended; ``last`` is its last report, empty if it never reported. Returns the result."""
        result = {
            "state": state,
            "reason": reason,
            "steps": last.get("step", 0),
            "seconds": last.get("seconds", 0.0),
            "parameters": last.get("parameters"),
            "timing": last.get("timing", {}),
            "metrics": last.get("metrics", {}),
            "scores": {"validation": last["scores"]} if last.get("scores") else {},
            "finished": _now(),
        }
        write_json(record.folder / "result.json", result)
        return result


def _cut_torn_tail(path: Path) -> None:
    """Drop a last line that a crash left unfinished, so that the next one starts on a line of its own."""
    if path.exists():
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            with open(path, "r+b") as file:
                file.truncate(len(whole))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
