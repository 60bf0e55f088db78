"""The kill test: tiny real studies, killed for real at random moments, must lose nothing and repeat nothing.

    python -m tests.crash.crashtest --kills 50 --seed 0

Every study is run with one command, again and again, until it ends. Meanwhile SIGKILL hits its driver, the process of
a trial or a stage, its whole Ray, or all of them. After every kill and at the end the study's files, its Optuna storage
and the process table are looked at from outside. Exit code 1 if anything that must hold does not.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from analysis.commands import command_parser
from tests.crash.moments import KINDS, Kill, all_kills
from tests.crash.observer import STAGES
from tests.crash.subject import Hit, Subject

# Processes notice within so many seconds that Ray's servers are gone; by itself Ray gives these a minute to come back.
_SETTINGS = {"RAY_gcs_rpc_server_reconnect_timeout_s": "10", "OMP_WAIT_POLICY": "PASSIVE"}
_KILLS_A_STUDY = 10
_TRIALS = 6


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit code."""
    options = _parser().parse_args(arguments)
    place = Path(tempfile.mkdtemp(prefix="pd-crash-"))
    hits, violations = crash(planned(options.kills, options.seed), options.seed, place, _TRIALS)
    _print(hits, violations)
    if violations:
        print(f"What the studies left is in {place}.")
    else:
        shutil.rmtree(place)
    return 1 if violations else 0


def planned(kills: int, seed: int) -> list[Kill]:
    """So many kills: every moment with every kind once, in random order, before any comes again."""
    chance = random.Random(seed)
    plan: list[Kill] = []
    while len(plan) < kills:
        every = all_kills()
        chance.shuffle(every)
        plan += every
    return plan[:kills]


def crash(kills: Sequence[Kill], seed: int, place: Path, trials: int) -> tuple[list[Hit], list[str]]:
    """Do these kills to as many studies of so many trials as they take, in folders of ``place``.

    A study whose moment went by leaves the kill to the next one. Returns the kills that hit, and what was violated.
    """
    chance = random.Random(seed)
    waiting, hits, violations = list(kills), list[Hit](), list[str]()
    lasted: dict[str, float] = {}
    number = 0
    with _ray_folder() as ray:
        while waiting and number < 2 * len(kills):
            now, waiting = waiting[:_KILLS_A_STUDY], waiting[_KILLS_A_STUDY:]
            now.sort(key=lambda kill: kill.moment.stage)
            folder = place / f"study-{number}"
            folder.mkdir(parents=True)
            environment = {**os.environ, **_SETTINGS, "RAY_TMPDIR": ray, "POLYDISTILL_CACHE": str(folder / "cache")}
            subject = Subject(number, folder, environment, chance, lasted, trials)
            try:
                waiting += subject.suffer(now)
            finally:
                subject.end()
            hits += subject.hits
            for violation in subject.violations:
                violations.append(f"study {number}: {violation}")
                print(f"VIOLATED: {violations[-1]}", flush=True)
            if not subject.violations:
                shutil.rmtree(folder)
            number += 1
    return hits, violations + [f"no study came to '{kill.moment.name}', to kill {kill.kind}" for kill in waiting]


@contextmanager
def _ray_folder() -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="pd-")  # Ray's sockets need a short path
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("tests.crash.crashtest", __doc__)
    parser.add_argument("--kills", type=int, default=50, help="how many, default 50")
    parser.add_argument("--seed", type=int, default=0, help="of the studies and of the moments of the kills")
    return parser


def _print(hits: Sequence[Hit], violations: Sequence[str]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False, markup=False)
    every = Table(title="Kills", title_justify="left")
    for column in ("kill", "study", "aimed at", "killed", "hit in stage", "half written", "what became of the run"):
        every.add_column(column)
    for number, hit in enumerate(hits, start=1):
        every.add_row(
            str(number), str(hit.study), hit.aim, hit.kind, hit.stage, ", ".join(hit.half_written), hit.outcome
        )
    console.print(every)
    counts = Counter((hit.stage, hit.kind) for hit in hits)
    summary = Table(title="Kills by stage", title_justify="left")
    for column in ("stage", *KINDS):
        summary.add_column(column)
    for stage in STAGES:
        summary.add_row(stage, *(str(counts[stage, kind]) for kind in KINDS))
    console.print(summary)
    torn = sum(bool(hit.half_written) for hit in hits)
    console.print(f"{len(hits)} kills, {torn} of them in the middle of a write; {len(violations)} violations.")
    for violation in violations:
        console.print(f"VIOLATED: {violation}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
