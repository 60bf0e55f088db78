from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("syne_tune")

from tests.benchmarks.contenders import MendedPriority
from tests.benchmarks.record import read_recording
from tests.benchmarks.search import CONTENDERS, OURS, WITHOUT_KNOWN, search_once, summary, task_of, verdict
from tests.benchmarks.surrogate import Surrogate


def volumes(**medians: float) -> pd.DataFrame:
    rows = [(name, "", 18, seed, median) for name, median in medians.items() for seed in range(3)]
    return pd.DataFrame(rows, columns=["contender", "variant", "budget", "seed", "hypervolume"])


def test_every_contender_searches_the_surrogate_and_repeats_itself() -> None:
    recording = read_recording()
    task = task_of(recording, 6)
    surrogate = Surrogate(recording, task.space, task.around)
    for name, variants in CONTENDERS.items():
        for variant in variants:
            once, again = (search_once(recording, surrogate, name, variant, 6, 3) for _ in range(2))
            assert once == again > 0, (name, variant)


def test_ours_leads_only_if_its_median_is_above_all_others() -> None:
    leads, line = verdict(summary(volumes(ours=10.3, random=10.0)))
    assert leads
    assert "ours by 3.0 % over random at 18" in line
    leads, line = verdict(summary(volumes(ours=10.0, random=10.5)))
    assert not leads
    assert "random by 5.0 % over ours at 18" in line
    assert not verdict(summary(volumes(**{OURS: 10.0, "random": 10.0, WITHOUT_KNOWN: 11.0})))[0]


def test_a_contender_counts_with_its_best_variant() -> None:
    first, second = volumes(random=9.0), volumes(random=10.0)
    table = summary(pd.concat([first.assign(variant="a"), second.assign(variant="b")]))
    assert table[["variant", "median"]].to_numpy().tolist() == [["b", 10.0]]


def test_mended_priorities_are_ranks() -> None:
    costs = np.asarray([[3.0, 3.0], [1.0, 1.0], [2.0, 2.0], [4.0, 4.0]])
    assert MendedPriority()(costs).tolist() == [2, 0, 1, 3]
