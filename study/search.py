"""Optuna's proposals for Ray Tune, over ask and tell.

Ray's own `OptunaSearch` cannot carry this study: with several objectives it tells Optuna that stopped and crashed
trials are complete, it leaves trials running for ever when a metric is missing, and it knows neither constraints nor
what a restarted study has already done.

What Optuna is told: a complete trial, its objectives and by how much it violates each constraint; a stopped trial,
that it was pruned, without values, since values after fewer steps would mislead a sampler, while TPE counts a pruned
trial among the bad ones; a failed trial, that it failed, which samplers leave out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState
from ray.tune import Callback
from ray.tune.search import Searcher
from sqlalchemy.exc import SQLAlchemyError

from analysis.pareto import feasible, nondominated, violation
from search_spaces.space import SearchSpace, Surroundings
from study.config import SearchConfig, StudyConfig
from study.errors import UserError
from study.ledger import Ledger, State, TrialRecord
from trainables.recipe import Recipe


def make_sampler(config: SearchConfig, seed: int, asked: int) -> optuna.samplers.BaseSampler:
    """The sampler of a study that has ``asked`` trials: a resumed study draws on, it does not draw again."""
    seed = (seed * 1_000_003 + asked) % 2**32
    if config.sampler == "tpe":
        startup = min(10, max(5, config.trials // 3))
        return optuna.samplers.TPESampler(
            multivariate=True, group=True, constant_liar=True, n_startup_trials=startup, seed=seed
        )
    if config.sampler == "nsga2":
        return optuna.samplers.NSGAIISampler(population_size=max(4, min(50, config.trials // 4)), seed=seed)
    if config.sampler == "gp":
        return optuna.samplers.GPSampler(seed=seed)
    return optuna.samplers.RandomSampler(seed=seed)


def open_storage(config: StudyConfig, url: str) -> optuna.Study:
    """The Optuna study of this configuration, created if it is not there, with its sampler.

    Raises:
        UserError: if the storage cannot be reached, or the sampler's own library is missing.
    """
    optuna.logging.disable_default_handler()  # into the study's log, with everything else
    optuna.logging.enable_propagation()
    search = config.search
    directions = ["maximize" if way == "maximise" else "minimize" for way in search.objectives.values()]
    try:
        study = optuna.create_study(storage=url, study_name=config.name, directions=directions, load_if_exists=True)
        study.set_metric_names(list(search.objectives))
    except (ImportError, SQLAlchemyError) as error:
        # Its own message may hold the URL with a password.
        raise UserError(f"storage.optuna: {config.storage.optuna} cannot be opened: {type(error).__name__}") from None
    try:
        study.sampler = make_sampler(search, config.seed, len(study.get_trials(deepcopy=False)))
    except ImportError as error:
        raise UserError(f"search.sampler: {search.sampler} needs a library that is not installed: {error}") from None
    return study


class Trials:
    """The trials of one study in Optuna and in the ledger, kept in step with each other."""

    def __init__(self, study: optuna.Study, ledger: Ledger, config: SearchConfig, seed: int) -> None:
        self.study = study
        self.ledger = ledger
        self._config = config
        self._seed = seed
        self.unfinished: list[TrialRecord] = []
        self.finished: dict[TrialRecord, dict[str, Any]] = {}  # with their results, as in result.json

    def reconcile(self) -> None:
        """Bring both records into line after whatever ended the last run.

        A trial that the ledger has finished but Optuna has not is told now. One that Optuna started but the ledger
        never saw has run nothing: it is told failed. The rest goes on.

        Raises:
            UserError: if the ledger has trials that Optuna does not know.
        """
        records = {record.number: record for record in self.ledger.records()}
        known = self.study.get_trials(deepcopy=False)
        lost = [number for number in records if number >= len(known)]
        if lost:
            raise UserError(
                f"the Optuna storage lacks trial {lost[0]}, which {self.ledger.trials_folder} holds; bring the storage "
                "back, or start anew with --fresh or another --name"
            )
        for frozen in known:
            record = records.get(frozen.number)
            result = record.result if record else None
            if frozen.state == TrialState.RUNNING:
                if record is None:
                    self.study.tell(frozen.number, state=TrialState.FAIL)
                elif result is not None:
                    self._tell(record, result["state"], result["metrics"])
        for record in records.values():
            if (result := record.result) is None:
                self.unfinished.append(record)
            else:
                self.finished[record] = result

    def try_each(self, name: str, values: Sequence[Any]) -> None:
        """In a new study, make the first trials take each of these values once; the sampler chooses all else."""
        if not self.study.get_trials(deepcopy=False):
            for value in values:
                self.study.enqueue_trial({name: value})

    def ask(self, space: SearchSpace, around: Surroundings) -> TrialRecord:
        """A new trial, proposed by the sampler and written down before anything runs."""
        trial = self.study.ask()
        recipe = Recipe.model_validate(space.suggest(trial, around))
        seed = (self._seed * 1_000_003 + trial.number) % 2**31
        return self.ledger.begin(trial.number, recipe, seed)

    def finish(self, record: TrialRecord, state: State, reason: str | None, last: Mapping[str, Any]) -> None:
        """Write down how a trial ended, then tell Optuna."""
        metrics = last.get("metrics", {})
        if state == "complete" and not all(math.isfinite(metrics.get(name, math.nan)) for name in self._metrics):
            missing = [name for name in self._metrics if not math.isfinite(metrics.get(name, math.nan))]
            state, reason = "failed", f"no finite {', '.join(missing)}"
        self.finished[record] = self.ledger.finish(record, state, reason, last)
        self._tell(record, state, metrics)

    def candidates(self) -> dict[TrialRecord, list[float]]:
        """The complete feasible trials by number, with their objectives."""
        results = sorted(self.finished.items(), key=lambda finished: finished[0].number)
        return {
            record: [result["metrics"][name] for name in self._config.objectives]
            for record, result in results
            if result["state"] == "complete" and feasible(result["metrics"], self._config.bounds)
        }

    def front(self) -> list[TrialRecord]:
        """The nondominated candidates."""
        candidates = self.candidates()
        if not candidates:
            return []
        mask = nondominated(np.asarray(list(candidates.values())), self._config.directions)
        return [record for record, is_member in zip(candidates, mask, strict=True) if is_member]

    @property
    def _metrics(self) -> list[str]:
        return [*self._config.objectives, *self._config.constraints]

    def _tell(self, record: TrialRecord, state: State, metrics: Mapping[str, float]) -> None:
        frozen = self.study.get_trials(deepcopy=False)[record.number]
        # By id, since the process that asked for the trial may be gone.
        trial = optuna.Trial(self.study, frozen._trial_id)
        trial.set_user_attr("strategy", record.recipe.strategy)
        for name, value in metrics.items():
            trial.set_user_attr(name, value)
        if state == "complete":
            for name, bound in self._config.bounds.items():
                trial.set_constraint(name, violation(metrics, {name: bound}))
            self.study.tell(record.number, [metrics[name] for name in self._config.objectives])
        else:
            self.study.tell(record.number, state=TrialState.PRUNED if state == "stopped" else TrialState.FAIL)


class OptunaSearcher(Searcher):  # type: ignore[misc]  # Ray is untyped
    """Hands Tune the unfinished trials of an earlier run first, then new ones up to the budget."""

    def __init__(
        self,
        trials: Trials,
        budget: int,
        propose: Callable[[], TrialRecord],
        plan: Callable[[TrialRecord], dict[str, Any]],
    ) -> None:
        """``plan`` turns a trial into Tune's configuration of it; ``budget`` counts all trials of the study."""
        super().__init__()
        self._trials = trials
        self._waiting = list(trials.unfinished)
        self._left = budget - len(trials.unfinished) - len(trials.finished)
        self._propose = propose
        self._plan = plan
        self.running: dict[str, TrialRecord] = {}  # by Tune's trial id

    @property
    def left(self) -> int:
        """How many trials have still to be handed out."""
        return len(self._waiting) + max(0, self._left)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._waiting:
            record = self._waiting.pop(0)
        elif self._left > 0:
            self._left -= 1
            record = self._propose()
        else:
            return str(Searcher.FINISHED)
        self.running[trial_id] = record
        return self._plan(record)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Told by `Recorder`, which also hears why a trial failed."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # a study goes on from its ledger, never from the state that Tune pickles

    def save(self, checkpoint_path: str) -> None:
        """Nothing, for the same reason."""

    def restore(self, checkpoint_path: str) -> None:
        raise RuntimeError("a study goes on from its ledger, not from Ray's state")


class Recorder(Callback):  # type: ignore[misc]
    """Writes every report and every end of a trial into the ledger, and tells Optuna."""

    def __init__(self, trials: Trials, searcher: OptunaSearcher, changed: Callable[[], None]) -> None:
        """``changed`` is called after every event."""
        self._trials = trials
        self._searcher = searcher
        self._changed = changed
        self._last: dict[str, dict[str, Any]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {}  # as for the searcher

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._changed()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._take(trial.trial_id, result)
        self._changed()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        # The result that makes the scheduler stop a trial may reach callbacks only as the trial's last one.
        self._take(trial.trial_id, trial.last_result or {})
        record = self._searcher.running.pop(trial.trial_id, None)
        if record is None:
            return
        last = self._last.pop(trial.trial_id, {})
        if last.get("failure"):
            self._trials.finish(record, "failed", last["failure"], last)
        elif last.get("final"):
            self._trials.finish(record, "complete", None, last)
        elif last:
            self._trials.finish(record, "stopped", f"behind others at step {last['step']}", last)
        else:
            self._trials.finish(record, "failed", "ended without a result", {})
        self._changed()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        record = self._searcher.running.pop(trial.trial_id, None)
        if record is None:
            return
        last = self._last.pop(trial.trial_id, {})
        self._trials.finish(record, "failed", _reason(_error_text(trial)), last)
        self._changed()

    def _take(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Append a report that is new to the ledger."""
        record = self._searcher.running.get(trial_id)
        if record is None or "result" not in result:
            return
        report = json.loads(result["result"])
        known = self._last.get(trial_id)
        if known is not None and (known["step"], known["final"]) == (report["step"], report["final"]):
            return
        self._last[trial_id] = report
        earlier = record.reports()[-1:]  # of a run that was killed: a trial that goes on reports its last rung again
        if not earlier or (earlier[0]["step"], earlier[0]["final"]) != (report["step"], report["final"]):
            self._trials.ledger.report(record, report)


def _error_text(trial: Any) -> str | None:
    """What Tune wrote of a trial's error; its own `get_error` looks where the file is copied only later."""
    path = Path(trial.error_file) if trial.error_file else None
    return path.read_text(encoding="utf-8", errors="replace") if path and path.exists() else None


def _reason(traceback: str | None) -> str:
    """The last telling line of a traceback."""
    lines = [line.strip() for line in (traceback or "").splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line or "Exception" in line or "died" in line]
    return (errors or lines or ["the process of the trial ended without a message"])[-1][:500]
