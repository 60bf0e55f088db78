"""Which trials of a study are on its front, and which are behind it by less than the noise of their scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis.metric_names import noise_of
from analysis.pareto import Direction, feasible, nondominated
from study.ledger import TrialRecord
from study.search_config import SearchConfig

Finished = Mapping[TrialRecord, Mapping[str, Any]]


def candidates(finished: Finished, config: SearchConfig) -> dict[TrialRecord, Mapping[str, float]]:
    """The complete feasible trials by number, with their metrics."""
    ordered = sorted(finished.items(), key=lambda pair: pair[0].number)
    return {
        record: result["metrics"]
        for record, result in ordered
        if result["state"] == "complete" and feasible(result["metrics"], config.bounds)
    }


def front(finished: Finished, config: SearchConfig) -> list[TrialRecord]:
    """The nondominated candidates, by number."""
    found = candidates(finished, config)
    if not found:
        return []
    values = np.asarray([[metrics[name] for name in config.directions] for metrics in found.values()])
    mask = nondominated(values, config.directions)
    return [record for record, is_member in zip(found, mask, strict=True) if is_member]


def near_front(finished: Finished, config: SearchConfig) -> list[TrialRecord]:
    """Candidates behind the front that would be on it if each of their scores were better by its standard error.

    The nearest come first: those that need the smallest share of it.
    """
    found = candidates(finished, config)
    members = front(finished, config)
    edge = [[found[record][name] for name in config.directions] for record in members]
    needed = {}
    for record, metrics in found.items():
        if record not in members:
            shares = [share for share in np.linspace(0.05, 1.0, 20) if _reaches(metrics, float(share), edge, config)]
            if shares:
                needed[record] = shares[0]
    return sorted(needed, key=lambda record: (needed[record], record.number))


def _reaches(metrics: Mapping[str, float], share: float, edge: list[list[float]], config: SearchConfig) -> bool:
    better = [metrics[name] + share * _improvement(name, way, metrics) for name, way in config.directions.items()]
    return bool(nondominated([*edge, better], config.directions)[-1])


def _improvement(name: str, way: Direction, metrics: Mapping[str, float]) -> float:
    """The standard error of a score in the direction in which it improves, 0 if it was not measured."""
    noise = metrics.get(noise_of(name), 0.0)
    return noise if way == "maximise" else -noise
