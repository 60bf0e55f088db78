"""The search: the trials that Optuna proposes, until the budget is over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from analysis.pareto import feasible, nondominated
from study.budget import Budget, was_refused
from study.config import StudyConfig
from study.foresight import Foresight
from study.ledger import State, TrialRecord
from study.progress import Progress, SearchState
from study.ray_metrics import RayMetrics
from study.scheduler import MultiObjectiveHalving
from study.search_config import SearchConfig
from study.tracking import Trackers
from study.trials import Trials


class Search:
    """The source of the search's trials: unfinished ones of an earlier run first, then new ones up to the budget."""

    def __init__(
        self,
        config: StudyConfig,
        trials: Trials,
        budget: Budget,
        foresight: Foresight,
        progress: Progress,
        trackers: Trackers,
        metrics: RayMetrics,
    ) -> None:
        self._config = config
        self._trials = trials
        self._budget = budget
        self._foresight = foresight
        self._progress = progress
        self._trackers = trackers
        self._metrics = metrics
        self._shown = SearchState(total=config.search.trials)
        self._waiting = list(trials.unfinished)
        self._under_way = len(trials.unfinished)
        self._states = Counter[str]()  # of the trials that have ended
        self._refused = 0
        self._scores: list[list[float]] = []  # of the complete feasible ones, a number for each objective
        self.scheduler = make_scheduler(config.search, config.training.steps)
        for record, result in trials.finished.items():
            self._learn(record, result)
        if self.scheduler is not None:
            for record in [*trials.finished, *trials.unfinished]:
                for report in record.reports():
                    self.scheduler.replay(record.number, report["step"], report["metrics"])

    @property
    def is_over(self) -> bool:
        """Whether there is nothing to run."""
        return not self._waiting and self._over() is not None

    def next(self) -> TrialRecord | None:
        if self._waiting:
            return self._waiting.pop(0)
        while (reason := self._over()) is None:
            record = self._trials.ask()
            refusal = self._foresight.refusal(record.recipe)
            if refusal is None:
                self._under_way += 1
                return record
            self._trials.finish(record, "infeasible", refusal, {})
            self._learn(record, self._trials.finished[record])
            self._trackers.finish(record, self._trials.finished[record])
        self._progress.note(f"No further trial: {reason}")
        return None

    def reported(self, record: TrialRecord, report: Mapping[str, Any]) -> None:
        self._trackers.report(record, report)

    def ended(self, record: TrialRecord, state: State, reason: str | None, last: Mapping[str, Any]) -> None:
        self._under_way -= 1
        self._trials.finish(record, state, reason, last)
        self._learn(record, self._trials.finished[record])
        self._trackers.finish(record, self._trials.finished[record])
        self._budget.save()

    def place(self, record: TrialRecord) -> str | None:
        return self.scheduler.place(record.number) if self.scheduler is not None else None

    def changed(self, running: int) -> None:
        """Bring the live view up to date; what ended trials amount to is summed up only when there is one more."""
        ended = len(self._trials.finished)
        if ended != self._shown.done:
            self._shown = self._summed_up()
        state = replace(self._shown, running=running)
        self._progress.search(state)
        self._metrics.search(state)

    def _summed_up(self) -> SearchState:
        search = self._config.search
        best = {
            name: max(column) if way == "maximise" else min(column)
            for (name, way), column in zip(search.directions.items(), zip(*self._scores, strict=True), strict=False)
        }
        members = int(nondominated(self._scores, search.directions).sum())
        total = search.trials + self._refused
        return SearchState(total, 0, dict(self._states), members, best, self._budget.hypervolume)

    def _over(self) -> str | None:
        return self._budget.over(self._under_way)

    def _learn(self, record: TrialRecord, result: Mapping[str, Any]) -> None:
        self._foresight.learn(record.recipe, result)
        self._budget.take(result)
        self._states[result["state"]] += 1
        self._refused += was_refused(result)
        search, metrics = self._config.search, result["metrics"]
        if result["state"] == "complete" and feasible(metrics, search.bounds):
            self._scores.append([metrics[name] for name in search.directions])


def make_scheduler(search: SearchConfig, steps: int) -> MultiObjectiveHalving | None:
    """The scheduler of a configuration, None if all trials run to their end; ``steps``: those of a whole trial."""
    halving = search.scheduler
    if halving.kind == "none" or not halving.rungs:
        return None
    return MultiObjectiveHalving(
        halving.rungs, halving.reduction, halving.brackets, steps, search.directions, search.bounds
    )
