"""Studies that cannot go on, be read or be begun where they are to lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from search_spaces.space import load_space
from study.config import dump_config, load_config
from study.ledger import Ledger
from study.results import write_report
from tests.bad_input.refusing import Refused, as_said
from trainables.artifacts import write_json, write_text
from trainables.recipe import Recipe

FOLDER = Path("runs", "emoji-clip")
METRICS = {
    "retrieval_map": 0.3,
    "vqa_variance": 9.0,
    "vqa_std": 3.0,
    "vqa_accuracy": 0.4,
    "vqa_lift_kept": 0.75,
    "vqa_variance_noise": 1.0,
}
ENDED = ["--set", "search.trials=2", "--set", "search.confirm.seeds=0"]


@pytest.fixture
def ended(refused: Refused) -> Path:
    """A study of two complete trials that has ended, in the folder where the command looks for it."""
    config = load_config("emoji_clip", ENDED[1::2])
    ledger = Ledger(FOLDER.absolute())
    ledger.open()
    scores = {"languages": {}, "summary": METRICS}
    for number in range(2):
        record = ledger.begin(number, Recipe(strategy="dr"), seed=number)
        last = {"step": 80, "final": True, "seconds": 1.0, "metrics": METRICS, "scores": scores}
        ledger.report(record, last)
        ledger.finish(record, "complete", None, last)
    write_text(FOLDER / "config.yaml", dump_config(config))
    write_json(FOLDER / "space.json", load_space("full").as_plain())
    teacher = {"family": "clip", "parameters": 9, "chance": {"": 0.25}, "scores": {"validation": scores}}
    write_json(FOLDER / "teacher.json", teacher)
    write_report(FOLDER)
    ledger.close()
    return FOLDER


CHANGED = [
    ("training.steps=90", "the study in runs/emoji-clip cannot go on with another configuration: training.steps was 80 and is 90; give the new study another --name, or --fresh to set the earlier one aside"),
    ("data.languages=[en, es]", "the study in runs/emoji-clip cannot go on with another configuration: data.languages was ['en', 'es', 'ja', ...] and is ['en', 'es']; give the new study another --name, or --fresh to set the earlier one aside"),
    ("search.constraints={}", "the study in runs/emoji-clip cannot go on with another configuration: search.constraints.vqa_lift_kept.min was 0.5 and is not set; give the new study another --name, or --fresh to set the earlier one aside"),
]  # fmt: skip


@pytest.mark.parametrize(("setting", "said"), CHANGED, ids=[setting for setting, _ in CHANGED])
def test_a_study_does_not_go_on_as_another(refused: Refused, ended: Path, setting: str, said: str) -> None:
    assert as_said(refused("study.run", *ENDED, "--set", setting), said)


def test_a_study_does_not_go_on_in_another_space(refused: Refused, ended: Path) -> None:
    space = load_space("full").as_plain()
    write_json(ended / "space.json", {**space, "learning_rate": {"float": [0.1, 0.2]}, "batch": {"choice": [1]}})
    said = "search.space: .../full.yaml is not what it was when the study in runs/emoji-clip began: learning_rate was {'float': [0.1, 0.2]} and is {'float': [0.001, 0.01], 'log': True}; batch was {'choice': [1]} and is not set; put it back, or give the changed space a file of its own and the new study another --name"
    assert as_said(refused("study.run", *ENDED), said)


DAMAGED = [
    ("config.yaml", "name: [", "runs/emoji-clip/config.yaml: cannot be read as YAML: line 1, column 8: a value that is not there, or a bracket that is never closed; restore it from a copy, or give --fresh to set the study aside"),
    ("teacher.json", "{", "runs/emoji-clip/teacher.json cannot be read (it is no JSON from line 1, column 2 on): restore it from a copy, or give --fresh to set the study aside and start anew"),
    ("teacher.json", "{}", "runs/emoji-clip/teacher.json cannot be read (it has no scores.validation.summary): restore it from a copy, or give --fresh to set the study aside and start anew"),
    ("search.json", "[]", "runs/emoji-clip/search.json cannot be read (it is no record): restore it from a copy, or give --fresh to set the study aside and start anew"),
    ("space.json", "{", "runs/emoji-clip/space.json cannot be read (it is no JSON from line 1, column 2 on): restore it from a copy, or give --fresh to set the study aside and start anew"),
    ("trials/00001/recipe.json", "{}", "runs/emoji-clip/trials/00001/recipe.json cannot be read (it has no number): restore it from a copy, or give --fresh to set the study aside and start anew"),
    ("trials/00001/result.json", "", "runs/emoji-clip/trials/00001/result.json cannot be read (it is no JSON from line 1, column 1 on): restore it from a copy, or give --fresh to set the study aside and start anew"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "said"), DAMAGED, ids=[f"{name} {text}" for name, text, _ in DAMAGED])
def test_a_damaged_study_is_named_by_its_file(
    refused: Refused, ended: Path, name: str, content: str, said: str
) -> None:
    (ended / name).write_text(content, encoding="utf-8")
    assert as_said(refused("study.run", *ENDED), said)


def test_a_study_that_runs_is_left_alone(refused: Refused, ended: Path) -> None:
    held = Ledger(ended.absolute())
    held.open()
    said = f"the study in runs/emoji-clip is already running (process {os.getpid()} on ...); wait for it or stop it"
    assert as_said(refused("study.run", *ENDED), said)
    held.close()


@pytest.mark.parametrize("content", ["site: my blog\n", "name: [", "- a list\n"])
def test_a_folder_of_somebody_else_is_left_alone(refused: Refused, content: str) -> None:
    FOLDER.mkdir(parents=True)
    (FOLDER / "config.yaml").write_text(content, encoding="utf-8")
    said = "storage.path: runs/emoji-clip/config.yaml is not a study's, and would be overwritten: give the study another ..."
    assert as_said(refused("study.run"), said)


def test_a_place_that_cannot_hold_a_study_is_named_by_its_key(refused: Refused) -> None:
    Path("taken").write_text("in the way", encoding="utf-8")
    said = (
        "storage.path: cannot write the study folder taken/runs/emoji-clip: Not a directory; name a writable one, for "
        "example --set storage.path=/tmp/runs"
    )
    assert as_said(refused("study.run", "--set", "storage.path=taken/runs"), said)


STARTS = [
    ("missing", "search.start_from: there is no 'missing': name known, the folder or the URL of another study, or a YAML file of recipes"),
    ("knwon", "search.start_from: there is no 'knwon': did you mean known? name known, the folder or the URL of another study, or a YAML file of recipes"),
    ("empty", "search.start_from: empty is no study, it has no config.yaml: name known, the folder or the URL of another study, or a YAML file of recipes"),
    ("runs/emoji-clip", "search.start_from: runs/emoji-clip is this study itself: name known, the folder or the URL of another study, or a YAML file of recipes"),
    ("frontless", "search.start_from: frontless has no front: none of its 0 trials is complete and feasible; name known, the folder or the URL of another study, or a YAML file of recipes"),
    ("damaged", "search.start_from: damaged cannot be read: damaged/trials/00000/recipe.json: Invalid JSON: ..."),
]  # fmt: skip


@pytest.mark.parametrize(("source", "said"), STARTS, ids=[source for source, _ in STARTS])
def test_a_source_that_is_no_start_is_named(refused: Refused, ended: Path, source: str, said: str) -> None:
    for name in ("frontless", "damaged"):
        (Path(name) / "trials" / "00000").mkdir(parents=True)
        (Path(name) / "config.yaml").write_bytes((ended / "config.yaml").read_bytes())
        (Path(name) / "teacher.json").write_bytes((ended / "teacher.json").read_bytes())
    Path("damaged/trials/00000/recipe.json").write_text("{", encoding="utf-8")
    Path("empty").mkdir()
    name = "emoji-clip" if source == "runs/emoji-clip" else "new"
    assert as_said(refused("study.run", "--name", name, "--set", f"search.start_from=[{source}]", "--fresh"), said)


def test_a_study_that_was_moved_is_not_begun_anew_beside_it(refused: Refused, ended: Path) -> None:
    Path("from a friend").mkdir()
    moved = ended.rename("from a friend/theirs")
    assert refused("study.run", str(moved / "config.yaml")) == (
        "from a friend/theirs/config.yaml: the study in from a friend/theirs keeps this configuration, which would begin "
        "another one in runs/emoji-clip: to go on with that one, rename its folder to emoji-clip and add --set "
        "storage.path='from a friend'; to begin another, give it a --name"
    )
    back = moved.rename("from a friend/emoji-clip")
    said = refused("study.run", str(back / "config.yaml"), "--set", "storage.path=from a friend", "--set", "seed=3")
    assert "the study in from a friend/emoji-clip cannot go on with another configuration: seed was 0 and is 3" in said


READERS = [
    (("analysis.trial", "runs/emoji-clip", "9"), "no trial 9 in runs/emoji-clip: the nearest are 0, 1; there are 2, from 0 to 1"),
    (("analysis.trial", "runs/emoji-clip", "best"), "no trial best in runs/emoji-clip: there are 2, from 0 to 1"),
    (("analysis.trial", "runs/emoji-clop", "1"), "no study in runs/emoji-clop: did you mean runs/emoji-clip? a study's folder holds config.yaml"),
    (("analysis.notebook", "runs"), "no study in runs: did you mean runs/emoji-clip? a study's folder holds config.yaml"),
    (("analysis.compare", "runs/emoji-clip", "runs/../runs/emoji-clip"), "runs/emoji-clip is named more than once"),
    (("trainables.export", "runs/emoji-clip", "9"), "no trial 9 in runs/emoji-clip: did you mean 1? complete are 0, 1"),
    (("trainables.export", "runs/emoji-clip", "1", "--to", "."), ". is not empty, it holds runs: name another folder with --to"),
    (("trainables.export", "runs/emoji-clop", "1"), "no study in runs/emoji-clop: did you mean runs/emoji-clip? a study's folder holds config.yaml"),
    (("study.dashboard", "runs"), "no study in runs: a study's folder holds config.yaml"),
    (("study.dashboard", "runs/emoji-clip"), "no study in runs/emoji-clip: there is no study.json; python -m study.run begins one"),
    (("study.run", "runs/emoji-clip"), "runs/emoji-clip is a study's folder: to go on with it, name its configuration, runs/emoji-clip/config.yaml"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "said"), READERS, ids=[" ".join(arguments) for arguments, _ in READERS])
def test_what_a_study_lacks_is_said_with_what_it_has(
    refused: Refused, ended: Path, arguments: tuple[str, ...], said: str
) -> None:
    assert as_said(refused(*arguments), said)
