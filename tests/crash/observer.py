"""What can be seen of a running study from outside: its processes, its files and what its driver has printed."""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from tests.study.tiny import Run

STAGES = (
    "start Ray",
    "prepare data",
    "fit teacher",
    "score teacher",
    "cache teacher",
    "search",
    "confirm the front",
    "test the front",
    "report",
)
_METHODS = dict(zip(("prepare", "teacher", "score_teacher", "cache"), STAGES[1:5], strict=True)) | {
    "landmarks": STAGES[3],
    "test": STAGES[7],
}
_PRINTED = re.compile(rf"^({'|'.join(STAGES)}): \d+ s$", re.MULTILINE)
_TRIAL_TITLE, _STAGE_TITLE = "ray::ImplicitFunc", "ray::Stages"  # as Ray names its processes
_LOOK_AGAIN = 0.05  # seconds; looking costs about 2 ms
_TORCH_FILE = b"PK\x03\x04"  # how it begins, after whatever the checkpoint's own header is


@dataclass
class Observer:
    """Looks at one study over all its runs, and remembers how far its checkpoints were."""

    folder: Path
    violations: list[str] = field(default_factory=list)
    lasted: dict[str, float] = field(default_factory=dict)  # seconds that a stage took when it was last seen to end
    processes: dict[int, str] = field(default_factory=dict)  # of the present run, by pid
    stage: int = 0  # the place in `STAGES` of the stage that the present run is in, or was in last
    _run: Run | None = None
    _looked: float = 0.0
    _since: float = 0.0
    _checkpoints: dict[Path, tuple[tuple[int, int], int]] = field(default_factory=dict)

    def follow(self, run: Run) -> None:
        """From now on, look at this run."""
        self._run, self.stage, self.processes = run, 0, {}
        self._looked, self._since = 0.0, time.monotonic()

    def look(self) -> None:
        """Bring everything up to date, unless that was done a moment ago."""
        now = time.monotonic()
        if self._run is None or now - self._looked < _LOOK_AGAIN:
            return
        self._looked = now
        self.processes = self._run.processes()
        stage = self._stage()
        if stage > self.stage:
            name = STAGES[self.stage]
            self.lasted[name] = now - self._since
            self.stage, self._since = stage, now
        self._watch_checkpoints()

    def checkpoint_step(self, trial: Path) -> int | None:
        """The step of the checkpoint of the training in this folder, None if it has none."""
        self._watch_checkpoints()
        found = self._checkpoints.get(trial / "checkpoint" / "state.pt")
        return found[1] if found and (trial / "checkpoint" / "state.pt").exists() else None

    def _stage(self) -> int:
        """Stages come in order, so the last one that has left a trace is the present one."""
        seen = [self.stage]
        for title in self.processes.values():
            if title.startswith(_TRIAL_TITLE):
                seen.append(STAGES.index("confirm the front" if self._is_confirming() else "search"))
            elif (method := title.partition(".")[2].split(" ")[0]) in _METHODS and title.startswith(_STAGE_TITLE):
                seen.append(STAGES.index(_METHODS[method]))
        assert self._run is not None
        printed = _PRINTED.findall(self._run.files[1].read_text(encoding="utf-8"))
        # What is printed has ended: the next one, or one after it if that has nothing to do, has begun.
        seen.extend(STAGES.index(name) for name in printed)
        if printed and printed[-1] == "test the front":
            seen.append(STAGES.index("report"))
        return max(seen)

    def _is_confirming(self) -> bool:
        return any(True for _ in self.folder.glob("trials/*/confirm"))

    def _watch_checkpoints(self) -> None:
        """A training that goes on from its checkpoint writes later ones only."""
        for path in trainings(self.folder):
            state = path / "checkpoint" / "state.pt"
            try:
                found = state.stat()
                mark = (found.st_ino, found.st_mtime_ns)
                before = self._checkpoints.get(state)
                if before is not None and before[0] == mark:
                    continue
                step = _step(state.read_bytes())
            except FileNotFoundError:
                continue
            except Exception as error:
                self.violations.append(f"{state.relative_to(self.folder)} cannot be read: {type(error).__name__}")
                continue
            if before is not None and step <= before[1]:
                self.violations.append(
                    f"{path.relative_to(self.folder)} did not go on from its checkpoint: step {before[1]} was written, "
                    f"and then step {step}"
                )
            self._checkpoints[state] = (mark, step)


def workers(processes: Mapping[int, str]) -> dict[int, str]:
    """Those of a run's processes that trials and the other stages run in."""
    return {pid: title for pid, title in processes.items() if title.startswith((_TRIAL_TITLE, _STAGE_TITLE))}


def trainings(folder: Path) -> Iterator[Path]:
    """The folders of all trainings of a study: its trials and their confirmations."""
    for trial in _folders(folder / "trials"):
        yield trial
        yield from _folders(trial / "confirm")


def _folders(parent: Path) -> list[Path]:
    try:
        with os.scandir(parent) as found:
            return sorted(Path(entry.path) for entry in found if entry.name.isdigit())
    except FileNotFoundError:
        return []


def _step(content: bytes) -> int:
    tensors = io.BytesIO(content[content.index(_TORCH_FILE) :])
    return int(torch.load(tensors, map_location="cpu", weights_only=True)["reported"]["step"])
