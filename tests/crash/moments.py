"""When a kill comes and whom it hits: moments that a study passes through, and the processes of a run."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.crash.observer import STAGES, Observer, trainings, workers
from tests.study.tiny import Run

# The driver; one process of a trial or a stage; Ray's servers; the driver and everything that it has started.
Kind = Literal["driver", "worker", "ray", "all"]
KINDS: tuple[Kind, ...] = ("driver", "worker", "ray", "all")
Sign = Callable[[Path, int], bool]  # of a study's folder: whether it has come since this time (ns since the epoch)

_SERVERS = re.compile(r"/(gcs_server|raylet)$")
_UNKNOWN_STAGE = 2.0  # seconds, for a stage that was never seen to end


@dataclass(frozen=True)
class Moment:
    """A moment in a stage: as soon as its sign is there, or some random time into the stage if it has none."""

    name: str
    stage: int  # in `STAGES`
    sign: Sign | None = None
    lag: float = 0.0  # seconds after the sign, at most

    def has_come(self, seen: Observer, since: int) -> bool:
        return seen.stage == self.stage and (self.sign is None or self.sign(seen.folder, since))

    def is_past(self, seen: Observer) -> bool:
        return seen.stage > self.stage

    def longest_lag(self, seen: Observer) -> float:
        """So many seconds after it has come a kill may wait, at most."""
        return self.lag if self.sign else seen.lasted.get(STAGES[self.stage], _UNKNOWN_STAGE)


@dataclass(frozen=True)
class Kill:
    moment: Moment
    kind: Kind


def victims(kind: Kind, run: Run, seen: Observer) -> list[int]:
    """The processes that a kill of this kind hits, by pid; of several workers the caller chooses one."""
    if kind == "driver":
        return [run.process.pid]
    if kind == "worker":
        return list(workers(seen.processes))
    if kind == "ray":
        return [pid for pid, command in seen.processes.items() if _SERVERS.search(command.split(" ")[0])]
    return list(seen.processes)


def _temporary(*prefixes: str) -> Sign:
    """A file of such a name is half written."""

    def sign(folder: Path, since: int) -> bool:
        places = [place for training in trainings(folder) for place in (training, training / "checkpoint")]
        return any(
            entry.name.startswith(prefixes) and changed >= since
            for place in (folder, folder / "results", *places)
            for entry, changed in _entries(place)
        )

    return sign


def _written(name: str) -> Sign:
    """A file of this name of some training is new or longer."""
    return lambda folder, since: any(
        entry.name == name and changed >= since
        for training in trainings(folder)
        for entry, changed in _entries(training)
    )


def _in_transaction(folder: Path, since: int) -> bool:
    """SQLite's journal lies beside the database while a transaction is written."""
    return (folder / "study.db-journal").exists()


def _entries(place: Path) -> Iterator[tuple[os.DirEntry[str], int]]:
    try:
        with os.scandir(place) as found:
            for entry in found:
                try:
                    yield entry, entry.stat().st_mtime_ns
                except FileNotFoundError:
                    continue
    except FileNotFoundError:
        return


def _at(stage: str) -> int:
    return STAGES.index(stage)


MOMENTS = (
    Moment("start", _at("start Ray")),
    Moment("data", _at("prepare data")),
    Moment("teacher's fit", _at("fit teacher")),
    Moment("teacher's scores", _at("score teacher")),
    Moment("cache build", _at("cache teacher")),
    Moment("training", _at("search")),
    Moment("ask: recipe half written", _at("search"), _temporary(".recipe.json.")),
    Moment("ask: recipe written", _at("search"), _written("recipe.json"), lag=0.3),
    Moment("checkpoint half written", _at("search"), _temporary(".state.pt.")),
    Moment("report written", _at("search"), _written("reports.jsonl"), lag=0.1),
    Moment("result half written", _at("search"), _temporary(".result.json.")),
    Moment("tell: result written", _at("search"), _written("result.json"), lag=0.3),
    Moment("Optuna's transaction", _at("search"), _in_transaction),
    Moment("confirmation", _at("confirm the front")),
    Moment("confirmation's result half written", _at("confirm the front"), _temporary(".result.json.")),
    Moment("test", _at("test the front")),
    Moment("report", _at("report")),
    Moment(
        "results half written", _at("report"), _temporary(".front.json.", ".trials.parquet.", ".languages.parquet.")
    ),
)
_WITHOUT_WORKERS = ("start", "report", "results half written")
_WITHOUT_RAY = ("report", "results half written")  # it is down by then


def all_kills() -> list[Kill]:
    """Every moment with every kind of kill that it knows."""
    return [
        Kill(moment, kind)
        for moment in MOMENTS
        for kind in KINDS
        if (kind != "worker" or moment.name not in _WITHOUT_WORKERS)
        and (kind != "ray" or moment.name not in _WITHOUT_RAY)
    ]
