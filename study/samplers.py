"""Optuna's samplers and storage for a study, and what each sampler is to make of a trial that did not complete.

What Optuna is told of a trial, and why:

- complete: its objectives, and by how much it violates each constraint (0 where it holds). Every sampler that is
  offered here knows constraints in this form.
- stopped at a rung: pruned, without values. Scores after fewer steps are worse than those of a whole trial, so told as
  its values they would mislead every sampler, and made-up values of a whole trial would be noise with a fine name. TPE
  counts a pruned trial among the bad ones, behind every complete one, which is what the rung found. NSGA-II and GP
  leave it out: neither a population nor a regression can hold a trial without values.
- infeasible without having run to its end (it is foreseen not to fit its worker, or ran out of memory): pruned, with
  the constraint ``fits`` violated. TPE puts it behind everything else.
- diverged: pruned, since the recipe is to blame.
- failed otherwise (a crash, a lost machine): failed. That says nothing of the recipe, and every sampler leaves it out.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from analysis.pareto import Direction, nondomination_rank
from study.config import StudyConfig
from study.database import open_database, readable_errors
from study.errors import UserError
from study.search_config import SearchConfig

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
FITS = "fits"  # the constraint that stands for the limits of a worker

_MODELLED, _BEST = 200, 50  # trials that TPE models, and how many of them are the best ones
_PATIENCE = 600.0  # seconds for which an unreachable storage is asked again
_SQLITE_FULL = "database or disk is full"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 15.0


def make_sampler(config: SearchConfig, seed: int, asked: int) -> optuna.samplers.BaseSampler:
    """The sampler of a study that has ``asked`` trials: a resumed study draws on, it does not draw again."""
    seed = (seed * 1_000_003 + asked) % 2**32
    if config.sampler in ("tpe", "tpe_grouped"):
        startup = min(10, max(5, config.trials // 3))
        # Each parameter by itself: with 18 and with 50 trials that found better fronts than modelling parameters
        # together, for which so few trials are too thin (python -m tests.benchmarks.search).
        together = config.sampler == "tpe_grouped"
        return BoundedTPESampler(
            multivariate=together, group=together, constant_liar=True, n_startup_trials=startup, seed=seed
        )
    if config.sampler == "nsga2":
        return optuna.samplers.NSGAIISampler(population_size=max(4, min(50, config.trials // 4)), seed=seed)
    if config.sampler == "gp":
        return optuna.samplers.GPSampler(seed=seed)
    return optuna.samplers.RandomSampler(seed=seed)


class BoundedTPESampler(optuna.samplers.TPESampler):  # type: ignore[misc]  # Optuna is not followed
    """TPE that models at most so many trials, the best and the latest, so that proposals stay as cheap in a long study.

    Optuna's own goes through all trials for every group of parameters that it samples.
    """

    _few: _FewTrials | None = None

    def _sample(self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, Any]) -> dict[str, Any]:
        # Parameters are sampled one after the other: what they are modelled on is chosen once for a trial.
        if self._few is None or self._few.asked_for != trial.number:
            self._few = _FewTrials(study, trial.number)
        sampled: dict[str, Any] = super()._sample(self._few, trial, search_space)
        return sampled


class _FewTrials:
    """A study as `BoundedTPESampler` sees it when it proposes trial number ``asked_for``."""

    def __init__(self, study: optuna.Study, asked_for: int) -> None:
        self.asked_for = asked_for
        self._study = study
        self._found: dict[str, list[FrozenTrial]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def _get_trials(self, **asked: Any) -> list[FrozenTrial]:
        key = repr(sorted(asked.items()))
        if key not in self._found:
            self._found[key] = self._chosen(self._study._get_trials(**asked))
        return self._found[key]

    def _chosen(self, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        if len(trials) <= _MODELLED:
            return trials
        chosen = {trial.number for trial in [*best_trials(trials, self._study)[:_BEST], *trials[_BEST - _MODELLED :]]}
        return [trial for trial in trials if trial.number in chosen or trial.state == TrialState.RUNNING]


def best_trials(trials: Sequence[FrozenTrial], study: optuna.Study) -> list[FrozenTrial]:
    """The complete feasible trials, best first: by nondomination rank, and by number within a rank."""
    found = [
        trial
        for trial in trials
        if trial.state == TrialState.COMPLETE and all(value <= 0 for value in trial.constraints.values())
    ]
    if not found:
        return []
    directions: dict[str, Direction] = {
        str(place): "maximise" if way == optuna.study.StudyDirection.MAXIMIZE else "minimise"
        for place, way in enumerate(study.directions)
    }
    rank = nondomination_rank([trial.values for trial in found], directions)
    return [found[place] for place in np.argsort(rank, kind="stable")]


def open_storage(config: StudyConfig, url: str, study_name: str) -> optuna.Study:
    """The Optuna study of this configuration, created if it is not there, with its sampler.

    Raises:
        UserError: if the storage cannot be reached, or the sampler's own library is missing.
    """
    optuna.logging.disable_default_handler()  # into the study's log, with everything else
    optuna.logging.enable_propagation()
    search = config.search
    directions = ["maximize" if way == "maximise" else "minimize" for way in search.objectives.values()]
    setting = config.storage.optuna
    storage = open_database(setting, url)
    with readable_errors(setting):
        study = optuna.create_study(storage=storage, study_name=study_name, directions=directions, load_if_exists=True)
        study.set_metric_names(list(search.objectives))
    try:
        study.sampler = make_sampler(search, config.seed, len(study.get_trials(deepcopy=False)))
    except ImportError as error:
        raise UserError(f"search.sampler: {search.sampler} needs a library that is not installed: {error}") from None
    return study


def patiently(action: Callable[[], T], patience: float = _PATIENCE) -> T:
    """What ``action`` returns, called again for ``patience`` seconds while the storage does not answer.

    Trials train on meanwhile: only what is heard of them waits.

    Raises:
        OSError: if a database on a full disk cannot be written: waiting does not mend that.
        UserError: if the storage has not answered by then.
    """
    deadline, pause = time.monotonic() + patience, _FIRST_PAUSE
    while True:
        try:
            return action()
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            if _SQLITE_FULL in f"{error} {error.__cause__}":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            if time.monotonic() > deadline:
                raise UserError(
                    f"storage.optuna: the storage has not answered for {patience:.0f} s ({type(error).__name__}); "
                    "bring it back, and the same command goes on: what has finished is kept"
                ) from None
            _LOG.warning("the storage does not answer (%s), it is asked again in %s s", type(error).__name__, pause)
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
