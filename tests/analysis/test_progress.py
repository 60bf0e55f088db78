from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.load import load_study
from analysis.pareto import Directions, hypervolume
from analysis.progress import endings, history, running_hypervolume

if TYPE_CHECKING:
    from conftest import StudyFolder

TWO: Directions = {"map": "maximise", "variance": "minimise"}
CORNER = {"map": 0.0, "variance": 10.0}


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0, 2.0, np.nan]), st.sampled_from([2.0, 5.0, 12.0])), max_size=12))
def test_running_hypervolume_is_that_of_every_beginning(rows: list[tuple[float, float]]) -> None:
    values = np.array(rows).reshape(-1, 2)
    expected = [hypervolume(values[: count + 1], TWO, CORNER) for count in range(len(values))]
    assert running_hypervolume(values, TWO, CORNER).tolist() == pytest.approx(expected)


def test_five_thousand_trials_take_seconds() -> None:
    values = np.random.default_rng(0).uniform([0.0, 0.0], [1.0, 10.0], (5000, 2))
    before = time.process_time()
    volumes = running_hypervolume(values, TWO, CORNER)
    assert time.process_time() - before < 5.0
    assert volumes[-1] == pytest.approx(hypervolume(values, TWO, CORNER))


def test_history_goes_by_when_trials_ended(study_folder: StudyFolder) -> None:
    study_folder.teacher(0.6, 10.0)  # so that the reference point is 0 and 20
    study_folder.trial(0, 0.2, 10.0, steps=80)
    study_folder.trial(1, 0.5, 4.0, state="stopped", steps=40)
    study_folder.trial(2, 0.5, 4.0, lift=0.1)  # infeasible
    study_folder.trial(3, state="failed")
    study_folder.trial(4, 0.4, 15.0)
    study_folder.trial(5, 0.1, 12.0)
    study_folder.trial(6, state=None)
    # A trial that was proposed first may end last.
    result = study_folder.path / "trials" / "00000" / "result.json"
    result.write_text(
        result.read_text(encoding="utf-8").replace("T00:05", "T02:00").replace("2026-01-01", "2026-01-01"), "utf-8"
    )
    table = history(load_study(study_folder.path))
    assert table["trial"].tolist() == ["00001", "00002", "00003", "00004", "00005", "00000"]
    assert table["trials"].tolist() == [1, 2, 3, 4, 5, 6]
    assert table["steps"].tolist() == [40, 120, 120, 200, 280, 360]
    assert table["hours"].tolist() == pytest.approx([0.25, 25 / 60, 35 / 60, 0.75, 55 / 60, 2.0])
    assert table["hypervolume"].tolist() == pytest.approx([0, 0, 0, 0.4 * 5, 0.4 * 5 + 0.1 * 3, 0.2 * 10 + 0.2 * 5])
    assert table["grew"].tolist() == [False, False, False, True, True, True]


def test_endings_count_trials_by_strategy_and_rung(study_folder: StudyFolder) -> None:
    study_folder.teacher()
    study_folder.trial(0, state="stopped", steps=40)
    study_folder.trial(1, state="stopped", steps=40)
    study_folder.trial(2, state="stopped", steps=80)
    study_folder.trial(3, strategy="ed")
    study_folder.trial(4, state=None, strategy="ed")
    (study_folder.trial(5) / "recipe.json").write_text("{", encoding="utf-8")
    table = endings(load_study(study_folder.path))
    found = {(row.strategy, row.ending, str(row.step)): row.trials for row in table.itertuples()}
    assert found == {
        ("fd", "stopped", "40"): 2,
        ("fd", "stopped", "80"): 1,
        ("ed", "complete", "<NA>"): 1,
        ("ed", "running", "<NA>"): 1,
    }


def test_a_study_without_trials_has_tables_without_rows(study_folder: StudyFolder) -> None:
    data = load_study(study_folder.path)
    assert (len(history(data)), len(endings(data))) == (0, 0)
    assert [*endings(data)] == ["strategy", "ending", "step", "trials"]
