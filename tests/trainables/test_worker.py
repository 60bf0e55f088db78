"""What a trial reports, writes and survives."""

from __future__ import annotations

import gzip
import io
import json
import math
import resource
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from tests.trainables.models.tiny import every_family
from trainables.config import PROFILE, TrialPlan
from trainables.data.prepared import CaptionedImages, VisualQuestions
from trainables.evaluation.evaluate import evaluate
from trainables.fencing import held
from trainables.models.factory import load_model
from trainables.recipe import Recipe, Replication
from trainables.remote_folder import RemoteFolder
from trainables.teacher_cache import TeacherCache
from trainables.worker import train

METRICS = {
    "retrieval_consistency",
    "vqa_consistency",
    "retrieval_map",
    "retrieval_map_noise",
    "vqa_accuracy",
    "vqa_variance",
    "vqa_std",
    "vqa_variance_noise",
    "vqa_lift_kept",
}
RESULT = {"step", "final", "seconds", "timing", "parameters", "trained_parameters", "memory_gb", "metrics"}


def reports_of(plan: TrialPlan) -> list[dict[str, Any]]:
    reports: list[dict[str, Any]] = []
    train(plan, reports.append)
    return reports


@pytest.fixture
def rung_plan(plan: TrialPlan) -> TrialPlan:
    return plan.model_copy(update={"rungs": (2, 4, 6)})


def test_reports_come_at_rungs_and_at_the_end(rung_plan: TrialPlan) -> None:
    reports = reports_of(rung_plan)
    assert [(report["step"], report["final"]) for report in reports] == [(2, False), (4, False), (6, True)]
    for report in reports:
        assert set(report) >= RESULT
        assert set(report["metrics"]) == METRICS
        assert all(math.isfinite(value) for value in report["metrics"].values())
        assert set(report["losses"]) == {"dr", "layers", "total"}
        assert set(report["timing"]) == {"setup", "train", "evaluate"}
    last = reports[-1]
    assert last["metrics"] == last["scores"]["summary"]
    assert list(last["scores"]["languages"]) == ["en", "ja", "ar"]
    accuracy, chance = last["metrics"]["vqa_accuracy"], rung_plan.chance[""]
    assert last["metrics"]["vqa_lift_kept"] == pytest.approx((accuracy - chance) / (0.6 - chance))
    assert reports[0]["seconds"] < reports[1]["seconds"] < last["seconds"]
    assert all(value > 0 for value in last["timing"].values())
    assert sum(last["timing"].values()) <= last["seconds"]
    assert 0.1 < reports[0]["memory_gb"] <= last["memory_gb"] < 10
    assert last["trained_parameters"] == last["parameters"]  # the student is as wide as its teacher


def test_every_set_is_scored_at_rungs_and_at_the_end(plan: TrialPlan) -> None:
    galleries = {"photos": plan.paths.retrieval[""], "drawings": plan.paths.retrieval[""]}
    paths = plan.paths.model_copy(update={"retrieval": galleries, "vqa": {"cvqa": plan.paths.vqa[""]}})
    accuracy = {"teacher_vqa_accuracy": {"cvqa": 0.6}, "chance": {"cvqa": plan.chance[""]}}
    rung, last = reports_of(plan.model_copy(update={"paths": paths, "rungs": (3,), **accuracy}))
    of_photos = {f"{name}@{of}" for name in METRICS if name[0] == "r" for of in galleries}
    of_cvqa = {f"{name}@cvqa" for name in METRICS if name[0] == "v"}
    for report in (rung, last):
        metrics = report["metrics"]
        assert metrics.keys() == METRICS | of_photos | of_cvqa
        for name in {name for name in METRICS if name[0] == "v"}:
            assert metrics[name] == metrics[f"{name}@cvqa"]
    assert last["metrics"]["retrieval_map@photos"] == last["metrics"]["retrieval_map"]
    assert list(last["scores"]["sets"]) == ["photos", "drawings", "cvqa"]
    assert all(list(rows) == ["en", "ja", "ar"] for rows in last["scores"]["sets"].values())
    rows = pq.read_table(Path(plan.folder) / "examples.parquet", columns=["set"]).to_pylist()
    assert {row["set"] for row in rows} == {"photos", "drawings", "cvqa"}


def test_trained_parameters_count_the_projections_of_matched_layers(plan: TrialPlan) -> None:
    narrow = plan.student.model_copy(update={"text": plan.student.text.model_copy(update={"width": 32})})
    (report,) = reports_of(plan.model_copy(update={"student": narrow}))
    assert report["trained_parameters"] - report["parameters"] == 2 * (32 * 64 + 64)  # two layers of the text tower


def test_finished_trial_leaves_the_student_that_it_scored(rung_plan: TrialPlan) -> None:
    last = reports_of(rung_plan)[-1]
    folder = Path(rung_plan.folder)
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint", "examples.parquet", "worker.lock"]
    kept = sorted(path.name for path in (folder / "checkpoint").iterdir())
    assert kept == [
        "model.safetensors",
        "spec.json",
        "state.pt",
        "tokenizer.json",
    ]  # the state until the result is written down
    student = load_model(folder / "checkpoint")
    assert student.parameter_count() == last["parameters"]
    captions = CaptionedImages.load(Path(rung_plan.paths.retrieval[""]))
    questions = VisualQuestions.load(Path(rung_plan.paths.vqa[""]))
    assert evaluate(student, {"": captions}, {"": questions}, "fp32").languages == last["scores"]["languages"]


def interrupt_at(step: int, plan: TrialPlan) -> None:
    """Run a trial and end it as Ray does, when it reports this step."""

    def report(result: dict[str, Any]) -> None:
        if result["step"] == step:
            raise SystemExit

    with pytest.raises(SystemExit):
        train(plan, report)


@pytest.fixture
def whole(rung_plan: TrialPlan, tmp_path: Path) -> dict[str, Any]:
    """The last result of the trial of `rung_plan` without an interruption, its student in ``whole/``."""
    return reports_of(rung_plan.model_copy(update={"folder": str(tmp_path / "whole")}))[-1]


def assert_same_end(report: dict[str, Any], folder: Path, whole: dict[str, Any]) -> None:
    assert report["metrics"] == pytest.approx(whole["metrics"], rel=1e-6)
    assert report["losses"] == pytest.approx(whole["losses"], rel=1e-6)
    ours, theirs = (load_model(path / "checkpoint").state_dict() for path in (folder.with_name("whole"), folder))
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


@pytest.mark.parametrize("step", [4, 6])
@every_family
def test_interrupted_trial_goes_on_from_its_last_rung_to_the_same_end(
    step: int, rung_plan: TrialPlan, whole: dict[str, Any], tmp_path: Path
) -> None:
    interrupted = rung_plan.model_copy(update={"folder": str(tmp_path / "interrupted")})
    interrupt_at(step, interrupted)
    with held(tmp_path / "interrupted", patience=0):
        pass  # the process lives on, and the trial is free
    torch.manual_seed(99)  # whatever has happened since
    reports = reports_of(interrupted)
    # Nobody may have heard of the rung that the interruption came at: it is reported again.
    assert [(report["step"], report["final"]) for report in reports] == [(4, False), (6, True)]
    assert_same_end(reports[-1], tmp_path / "interrupted", whole)


@pytest.mark.parametrize("damage", ["torn", "changed", "of another student"])
def test_trial_whose_state_cannot_be_used_starts_again_to_the_same_end(
    damage: str, rung_plan: TrialPlan, whole: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    interrupted = rung_plan.model_copy(update={"folder": str(tmp_path / "interrupted")})
    state = tmp_path / "interrupted" / "checkpoint" / "state.pt"
    if damage == "of another student":
        text = interrupted.student.text.model_copy(update={"width": 32})
        other = interrupted.student.model_copy(update={"text": text})
        interrupt_at(4, interrupted.model_copy(update={"student": other}))
    else:
        interrupt_at(4, interrupted)
        content = bytearray(state.read_bytes())
        content[-100] ^= 1
        state.write_bytes(content[: len(content) // 2] if damage == "torn" else content)
    reports = reports_of(interrupted)
    assert [report["step"] for report in reports] == [2, 4, 6]
    assert_same_end(reports[-1], tmp_path / "interrupted", whole)
    assert "starts again from step 0" in caplog.text
    assert state.with_name("state.pt.unreadable").exists()


def test_trial_at_a_url_goes_on_on_another_machine_and_leaves_nothing_on_either(
    rung_plan: TrialPlan, whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = RemoteFolder(f"memory://studies/{tmp_path.name}/trials/00000")
    plan = rung_plan.model_copy(update={"folder": remote.url})
    monkeypatch.setenv("POLYDISTILL_CACHE", str(tmp_path / "one"))
    interrupt_at(4, plan)
    assert remote.names() == ["checkpoint/state.pt"]
    monkeypatch.setenv("POLYDISTILL_CACHE", str(tmp_path / "other"))
    reports, kept_here = list[dict[str, Any]](), list[Path]()

    def report(result: dict[str, Any]) -> None:
        reports.append(result)
        kept_here.extend((tmp_path / "other").rglob("state.pt"))  # it would stay if the process were killed now

    train(plan, report)
    assert ([report["step"] for report in reports], kept_here) == ([4, 6], [])
    remote.pull(tmp_path / "pulled", remote.names())
    assert_same_end(reports[-1], tmp_path / "pulled", whole)
    assert (tmp_path / "pulled" / "examples.parquet").exists()
    assert [list((tmp_path / machine / "trials").iterdir()) for machine in ("one", "other")] == [[], []]


def test_trial_waits_for_an_older_worker_of_it(plan: TrialPlan, caplog: pytest.LogCaptureFixture) -> None:
    reports: list[dict[str, Any]] = []
    newcomer = threading.Thread(target=train, args=(plan, reports.append), daemon=True)
    with held(Path(plan.folder)):
        newcomer.start()
        until = time.monotonic() + 30
        while "waiting for it to end" not in caplog.text and time.monotonic() < until:
            time.sleep(0.02)
        assert "waiting for it to end" in caplog.text
        assert not reports
        assert not (Path(plan.folder) / "checkpoint").exists()
    newcomer.join(60)
    assert [report["final"] for report in reports] == [True]


def test_recipe_that_diverges_is_a_result_and_no_error(plan: TrialPlan, cache: TeacherCache, tmp_path: Path) -> None:
    broken = TeacherCache(**{**vars(cache), "text": np.full_like(cache.text, np.nan)})
    broken.save(tmp_path / "cache")
    paths = plan.paths.model_copy(update={"cache": str(tmp_path / "cache")})
    (report,) = reports_of(plan.model_copy(update={"paths": paths}))
    assert report["failure"].startswith("diverged: the gradient is nan at step 1")
    assert report["cause"] == "diverged"
    assert report["final"]
    assert report["step"] == 0
    assert report["metrics"] == report["scores"] == {}


def test_learning_rate_that_diverges_is_a_failure(plan: TrialPlan) -> None:
    recipe = Recipe(strategy="dr", learning_rate=1e30)
    (report,) = reports_of(plan.model_copy(update={"recipe": recipe}))
    assert report["failure"].startswith("diverged")


def test_last_step_that_diverges_is_a_failure_too(plan: TrialPlan) -> None:
    training = plan.training.model_copy(update={"steps": 1})
    recipe = Recipe(strategy="dr", learning_rate=1e30)
    (report,) = reports_of(plan.model_copy(update={"recipe": recipe, "training": training}))
    assert report["failure"].startswith("diverged")


def test_recipe_that_needs_too_much_memory_is_a_result_and_leaves_the_process_usable(plan: TrialPlan) -> None:
    queue = Replication(queue_size=2**28)  # 34 GB
    greedy = plan.model_copy(update={"recipe": Recipe(strategy="dr", replication=queue), "memory_gb": 4.0})
    before = resource.getrlimit(resource.RLIMIT_DATA)
    (report,) = reports_of(greedy)
    assert report["failure"].startswith("out of memory: ")
    assert report["cause"] == "out_of_memory"
    assert report["final"]
    assert report["step"] == 0
    assert report["memory_gb"] < 4
    assert report["metrics"] == report["scores"] == {}
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert "failure" not in reports_of(plan)[-1]


def fill(folder: Path, leave: int) -> None:
    """Leave so many bytes free on a folder's file system."""
    (folder / "ballast").write_bytes(b"x" * (shutil.disk_usage(folder).free - leave))


def test_state_that_does_not_fit_the_disk_leaves_the_old_one(
    rung_plan: TrialPlan, whole: dict[str, Any], tmp_path: Path, small_disks: Callable[[str], Path]
) -> None:
    disk = small_disks("64m")
    full = rung_plan.model_copy(update={"folder": str(disk / "trial")})
    state = disk / "trial" / "checkpoint" / "state.pt"
    interrupt_at(2, full)
    first = state.read_bytes()
    fill(disk, leave=len(first) // 2)
    with pytest.raises(OSError, match="No space left on device") as error:
        reports_of(full)
    assert error.value.filename == str(state)
    assert state.read_bytes() == first
    assert [path.name for path in state.parent.iterdir()] == ["state.pt"]
    (disk / "ballast").unlink()
    reports = reports_of(full)  # the process lives on, and so does the trial
    assert [report["step"] for report in reports] == [2, 4, 6]
    shutil.copytree(disk / "trial", tmp_path / "copy")
    assert_same_end(reports[-1], tmp_path / "copy", whole)


@pytest.mark.parametrize(("leave", "unwritten"), [(1_000, "examples.parquet"), (200_000, "model.safetensors")])
def test_end_that_does_not_fit_the_disk_names_the_file_and_can_be_repeated(
    leave: int, unwritten: str, rung_plan: TrialPlan, small_disks: Callable[[str], Path]
) -> None:
    disk = small_disks("64m")
    full = rung_plan.model_copy(update={"folder": str(disk / "trial")})
    interrupt_at(4, full)
    fill(disk, leave)
    with pytest.raises(OSError, match="No space left on device") as error:
        reports_of(full)
    assert Path(error.value.filename).name == unwritten
    assert not list((disk / "trial").rglob(".*"))
    (disk / "ballast").unlink()
    assert [report["step"] for report in reports_of(full)] == [4, 6]


def test_examples_have_their_columns_and_pictures(plan: TrialPlan) -> None:
    reports_of(plan)
    table = pq.read_table(Path(plan.folder) / "examples.parquet")
    columns = ["task", "set", "language", "case", "text", "score", "shown", "options", "answer", "chosen"]
    assert table.column_names == columns
    rows = table.to_pylist()
    assert len(rows) == 2 * 3 * 4  # tasks, languages, two best and two worst
    for row in rows:
        sizes = [Image.open(io.BytesIO(png)).size for png in row["shown"]]
        assert sizes == [(24, 24)] * (4 if row["task"] == "retrieval" else 1)


def test_a_profile_holds_the_steps_before_an_evaluation_the_evaluation_and_the_parts_of_a_step(
    rung_plan: TrialPlan,
) -> None:
    plan = rung_plan.model_copy(update={"profile": True})
    assert reports_of(plan)[-1]["losses"] == reports_of(rung_plan)[-1]["losses"]
    with gzip.open(Path(plan.folder) / PROFILE) as file:
        events = json.load(file)["traceEvents"]
    named = Counter(event["name"] for event in events if event.get("cat") == "user_annotation")
    assert {name: named[name] for name in ("data", "views", "towers", "losses", "update")} == dict.fromkeys(
        ("data", "views", "towers", "losses", "update"), 2
    )
    last = max(event["ts"] + event["dur"] for event in events if event["name"] == "update")
    evaluated = [event for event in events if event.get("cat") == "cpu_op" and event["ts"] > last]
    assert "aten::linear" in {event["name"] for event in evaluated}


def test_a_profiled_trial_that_fails_leaves_nothing_recording_in_its_process(plan: TrialPlan) -> None:
    diverging = plan.recipe.model_copy(update={"learning_rate": 1e30})
    (last,) = reports_of(plan.model_copy(update={"profile": True, "recipe": diverging}))
    assert last["cause"] == "diverged"
    assert not torch._C._autograd._profiler_enabled()
    assert not (Path(plan.folder) / PROFILE).exists()
