"""What must hold of a study after every kill, and at its end, judged from its files and Optuna's storage alone."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from tests.crash.observer import trainings

TOLD = {
    "complete": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "infeasible": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
_NEVER_CHANGE = ("study.json", "trials/**/recipe.json", "trials/**/result.json", "trials/*/test.json")
Signature = dict[str, tuple[int, int, int]]  # of the files of a folder: inode, size and time of change (ns)


@dataclass
class Invariants:
    """Remembers what a study's files have said, and holds every later state of them against it."""

    folder: Path
    cache: Path
    milestones: tuple[int, ...]  # the steps at which a training reports, the last one included
    trials: int  # the study's budget
    _kept: dict[Path, bytes] = field(default_factory=dict)
    _reports: dict[Path, bytes] = field(default_factory=dict)
    _told: dict[int, FrozenTrial] = field(default_factory=dict)
    _parameters: dict[int, dict[str, Any]] = field(default_factory=dict)
    _artifacts: dict[Path, Signature] = field(default_factory=dict)
    _teacher: dict[str, Any] | None = None

    def check(self, is_running: bool) -> list[str]:
        """All that is violated now; a study that is running may be between any two of its writes."""
        trials = {} if not (self.folder / "study.db").exists() else self._read_optuna(is_running)
        if isinstance(trials, str):
            return [trials]
        return [
            *self._optuna_keeps(trials),
            *self._ledger_is_first(trials, is_running),
            *self._files_keep(),
            *self._json_parses(),
            *self._reports_grow(),
            *self._artifacts_keep(),
            *self._teacher_keeps(),
        ]

    def check_ended(self) -> list[str]:
        """All that is violated after a study has ended by itself."""
        found = self.check(is_running=False)
        trials = self._read_optuna(is_running=False)
        if isinstance(trials, str):
            return [*found, trials]
        return [*found, *self._everything_ended(trials), *self._front_is_whole(), *self._nothing_is_left()]

    def unfinished(self) -> list[Path]:
        """The trainings that have begun and not ended."""
        begun = [path for path in trainings(self.folder) if (path / "recipe.json").exists()]
        return [path for path in begun if not (path / "result.json").exists()]

    def last_step(self, training: Path) -> int:
        """The last step that a training has reported, 0 if none."""
        lines = _whole(training / "reports.jsonl").splitlines()
        return int(json.loads(lines[-1])["step"]) if lines else 0

    def _read_optuna(self, is_running: bool) -> dict[int, FrozenTrial] | str:
        """The trials that were asked for, by number, or what is wrong: read from a copy, so that nothing is mended."""
        try:
            name = json.loads((self.folder / "study.json").read_text(encoding="utf-8"))["optuna_study"]
            with tempfile.TemporaryDirectory() as place:
                copy = Path(place) / "study.db"
                _copy_database(self.folder / "study.db", copy, is_running)
                if not _has_study(copy, name):
                    return {}
                storage = optuna.storages.RDBStorage(f"sqlite:///{copy}", skip_compatibility_check=True)
                trials = optuna.load_study(study_name=name, storage=storage).get_trials()
                storage.remove_session()
                storage.engine.dispose()
        except Exception as error:
            return f"study.db cannot be read: {type(error).__name__}: {error}"
        return {trial.number: trial for trial in trials if trial.state != TrialState.WAITING}

    def _optuna_keeps(self, trials: Mapping[int, FrozenTrial]) -> Iterator[str]:
        for number, before in self._told.items():
            if (now := trials.get(number)) != before:
                changed = [key for key in vars(before) if now is None or getattr(now, key) != getattr(before, key)]
                yield f"Optuna's trial {number} changed after it was told: {', '.join(changed)}"
        for number, parameters in self._parameters.items():
            if number not in trials or not parameters.items() <= trials[number].params.items():
                yield f"Optuna's trial {number} lost parameters that it had begun with"
        self._told |= {number: trial for number, trial in trials.items() if trial.state.is_finished()}
        self._parameters |= {number: trial.params for number, trial in trials.items()}

    def _ledger_is_first(self, trials: Mapping[int, FrozenTrial], is_running: bool) -> Iterator[str]:
        for number, trial in trials.items():
            if trial.state.is_finished() and not (self._trial(number) / "result.json").exists():
                yield f"Optuna was told of trial {number}, which has no result.json"
        if not is_running:
            for number in self._recipes():
                if number not in trials:
                    yield f"Optuna lacks trial {number}, which has a recipe.json"
        if len(self._recipes()) > self.trials:
            yield f"{len(self._recipes())} trials were begun, and the budget is {self.trials}"

    def _files_keep(self) -> Iterator[str]:
        for path, before in self._kept.items():
            if not path.exists():
                yield f"{self._name(path)} is gone"
            elif path.read_bytes() != before:
                yield f"{self._name(path)} changed after it was written"
        for pattern in _NEVER_CHANGE:
            for path in self.folder.glob(pattern):
                self._kept.setdefault(path, path.read_bytes())

    def _json_parses(self) -> Iterator[str]:
        for path in self.folder.rglob("*.json"):
            if not any(part.startswith((".", "ray-")) for part in path.relative_to(self.folder).parts):
                try:
                    json.loads(path.read_text(encoding="utf-8"))
                except ValueError as error:
                    yield f"{self._name(path)} is no JSON: {error}"
                except FileNotFoundError:
                    continue

    def _reports_grow(self) -> Iterator[str]:
        for path in trainings(self.folder):
            content = _whole(path / "reports.jsonl")
            if not content.startswith(self._reports.get(path, b"")):
                yield f"{self._name(path)}/reports.jsonl lost or changed lines"
            self._reports[path] = content
            try:
                lines = [json.loads(line) for line in content.splitlines()]
            except ValueError:
                yield f"{self._name(path)}/reports.jsonl counts a torn line"
                continue
            steps = [line["step"] for line in lines]
            if steps != list(self.milestones[: len(steps)]):
                yield f"{self._name(path)} reported at steps {steps}, not at {list(self.milestones)} in order"
            if [line["final"] for line in lines] != [step == self.milestones[-1] for step in steps]:
                yield f"{self._name(path)} calls another report than that of its last step final"

    def _artifacts_keep(self) -> Iterator[str]:
        for path, before in self._artifacts.items():
            if _signature(path) != before:
                yield f"the stage that made {path.relative_to(self.cache)} was complete, and was repeated"
        for manifest in self.cache.glob("*/[!.]*/manifest.json"):
            self._artifacts.setdefault(manifest.parent, _signature(manifest.parent))

    def _teacher_keeps(self) -> Iterator[str]:
        path = self.folder / "teacher.json"
        if not path.exists():
            if self._teacher is not None:
                yield "teacher.json is gone"
            return
        scores = json.loads(path.read_text(encoding="utf-8"))["scores"]
        if self._teacher is not None and not self._teacher.items() <= scores.items():
            yield "teacher.json changed scores that it had"
        self._teacher = scores

    def _everything_ended(self, trials: Mapping[int, FrozenTrial]) -> Iterator[str]:
        if sorted(self._recipes()) != list(range(self.trials)):
            yield f"the study ended with trials {sorted(self._recipes())}, and its budget is {self.trials}"
        for path in self.unfinished():
            yield f"{self._name(path)} has not ended"
        for number in trials.keys() - self._recipes().keys():
            yield f"the ledger lacks trial {number}, which Optuna has"
        for path in trainings(self.folder):
            if (path / "result.json").exists():
                result = _read(path / "result.json")
                if result["state"] == "failed" and result["cause"] != "diverged":
                    yield f"{self._name(path)} failed, although only its machine did: {result['reason']}"
                elif result["state"] != "failed" and result["steps"] != self.last_step(path):
                    yield f"{self._name(path)} ended at step {result['steps']}, and last reported {self.last_step(path)}"
                if path.parent.name == "trials" and int(path.name) in trials:
                    yield from _disagreement(trials[int(path.name)], result)

    def _front_is_whole(self) -> Iterator[str]:
        front = self.folder / "results" / "front.json"
        if not front.exists():
            yield "the study ended without results/front.json"
            return
        if not list(self.folder.glob("trials/*/confirm/*/result.json")):
            yield "the study ended without having confirmed any member of its front"
        for member in _read(front)["members"]:
            trial = self.folder / "trials" / member["trial"]
            if not (trial / "test.json").exists():
                yield f"trial {member['trial']} is on the front, and was not scored on test"

    def _nothing_is_left(self) -> Iterator[str]:
        left = [path for place in (self.folder, self.cache) for path in _temporary_files(place)]
        if left:
            size = sum(file.stat().st_size for path in left for file in (path, *path.rglob("*")) if file.is_file())
            names = ", ".join(sorted(self._name(path) for path in left)[:6])
            yield f"{len(left)} temporary files of killed runs are left, {size} bytes: {names}"

    def _recipes(self) -> dict[int, Path]:
        return {int(path.parent.name): path for path in self.folder.glob("trials/*/recipe.json")}

    def _trial(self, number: int) -> Path:
        return self.folder / "trials" / f"{number:05d}"

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.folder if path.is_relative_to(self.folder) else self.cache))


def half_written(folder: Path, cache: Path) -> set[Path]:
    """What a kill interrupted in the middle of being written: temporary files and folders, a transaction's journal."""
    journal = folder / "study.db-journal"
    return {*_temporary_files(folder), *_temporary_files(cache), *([journal] if journal.exists() else [])}


def _temporary_files(place: Path) -> list[Path]:
    """Files and folders that are to be renamed when they are whole, and what Ray Tune writes into a study."""

    def is_temporary(path: Path) -> bool:
        return path.name.startswith((".", "ray-"))

    found = [path for path in place.rglob("*") if is_temporary(path)]
    return [path for path in found if not any(is_temporary(parent) for parent in path.relative_to(place).parents)]


def _disagreement(trial: FrozenTrial, result: Mapping[str, Any]) -> Iterator[str]:
    """Where Optuna's view of a finished trial differs from the ledger's."""
    told = TrialState.PRUNED if result["cause"] == "diverged" else TOLD[result["state"]]
    expected: dict[str, Callable[[], bool]] = {
        "state": lambda: trial.state == told,
        "values": lambda: (
            trial.values
            == (
                [result["metrics"][name] for name in ("retrieval_map", "vqa_variance")]
                if result["state"] == "complete"
                else None
            )
        ),
        "attributes": lambda: result["metrics"].items() <= trial.user_attrs.items(),
    }
    for name, agrees in expected.items():
        if not agrees():
            yield f"Optuna and the ledger disagree on the {name} of trial {trial.number}"


def _copy_database(source: Path, copy: Path, is_running: bool) -> None:
    """Copy an SQLite database without touching it: a dead writer's with its journal, a living one's by SQLite itself."""
    if is_running:
        with (
            closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=60)) as reader,
            closing(sqlite3.connect(copy)) as writer,
        ):
            reader.backup(writer)
        return
    for suffix in ("", "-journal", "-wal"):
        if (part := source.with_name(source.name + suffix)).exists():
            shutil.copyfile(part, copy.with_name(copy.name + suffix))


def _has_study(database: Path, name: str) -> bool:
    """Whether the run that made the database came as far as its study."""
    with closing(sqlite3.connect(database)) as connection:
        tables = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'studies'").fetchall()
        return bool(tables and connection.execute("SELECT 1 FROM studies WHERE study_name = ?", [name]).fetchall())


def _whole(path: Path) -> bytes:
    """The whole lines of a file."""
    content = path.read_bytes() if path.exists() else b""
    return content[: content.rfind(b"\n") + 1]


def _signature(folder: Path) -> Signature:
    files = [path for path in folder.rglob("*") if path.is_file()]
    stats = {str(path.relative_to(folder)): path.stat() for path in files}
    return {name: (found.st_ino, found.st_size, found.st_mtime_ns) for name, found in stats.items()}


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
