"""A few kills for real; `make crashtest` does many, at every moment of a study."""

from __future__ import annotations

from pathlib import Path

from tests.crash.crashtest import crash
from tests.crash.moments import MOMENTS, Kill

AT = {moment.name: moment for moment in MOMENTS}


def test_a_study_that_is_killed_again_and_again_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    kills = [
        Kill(AT["report written"], "driver"),
        Kill(AT["tell: result written"], "ray"),
        Kill(AT["confirmation"], "worker"),
    ]
    hits, violations = crash(kills, seed=0, place=tmp_path, trials=3)
    assert violations == []
    assert len(hits) == len(kills)
