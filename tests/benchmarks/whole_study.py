"""The default study as a whole: what its cores are used for, how fast its trials begin, and how fast its command answers.

    python -m tests.benchmarks.whole_study

Runs `python -m study.run` in a temporary folder, with data, teacher and teacher cache as an earlier study leaves them.
Use of the cores is counted from the stage after the teacher to the report: the seconds that trials spent on training,
and on training and evaluation, over wall time times cores.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from study.config import load_config
from tests.benchmarks.figures import Figure, main_of
from tests.study.prepared import prepare

ROOT = Path(__file__).parents[2]
LEAST_USE, MOST_SETUP, MOST_RUNG_SHARE = 0.85, 1.0, 0.1
MOST_HELP, MOST_MISTAKE, MOST_START = 0.5, 1.0, 15.0
_PRESET = "emoji_clip"
_AFTER_TEACHER = ("cache teacher", "search", "confirm the front", "test the front", "report")
_COMMANDS = 5


def figures() -> list[Figure]:
    prepare(load_config(_PRESET), len(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory() as place:
        return [*commands(), *study(Path(place))]


def commands() -> list[Figure]:
    """How fast the command answers what needs no study."""
    return [
        Figure("study.run --help", _answered("--help"), "at most", MOST_HELP, "s"),
        Figure("study.run with a mistake", _answered("--set", "search.trials=few"), "at most", MOST_MISTAKE, "s"),
    ]


def _answered(*arguments: str) -> float:
    """The median seconds until the command has ended."""
    taken = []
    for _ in range(_COMMANDS):
        before = time.perf_counter()
        subprocess.run([sys.executable, "-m", "study.run", *arguments], cwd=ROOT, capture_output=True, check=False)
        taken.append(time.perf_counter() - before)
    return median(taken)


def study(place: Path) -> list[Figure]:
    """Run the default study in a folder, with its teacher in the cache, and look at what it has written."""
    said = place / "said"
    command = [sys.executable, "-m", "study.run", _PRESET, "--set", f"storage.path={place}"]
    folder = place / load_config(_PRESET).name
    with open(said, "wb") as output:
        began = time.time()
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
        first_step = _first_step(folder, process) - began
        code = process.wait()
    text = said.read_text(encoding="utf-8")
    assert code == 0, text
    stages = {name: float(seconds) for name, seconds in re.findall(r"^(\w[\w ]*): (\d+) s$", text, re.MULTILINE)}
    wall = sum(stages[name] for name in _AFTER_TEACHER)
    trainings = [_reports(path) for path in folder.glob("trials/**/reports.jsonl")]
    timings = [reports[-1]["timing"] for reports in trainings]
    trained, evaluated = (sum(timing[part] for timing in timings) for part in ("train", "evaluate"))
    cores = psutil.cpu_count(logical=True) or 1
    shares = [
        (reports[0]["timing"]["evaluate"]) / reports[-1]["seconds"]
        for reports in trainings
        if len(reports) == 2 and reports[-1]["final"]
    ]
    return [
        Figure(
            "cores of the default study after the teacher: share used by training",
            trained / wall / cores,
            "at least",
            LEAST_USE,
        ),
        Figure(
            "cores of the default study after the teacher: share used by training and evaluation",
            (trained + evaluated) / wall / cores,
            "at least",
            LEAST_USE,
        ),
        Figure("evaluation at a rung: share of a trial", median(shares), "at most", MOST_RUNG_SHARE),
        Figure(
            "a trial's start in a warm worker",
            median(timing["setup"] for timing in timings),
            "at most",
            MOST_SETUP,
            "s",
        ),
        Figure("default study, prepared: start to first training step", first_step, "at most", MOST_START, "s"),
    ]


def _first_step(folder: Path, process: subprocess.Popen[bytes]) -> float:
    """When the first trial that reports began to train, in seconds since the epoch."""
    while process.poll() is None:
        for path in folder.glob("trials/*/reports.jsonl"):
            if reports := _reports(path):
                timing: dict[str, float] = reports[0]["timing"]
                return path.stat().st_mtime - timing["train"] - timing["evaluate"]
        time.sleep(0.05)
    raise AssertionError("the study ended without a report")


def _reports(path: Path) -> Sequence[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


if __name__ == "__main__":
    sys.exit(main_of(figures, __doc__))
