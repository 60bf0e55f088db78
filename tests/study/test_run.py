from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from open_clip import create_model_from_pretrained, get_tokenizer
from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from analysis.choices import active
from analysis.languages import consistency
from analysis.load import front, load_study
from study import Study as PythonStudy
from study.config import load_config
from tests.study.tiny import UNCONFIRMED, check_that_nothing_is_left, check_that_optuna_and_ledger_agree, told
from trainables.export import main as export
from trainables.models.factory import load_model, parameter_count
from trainables.models.tokenizer import Tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.study.tiny import Outcome, Study

TEXTS = ["flag: Wales", "gato", "bayrak"]
# What the driver and the process of the stages do up to the first trial.
_PREPARED = """
import os, sys
from study.config import load_config
from study.engine import run_stages
from study.stages import Stages, mapped_teacher_layers
from study.checks import checked_space

def result(stage):
    *_progress, found = stage
    return found

print(*sorted({"torch", "seaborn", "matplotlib.pyplot"} & set(sys.modules)))
config = load_config(sys.argv[1])
stages = Stages(config, os.cpu_count())
prepared = result(stages.prepare())
teacher = result(stages.teacher(prepared))
_scores, _chance, student = result(stages.score_teacher(teacher, prepared))
result(stages.landmarks(teacher, prepared, student))
result(stages.cache(teacher, prepared, mapped_teacher_layers(config, checked_space(config))))
print(*sorted({"open_clip", "transformers", "torchvision", "seaborn"} & set(sys.modules)))
"""
# What Ray and its libraries write when nobody keeps them quiet.
NOISE = re.compile(r"\bray\b(?!: \d+ s| +│)|raylet|\(pid|WARN|Warning|Traceback|Error\b")


def test_a_study_runs_from_its_configuration_to_a_front(finished: tuple[Study, Outcome]) -> None:
    study, outcome = finished
    assert outcome.code == 0, study.runs[0].said()
    assert [line for line in (outcome.output + outcome.errors).splitlines() if NOISE.search(line)] == []
    for stage in (
        "start Ray",
        "prepare data",
        "fit teacher",
        "cache teacher",
        "search",
        "confirm the front",
        "test the front",
        "report",
    ):
        assert re.search(rf"^{stage}: \d+ s$", outcome.errors, re.MULTILINE), outcome.errors
    assert re.search(r"^trials 5/5: \d complete, \d stopped, 0 failed; front \d", outcome.errors, re.MULTILINE)
    check_that_nothing_is_left(study.runs[0])

    assert load_config(str(study.folder / "config.yaml")).search.trials == 5
    environment = study.read("environment.json")
    assert environment["packages"]["torch"]
    teacher = study.read("teacher.json")
    assert teacher["family"] == "clip"
    for split in ("validation", "test"):
        assert set(teacher["scores"][split]["languages"]) == {"en", "es", "tr"}
        assert teacher["scores"][split]["summary"]["vqa_accuracy"] > teacher["chance"][""]
    untrained, chance = teacher["random_student"]["summary"], teacher["chance"][""]
    assert set(teacher["random_student"]["languages"]) == {"en", "es", "tr"}
    accuracy = teacher["scores"]["validation"]["summary"]["vqa_accuracy"]
    kept = (untrained["vqa_accuracy"] - chance) / (accuracy - chance)
    assert untrained["vqa_lift_kept"] == pytest.approx(kept)
    assert teacher["encoding"]["student"]["image_flops"] < teacher["encoding"]["teacher"]["image_flops"]

    for matrix in teacher["scores"]["validation"]["consistency"].values():
        assert np.array(matrix, dtype=float).shape == (3, 3)

    check_that_optuna_and_ledger_agree(study)
    assert set(study.results()) == set(range(5))
    for number, result in study.results().items():
        folder = study.folder / "trials" / f"{number:05d}"
        steps = [report["step"] for report in study.reports(number)]
        assert result["state"] in ("complete", "stopped")
        assert steps == ([6, 12] if result["state"] == "complete" else [6])
        assert (result["steps"], set(result["timing"])) == (steps[-1], {"setup", "train", "evaluate"})
        assert not (folder / "checkpoint" / "state.pt").exists()
        if result["state"] == "complete":
            assert set(result["scores"]["validation"]["languages"]) == {"en", "es", "tr"}
            assert set(result["scores"]["validation"]["consistency"]) == {"retrieval", "vqa"}
            assert len(pd.read_parquet(folder / "examples.parquet")) > 0
            assert json.loads((folder / "checkpoint" / "spec.json").read_text(encoding="utf-8"))["image"]["layers"] == 1
            with safe_open(folder / "checkpoint" / "model.safetensors", "np") as weights:
                parameters = sum(weights.get_tensor(name).size for name in weights.keys())  # noqa: SIM118
            assert parameters >= result["parameters"] > 0
        tracked = EventAccumulator(str(study.folder / "tensorboard" / f"{number:05d}")).Reload()
        assert [scalar.step for scalar in tracked.Scalars("metrics/retrieval_map")] == steps
        assert ("map_i2t/tr" in tracked.Tags()["scalars"]) == (result["state"] == "complete")

    trials = pd.read_parquet(study.folder / "results" / "trials.parquet").set_index("number")
    assert trials["state"].to_dict() == {number: result["state"] for number, result in study.results().items()}
    front = study.read("results/front.json")
    members = {member["number"]: member for member in front["members"]}
    assert members
    assert set(members) == set(trials.index[trials["on_front"]])
    assert front["hypervolume"] > 0
    for member in [*front["members"], *front["neighbours"]]:
        assert member["confirmed"]["seeds"] == 1
        folder = study.folder / "trials" / member["trial"] / "confirm" / "01"
        assert json.loads((folder / "result.json").read_text(encoding="utf-8"))["state"] == "complete"
        begun = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
        assert begun["recipe"] == member["recipe"]
        assert begun["seed"] != study.recipes()[member["number"]]["seed"]
    for number, member in members.items():
        assert member["recipe"] == study.recipes()[number]["recipe"]
        assert {"retrieval_map", "vqa_variance", "vqa_lift_kept"} <= set(member["test"])
        assert f"│ {member['trial']} " in outcome.output
    languages = pd.read_parquet(study.folder / "results" / "languages.parquet")
    complete = [f"{number:05d}" for number, result in study.results().items() if result["state"] == "complete"]
    assert set(languages["trial"]) == {"teacher", *complete}
    assert set(languages[languages["split"] == "test"]["trial"]) == {"teacher", *(m["trial"] for m in members.values())}
    assert (study.folder / "report" / "pareto.png").read_bytes().startswith(b"\x89PNG")


def test_what_matters_is_measured_on_the_choices_that_optuna_was_told(finished: tuple[Study, Outcome]) -> None:
    study, _ = finished
    data = load_study(study.folder)
    for number, trial in told(study).items():
        made = active(json.loads(data.trials.set_index("number").loc[number, "recipe"]))
        # Of a map of layers Optuna has the offsets, a recipe the layers.
        shared = {name: value for name, value in made.items() if name in trial.params and ".layers." not in name}
        assert {"strategy", "learning_rate", "image_mapping.kind", "language_weighting.kind"} <= set(shared)
        assert {name: trial.params[name] for name in shared} == shared
        strategies = {name for name in trial.params if name.startswith(("strategy_weights.", "replication."))}
        assert strategies <= set(shared)
    assert consistency(data).groupby("task").size().to_dict() == {"retrieval": 9, "vqa": 9}


def test_the_command_of_a_finished_study_shows_it_again_at_once(finished: tuple[Study, Outcome]) -> None:
    study, first = finished
    before = {path: path.stat().st_mtime_ns for path in study.folder.glob("trials/**/*")}
    again = study.run()
    assert again.code == 0
    assert again.errors == ""
    assert "is finished (search.trials: 5 trials); to go on, raise what ended it." in again.output
    assert first.output in again.output
    assert again.seconds < 20
    assert {path: path.stat().st_mtime_ns for path in study.folder.glob("trials/**/*")} == before


def test_a_prepared_study_begins_without_libraries_that_it_has_no_need_of(finished: tuple[Study, Outcome]) -> None:
    study, _ = finished
    command = [sys.executable, "-c", _PREPARED, str(study.place / "tiny.yaml")]
    ran = subprocess.run(command, env=study.environment, capture_output=True, text=True, check=True)
    assert ran.stdout == "\n\n"


def test_python_runs_a_study_as_the_command_does(
    finished: tuple[Study, Outcome], run_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, _ = finished
    for name, value in run_environment.items():
        monkeypatch.setenv(name, value)
    opened = PythonStudy.run(study.place / "tiny.yaml")
    assert opened.front()["trial"].tolist() == [
        member["trial"] for member in study.read("results/front.json")["members"]
    ]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("training.steps=13", ["training.steps", "12", "13", "--name", "--fresh"]),
        ("search.constraints={}", ["search.constraints", "-10"]),
        ("data.languages=[en, tr]", ["data.languages", "es"]),
    ],
)
def test_a_change_that_would_mix_trials_that_do_not_compare_is_refused_by_its_key(
    copied: Study, setting: str, words: list[str]
) -> None:
    before = (copied.folder / "config.yaml").read_text(encoding="utf-8")
    refused = copied.run(setting)
    assert (refused.code, refused.output) == (2, "")
    assert len(refused.errors.splitlines()) == 1
    assert all(word in refused.errors for word in words), refused.errors
    assert (copied.folder / "config.yaml").read_text(encoding="utf-8") == before


def test_a_raised_budget_goes_on_and_an_interruption_costs_no_finished_trial(copied: Study) -> None:
    old_recipes, old_results, old_trials = copied.recipes(), copied.results(), told(copied)
    interrupted = copied.start("search.trials=8")
    interrupted.until(lambda: len(copied.results()) > 5)
    interrupted.process.send_signal(signal.SIGINT)
    outcome = interrupted.wait(60)
    assert outcome.code == 130, interrupted.said()
    kept = copied.results()
    assert f"Interrupted: {len(kept)} finished trials are kept" in outcome.errors
    assert "The same command goes on from there." in outcome.errors
    check_that_nothing_is_left(interrupted)
    assert not (copied.folder / "results" / "front.json").exists()  # else a run killed later might pass for finished
    unfinished = {number: recipe for number, recipe in copied.recipes().items() if number not in kept}
    assert unfinished
    assert old_results.items() <= kept.items()

    # Tune leaves its own handler of Ctrl-C behind when a search has ended.
    again = copied.start("search.trials=8")
    again.until(lambda: "\nsearch: " in again.files[1].read_text(encoding="utf-8"))
    again.process.send_signal(signal.SIGINT)
    outcome = again.wait(60)
    assert (outcome.code, "Interrupted: 8 finished trials are kept" in outcome.errors) == (130, True), again.said()

    outcome = copied.run("search.trials=8")
    assert outcome.code == 0, copied.runs[-1].said()
    check_that_optuna_and_ledger_agree(copied)
    results, recipes = copied.results(), copied.recipes()
    assert set(results) == set(range(8))
    assert {result["state"] for result in results.values()} <= {"complete", "stopped"}
    assert (old_recipes | unfinished).items() <= recipes.items()
    assert kept.items() <= results.items()
    assert old_trials.items() <= told(copied).items()  # with the times of asking and telling
    for number in results:
        steps = [report["step"] for report in copied.reports(number)]
        assert steps == sorted(set(steps)), f"trial {number} reported {steps}"
    assert yaml.safe_load((copied.folder / "config.yaml").read_text(encoding="utf-8"))["search"]["trials"] == 8
    members = copied.read("results/front.json")["members"]
    assert all(member["test"] for member in members)


def test_a_student_that_a_disk_has_damaged_costs_its_test_scores_alone(copied: Study) -> None:
    member = copied.read("results/front.json")["members"][0]["trial"]
    folder = copied.folder / "trials" / member
    (folder / "test.json").unlink()
    (copied.folder / "results" / "front.json").unlink()
    weights = folder / "checkpoint" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    (copied.folder / "ray-of-a-killed-run").mkdir()
    outcome = copied.run()
    assert outcome.code == 0, copied.runs[0].said()
    assert f"Trial {member} has no test scores: {weights.parent} cannot be read" in outcome.errors
    members = {found["trial"]: found["test"] for found in copied.read("results/front.json")["members"]}
    assert members[member] is None
    check_that_nothing_is_left(copied.runs[0])


@pytest.mark.long
def test_two_workers_of_half_the_batch_learn_what_one_process_learns(
    finished: tuple[Study, Outcome], study: Study
) -> None:
    outcome = study.run("resources.workers_per_trial=2", "search.trials=1", UNCONFIRMED)
    assert outcome.code == 0, study.runs[0].said()
    alone = finished[0]
    recipes = [of.recipes()[0] for of in (alone, study)]
    assert [recipe.pop("created") > "" for recipe in recipes] == [True, True]
    assert recipes[0] == recipes[1]
    one, two = alone.reports(0)[0], study.reports(0)[0]
    assert (one["step"], two["step"]) == (6, 6)
    # A worker's loss on layers is that of its own half; the others are computed over the whole batch.
    losses = [
        {name: report["losses"][name] for name in (recipes[0]["recipe"]["strategy"], "task")} for report in (one, two)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.01)
    assert two["metrics"]["retrieval_map"] == pytest.approx(one["metrics"]["retrieval_map"], abs=0.003)
    assert two["metrics"]["vqa_accuracy"] == pytest.approx(one["metrics"]["vqa_accuracy"], abs=0.02)
    assert study.results()[0]["state"] == "complete"
    check_that_nothing_is_left(study.runs[0])


def test_a_siglip2_study_of_students_that_see_and_read_less_comes_to_a_front(study: Study) -> None:
    outcome = study.run(
        "teacher.family=siglip2",
        "teacher.fit.softmax_share=0.5",
        "student.image={layers: 0.5, width: 1.0, image_size: 16}",
        "student.text={layers: 1.0, width: 0.5, context_length: 10}",
        "student.vocabulary=trimmed",
        "search.limits.parameters=1000000",
        "search.trials=1",
        UNCONFIRMED,
        profile=True,
    )
    assert outcome.code == 0, study.runs[0].said()
    trace = study.folder / "trials" / "00000" / "profile.json.gz"
    assert f"Profile: {trace}; open it in https://ui.perfetto.dev" in outcome.errors
    assert trace.read_bytes().startswith(b"\x1f\x8b")
    check_that_optuna_and_ledger_agree(study)
    assert study.read("teacher.json")["family"] == "siglip2"
    assert [report["step"] for report in study.reports(0)] == [6, 12]
    assert all("task" in report["losses"] for report in study.reports(0))
    said = re.search(
        r"^Students: 1 image layer, 64 wide, for 16 pixels; 1 text layer, 32 wide, for (\d+) tokens$",
        outcome.errors,
        re.MULTILINE,
    )
    assert said, outcome.errors
    (member,) = study.read("results/front.json")["members"]
    assert {"retrieval_map", "vqa_variance"} <= set(member["test"])
    checkpoint = study.folder / "trials" / member["trial"] / "checkpoint"
    model = load_model(checkpoint)
    assert model.spec.text.vocab_size == Tokenizer(checkpoint).vocab_size == int(said[1])
    assert study.results()[0]["parameters"] == model.parameter_count() == parameter_count(model.spec)
    check_that_nothing_is_left(study.runs[0])


def test_member_of_the_front_is_exported_with_its_scores(finished: tuple[Study, Outcome], tmp_path: Path) -> None:
    study, _ = finished
    member = front(load_study(study.folder))["members"][0]
    target = tmp_path / "student"
    assert export([str(study.folder), member["trial"], "--to", str(target)]) == 0
    model, _ = create_model_from_pretrained(f"local-dir:{target}")
    checkpoint = study.folder / "trials" / member["trial"] / "checkpoint"
    ours = load_model(checkpoint).eval()
    tokens = Tokenizer(checkpoint, ours.spec.text.context_length).encode(TEXTS)
    with torch.no_grad():
        found = model.encode_text(get_tokenizer(f"local-dir:{target}")(TEXTS), normalize=True)
        expected = ours.encode_text(torch.from_numpy(tokens).long()).embedding
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)

    _, header, body = (target / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert yaml.safe_load(header)["language"] == ["en", "es", "tr"]
    for split, scores in (("validation", member["validation"]), ("test", member["test"])):
        table = body.partition(f"| {split} | mAP")[2].partition("\n\n")[0]
        (mean,) = [line for line in table.splitlines() if line.startswith("| mean ")]
        shown = [float(cell) for cell in mean.split("|")[2:6]]
        assert shown[0] == pytest.approx(scores["retrieval_map"], abs=6e-4)
        assert shown[2] == pytest.approx(scores["vqa_accuracy"], abs=6e-4)
        teacher = study.read("teacher.json")["scores"][split]["summary"]
        assert shown[1] == pytest.approx(teacher["retrieval_map"], abs=6e-4)
        assert shown[3] == pytest.approx(teacher["vqa_accuracy"], abs=6e-4)
    recipe = json.loads((study.folder / "trials" / member["trial"] / "recipe.json").read_text(encoding="utf-8"))
    assert json.loads((target / "polydistill.json").read_text(encoding="utf-8"))["recipe"] == recipe["recipe"]
