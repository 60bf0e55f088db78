from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analysis.pareto import Directions
from study.budget import Budget, idle_trials
from study.config import SearchConfig
from study.ledger import Ledger

REFERENCE = {"retrieval_map": 0.0, "vqa_variance": 20.0}
TWO: Directions = {"retrieval_map": "maximise", "vqa_variance": "minimise"}


def result(mean: float = 0.3, variance: float = 9.0, state: str = "complete", **values: Any) -> dict[str, Any]:
    metrics = {"retrieval_map": mean, "vqa_variance": variance, "vqa_lift_kept": 1.0}
    return {"state": state, "steps": 80, "metrics": metrics, **values}


def budget(folder: Path, **search: Any) -> Budget:
    return Budget(SearchConfig(**search), Ledger(folder), REFERENCE)


def test_trials_under_way_and_ended_count_and_recipes_that_were_never_run_do_not(tmp_path: Path) -> None:
    three = budget(tmp_path, trials=3)
    refused = result(state="infeasible", steps=0)
    assert three.over(1, [result(), refused, refused]) is None
    assert three.over(2, [result(), refused, refused]) == "search.trials: 3 trials"
    assert three.over(0, [result(), result(state="failed"), result(state="infeasible", steps=5)]) is not None


def test_time_adds_up_over_runs(tmp_path: Path) -> None:
    first = budget(tmp_path, hours=0.001)
    assert first.over(0, []) is None
    first.save()
    Ledger(tmp_path).spent(3.5)
    again = budget(tmp_path, hours=0.001)
    again._since -= 0.2
    assert again.over(0, [result()]) == "search.hours: 0.001 hours"
    assert budget(tmp_path, hours=0.002).over(0, [result()]) is None  # a raised budget goes on


def test_patience_counts_trials_since_the_hypervolume_last_grew(tmp_path: Path) -> None:
    grown = [result(0.3, 9.0), result(0.2, 10.0), result(0.4, 8.0)]
    idle = [result(0.1, 9.0), result(0.4, 8.0), result(0.9, 1.0, state="stopped"), result(0.9, 30.0)]
    assert idle_trials([], TWO, {}, REFERENCE) == 0
    assert idle_trials(grown, TWO, {}, REFERENCE) == 0
    assert idle_trials(grown + idle, TWO, {}, REFERENCE) == 4
    infeasible = result(0.9, 1.0)
    infeasible["metrics"]["vqa_lift_kept"] = 0.1
    assert idle_trials([*grown, infeasible], TWO, {"vqa_lift_kept": {"min": 0.5}}, REFERENCE) == 1
    assert budget(tmp_path, patience=5).over(0, grown + idle) is None
    assert "search.patience: the last 4" in str(budget(tmp_path, patience=4).over(0, grown + idle))


@pytest.mark.parametrize(("state", "many", "words"), [("failed", 10, "failed"), ("infeasible", 200, "search.limits")])
def test_a_search_that_gets_nowhere_ends(tmp_path: Path, state: str, many: int, words: str) -> None:
    search = budget(tmp_path, trials=1000)
    row = [result(state=state, steps=0)] * many
    assert search.over(0, row[1:]) is None
    assert words in str(search.over(0, row))
    assert search.over(0, [*row[1:], result()]) is None
