from __future__ import annotations

from pathlib import Path

from tests.benchmarks.driver import Cost, measure, verdict


def test_trials_go_through_the_whole_driver(tmp_path: Path) -> None:
    costs = measure(tmp_path, [2, 8])
    assert [cost.trials for cost in costs] == [2, 8]
    assert all(cost.processor > 0 and cost.megabytes > 0 for cost in costs)
    results = sorted((tmp_path / "emoji-clip").glob("trials/*/result.json"))
    assert len(results) == 8


def test_growth_beyond_a_factor_of_two_is_told() -> None:
    first = Cost(20, processor=50.0, wall=60.0, megabytes=200.0)
    flat, line = verdict([first, Cost(2000, processor=99.0, wall=500.0, megabytes=210.0)])
    assert flat
    assert "× 1.98" in line
    assert not verdict([first, Cost(2000, processor=101.0, wall=60.0, megabytes=200.0)])[0]
    assert not verdict([first, Cost(2000, processor=50.0, wall=60.0, megabytes=401.0)])[0]
