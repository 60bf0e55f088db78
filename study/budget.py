"""When a search ends: its trials are run, its time is over, or its front has stopped growing; whichever comes first."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.pareto import Constraints, Directions, feasible, hypervolume, nondominated
from study.config import SearchConfig
from study.ledger import Ledger

_FAILURES_IN_A_ROW = 10  # so many, and something is wrong that a further trial does not mend
_REFUSALS_IN_A_ROW = 200  # recipes that are foreseen not to fit: the limits leave nothing to run

Result = Mapping[str, Any]


class Budget:
    """What is left of a study's budget, from its ledger alone, so that it holds over all runs of the study."""

    def __init__(self, config: SearchConfig, ledger: Ledger, reference: Mapping[str, float]) -> None:
        """``reference``: the point that hypervolume is measured from."""
        self._config = config
        self._ledger = ledger
        self._reference = reference
        self._before = ledger.search_seconds()
        self._since = time.monotonic()

    def save(self) -> None:
        """Record the time spent so far; called at the end of every trial."""
        self._ledger.spent(self._before + time.monotonic() - self._since)

    def over(self, begun: int, finished: Sequence[Result]) -> str | None:
        """Why no further trial begins, None as long as one may.

        Args:
            begun: trials that are under way.
            finished: results in the order in which trials ended.
        """
        run = [result for result in finished if not was_refused(result)]
        if begun + len(run) >= self._config.trials:
            return f"search.trials: {self._config.trials} trials"
        hours = (self._before + time.monotonic() - self._since) / 3600
        if self._config.hours is not None and hours >= self._config.hours:
            return f"search.hours: {self._config.hours:g} hours"
        if self._config.patience is not None:
            idle = idle_trials(run, self._config.directions, self._config.bounds, self._reference)
            if idle >= self._config.patience:
                return f"search.patience: the last {idle} trials left the hypervolume as it was"
        last = [result["state"] == "failed" for result in run[-_FAILURES_IN_A_ROW:]]
        if len(last) == _FAILURES_IN_A_ROW and all(last):
            return f"the last {len(last)} trials failed"
        refused = [was_refused(result) for result in finished[-_REFUSALS_IN_A_ROW:]]
        if len(refused) == _REFUSALS_IN_A_ROW and all(refused):
            return f"search.limits: the last {len(refused)} recipes were foreseen to need more than they allow"
        return None


def was_refused(result: Result) -> bool:
    """Whether a trial was never run, since it was foreseen not to fit: it costs no budget."""
    return bool(result["state"] == "infeasible" and result["steps"] == 0)


def idle_trials(
    finished: Sequence[Result], directions: Directions, constraints: Constraints, reference: Mapping[str, float]
) -> int:
    """How many trials ended since the last one that made the hypervolume of the feasible complete ones grow."""
    front: list[list[float]] = []
    best, since = 0.0, 0
    for result in finished:
        since += 1
        metrics = result["metrics"]
        if result["state"] == "complete" and feasible(metrics, constraints):
            values = np.asarray([*front, [metrics[name] for name in directions]])
            front = values[nondominated(values, directions)].tolist()
            volume = hypervolume(front, directions, reference)
            if volume > best:
                best, since = volume, 0
    return since
