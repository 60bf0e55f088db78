"""What the benchmarks hold a trial's steps and its cache against does the same work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.benchmarks.caching import copies_in
from tests.benchmarks.distillation import BareStudent, OnlineDistiller, recipe
from trainables.config import TrialPlan
from trainables.distiller import Distiller
from trainables.recipe import STRATEGY_NAMES, StrategyName
from trainables.teacher_cache import TeacherCache


@pytest.mark.parametrize("strategy", STRATEGY_NAMES)
def test_an_online_teacher_teaches_what_the_cache_does(plan: TrialPlan, strategy: StrategyName) -> None:
    plan = plan.model_copy(update={"recipe": recipe(strategy)})
    cached, online = (kind(plan, torch.device("cpu")) for kind in (Distiller, OnlineDistiller))
    for _ in range(2):
        expected = cached.step()
        assert online.step() == pytest.approx(expected, rel=2e-3)  # the cache is in half precision
    assert {"task", "layers", strategy} < set(expected)


def test_a_bare_student_moves_towards_what_the_cache_holds(plan: TrialPlan) -> None:
    bare = BareStudent(plan, torch.device("cpu"))
    before = [parameter.detach().clone() for parameter in bare.student.parameters()]
    for _ in range(3):
        bare.step()
    moved = [not torch.equal(old, new) for old, new in zip(before, bare.student.parameters(), strict=True)]
    assert sum(moved) > 0.9 * len(moved)


def test_workers_share_one_copy_of_a_cache(tmp_path: Path) -> None:
    rows = np.ones((6_000_000,), np.float16)
    text, layers = rows.reshape(1, -1, 100), rows.reshape(1, 1, -1, 100)
    views, image = np.zeros((1, 1, 2, 3), np.float32), np.zeros((1, 1, 100), np.float16)
    TeacherCache(1.0, views, image, text, image[None], layers, [0], [0]).save(tmp_path)
    assert copies_in(tmp_path, 2) == pytest.approx(1.0, abs=0.1)
