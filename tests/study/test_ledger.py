from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from study.errors import UserError
from study.ledger import Ledger
from trainables.artifacts import write_text
from trainables.recipe import LanguageWeighting, LayerMapping, Recipe

RECIPE = Recipe(
    strategy="mix",
    strategy_weights={"fd": 0.5, "dr": 1.25},
    image_mapping=LayerMapping(kind="monotone", layers=(1, 4)),
    language_weighting=LanguageWeighting(kind="free", logits={"en": -0.5, "tr": 0.1}),
    learning_rate=1.2345678901234e-3,
)
REPORT = {
    "step": 6,
    "seconds": 1.5,
    "timing": {"train": 1.0},
    "final": False,
    "metrics": {"map": 0.1 + 0.2},
    "losses": {"fd": 2.0},
}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """An open one of a study that has nothing yet."""
    opened = Ledger(tmp_path / "runs" / "tiny")
    opened.open()
    return opened


def again(ledger: Ledger) -> Ledger:
    """What the next process finds. Locks go with their file, so the old one is given up first."""
    assert ledger._lock is not None
    ledger._lock.close()
    opened = Ledger(ledger.folder)
    opened.open()
    return opened


def test_records_and_reports_read_back_as_they_were_written(ledger: Ledger) -> None:
    for number in (11, 2):
        ledger.begin(number, RECIPE, seed=number + 2**30)
    first, second = ledger.records()
    assert (first.number, first.recipe, first.seed, first.folder.name) == (2, RECIPE, 2 + 2**30, "00002")
    assert second.number == 11
    assert (first.result, first.reports()) == (None, [])

    ledger.report(first, {**REPORT, "scores": {"large": "left out"}, "parameters": 7})
    last = {**REPORT, "step": 12, "final": True, "parameters": 7, "scores": {"languages": {}}}
    ledger.report(first, last)
    ledger.finish(first, "complete", None, last)
    found = again(ledger).records()[0]
    assert found.reports() == [REPORT, {**REPORT, "step": 12, "final": True}]
    result = found.result
    assert result is not None
    assert result.pop("finished")
    assert result == {
        "state": "complete",
        "reason": None,
        "steps": 12,
        "seconds": 1.5,
        "parameters": 7,
        "timing": {"train": 1.0},
        "memory_gb": None,
        "trained_parameters": None,
        "cause": None,
        "metrics": REPORT["metrics"],
        "scores": {"validation": {"languages": {}}},
    }


def test_a_trial_that_never_reported_has_a_result_too(ledger: Ledger) -> None:
    ledger.finish(ledger.begin(0, RECIPE, seed=1), "failed", "out of memory", {})
    result = ledger.records()[0].result
    assert result is not None
    assert (result["state"], result["reason"], result["steps"]) == ("failed", "out of memory", 0)
    assert (result["metrics"], result["scores"]) == ({}, {})


@pytest.mark.parametrize("tail", [b'{"step": 12, "sec', b'{"step": 12}', b"\xc3"])
def test_a_line_that_a_crash_left_unfinished_is_cut_so_that_the_next_stands_alone(ledger: Ledger, tail: bytes) -> None:
    record = ledger.begin(0, RECIPE, seed=1)
    ledger.report(record, REPORT)
    with open(record.folder / "reports.jsonl", "ab") as file:
        file.write(tail)
    later = again(ledger)
    later.report(record, {**REPORT, "step": 12})
    assert [report["step"] for report in later.records()[0].reports()] == [6, 12]


def test_what_a_training_goes_on_from_is_kept_until_its_result_is_written(ledger: Ledger) -> None:
    ended, killed, begun = (ledger.begin(number, RECIPE, seed=1) for number in range(3))
    states = [record.folder / "checkpoint" / "state.pt" for record in (ended, killed, begun)]
    for state in states:
        write_text(state, "state")
    ledger.finish(ended, "stopped", None, REPORT)
    assert [state.exists() for state in states] == [False, True, True]
    write_text(killed.folder / "result.json", "{}")  # and the process ended there
    again(ledger)
    assert [state.exists() for state in states] == [False, False, True]


def test_a_study_is_refused_while_a_process_has_it_and_free_after_that_was_killed(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    code = "import sys, time; from study.ledger import Ledger; from pathlib import Path\n"
    code += "ledger = Ledger(Path(sys.argv[1])); ledger.open(); print('open', flush=True); time.sleep(60)"
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], cwd=root, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"open\n"
            with pytest.raises(UserError) as raised:
                Ledger(folder).open()
            assert "already running" in str(raised.value)
            assert f"process {holder.pid} " in str(raised.value)
        finally:
            holder.kill()
    Ledger(folder).open()


def test_setting_aside_keeps_everything_and_leaves_an_empty_study(ledger: Ledger) -> None:
    assert ledger.set_aside() is None  # nothing was there
    for place in (1, 2):
        ledger.finish(ledger.begin(place, RECIPE, seed=place), "failed", f"study {place}", {})
        (ledger.folder / "config.yaml").write_text(f"name: {place}\n", encoding="utf-8")
        (ledger.folder / "study.db").write_bytes(b"db")
        aside = ledger.set_aside()
        assert aside == ledger.folder.with_name(f"tiny.{place}")
        assert ledger.records() == []
    for place in (1, 2):
        aside = ledger.folder.with_name(f"tiny.{place}")
        kept = {str(path.relative_to(aside)) for path in aside.rglob("*") if path.is_file()}
        trial = f"trials/{place:05d}"
        assert kept == {"config.yaml", "study.db", f"{trial}/recipe.json", f"{trial}/result.json"}
        assert json.loads((aside / trial / "result.json").read_text(encoding="utf-8"))["reason"] == f"study {place}"
    with pytest.raises(UserError, match="already running"):  # the lock stayed
        Ledger(ledger.folder).open()
    ledger.begin(0, RECIPE, seed=1)
    assert len(ledger.records()) == 1


@pytest.mark.parametrize("content", ['{"sta', "[]", "{}", "\0"])
def test_a_damaged_record_is_named_with_what_to_do(ledger: Ledger, content: str) -> None:
    record = ledger.begin(3, RECIPE, 7)
    ledger.finish(record, "complete", None, {})
    (record.folder / "result.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"trials/00003/result\.json cannot be read \(.*give --fresh"):
        _ = ledger.records()[0].result
    (record.folder / "reports.jsonl").write_text(f"{content}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"trials/00003/reports\.jsonl cannot be read \(.*give --fresh"):
        record.reports()
    (record.folder / "recipe.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"trials/00003/recipe\.json cannot be read \(.*give --fresh"):
        ledger.records()


def test_a_record_that_has_something_else_is_named_with_what_would_be_right(ledger: Ledger) -> None:
    path = ledger.begin(3, RECIPE, 7).folder / "recipe.json"
    fields = json.loads(path.read_text(encoding="utf-8"))
    for key, value, wanted in (("number", "3", "a whole number"), ("recipe", ["fd"], "a record")):
        path.write_text(json.dumps({**fields, key: value}), encoding="utf-8")
        found = re.escape(f"recipe.json cannot be read ({key} is {json.dumps(value)} instead of {wanted})")
        with pytest.raises(UserError, match=found):
            ledger.records()
