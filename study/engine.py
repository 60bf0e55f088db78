"""The stages of a study in order: data, teacher, cache, search, test, report."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from search_spaces.space import SearchSpace
from study.config import StudyConfig
from study.environment import concurrent_trials, describe_environment, ray_cluster
from study.errors import UserError
from study.ledger import Ledger
from study.progress import Progress
from study.results import print_time, write_report
from study.search import Trials, open_storage
from study.search_stage import Inputs, SearchStage
from study.stages import StageRunner, mapped_teacher_layers
from trainables.artifacts import write_json


def run_stages(
    config: StudyConfig, space: SearchSpace, ledger: Ledger, url: str, address: str | None, terminal: IO[str]
) -> None:
    """Run or go on with the study whose folder ``ledger`` has open; progress goes to ``terminal``.

    Raises:
        UserError: if the storage or the cluster does not fit the configuration, or the teacher knows nothing.
        KeyboardInterrupt: if the user stopped it; what is finished is kept.
    """
    trials = Trials(open_storage(config, url), ledger, config.search, config.seed)
    trials.reconcile()
    trials.try_each("strategy", space.values("strategy"))
    progress = Progress(terminal)
    progress.note(f"Study {config.name} in {ledger.folder}")
    write_json(ledger.folder / "environment.json", describe_environment())
    with progress.shown():
        with ExitStack() as stack:
            with progress.stage("start Ray"):
                available = stack.enter_context(ray_cluster(address, config.resources))
            spent = _run_on_ray(config, space, trials, progress, available)
        with progress.stage("report"):
            write_report(ledger.folder)
    print_time(progress.seconds, spent, progress.console)


def _run_on_ray(
    config: StudyConfig,
    space: SearchSpace,
    trials: Trials,
    progress: Progress,
    available: Mapping[str, float],
) -> dict[str, float]:
    """All stages that compute. Returns the seconds of this run's trials, by what they were spent on."""
    concurrent = concurrent_trials(config.resources, available)
    # The stages have the cluster to themselves: all of one node's cores, and a GPU if there is one.
    cores = min(available.get("CPU", 1.0), float(os.cpu_count() or 1))
    gpus = min(1.0, available.get("GPU", 0.0))
    folder = trials.ledger.folder
    layers = mapped_teacher_layers(config, space)
    with StageRunner(config, cores, gpus) as stages:
        with progress.stage("prepare data") as advance:
            prepared = stages.run("prepare", progress=advance)
        with progress.stage("fit teacher") as advance:
            teacher = stages.run("teacher", prepared, progress=advance)
        with progress.stage("score teacher") as advance:
            scores, parameters, chance, student = stages.run("score_teacher", teacher, prepared, progress=advance)
        if scores["summary"]["vqa_accuracy"] <= chance:
            raise UserError(
                f"teacher.fit.steps: after {config.teacher.fit.steps} steps the teacher's VQA accuracy, "
                f"{scores['summary']['vqa_accuracy']:.3f}, does not beat chance, {chance:.3f}: fit it longer"
            )
        described = {
            "family": config.teacher.family,
            "parameters": parameters,
            "chance": chance,
            "folder": str(teacher),
        }
        _write_teacher(folder, described, {"validation": scores})
        with progress.stage("cache teacher") as advance:
            cache = stages.run("cache", teacher, prepared, layers, progress=advance)

    inputs = Inputs(prepared, teacher, student, cache, scores, chance)
    search = SearchStage(config, space, trials, progress, concurrent, inputs)
    with progress.stage("search"):
        spent = search.run()

    with progress.stage("test the front") as advance, StageRunner(config, cores, gpus) as stages:
        # Test is looked at once: what has its scores keeps them.
        members = [record for record in trials.front() if not (record.folder / "test.json").exists()]
        folders = [record.folder / "checkpoint" for record in members]
        test, found = stages.run("test", teacher, folders, prepared, progress=advance)
        for record, of_student in zip(members, found, strict=True):
            write_json(record.folder / "test.json", {"metrics": of_student["summary"], "scores": of_student})
        _write_teacher(folder, described, {"validation": scores, "test": test})
    return spent


def _write_teacher(folder: Path, described: Mapping[str, Any], scores: Mapping[str, Any]) -> None:
    write_json(folder / "teacher.json", {**described, "scores": scores})
