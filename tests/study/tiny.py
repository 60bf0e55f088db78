"""Tiny real studies that tests run as a user does: each run is a process of its own, with a Ray of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import FrozenTrial, TrialState

from study.checks import checked_space, surroundings
from study.config import StudyConfig
from study.ledger import Ledger
from study.samplers import open_storage
from study.trials import Trials
from study.warm_start import starting_points
from tests.study.nodes import processes_of

ROOT = Path(__file__).parents[2]
TINY: dict[str, Any] = {
    "name": "tiny",
    "seed": 1,
    "data": {"languages": ["en", "es", "tr"]},
    "teacher": {
        "model": {
            "embed_dim": 64,
            "image": {"layers": 2, "width": 64, "head_width": 32, "patch_size": 8, "image_size": 24},
            "text": {"layers": 1, "width": 64, "head_width": 32},
        },
        "tokenizer": {"vocab_size": 500, "context_length": 16},
        "fit": {"steps": 60, "batch_size": 128, "learning_rate": 5.0e-3},
    },
    "cache": {"views": 2},
    "student": {"image": {"layers": 1, "width": 64}, "text": {"layers": 1, "width": 64}},
    "training": {"steps": 12, "batch_size": 64, "precision": "fp32"},
    "search": {
        "trials": 5,
        "constraints": {"vqa_lift_kept": {"min": -10.0}},  # what a few steps teach does not matter here
        "scheduler": {"rungs": [6], "reduction": 2.0, "evaluation_share": 0.25},
        "confirm": {"seeds": 1, "most": 2},
    },
    "resources": {"concurrent_trials": 2},
    "tracking": {"tensorboard": True},
}

UNCONFIRMED = "search.confirm.seeds=0"  # for tests of something else: confirmations take processes of their own


@dataclass
class Outcome:
    """How a command ended."""

    code: int
    output: str
    errors: str
    seconds: float


@dataclass(eq=False)
class Run:
    """A `python -m study.run` that may still be going; all its processes are in a session of their own."""

    process: subprocess.Popen[bytes]
    files: tuple[Path, Path]
    log: Path
    began: float = field(default_factory=time.monotonic)

    def wait(self, timeout: float = 240) -> Outcome:
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.end()
            pytest.fail(f"not ended after {timeout} s:\n{self.said()}", pytrace=False)
        output, errors = (path.read_text(encoding="utf-8") for path in self.files)
        return Outcome(code, output, errors, time.monotonic() - self.began)

    def until(self, condition: Callable[[], Any], timeout: float = 180) -> Any:
        """Wait until ``condition`` gives something true, which is returned."""
        deadline = time.monotonic() + timeout
        while not (found := condition()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"ended or took too long before what the test waits for:\n{self.said()}", pytrace=False)
            time.sleep(0.02)
        return found

    def said(self) -> str:
        log = self.log.read_text(encoding="utf-8", errors="replace")[-3000:] if self.log.exists() else ""
        return "\n".join([*(path.read_text(encoding="utf-8")[-3000:] for path in self.files), log])

    def processes(self) -> dict[int, str]:
        """The command lines of all processes of this run that are alive."""
        return processes_of(self.process.pid)

    def trials(self) -> list[int]:
        """The processes that trials run in, by Ray's title for them."""
        return [pid for pid, command in self.processes().items() if command.startswith("ray::ImplicitFunc")]

    def end(self) -> None:
        while found := self.processes():
            for pid in found:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        self.process.wait()


@dataclass
class Study:
    """The folder of a study, the file that configures it, and the command that runs it."""

    place: Path
    environment: dict[str, str]
    runs: list[Run] = field(default_factory=list)
    code: Path = ROOT  # where it is run from

    @property
    def folder(self) -> Path:
        return self.place / "runs" / "tiny"

    def start(
        self, *settings: str, address: str | None = None, content: dict[str, Any] = TINY, profile: bool = False
    ) -> Run:
        config, placed = self.place / "tiny.yaml", {"name": "tiny", "storage": {"path": str(self.place / "runs")}}
        config.write_text(yaml.safe_dump(content | placed, allow_unicode=True), encoding="utf-8")
        files = (self.place / f"output.{len(self.runs)}", self.place / f"errors.{len(self.runs)}")
        command = [
            sys.executable,
            "-m",
            "study.run",
            str(config),
            *(word for key in settings for word in ("--set", key)),
            *(["--address", address] if address else []),
            *(["--profile"] if profile else []),
        ]
        with open(files[0], "wb") as output, open(files[1], "wb") as errors:
            process = subprocess.Popen(
                command, cwd=self.code, env=self.environment, stdout=output, stderr=errors, start_new_session=True
            )
        self.runs.append(Run(process, files, self.folder / "study.log"))
        return self.runs[-1]

    def run(self, *settings: str, content: dict[str, Any] = TINY, profile: bool = False) -> Outcome:
        return self.start(*settings, content=content, profile=profile).wait()

    def end(self) -> None:
        """End what is left of its runs."""
        for run in self.runs:
            run.end()

    def read(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    def recipes(self) -> dict[int, Any]:
        """The recipe of every trial in the ledger, by number."""
        return {int(path.parent.name): self._recipe(path) for path in self.folder.glob("trials/*/recipe.json")}

    def results(self) -> dict[int, dict[str, Any]]:
        """The result of every finished trial in the ledger, by number."""
        paths = self.folder.glob("trials/*/result.json")
        return {int(path.parent.name): json.loads(path.read_text(encoding="utf-8")) for path in paths}

    def reports(self, number: int) -> list[dict[str, Any]]:
        path = self.folder / "trials" / f"{number:05d}" / "reports.jsonl"
        return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []

    @staticmethod
    def _recipe(path: Path) -> Any:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {key: content[key] for key in ("recipe", "seed", "created")}


TOLD = {"complete": TrialState.COMPLETE, "stopped": TrialState.PRUNED, "failed": TrialState.FAIL}


def told(study: Study, storage: str | None = None) -> dict[int, FrozenTrial]:
    """Optuna's trials that were asked for, by number; ``storage``: the URL of another storage than the study's own file."""
    name = study.read("study.json")["optuna_study"]
    opened = optuna.load_study(study_name=name, storage=storage or f"sqlite:///{study.folder / 'study.db'}")
    return {trial.number: trial for trial in opened.get_trials() if trial.state != TrialState.WAITING}


def check_that_optuna_and_ledger_agree(study: Study, storage: str | None = None) -> None:
    """Every trial has ended in both, and in the same way."""
    results, trials = study.results(), told(study, storage)
    assert set(results) == set(study.recipes()) == set(trials)
    for number, result in results.items():
        assert trials[number].state == TOLD[result["state"]]
        if result["state"] == "complete":
            metrics = result["metrics"]
            assert trials[number].values == [metrics["retrieval_map"], metrics["vqa_variance"]]
            assert metrics.items() <= trials[number].user_attrs.items()


def check_that_trials_are_those_of_a_fast_storage(study: Study, config: StudyConfig) -> None:
    """For a random sampler, whose proposals depend on nothing else."""
    space, place = checked_space(config), Ledger(study.place / "expected")
    optuna_study = open_storage(config, "sqlite:///:memory:", "expected")
    trials = Trials(optuna_study, place, config.search, config.seed, space, surroundings(config))
    trials.start_from(starting_points(config, space))
    expected = [trials.ask() for _ in range(config.search.trials)]
    found = study.recipes()
    assert [(found[number]["recipe"], found[number]["seed"]) for number in sorted(found)] == [
        (one.recipe.model_dump(mode="json"), one.seed) for one in expected
    ]


def check_that_nothing_is_left(run: Run) -> None:
    deadline = time.monotonic() + 10
    while run.processes() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert run.processes() == {}
    assert [path.name for path in run.log.parent.iterdir() if path.name.startswith("ray")] == []
