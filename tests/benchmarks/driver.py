"""What a study's own process costs beside training: seconds a trial and memory, which must not grow with the study.

    python -m tests.benchmarks.driver                (some minutes)
    python -m tests.benchmarks.driver --marks 20 200

Runs trials through everything that the driver of a study does with them, in a temporary folder: the budget's check,
the sampler's proposal and its writes to SQLite, the ledger, three reports, the scheduler's decisions, the live view,
and what Optuna is told. Scores are drawn, nothing is trained, and Ray takes no part. Exit code 1 if, from the first
mark to the last, a trial's processor time or resident memory grow by more than a factor of 2. Processor time, since
other work on the machine does not change it; the folder lies in memory where the system offers that, since a trial's
writes are always the same and each waits for the disk.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from analysis.pareto import reference_point
from study.budget import Budget
from study.checks import checked_space, surroundings
from study.config import StudyConfig, load_config
from study.foresight import Foresight
from study.ledger import Ledger, TrialRecord
from study.progress import Progress
from study.ray_metrics import RayMetrics
from study.samplers import open_storage
from study.search_stage import Search
from study.storage_config import storage_url, study_folder
from study.tracking import Trackers
from study.trials import Trials
from study.warm_start import starting_points
from trainables.models.spec import ImageTower, ModelSpec, TextTower
from trainables.student import student_spec

MARKS = (20, 200, 2000)
FACTOR = 2.0
_WINDOW = 20  # trials before a mark, over which its cost is the mean
_TEACHER = {"retrieval_map": 0.45, "vqa_variance": 20.0}
_PARAMETERS = 2_780_000  # of the student; no limit is set on them
_RUNNING = 2


@dataclass(frozen=True)
class Cost:
    trials: int
    processor: float  # milliseconds a trial
    wall: float
    megabytes: float  # resident


class Driver:
    """A study's driver in ``folder``, with drawn scores in place of trainings."""

    def __init__(self, folder: Path, trials: int, seed: int = 0) -> None:
        self._config = config = load_config("emoji_clip", [f"storage.path={folder}", f"search.trials={trials}"])
        self._rng = np.random.default_rng(seed)
        self._progress = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  as long as the driver lives
        self._ledger, self._search = opened_search(config, self._progress)
        self._running: list[TrialRecord] = []

    def close(self) -> None:
        self._progress.close()

    def run_one(self) -> None:
        """Begin trials as long as there is room, and take the oldest to its end."""
        while len(self._running) < _RUNNING:
            record = self._search.next()
            assert record is not None
            self._running.append(record)
            self._search.changed(len(self._running))
        record = self._running.pop(0)
        last: dict[str, Any] = {}
        for step in (*self._config.search.scheduler.rungs, self._config.training.steps):
            is_final = step == self._config.training.steps
            last = drawn_report(self._rng, self._config.data.languages, step, is_final)
            self._ledger.report(record, last)
            self._search.reported(record, last)
            self._search.changed(len(self._running) + 1)
            scheduler = self._search.scheduler
            if not last["final"] and scheduler and not scheduler.goes_on(record.number, step, last["metrics"]):
                break
        state = "complete" if last["final"] else "stopped"
        self._search.ended(record, state, self._search.place(record), last)  # type: ignore[arg-type]
        self._search.changed(len(self._running))


def opened_search(config: StudyConfig, terminal: IO[str]) -> tuple[Ledger, Search]:
    """The search of a new study, with drawn teacher's scores, and its ledger."""
    folder = study_folder(config)
    ledger = Ledger(folder)
    ledger.open()
    space = checked_space(config)
    study = open_storage(config, storage_url(config.storage, folder), ledger.study_name)
    kept = Trials(study, ledger, config.search, config.seed, space, surroundings(config))
    kept.reconcile()
    kept.start_from(starting_points(config, space))
    budget = Budget(config.search, ledger, reference_point(_TEACHER, config.search.directions))
    foresight = Foresight(config.search.limits, student(config), _PARAMETERS, folder, config.training.steps)
    return ledger, Search(config, kept, budget, foresight, Progress(terminal), Trackers([]), RayMetrics(config))


def drawn_report(rng: np.random.Generator, languages: Sequence[str], step: int, is_final: bool) -> dict[str, Any]:
    """What a training would report, of the same size."""
    accuracy = rng.uniform(0.3, 0.5, len(languages))
    maps = rng.uniform(0.1, 0.4, len(languages))
    metrics = {
        "retrieval_map": float(maps.mean()),
        "vqa_accuracy": float(accuracy.mean()),
        "vqa_variance": float(1e4 * accuracy.var()),
        "vqa_std": float(100 * accuracy.std()),
        "vqa_variance_noise": 1.5,
        "vqa_lift_kept": float(rng.uniform(0.3, 1.0)),
    }
    losses = {"total": 1.0, "task": 1.0, "layers": 1.0}
    report = {"step": step, "final": is_final, "seconds": 1.0, "metrics": metrics, "losses": losses}
    if is_final:
        rows = zip(languages, maps.tolist(), accuracy.tolist(), strict=True)
        scores = {name: {"map_i2t": one, "map_t2i": one, "vqa_accuracy": two} for name, one, two in rows}
        report["scores"] = {"languages": scores, "summary": metrics}
    return report


def measure(folder: Path, marks: Sequence[int]) -> list[Cost]:
    """The cost of a trial, and the memory in use, when a study has so many trials."""
    driver = Driver(folder, marks[-1] + _RUNNING)
    costs: list[Cost] = []
    window: list[tuple[float, float]] = []
    for number in range(1, marks[-1] + 1):
        processor, wall = time.process_time(), time.perf_counter()
        driver.run_one()
        window = [*window[-_WINDOW + 1 :], (time.process_time() - processor, time.perf_counter() - wall)]
        if number in marks:
            gc.collect()
            processor, wall = (1000 * statistics.mean(times) for times in zip(*window, strict=True))
            costs.append(Cost(number, processor, wall, resident()))
    driver.close()
    return costs


def verdict(costs: Sequence[Cost]) -> tuple[bool, str]:
    """Whether cost and memory stay flat, and in words."""
    grown = {
        "processor time a trial": costs[-1].processor / costs[0].processor,
        "memory": costs[-1].megabytes / costs[0].megabytes,
    }
    flat = all(factor <= FACTOR for factor in grown.values())
    factors = ", ".join(f"{name} × {factor:.2f}" for name, factor in grown.items())
    span = f"from {costs[0].trials} to {costs[-1].trials} trials"
    return (
        flat,
        f"the driver {'stays' if flat else 'does not stay'} flat within a factor of {FACTOR:g} {span}: {factors}",
    )


def student(config: StudyConfig) -> ModelSpec:
    teacher = config.teacher.model
    image = ImageTower(**teacher.image.model_dump())
    text = TextTower(**teacher.text.model_dump(), **config.teacher.tokenizer.model_dump())
    return student_spec(config.student, ModelSpec(embed_dim=teacher.embed_dim, image=image, text=text))


def in_memory() -> str | None:
    """Where temporary folders are kept in memory, None where the system has no such place."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def resident() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the driver's cost a trial and its memory.")
    parser.add_argument("--marks", type=int, nargs="+", default=list(MARKS), help="numbers of trials, rising")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=in_memory()) as folder:
        costs = measure(Path(folder), arguments.marks)
    print("trials   processor ms a trial   wall ms a trial   MB resident")
    for cost in costs:
        print(f"{cost.trials:6}   {cost.processor:20.0f}   {cost.wall:15.0f}   {cost.megabytes:11.0f}")
    flat, line = verdict(costs)
    print(line)
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
