"""When a search ends: its trials are run, its time is over, or its front has stopped growing; whichever comes first."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis.pareto import feasible, hypervolume, nondominated
from study.ledger import Ledger
from study.search_config import SearchConfig

_FAILURES_IN_A_ROW = 10  # so many, and something is wrong that a further trial does not mend
_REFUSALS_IN_A_ROW = 200  # recipes that are foreseen not to fit: the limits leave nothing to run

Result = Mapping[str, Any]


class Budget:
    """What is left of a study's budget. It holds over all runs of the study: all that it counts is in the ledger.

    It is given each result once, in the order in which trials ended, so that it costs as much late in a study as early.
    """

    def __init__(self, config: SearchConfig, ledger: Ledger, reference: Mapping[str, float]) -> None:
        """``reference``: the point that hypervolume is measured from."""
        self._config = config
        self._ledger = ledger
        self._reference = reference
        self._before = ledger.search_seconds()
        self._since = time.monotonic()
        self._ran = 0
        self._failed_in_a_row = 0
        self._refused_in_a_row = 0
        self._front: list[list[float]] = []
        self.hypervolume = 0.0  # of the feasible front so far
        self.idle = 0  # trials that ended since the last one that made the hypervolume grow

    def save(self) -> None:
        """Record the time spent so far; called at the end of every trial."""
        self._ledger.spent(self._before + time.monotonic() - self._since)

    def take(self, result: Result) -> None:
        """Count a trial that has ended; ``result`` as in result.json."""
        if was_refused(result):
            self._refused_in_a_row += 1
            return
        self._refused_in_a_row = 0
        self._ran += 1
        self._failed_in_a_row = self._failed_in_a_row + 1 if result["state"] == "failed" else 0
        self.idle = 0 if self._grows(result) else self.idle + 1

    def over(self, under_way: int) -> str | None:
        """Why no further trial begins while so many are under way, None as long as one may."""
        config = self._config
        if under_way + self._ran >= config.trials:
            return f"search.trials: {config.trials} trials"
        hours = (self._before + time.monotonic() - self._since) / 3600
        if config.hours is not None and hours >= config.hours:
            return f"search.hours: {config.hours:g} hours"
        if config.patience is not None and self.idle >= config.patience:
            return f"search.patience: the last {self.idle} trials left the hypervolume as it was"
        if self._failed_in_a_row >= _FAILURES_IN_A_ROW:
            return f"the last {self._failed_in_a_row} trials failed"
        if self._refused_in_a_row >= _REFUSALS_IN_A_ROW:
            return (
                f"search.limits: the last {self._refused_in_a_row} recipes were foreseen to need more than they allow"
            )
        return None

    def _grows(self, result: Result) -> bool:
        """Take a result's objectives in; whether they made the hypervolume grow."""
        directions, metrics = self._config.directions, result["metrics"]
        if result["state"] != "complete" or not feasible(metrics, self._config.bounds):
            return False
        values = np.asarray([*self._front, [metrics[name] for name in directions]])
        self._front = values[nondominated(values, directions)].tolist()
        before, self.hypervolume = self.hypervolume, hypervolume(self._front, directions, self._reference)
        return self.hypervolume > before


def was_refused(result: Result) -> bool:
    """Whether a trial was never run, since it was foreseen not to fit: it costs no budget."""
    return bool(result["state"] == "infeasible" and result["steps"] == 0)
