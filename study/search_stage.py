"""The search itself: Ray Tune runs the trials that Optuna proposes, and the ledger keeps what they report."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune import FailureConfig, RunConfig, TuneConfig, Tuner

from search_spaces.space import SearchSpace
from study.checks import surroundings
from study.config import CONTROL_LANGUAGE, StudyConfig
from study.environment import TRIAL_RESOURCE
from study.ledger import TrialRecord
from study.progress import Progress, SearchState
from study.scheduler import MultiObjectiveHalving
from study.search import OptunaSearcher, Recorder, Trials
from study.stages import Prepared
from trainables.config import Paths, TrialPlan
from trainables.language_weights import language_weights
from trainables.models.spec import ModelSpec
from trainables.trial import run_trial

_RAY_FOLDER = "ray-"  # what Ray writes: nothing that a study needs later
_CRASHES_FORGIVEN = 1  # a trial whose process died goes on from its last rung, once


@dataclass(frozen=True)
class Inputs:
    """What the earlier stages made."""

    prepared: Prepared
    teacher: Path
    student: ModelSpec
    cache: Path
    teacher_scores: dict[str, Any]  # on validation
    chance: float


class SearchStage:
    """The trials of one study, from the first proposal to the last result."""

    def __init__(
        self,
        config: StudyConfig,
        space: SearchSpace,
        trials: Trials,
        progress: Progress,
        concurrent: int,
        inputs: Inputs,
    ) -> None:
        self._config = config
        self._space = space
        self._progress = progress
        self._concurrent = concurrent
        self._inputs = inputs
        self._trials = trials
        self._began: dict[int, float] = {}
        self._ended: dict[int, float] = {}
        self._ray_folder = ""

    def run(self) -> dict[str, float]:
        """Run what is left of the budget. Returns the seconds of this run's trials, by what they were spent on.

        Raises:
            KeyboardInterrupt: if the user stopped the search; finished trials are kept.
        """
        search = self._config.search
        searcher = OptunaSearcher(self._trials, search.trials, self._propose, self._tune_config)
        if searcher.left == 0:
            return {}
        folder = self._trials.ledger.folder
        for left_over in folder.glob(f"{_RAY_FOLDER}*"):  # of a run that was killed
            shutil.rmtree(left_over, ignore_errors=True)
        self._ray_folder = tempfile.mkdtemp(prefix=_RAY_FOLDER, dir=folder)
        try:
            tuner = Tuner(
                tune.with_resources(run_trial, self._driver_resources()),
                tune_config=TuneConfig(
                    search_alg=searcher,
                    scheduler=self._scheduler(),
                    num_samples=searcher.left,
                    max_concurrent_trials=self._concurrent,
                    reuse_actors=self._config.resources.workers_per_trial == 0,
                    trial_dirname_creator=lambda trial: trial.trial_id,
                ),
                run_config=RunConfig(
                    name="tune",
                    storage_path=self._ray_folder,
                    verbose=0,
                    callbacks=[Recorder(self._trials, searcher, lambda: self._show(searcher))],
                    failure_config=FailureConfig(max_failures=_CRASHES_FORGIVEN),
                ),
            )
            tuner.fit()
        finally:
            shutil.rmtree(self._ray_folder, ignore_errors=True)
        if searcher.running or searcher.left:  # Tune returns from Ctrl-C as if it had finished
            raise KeyboardInterrupt
        return self._spent()

    def _propose(self) -> TrialRecord:
        return self._trials.ask(self._space, surroundings(self._config))

    def _tune_config(self, record: TrialRecord) -> dict[str, Any]:
        """What `run_trial` needs."""
        self._began.setdefault(record.number, time.monotonic())
        config, inputs = self._config, self._inputs
        resources, scores = config.resources, inputs.teacher_scores
        teacher_map = {name: (row["map_i2t"] + row["map_t2i"]) / 2 for name, row in scores["languages"].items()}
        plan = TrialPlan(
            number=record.number,
            seed=record.seed,
            recipe=record.recipe,
            student=inputs.student,
            training=config.training,
            language_weights=language_weights(record.recipe.language_weighting, config.data.languages, teacher_map),
            control_language=CONTROL_LANGUAGE,
            teacher_vqa_accuracy=scores["summary"]["vqa_accuracy"],
            chance=inputs.chance,
            rungs=config.search.scheduler.rungs,
            rung_share=config.search.scheduler.evaluation_share,
            threads=max(1, int(resources.cpus_per_worker)),
            paths=Paths(
                train=str(inputs.prepared.train),
                retrieval=str(inputs.prepared.retrieval),
                vqa=str(inputs.prepared.vqa),
                teacher=str(inputs.teacher),
                cache=str(inputs.cache),
            ),
            folder=str(record.folder),
            workers=resources.workers_per_trial,
            cpus_per_worker=resources.cpus_per_worker,
            gpus_per_worker=resources.gpus_per_worker,
        )
        return {"plan": plan.model_dump_json(), "ray_storage": self._ray_folder}

    def _driver_resources(self) -> dict[str, float]:
        """A trial with workers of its own leaves the CPUs to them; one without is its own worker."""
        resources = self._config.resources
        driver = {TRIAL_RESOURCE: 1.0}
        if resources.workers_per_trial == 0:
            driver["CPU"] = resources.cpus_per_worker
            if resources.gpus_per_worker:
                driver["GPU"] = resources.gpus_per_worker
        return driver

    def _scheduler(self) -> MultiObjectiveHalving | None:
        search = self._config.search
        if search.scheduler.kind == "none":
            return None
        halving = search.scheduler
        scheduler = MultiObjectiveHalving(halving.rungs, halving.reduction, search.directions, search.bounds)
        for record in self._trials.finished:
            for report in record.reports():
                scheduler.replay(report["step"], report["metrics"])
        return scheduler

    def _show(self, searcher: OptunaSearcher) -> None:
        """Bring the live view up to date."""
        objectives = self._config.search.objectives
        states = Counter(result["state"] for result in self._trials.finished.values())
        columns = list(zip(*self._trials.candidates().values(), strict=True))
        best = {
            str(name): max(column) if way == "maximise" else min(column)
            for (name, way), column in zip(objectives.items(), columns, strict=False)
        }
        self._progress.search(
            SearchState(
                total=self._config.search.trials,
                running=len(searcher.running),
                complete=states["complete"],
                stopped=states["stopped"],
                failed=states["failed"],
                front=len(self._trials.front()),
                best=best,
            )
        )
        now = time.monotonic()
        for record in self._trials.finished:
            if record.number in self._began:
                self._ended.setdefault(record.number, now)

    def _spent(self) -> dict[str, float]:
        """Seconds over the trials of this run: training, evaluation, and everything else from proposal to end."""
        spent = {"training": 0.0, "evaluation": 0.0, "other": 0.0}
        for record, result in self._trials.finished.items():
            if record.number in self._ended:
                training, evaluation = (result["timing"].get(part, 0.0) for part in ("train", "evaluate"))
                wall = self._ended[record.number] - self._began[record.number]
                spent["training"] += training
                spent["evaluation"] += evaluation
                spent["other"] += wall - training - evaluation
        return spent
