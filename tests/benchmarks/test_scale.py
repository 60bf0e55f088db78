from __future__ import annotations

import pytest

from tests.benchmarks.scale import Run, measure, shares, verdict


@pytest.mark.long
def test_trials_run_on_as_many_nodes_as_there_are_at_once() -> None:
    one, two = measure([1, 2], seconds=3.0, trials_a_node=3)
    assert (one.trials, two.trials) == (3, 6)
    assert one.rate < 3600 / 3.0
    assert two.rate > 1.3 * one.rate
    assert two.megabytes > 50


def test_a_share_of_linear_and_memory_that_grows_are_judged() -> None:
    runs = [Run(1, 6, 100.0, 300.0), Run(16, 96, 1440.0, 590.0)]
    assert shares(runs) == pytest.approx([1.0, 0.9])
    assert verdict(runs)[0]
    assert not verdict([runs[0], Run(16, 96, 1439.0, 300.0)])[0]
    assert not verdict([runs[0], Run(16, 96, 1440.0, 601.0)])[0]
