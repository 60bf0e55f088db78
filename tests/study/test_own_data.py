"""Data of the user's own as the README names it, and data that leaks; test_paper_presets.py has studies of data as it is on the hub."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.own_data import Item, cvqa_rows, items, save_wide
from tests.study.tiny import ROOT, TINY, check_that_nothing_is_left

if TYPE_CHECKING:
    from tests.study.tiny import Outcome, Study

STORED = {"en": "en", "de": "es", "sw": "tr"}  # the README's languages, and whose emoji names stand for theirs here
SIZE = 24


def readme(folder: Path) -> dict[str, Any]:
    """The configuration in the README's section on data, with its files in a folder."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Your own data\n")[2]
    block = re.search(r"```yaml\n(.*?)```", section, re.DOTALL)
    assert block is not None
    content = yaml.safe_load(re.sub(r"(source: \"?)data/", rf"\g<1>{folder}/", block[1]))
    assert {content["data"][key]["layout"] for key in ("train", "retrieval", "vqa")} == {"wide", "cvqa"}
    assert content["data"]["test"]["retrieval"]["layout"] == "per_language"
    return dict(content)


def renamed(found: list[Item]) -> list[Item]:
    return [
        Item(item.id, item.picture, {code: item.names[stored] for code, stored in STORED.items()}) for item in found
    ]


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The README's configuration with the files that it names; sizes as of other tiny studies."""
    folder = tmp_path_factory.mktemp("data")
    save_wide(folder / "pictures.parquet", renamed(items("train", tuple(STORED.values()), SIZE, 400)))
    (folder / "test").mkdir()
    shown = renamed(items("test", tuple(STORED.values()), SIZE))
    for item in shown:
        (folder / "test" / f"{item.id}.png").write_bytes(item.picture)
    for language in STORED:
        rows = [{"id": item.id, "image": f"{item.id}.png", "text": item.names[language]} for item in shown]
        (folder / "test" / f"{language}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    asked = []
    for number, row in enumerate(cvqa_rows("validation", tuple(STORED.values()), SIZE, 300)):
        (folder / f"{number}.png").write_bytes(row["image"]["bytes"])
        asked.append(
            {
                "item": row["ID"],
                "picture": f"{number}.png",
                "question": row["Question"],
                "choices": row["Options"],
                "answer": "ABCD"[row["Label"]],
                "language": list(STORED)[number % 3],
            }
        )
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, asked)), encoding="utf-8")
    return TINY | readme(folder)


def test_data_that_cannot_be_used_ends_a_study_in_one_line(study: Study, content: dict[str, Any]) -> None:
    outcome = study.run("data.retrieval.min_items=10000", content=content)
    assert outcome.code == 2
    (line,) = [line for line in outcome.errors.splitlines() if line.startswith("study.run: ")]
    assert line.startswith("study.run: data.retrieval: fewer than min_items, 10000, usable items in en (")
    check_that_nothing_is_left(study.runs[0])


@pytest.mark.long
def test_the_data_section_of_the_readme_leads_to_a_front(study: Study, content: dict[str, Any]) -> None:
    outcome = study.run("search.trials=2", "search.confirm.seeds=0", "training.batch_size=400", content=content)
    assert outcome.code == 0, study.runs[0].said()
    reports = study.read("data_report.json")
    del reports["leakage"]
    assert reports["train"]["items"] + reports["retrieval"]["items"] == 400
    assert all(report["bad_rows"] == 0 for report in reports.values())
    pictures = reports["train"]["items"]
    line = f"training.batch_size: 400 is more than the {pictures} pictures for training: a batch is all of them"
    assert line in outcome.errors.splitlines()
    written = yaml.safe_load((study.folder / "config.yaml").read_text(encoding="utf-8"))
    assert written["data"]["vqa"]["prompt"] == "{answer}"  # of a teacher that has read captions alone
    members = study.read("results/front.json")["members"]
    assert members
    assert all({"retrieval_map", "vqa_variance"} <= set(member["test"]) for member in members)


def test_a_study_reports_what_its_sources_share_and_goes_on(finished: tuple[Study, Outcome]) -> None:
    """Several emoji are drawn alike: some of them are trained on, others scored."""
    study, outcome = finished
    assert outcome.code == 0, study.runs[0].said()
    path = study.folder / "data_report.json"
    leaks = study.read(path.name)["leakage"]
    assert ("data.retrieval", "data.test.retrieval") in {(leak["first"], leak["second"]) for leak in leaks}
    for leak in leaks:
        line = f"{leak['first']} and {leak['second']} share {leak['pictures']} pictures: {path}"
        assert line in outcome.errors.splitlines()
        assert leak["ids"] is None
        assert 0 < len(leak["examples"]) <= leak["pictures"] + leak["items"]
