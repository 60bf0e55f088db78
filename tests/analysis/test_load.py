from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest
import yaml

from analysis.load import StudyData, front, load_study, write_results

if TYPE_CHECKING:
    from conftest import StudyFolder


def write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def unreadable(data: StudyData, trial: str) -> str:
    """The reason of the one trial that cannot be read."""
    (row,) = data.trials[data.trials["state"] == "unreadable"].to_dict("records")
    assert (row["trial"], row["feasible"], row["on_front"]) == (trial, False, False)
    return str(row["reason"])


def test_frames_hold_what_the_ledger_holds(study_folder: StudyFolder) -> None:
    study_folder.teacher()
    study_folder.trial(0, 0.30, 9.0, strategy="fd")
    study_folder.trial(2, 0.40, 16.0, strategy="dr")
    study_folder.trial(10, 0.35, 4.0, lift=0.4)
    study_folder.trial(11, 0.90, 1.0, state="stopped", steps=40)
    study_folder.trial(12, state="failed")
    study_folder.trial(13, 0.90, 1.0, state="infeasible")
    data = load_study(study_folder.path)

    assert (data.name, data.languages) == ("tiny", ("en", "ja", "ar"))
    assert data.objectives == {"retrieval_map": "maximise", "vqa_variance": "minimise"}
    assert data.constraints == {"vqa_lift_kept": {"min": 0.5}}
    trials = data.trials.set_index("trial")
    assert list(trials.index) == ["00000", "00002", "00010", "00011", "00012", "00013"]
    assert list(trials["state"]) == ["complete", "complete", "complete", "stopped", "failed", "infeasible"]
    assert list(trials["feasible"]) == [True, True, False, True, False, False]
    assert list(trials["on_front"]) == [True, True, False, False, False, False]
    assert trials.loc["00002", ["strategy", "vqa_std", "steps", "parameters"]].tolist() == [
        "dr",
        4.0,
        80,
        3_500_000,
    ]
    assert json.loads(trials.loc["00002", "recipe"]) == {
        "strategy": "dr",
        "training": {"learning_rate": 1e-3},
    }
    assert trials.loc["00012", "reason"] == "failed by the test"
    assert pd.isna(trials.loc["00012", "retrieval_map"])

    assert data.teacher is not None
    assert data.teacher.metrics["test"]["vqa_variance"] == 11.0
    teacher = data.by_language[data.by_language["trial"] == "teacher"]
    assert list(zip(teacher["split"], teacher["language"], strict=True)) == [
        (split, language) for split in ("validation", "test") for language in ("en", "ja", "ar")
    ]
    assert set(data.by_language["vqa_items"]) == {1500}
    assert set(data.by_language["set"]) == {""}
    assert list(data.reports.query("trial == '00002'")["step"]) == [40, 80]
    assert list(data.reports.query("trial == '00002'")["retrieval_map"]) == [0.2, 0.4]


@pytest.mark.parametrize("state", ["stopped", None])
def test_an_unfinished_trial_has_the_metrics_of_its_last_report(study_folder: StudyFolder, state: str | None) -> None:
    folder = study_folder.teacher().trial(3, 0.4, 9.0, state=state)
    report = {"step": 120, "seconds": 12.5, "final": False, "metrics": study_folder.metrics(0.7, 4.0, 0.9)}
    with (folder / "reports.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(report) + "\n")
    (trial,) = load_study(study_folder.path).trials.to_dict("records")
    assert trial["state"] == (state or "running")
    assert (trial["retrieval_map"], trial["vqa_std"], trial["on_front"]) == (0.7, 2.0, False)


def test_a_running_trial_is_as_far_as_its_last_report(study_folder: StudyFolder) -> None:
    study_folder.teacher().trial(0, state=None)
    silent = study_folder.trial(1, state=None)
    (silent / "reports.jsonl").unlink()
    trials = load_study(study_folder.path).trials
    assert list(trials["state"]) == ["running", "running"]
    assert trials["steps"][0] == 80
    assert trials["seconds"][0] == 8.0
    assert trials.loc[1, ["steps", "seconds", "parameters", "retrieval_map"]].isna().all()
    assert not trials["feasible"][1]


def test_a_failure_that_was_not_measured_keeps_what_was_reported(study_folder: StudyFolder) -> None:
    folder = study_folder.teacher().trial(0, state=None)
    write(folder / "result.json", '{"state": "failed", "reason": "out of memory", "metrics": {}, "scores": {}}')
    (trial,) = load_study(study_folder.path).trials.to_dict("records")
    assert (trial["steps"], trial["seconds"], trial["reason"]) == (80, 8.0, "out of memory")
    assert pd.isna(trial["retrieval_map"])


def test_a_torn_last_line_is_dropped(study_folder: StudyFolder) -> None:
    reports = study_folder.teacher().trial(0, state=None) / "reports.jsonl"
    whole = load_study(study_folder.path).reports
    line = reports.read_bytes().splitlines()[-1]
    for torn in (line[:-1], line[:9], b"{", b'{"step": 120, "reason": "\xe3\x81', b"\0\0\0"):
        reports.write_bytes(b"\n".join([*reports.read_bytes().splitlines()[:2], torn]))
        pd.testing.assert_frame_equal(load_study(study_folder.path).reports, whole)


def test_a_torn_line_before_the_last_makes_its_trial_unreadable(study_folder: StudyFolder) -> None:
    reports = study_folder.teacher().trial(0, state=None) / "reports.jsonl"
    first, last = reports.read_text(encoding="utf-8").splitlines()
    reports.write_text(f"{first[:20]}\n{last}\n", encoding="utf-8")
    study_folder.trial(1)
    assert load_study(study_folder.path).trials["on_front"].tolist() == [False, True]
    assert "00000/reports.jsonl, line 1: Invalid JSON" in unreadable(load_study(study_folder.path), "00000")


def test_steps_reported_again_after_a_resume_count_once(study_folder: StudyFolder) -> None:
    folder = study_folder.teacher().trial(0, 0.4, state=None)
    again = {"step": 80, "seconds": 20.0, "final": False, "metrics": study_folder.metrics(0.41, 9.0, 0.9)}
    with (folder / "reports.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(again) + "\n")
    reports = load_study(study_folder.path).reports
    assert list(zip(reports["step"], reports["retrieval_map"], strict=True)) == [(40, 0.2), (80, 0.41)]


def test_a_missing_or_malformed_file_is_named(study_folder: StudyFolder) -> None:
    folder = study_folder.trial(4)
    with pytest.raises(ValueError, match=r"teacher\.json: is missing, though there are trials"):
        load_study(study_folder.path)
    study_folder.teacher()
    breakages = {
        "teacher.json": [
            ('{"family": "clip", "param', r"study/teacher\.json: Invalid JSON"),
            (
                '{"family": "clip", "parameters": 6, "scores": {}}',
                r"teacher\.json: it has no scores\.validation",
            ),
        ],
        "trials/00004/recipe.json": [
            ('{"number": 5, "recipe": {"strategy": "fd"}}', r"00004/recipe\.json: number: 5"),
            ('{"number": 4, "recipe": {}}', r"00004/recipe\.json: it has no recipe\.strategy"),
        ],
        "trials/00004/result.json": [
            ('{"state": "done"}', r"00004/result\.json: state: should be 'complete', "),
            (
                '{"state": "complete", "metrics": {"vqa_std": "x"}}',
                r"result\.json: metrics\.vqa_std: .* valid number",
            ),
        ],
        "config.yaml": [
            ("name: [", r"study/config\.yaml: .*line 1"),
            (
                "name: x\ndata: {languages: [en]}\nsearch: {objectives: {a: up}}",
                r"search\.objectives\.a: .*'maximise'",
            ),
        ],
    }
    for name, cases in breakages.items():
        path = study_folder.path / name
        good = path.read_text(encoding="utf-8")
        for text, message in cases:
            write(path, text)
            if name.startswith("trials"):
                assert re.search(message, unreadable(load_study(study_folder.path), "00004"))
                continue
            with pytest.raises(ValueError, match=f"(?s){message}"):
                load_study(study_folder.path)
        write(path, good)
    (folder / "recipe.json").unlink()
    assert "00004/recipe.json: No such file" in unreadable(load_study(study_folder.path), "00004")


def test_a_study_that_has_not_begun_has_typed_empty_frames(study_folder: StudyFolder) -> None:
    (study_folder.path / "trials" / "00000").mkdir()  # the study is just about to write its recipe
    (study_folder.path / "trials" / ".lock").touch()
    empty = load_study(study_folder.path)
    assert empty.teacher is None
    study_folder.teacher(test=False)
    study_folder.trial(0)
    begun = load_study(study_folder.path)
    for name in ("trials", "by_language", "reports"):
        assert getattr(empty, name).empty
        pd.testing.assert_series_equal(getattr(empty, name).dtypes, getattr(begun, name).dtypes)
    write_results(empty)
    front = json.loads((study_folder.path / "results" / "front.json").read_text(encoding="utf-8"))
    assert (front["members"], front["hypervolume"], front["teacher"]) == ([], 0.0, {})


def test_results_round_trip(study_folder: StudyFolder) -> None:
    study_folder.teacher(0.6, 10.0, test=False)
    study_folder.trial(0, 0.2, 5.0)
    study_folder.trial(1, 0.4, 15.0)
    study_folder.trial(2, 0.1, 18.0)
    study_folder.trial(3, state="failed")
    study_folder.trial(4, state=None)
    study_folder.tested(1, 0.38, 17.0)
    data = load_study(study_folder.path)
    write_results(data)
    write_results(data)  # over what is there
    results = study_folder.path / "results"
    assert sorted(path.name for path in results.iterdir()) == [
        "front.json",
        "languages.parquet",
        "trials.parquet",
    ]
    pd.testing.assert_frame_equal(pd.read_parquet(results / "trials.parquet"), data.trials)
    languages = pd.read_parquet(results / "languages.parquet")
    pd.testing.assert_frame_equal(languages, data.by_language)
    assert len(languages.query("trial == '00001' and split == 'test'")) == 3

    front = json.loads((results / "front.json").read_text(encoding="utf-8"))
    assert front["reference_point"] == {"retrieval_map": 0.0, "vqa_variance": 20.0}
    assert front["hypervolume"] == pytest.approx(0.2 * (20 - 5) + 0.2 * (20 - 15))
    assert list(front["teacher"]) == ["validation"]
    assert [member["number"] for member in front["members"]] == [1, 0]
    best, other = front["members"]
    assert (best["validation"]["retrieval_map"], best["test"]["retrieval_map"], other["test"]) == (
        0.4,
        0.38,
        None,
    )
    assert best["recipe"]["training"] == {"learning_rate": 1e-3}


def test_unknown_numbers_are_null_in_the_front(study_folder: StudyFolder) -> None:
    path = study_folder.teacher().trial(0) / "result.json"
    result = json.loads(path.read_text(encoding="utf-8"))
    result["metrics"]["vqa_variance_noise"] = float("nan")
    write(path, json.dumps(result))
    write_results(load_study(study_folder.path))
    front = json.loads(
        (study_folder.path / "results" / "front.json").read_text(encoding="utf-8"), parse_constant=pytest.fail
    )
    assert front["members"][0]["validation"]["vqa_variance_noise"] is None


def test_named_sets_have_rows_of_their_own_and_may_be_objectives(study_folder: StudyFolder) -> None:
    config = yaml.safe_load((study_folder.path / "config.yaml").read_text(encoding="utf-8"))
    config["search"]["objectives"] = {"retrieval_map": "maximise", "vqa_variance@cvqa": "minimise"}
    (study_folder.path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    study_folder.teacher()
    for number, variance in enumerate((4.0, 9.0, 2.0)):
        study_folder.trial(number, retrieval_map=0.3, vqa_variance=5.0)
        name_sets(
            study_folder.path / f"trials/{number:05d}/result.json", ("metrics",), ("scores", "validation"), variance
        )
    name_sets(study_folder.path / "teacher.json", None, ("scores", "validation"), 10.0)
    data = load_study(study_folder.path)
    assert data.trials["vqa_variance@cvqa"].tolist() == [4.0, 9.0, 2.0]
    assert data.trials["on_front"].tolist() == [False, False, True]
    rows = data.by_language.query("trial == '00002' and language == 'ja'").set_index("set")
    assert list(rows.index) == ["photos", "cvqa"]
    assert rows["map_i2t"].notna().tolist() == [True, False]
    assert rows["vqa_items"].isna().tolist() == [True, False]
    found = front(data)
    assert found["reference_point"] == {"retrieval_map": 0.0, "vqa_variance@cvqa": 20.0}
    assert found["members"][0]["validation"]["vqa_variance@cvqa"] == 2.0


def name_sets(path: Path, metrics: tuple[str, ...] | None, scores: tuple[str, ...], variance: float) -> None:
    """Split the scores in a file into a retrieval set photos and a VQA set cvqa of this variance."""
    content = json.loads(path.read_text(encoding="utf-8"))
    split = content
    for key in scores:
        split = split[key]
    split["sets"] = {"photos": {}, "cvqa": {}}
    for language, row in split["languages"].items():
        for name, value in row.items():
            of = "cvqa" if name.startswith("vqa") else "photos"
            split["sets"][of].setdefault(language, {})[name] = value
    for part in (split["summary"], *(content[key] for key in metrics or ())):
        part["vqa_variance@cvqa"] = variance
    path.write_text(json.dumps(content), encoding="utf-8")


def test_what_students_are_held_against_is_read_where_it_was_recorded(study_folder: StudyFolder) -> None:
    study_folder.teacher()
    path = study_folder.path / "teacher.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["random_student"]["summary"]["vqa_lift_kept"] = None
    write(path, json.dumps(content))
    teacher = load_study(study_folder.path).teacher
    assert teacher is not None
    assert teacher.random_student is not None
    assert math.isnan(teacher.random_student["vqa_lift_kept"])
    assert teacher.random_student["retrieval_map"] == 0.02
    assert teacher.encoding is not None
    assert (teacher.encoding.student.image_ms, teacher.encoding.threads) == (1.0, 2)
    for name in ("random_student", "encoding"):
        del content[name]
    write(path, json.dumps(content))
    teacher = load_study(study_folder.path).teacher
    assert teacher is not None
    assert (teacher.random_student, teacher.encoding) == (None, None)
