"""One study that is killed again and again until it ends, and what is seen of it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.invariants import Invariants, half_written
from tests.crash.moments import Kill, victims
from tests.crash.observer import STAGES, Observer, trainings, workers
from tests.crash.reference import COMPARED
from tests.study.tiny import ROOT, Run, Study

MILESTONES = (8, 16, 24)
_SETTINGS = (
    f"training.steps={MILESTONES[-1]}",
    f"search.scheduler.rungs={list(MILESTONES[:-1])}",
    "resources.retries=20",  # more than any trial is killed: none may fail
)
_VANISH = 30.0  # seconds after which no process that writes to a study may have outlived its driver
_FADE = 120.0  # seconds after which nothing of a killed run may be alive: Ray's agents wait for their servers
_NOTICE = 45.0  # seconds within which a driver must notice that its Ray is gone: Ray's start waits for 30
_LAST_WORDS = 10.0  # seconds within which the terminal says why a driver is gone
_STALLED = 900.0  # seconds in which a study that is left alone comes to its end
_LOOK_BACK = 1.0  # seconds, at runs that were killed
_LOOK_AGAIN = 0.02  # seconds, at the present one
_LOOK_SHARP = 0.0005  # seconds, where a sign is awaited: a small file is written in a few milliseconds


@dataclass(frozen=True)
class Hit:
    """A kill that was done."""

    study: int
    aim: str  # the name of the moment
    kind: str
    stage: str  # that the study was in
    half_written: tuple[str, ...]  # files that the kill left so
    outcome: str  # of the run


@dataclass
class Subject:
    """A study in a folder of its own, with all that is held against it."""

    number: int
    place: Path
    environment: dict[str, str]
    chance: random.Random
    lasted: dict[str, float]  # seconds that stages take, learnt from study to study
    trials: int  # the study's budget
    hits: list[Hit] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._study = Study(self.place, self.environment)
        self._settings = (*_SETTINGS, f"search.trials={self.trials}", f"seed={self.number}")
        self._cache = Path(self.environment["POLYDISTILL_CACHE"])
        self._seen = Observer(self._study.folder, lasted=self.lasted)
        self._invariants = Invariants(self._study.folder, self._cache, MILESTONES, self.trials)
        self._found: list[str] = []
        self._struck: set[int] = set()  # the runs that a kill hit, by the pid of their driver
        self._fading: dict[Run, float] = {}  # killed runs that may have processes left, and when they were killed
        self._looked_back = 0.0
        self._interrupted: set[Path] = set()  # trainings
        self._left: set[Path] = set()  # what earlier kills left half written

    @property
    def violations(self) -> list[str]:
        return list(dict.fromkeys([*self._found, *self._seen.violations]))

    def suffer(self, kills: Sequence[Kill]) -> list[Kill]:
        """Run the study to its end under these kills, in their order. Returns those whose moment went by."""
        waiting, missed = list(kills), list[Kill]()
        run = self._start()
        while True:
            kill = waiting[0] if waiting else None
            came = self._wait(run, kill)
            if came is True:
                assert kill is not None
                self._strike(run, waiting.pop(0))
            elif came is None and kill is not None:
                missed.append(waiting.pop(0))
            elif run.process.poll() == 0:
                break
            elif not self._may_go_on(run):
                return [*missed, *waiting]
            if run.process.poll() is not None and run.process.poll() != 0:
                run = self._start()
        self._look_at_the_end(run)
        return [*missed, *waiting]

    def end(self) -> None:
        self._study.end()

    def _start(self) -> Run:
        run = self._study.start(*self._settings)
        self._seen.follow(run)
        return run

    def _wait(self, run: Run, kill: Kill | None) -> bool | None:
        """Whether the kill's moment has come, and there is something to kill; None if it has gone by, False if the run has
        ended or stalled."""
        since, deadline = time.time_ns(), time.monotonic() + _STALLED
        pause = _LOOK_SHARP if kill is not None and kill.moment.sign is not None else _LOOK_AGAIN
        while time.monotonic() < deadline:
            self._look()
            if run.process.poll() is not None:
                return False
            if kill is not None and kill.moment.is_past(self._seen):
                return None
            if kill is not None and kill.moment.has_come(self._seen, since) and victims(kill.kind, run, self._seen):
                return self._linger(run, self.chance.random() * kill.moment.longest_lag(self._seen))
            time.sleep(pause)
        return False

    def _linger(self, run: Run, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and run.process.poll() is None:
            self._look()
            time.sleep(max(0.0, min(left, _LOOK_AGAIN)))
        return run.process.poll() is None

    def _look(self) -> None:
        self._seen.look()
        now = time.monotonic()
        if now - self._looked_back > _LOOK_BACK:
            self._looked_back = now
            for run, since in list(self._fading.items()):
                self._must_fade(run, now - since)

    def _must_fade(self, run: Run, seconds: float) -> None:
        """What a run may still have alive, so many seconds after its driver ended."""
        alive = run.processes()
        late = (
            sorted(alive.values()) if seconds > _FADE else sorted(workers(alive).values()) if seconds > _VANISH else []
        )
        if late:
            self._found.append(f"{len(late)} processes outlived their driver by {seconds:.0f} s: {late}")
            run.end()
        if late or not alive:
            del self._fading[run]

    def _strike(self, run: Run, kill: Kill) -> None:
        """Kill, look at what became of the run and of the study."""
        self._seen.look()
        stage = STAGES[self._seen.stage]
        chosen = victims(kill.kind, run, self._seen)
        if kill.kind == "worker":
            chosen = [self.chance.choice(chosen)] if chosen else []
        self.chance.shuffle(chosen)
        for pid in chosen:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if kill.kind == "all":
            run.end()  # what started meanwhile
        self._struck.add(run.process.pid)
        struck = time.monotonic()
        outcome = self._settle(run, kill)
        names = self._newly_half_written() if run.process.poll() is not None else []
        took = time.monotonic() - struck
        self.hits.append(Hit(self.number, kill.moment.name, kill.kind, stage, tuple(names), outcome))
        print(
            f"study {self.number}: {kill.kind} killed in '{stage}', aimed at '{kill.moment.name}': {outcome} "
            f"({took:.1f} s after {struck - run.began:.0f} s)"
            f"{'; half written: ' + ', '.join(names) if names else ''}",
            flush=True,
        )

    def _newly_half_written(self) -> list[str]:
        """The names of what the last kill left half written."""
        before, self._left = self._left, half_written(self._study.folder, self._cache)
        new = [path for path in self._left - before if not path.name.startswith("ray-")]
        return sorted({_written_name(path) for path in new if path.suffix != ".lock"})  # a folder is there beside it

    def _settle(self, run: Run, kill: Kill) -> str:
        """What became of the run; checks the study as it lies there."""
        if kill.kind == "worker":
            self._check(is_running=True)
            return "went on"
        patience = _NOTICE if kill.kind == "ray" else 10.0
        try:
            code = run.process.wait(patience)
        except subprocess.TimeoutExpired:
            self._found.append(f"the driver did not end within {patience:.0f} s after {kill.kind} was killed")
            run.end()
            self._check(is_running=False)
            return "hung"
        outcome = f"driver ended with {code}"
        if kill.kind != "all" and code != 0 and not _says_why(run):
            self._found.append(f"the driver ended with {code} after a kill of {kill.kind}, and nobody said why")
        self._fading[run] = time.monotonic()
        if kill.kind == "driver" and self.chance.random() < 0.5:
            # The next run begins at once, while trials of this one may still be alive.
            return f"{outcome}, next run at once"
        self._await_the_end_of_workers(run)
        self._check(is_running=False)
        return outcome

    def _await_the_end_of_workers(self, run: Run) -> None:
        while run in self._fading and workers(run.processes()):
            time.sleep(0.1)
            self._must_fade(run, time.monotonic() - self._fading[run])

    def _check(self, is_running: bool) -> None:
        self._found += self._invariants.check(is_running)
        for training in self._invariants.unfinished():
            self._interrupted.add(training)
            last, kept = self._invariants.last_step(training), self._seen.checkpoint_step(training)
            if not is_running and last in MILESTONES[:-1] and (kept is None or kept < last):
                name = training.relative_to(self._study.folder)
                self._found.append(f"{name} reported at step {last}, and its checkpoint is of step {kept}")

    def _may_go_on(self, run: Run) -> bool:
        """Whether the same command is to run again after a run that did not end with 0."""
        code = run.process.poll()
        if code is None:
            self._found.append(f"a run did not end within {_STALLED:.0f} s:\n{run.said()}")
            run.end()
            return False
        self._fading[run] = time.monotonic()
        self._await_the_end_of_workers(run)
        self._check(is_running=False)
        if run.process.pid not in self._struck:
            self._found.append(f"a run that nothing was done to ended with {code}:\n{run.said()}")
            return False
        return True

    def _look_at_the_end(self, run: Run) -> None:
        """What must hold of the study now, that its command says so, and that it has not lost its way."""
        self._fading[run] = time.monotonic()
        self._found += self._invariants.check_ended()
        before = _changes(self._study.folder)
        again = self._study.run(*self._settings)
        if again.code != 0 or "is finished" not in again.output:
            self._found.append(f"the command of the finished study ended with {again.code}: {again.output[:200]}")
        if _changes(self._study.folder) != before:
            self._found.append("the command of the finished study changed its trials")
        self._compare()
        while self._fading:
            time.sleep(_LOOK_BACK)
            self._look()

    def _compare(self) -> None:
        """Hold the interrupted trainings, and one that was not, against the same ones trained without interruption."""
        others = [path for path in trainings(self._study.folder) if path not in self._interrupted]
        chosen = [str(path) for path in [*sorted(self._interrupted), *others[:1]]]
        command = [sys.executable, "-m", "tests.crash.reference", str(self._study.folder), *chosen]
        ran = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False)
        if ran.returncode != 0:
            self._found.append(f"the trials cannot be trained again: {ran.stderr[-2000:]}")
            return
        for folder, reports in json.loads(ran.stdout.splitlines()[-1]).items():
            lines = (Path(folder) / "reports.jsonl").read_text(encoding="utf-8").splitlines()
            for line in map(json.loads, lines):
                alone = next((report for report in reports if report["step"] == line["step"]), None)
                if alone != {name: line[name] for name in COMPARED}:
                    name = Path(folder).relative_to(self._study.folder)
                    self._found.append(f"{name} differs at step {line['step']} from the same one without interruption")


def _says_why(run: Run) -> bool:
    """Whether a run that has ended early has a line about it, which may come some moments after its end."""
    until = time.monotonic() + _LAST_WORDS
    while not (said := any(line.startswith("study.run:") for line in run.said().splitlines())):
        if time.monotonic() > until:
            break
        time.sleep(_LOOK_AGAIN)
    return said


def _changes(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.glob("trials/**/*")}


def _written_name(path: Path) -> str:
    """What a temporary file was to become: a file's name, or the kind of an artifact."""
    if path.is_dir():
        return path.parent.name
    return path.name.removeprefix(".").rpartition(".")[0] if path.name.startswith(".") else path.name
