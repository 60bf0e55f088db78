from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest

from analysis.compression import compression
from analysis.figures.compression import compression as compression_figure
from analysis.load import load_study

if TYPE_CHECKING:
    from conftest import StudyFolder


def test_costs_and_what_is_kept_are_shares_of_the_teachers(study_folder: StudyFolder) -> None:
    study_folder.teacher(0.6)  # and .58 on test
    study_folder.trial(0, 0.3, 4.0, lift=0.8)
    study_folder.trial(1, 0.45, 9.0, lift=0.9)
    study_folder.tested(1, 0.29, 9.0)  # the builder's lift on test is .7
    table = compression([load_study(study_folder.path)]).set_index("trial")
    shares = {"parameters": 35 / 61, "image_flops": 0.5, "text_flops": 0.75, "image_ms": 0.5, "text_ms": 0.25}
    for cost, share in shares.items():
        assert table[f"{cost}_share"].tolist() == pytest.approx([share, share])
    assert table["split"].to_dict() == {"00000": "validation", "00001": "test"}
    assert table["map_kept"].tolist() == pytest.approx([0.5, 0.5])
    assert table["lift_kept"].tolist() == pytest.approx([0.8, 0.7])
    assert table["is_pick"].sum() == 1


def test_a_student_of_another_size_has_no_measured_costs(study_folder: StudyFolder) -> None:
    result = study_folder.teacher().trial(0) / "result.json"
    result.write_text(result.read_text(encoding="utf-8").replace("3500000", "1000000"), encoding="utf-8")
    row = compression([load_study(study_folder.path)]).iloc[0]
    assert row["parameters_share"] == pytest.approx(10 / 61)
    assert np.isnan(row["image_ms"])


def test_the_caption_is_of_the_first_study_that_has_a_front(new_study: Callable[[str], StudyFolder]) -> None:
    empty, full = new_study("empty").teacher(), new_study("full").teacher()
    full.trial(0)
    for folder, device in ((empty, "device A"), (full, "device B")):
        path = folder.path / "teacher.json"
        path.write_text(path.read_text(encoding="utf-8").replace("a CPU", device), encoding="utf-8")
    figure = compression_figure([load_study(empty.path), load_study(full.path)])
    said = figure.get_supxlabel().replace("\n", " ")
    assert "full, teacher and student" in said
    assert "on device B" in said


def test_no_front_is_no_row(study_folder: StudyFolder) -> None:
    assert compression([]).empty
    assert compression([load_study(study_folder.path)]).empty
    study_folder.teacher().trial(0, state="failed")
    assert compression([load_study(study_folder.path)]).empty
