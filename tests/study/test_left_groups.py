"""Trials with workers on a cluster without a dashboard, by which Ray Train itself would have to give their CPUs back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.study.nodes import cluster
from tests.study.tiny import UNCONFIRMED

if TYPE_CHECKING:
    from tests.study.tiny import Study


@pytest.mark.long
def test_stopped_trials_give_their_room_back_where_there_is_no_dashboard(
    study: Study, run_environment: dict[str, str], tmp_path: Path
) -> None:
    with cluster(tmp_path, run_environment, 1, "--include-dashboard", "false") as nodes:
        nodes.add(1)
        study.environment = nodes.environment | {"RAY_AUTH_MODE": "token"}
        run = study.start("resources.workers_per_trial=1", "search.trials=3", UNCONFIRMED, address=nodes.address)
        outcome = run.wait(400)
    assert outcome.code == 0, run.said()
    states = [result["state"] for result in study.results().values()]
    assert (len(states), "stopped" in states) == (3, True)
