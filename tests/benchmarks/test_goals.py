"""What `python -m tests.benchmarks` measures and judges with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks.__main__ import report
from tests.benchmarks.evaluation import gallery, scored, scored_by_torchmetrics
from tests.benchmarks.figures import Figure, speed


def test_both_ways_to_score_a_gallery_agree() -> None:
    data = gallery(20)
    assert scored(*data) == pytest.approx(scored_by_torchmetrics(*data), abs=1e-6)


def test_the_faster_of_a_pair_is_told() -> None:
    little, much = (lambda: sum(range(100_000))), (lambda: sum(range(1_000_000)))  # ten times the work
    assert speed(little, much, 5) > 2
    assert speed(much, little, 5) < 0.5


def test_a_goal_that_is_missed_is_named_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    met = Figure("building", 0.9, "at least", 0.9)
    missed = Figure("starting", 1.01, "at most", 1.0, "s")
    assert report({"one": [met]}, tmp_path / "one.json") == 0
    assert report({"one": [met], "other": [missed]}, tmp_path / "both.json") == 1
    assert capsys.readouterr().out.splitlines()[-1] == "1 of 2 goals are met; not: starting"
    written = json.loads((tmp_path / "both.json").read_text(encoding="utf-8"))
    assert written["figures"]["other"] == [
        {"what": "starting", "value": 1.01, "kind": "at most", "bound": 1.0, "unit": "s", "is_met": False}
    ]
