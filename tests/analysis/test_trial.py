from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from analysis import trial
from analysis.load import load_study
from analysis.recipe_report import gather

if TYPE_CHECKING:
    from conftest import StudyFolder


def test_one_recipe_is_shown_beside_its_teacher(study_folder: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    study_folder.teacher(0.6, 16.0).trial(7, 0.3, 9.0)
    study_folder.confirmed(7, (0.28, 9.0), (0.30, 16.0))
    study_folder.tested(7, 0.24, 25.0)
    assert trial.main([str(study_folder.path), "7"]) == 0
    output = capsys.readouterr().out
    assert "Trial 7 of tiny: complete, on the front" in output
    assert "Feature distillation (FD)." in output
    assert "Trained again with 2 new seeds: it keeps its place with a chance of 100 %." in output
    assert "It has no examples" in output
    report = study_folder.path / "report"
    assert sorted(path.name for path in report.iterdir()) == [
        "trial-00007-languages.png",
        "trial-00007-languages.svg",
        "trial-00007-learning.png",
        "trial-00007-learning.svg",
        "trial-00007.html",
    ]
    assert trial.main([str(study_folder.path), "00007", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    # In the units that people read: per cent, and a variance by its root.
    retrieval, spread, *_ = found["scores"]
    assert retrieval.pop("metric") == "Retrieval mAP (%)"
    expected = {"validation": 30.0, "again": 29.0, "test": 24.0, "teacher": 60.0, "teacher_test": 58.0}
    assert retrieval == pytest.approx(expected)
    assert (spread["validation"], spread["test"], spread["teacher"]) == (3.0, 5.0, 4.0)
    language = {"language": "en", "retrieval": 30.0, "retrieval_teacher": 60.0, "vqa": 45.0, "vqa_teacher": 45.0}
    assert found["languages"][0] == language
    assert [report["step"] for report in found["reports"]] == [40, 80]


@pytest.mark.parametrize(
    ("state", "expected"), [("failed", "failed: failed by the test"), (None, "running or interrupted")]
)
def test_a_trial_that_did_not_end_says_what_it_lacks(
    study_folder: StudyFolder, capsys: pytest.CaptureFixture[str], state: str | None, expected: str
) -> None:
    study_folder.teacher().trial(0, state=state)
    assert trial.main([str(study_folder.path), "0"]) == 0
    output = capsys.readouterr().out
    assert f"Trial 0 of tiny: {expected}" in output
    assert "It has no examples: only a training that ends stores its best and worst cases." in output
    assert (study_folder.path / "report" / "trial-00000.html").exists()


def test_examples_are_read_and_a_broken_file_of_them_is_named(
    hostile_study: StudyFolder, study_folder: StudyFolder
) -> None:
    examples = gather(load_study(hostile_study.path), "00000").as_json()["examples"]
    assert len(examples) == 8
    assert examples[-1]["options"][examples[-1]["answer"]].startswith("<script>")
    folder = study_folder.teacher().trial(0)
    (folder / "examples.parquet").write_bytes(b"PAR1")
    (note, *_) = gather(load_study(study_folder.path), "00000").notes
    assert note.startswith(f"Its examples cannot be read: {folder / 'examples.parquet'}: ")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("9", "no trial 9 in {}: the nearest are 2, 3, 5; there are 4, from 1 to 5"),
        ("seven", "no trial seven in {}: there are 4, from 1 to 5"),
        ("5", "trial 5 cannot be read: {}/trials/00005/result.json: Invalid JSON"),
    ],
)
def test_a_trial_that_cannot_be_shown_is_told_in_one_line(
    study_folder: StudyFolder, capsys: pytest.CaptureFixture[str], name: str, expected: str
) -> None:
    study_folder.teacher()
    for number in (1, 2, 3, 5):
        study_folder.trial(number)
    (study_folder.path / "trials" / "00005" / "result.json").write_text("{", encoding="utf-8")
    assert trial.main([str(study_folder.path), name]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"analysis.trial: {expected.format(study_folder.path)}")
    assert error.count("\n") == 1


def test_a_study_without_trials_has_none_to_show(study_folder: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert trial.main([str(study_folder.path), "0"]) == 2
    assert "the study has no trials yet" in capsys.readouterr().err
