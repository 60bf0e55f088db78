from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from study.budget import Budget
from study.ledger import Ledger
from study.search_config import SearchConfig

REFERENCE = {"retrieval_map": 0.0, "vqa_variance": 20.0}


def result(
    mean: float = 0.3, variance: float = 9.0, lift: float = 1.0, state: str = "complete", steps: int = 80
) -> dict[str, Any]:
    metrics = {"retrieval_map": mean, "vqa_variance": variance, "vqa_lift_kept": lift}
    return {"state": state, "steps": steps, "metrics": metrics}


def budget(folder: Path, results: Sequence[dict[str, Any]] = (), **search: Any) -> Budget:
    made = Budget(SearchConfig(**search), Ledger(folder), REFERENCE)
    for one in results:
        made.take(one)
    return made


def test_trials_under_way_and_ended_count_and_recipes_that_were_never_run_do_not(tmp_path: Path) -> None:
    refused = result(state="infeasible", steps=0)
    assert budget(tmp_path, [result(), refused, refused], trials=3).over(1) is None
    assert budget(tmp_path, [result(), refused, refused], trials=3).over(2) == "search.trials: 3 trials"
    ran = [result(), result(state="failed"), result(state="infeasible", steps=5)]
    assert budget(tmp_path, ran, trials=3).over(0) is not None


def test_time_adds_up_over_runs(tmp_path: Path) -> None:
    first = budget(tmp_path, hours=0.001)
    assert first.over(0) is None
    first.save()
    Ledger(tmp_path).spent(3.5)
    again = budget(tmp_path, [result()], hours=0.001)
    again._since -= 0.2
    assert again.over(0) == "search.hours: 0.001 hours"
    assert budget(tmp_path, [result()], hours=0.002).over(0) is None  # a raised budget goes on


def test_patience_counts_trials_since_the_hypervolume_last_grew(tmp_path: Path) -> None:
    grown = [result(0.3, 9.0), result(0.2, 10.0), result(0.4, 8.0)]
    idle = [result(0.1, 9.0), result(0.4, 8.0), result(0.9, 1.0, state="stopped"), result(0.9, 30.0)]
    assert budget(tmp_path).idle == 0
    assert budget(tmp_path, grown).idle == 0
    assert budget(tmp_path, [*grown, *idle]).idle == 4
    assert budget(tmp_path, [*grown, result(0.9, 1.0, lift=0.1)]).idle == 1  # violates a constraint
    assert budget(tmp_path, [*grown, *idle], patience=5).over(0) is None
    assert "search.patience: the last 4" in str(budget(tmp_path, [*grown, *idle], patience=4).over(0))


@pytest.mark.parametrize(("state", "many", "words"), [("failed", 10, "failed"), ("infeasible", 200, "search.limits")])
def test_a_search_that_gets_nowhere_ends(tmp_path: Path, state: str, many: int, words: str) -> None:
    row = [result(state=state, steps=0)] * many
    assert budget(tmp_path, row[1:], trials=1000).over(0) is None
    assert words in str(budget(tmp_path, row, trials=1000).over(0))
    assert budget(tmp_path, [*row[1:], result()], trials=1000).over(0) is None
