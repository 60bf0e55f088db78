"""The ways to search that the benchmark compares: each proposes recipes and hears how their trainings went."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from syne_tune.backend.trial_status import Trial as SyneTrial
from syne_tune.config_space import choice, loguniform, randint, uniform
from syne_tune.optimizer.scheduler import SchedulerDecision
from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA
from syne_tune.optimizer.schedulers.multiobjective.multiobjective_priority import MOPriority, NonDominatedPriority

from analysis.pareto import violation
from search_spaces.space import SearchSpace, Surroundings
from study.config import StudyConfig
from study.ledger import Ledger, TrialRecord
from study.samplers import make_sampler
from study.search_stage import make_scheduler
from study.trials import Trials
from study.warm_start import starting_points
from tests.benchmarks.simulation import Metrics
from tests.benchmarks.surrogate import recipe_of
from trainables.recipe import Recipe

warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class Task:
    """What is searched."""

    config: StudyConfig
    space: SearchSpace
    around: Surroundings


class OptunaAlone:
    """Optuna as its documentation shows it, with constraints: all trials run to their end."""

    def __init__(self, task: Task, sampler: optuna.samplers.BaseSampler) -> None:
        self._task = task
        self._study = optuna.create_study(directions=_directions(task.config), sampler=sampler)

    def propose(self) -> tuple[optuna.Trial, Recipe]:
        trial = self._study.ask()
        return trial, Recipe.model_validate(self._task.space.suggest(trial, self._task.around))

    def goes_on(self, trial: Hashable, step: int, metrics: Metrics) -> bool:
        return True

    def ended(self, trial: Any, step: int, metrics: Metrics, is_complete: bool) -> None:
        search = self._task.config.search
        for name, bound in search.bounds.items():
            trial.set_constraint(name, violation(metrics, {name: bound}))
        self._study.tell(trial, [metrics[name] for name in search.objectives])


class Ours:
    """This project's search: its known recipes, its sampler, its scheduler, and what it tells Optuna."""

    def __init__(self, task: Task, seed: int, folder: Path) -> None:
        """``folder``: an empty one for the ledger."""
        config = task.config
        study = optuna.create_study(directions=_directions(config), sampler=make_sampler(config.search, seed, 0))
        self._trials = Trials(study, Ledger(folder), config.search, seed, task.space, task.around)
        self._trials.start_from(starting_points(config, task.space))
        self._scheduler = make_scheduler(config.search, config.training.steps)

    def propose(self) -> tuple[TrialRecord, Recipe]:
        record = self._trials.ask()
        return record, record.recipe

    def goes_on(self, trial: Any, step: int, metrics: Metrics) -> bool:
        return self._scheduler is None or self._scheduler.goes_on(trial.number, step, metrics)

    def ended(self, trial: Any, step: int, metrics: Metrics, is_complete: bool) -> None:
        state = "complete" if is_complete else "stopped"
        self._trials.finish(trial, state, None, {"step": step, "metrics": metrics})


class SyneTuneMOASHA:
    """Syne Tune's MOASHA, its own class; it samples at random and knows neither conditions nor constraints."""

    def __init__(self, task: Task, priority: MOPriority, first_rung: int, reduction: float, seed: int) -> None:
        self._task = task
        self._maximised = [way == "maximise" for way in task.config.search.directions.values()]
        self._running: dict[int, SyneTrial] = {}
        self._begun = 0
        np.random.seed(seed)  # what it draws from
        self._scheduler = MOASHA(
            config_space=_domains(task),
            metrics=list(task.config.search.directions),
            time_attr="step",
            multiobjective_priority=priority,
            max_t=task.config.training.steps,
            grace_period=first_rung,
            reduction_factor=reduction,
            random_seed=seed,
        )

    def propose(self) -> tuple[int, Recipe]:
        parameters = self._scheduler.suggest().config
        self._begun += 1
        trial = SyneTrial(self._begun, parameters, datetime.now(UTC))
        self._running[self._begun] = trial
        self._scheduler.on_trial_add(trial)
        return self._begun, recipe_of(parameters, self._task.space, self._task.around)

    def goes_on(self, trial: Any, step: int, metrics: Metrics) -> bool:
        decision = self._scheduler.on_trial_result(self._running[trial], self._costs(step, metrics))
        return bool(decision == SchedulerDecision.CONTINUE)

    def ended(self, trial: Any, step: int, metrics: Metrics, is_complete: bool) -> None:
        begun = self._running.pop(trial)
        if is_complete:
            self._scheduler.on_trial_complete(begun, self._costs(step, metrics))
        else:
            self._scheduler.on_trial_remove(begun)

    def _costs(self, step: int, metrics: Metrics) -> dict[str, float]:
        """It minimises all objectives or maximises all."""
        names = self._task.config.search.directions
        signs = zip(names, self._maximised, strict=True)
        return {"step": step} | {name: -metrics[name] if maximised else metrics[name] for name, maximised in signs}


class MendedPriority(NonDominatedPriority):
    """Ranks: `NonDominatedPriority` of syne-tune 0.16 gives the order of trials where its caller takes their ranks."""

    def priority_unsafe(self, objectives: np.ndarray) -> np.ndarray:
        return np.argsort(super().priority_unsafe(objectives))


def _directions(config: StudyConfig) -> list[str]:
    return ["maximize" if way == "maximise" else "minimize" for way in config.search.directions.values()]


class _Domains:
    """Collects the domain of every parameter that a space asks for."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        self.found[name] = choice(list(choices))
        return choices[0]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.found[name] = loguniform(low, high) if log else uniform(low, high)
        return low

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        self.found[name] = randint(low, high)
        return low


def _domains(task: Task) -> dict[str, Any]:
    """All parameters of the space without its conditions: what a recipe's choices shut has no effect on it."""
    entries = {name: entry.model_copy(update={"when": {}}) for name, entry in task.space.entries.items()}
    domains = _Domains()
    SearchSpace(task.space.source, entries).suggest(domains, task.around)
    return domains.found
