from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from study.changes import refuse_changes
from study.config import dump_config, load_config
from study.errors import UserError
from study.ledger import Ledger
from study.results import write_report
from study.run import main
from trainables.artifacts import write_json, write_text
from trainables.recipe import Recipe

ROOT = Path(__file__).parents[2]
# Runs the command, then says which of the slow libraries it has imported.
WATCHED = """
import atexit, sys
atexit.register(lambda: print("imported:", *sorted({"ray", "torch", "transformers", "open_clip", "datasets"} & set(sys.modules))))
from study.run import main
sys.exit(main(sys.argv[1:]))
"""


def study_run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WATCHED, *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60
    )


def test_help_says_how_to_run_it_without_loading_anything_slow() -> None:
    ran = study_run("--help")
    assert (ran.returncode, ran.stderr) == (0, "")
    *text, imported = ran.stdout.splitlines()
    assert imported == "imported:"
    assert {"    python -m study.run emoji_clip --set search.trials=40 --name longer"} <= set(text)
    assert "emoji_clip" in ran.stdout


@pytest.mark.parametrize("url", ["no database", "postgresql://me:hush@localhost:1/studies"])
def test_a_database_that_cannot_be_opened_is_one_line_without_its_password(tmp_path: Path, url: str) -> None:
    settings = ["--set", f"storage.path={tmp_path}", "--set", "storage.optuna=env:STUDY_DATABASE"]
    ran = study_run(*settings, STUDY_DATABASE=url)
    assert ran.returncode == 2
    assert len(ran.stderr.splitlines()) == 1
    assert "storage.optuna: env:STUDY_DATABASE" in ran.stderr, ran.stderr
    assert "hush" not in "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file()) + ran.stderr


def ended_study(folder: Path, **states: str) -> list[str]:
    """Write a study of the trials ``t0=state, …`` that has ended; gives the arguments that lead to it."""
    settings = [f"storage.path={folder}", f"search.trials={len(states)}", "search.confirm.seeds=0"]
    arguments = [word for setting in settings for word in ("--set", setting)]
    config = load_config("emoji_clip", arguments[1::2])
    ledger = Ledger(folder / config.name)
    ledger.trials_folder.mkdir(parents=True)
    metrics = {"retrieval_map": 0.3, "vqa_variance": 9.0, "vqa_std": 3.0, "vqa_accuracy": 0.4, "vqa_lift_kept": 0.75}
    metrics["vqa_variance_noise"] = 1.0
    scores: dict[str, Any] = {"languages": {}, "summary": metrics}
    for number, state in enumerate(states.values()):
        record = ledger.begin(number, Recipe(strategy="dr"), seed=number)
        last = {"step": 80, "final": True, "seconds": 1.0, "metrics": metrics, "scores": scores}
        if state != "complete":
            last = {}
        ledger.finish(record, state, f"{state}: [/tmp] is [bold]full[/bold]" if state == "failed" else None, last)  # type: ignore[arg-type]
    write_text(ledger.folder / "config.yaml", dump_config(config))
    teacher = {"family": "clip", "parameters": 9, "chance": {"": 0.25}, "folder": "x", "scores": {"validation": scores}}
    write_json(ledger.folder / "teacher.json", teacher)
    write_report(ledger.folder)
    return arguments


def test_a_study_that_has_ended_shows_its_front_and_why_trials_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ended_study(tmp_path, t0="failed", t1="complete", t2="stopped")
    assert main(arguments) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "finished (search.trials: 3 trials); to go on" in shown.out
    assert "│ 00001 " in shown.out
    assert "│ 00002 " not in shown.out
    assert "Trial 00000 failed: failed: [/tmp] is [bold]full[/bold]\n" in shown.out
    assert f"Figure: {tmp_path / 'emoji-clip' / 'report' / 'pareto.png'}\n" in shown.out


def test_json_on_standard_output_is_the_front_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ended_study(tmp_path, t0="failed", t1="complete"), "--json"]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert (found["name"], found["study"]) == ("emoji-clip", str(tmp_path / "emoji-clip"))
    assert [member["trial"] for member in found["members"]] == ["00001"]
    assert found["members"][0]["recipe"]["strategy"] == "dr"
    assert "is finished (search.trials: 2 trials)" in shown.err


def test_a_study_in_which_no_trial_succeeded_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(ended_study(tmp_path, t0="failed", t1="stopped")) == 1
    assert "the front is empty" in capsys.readouterr().out


def test_a_study_without_a_trial_may_still_be_configured_otherwise(tmp_path: Path) -> None:
    first = load_config("emoji_clip", ["training.steps=70"])
    (tmp_path / "config.yaml").write_text(dump_config(first), encoding="utf-8")
    for name in ("study.json", "study.db", "teacher.json"):
        (tmp_path / name).touch()
    refuse_changes(first, tmp_path, has_begun=False)
    assert (tmp_path / "study.db").exists()
    refuse_changes(load_config("emoji_clip"), tmp_path, has_begun=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml"]  # of the other configuration, nothing

    (tmp_path / "config.yaml").write_text(dump_config(first), encoding="utf-8")
    with pytest.raises(UserError, match=r"training\.steps was 70 and is 80"):
        refuse_changes(load_config("emoji_clip"), tmp_path, has_begun=True)


def test_a_study_that_began_before_there_was_a_key_goes_on_with_its_default(tmp_path: Path) -> None:
    lines = dump_config(load_config("emoji_clip")).splitlines(keepends=True)
    older = [line for line in lines if not line.startswith("  accumulation: ")]
    assert len(older) == len(lines) - 1
    (tmp_path / "config.yaml").write_text("".join(older), encoding="utf-8")
    refuse_changes(load_config("emoji_clip"), tmp_path, has_begun=True)
    with pytest.raises(UserError, match=r"training\.accumulation was 1 and is 2"):
        refuse_changes(load_config("emoji_clip", ["training.accumulation=2"]), tmp_path, has_begun=True)


def test_a_study_that_began_while_its_lock_was_waited_for_has_begun(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "emoji-clip"
    folder.mkdir()
    opened = Ledger.open

    def open_late(ledger: Ledger) -> None:  # after another process has run the study's first trial
        write_text(folder / "config.yaml", dump_config(load_config("emoji_clip", [f"storage.path={tmp_path}"])))
        write_json(folder / "study.json", {"optuna_study": "other"})
        ledger.begin(0, Recipe(strategy="fd"), 0)
        opened(ledger)

    monkeypatch.setattr(Ledger, "open", open_late)
    assert main(["--set", f"storage.path={tmp_path}", "--set", "training.steps=70"]) == 2
    assert "training.steps was 80 and is 70" in capsys.readouterr().err
    assert (folder / "study.json").exists()
