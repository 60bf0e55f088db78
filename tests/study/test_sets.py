"""A whole study of a training mixture, two retrieval sets and two VQA sets, of which not every one has every language."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from tests.own_data import cvqa_rows, items, save_cvqa, save_wide
from tests.study.tiny import TINY, UNCONFIRMED, Study, check_that_nothing_is_left, told
from trainables.export import main as export

SIZE = 24
LANGUAGES = ("en", "es", "tr")


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The tiny study with sets of the embedded data, and of files in which not every language is."""
    folder = tmp_path_factory.mktemp("sets")
    few = ("en", "tr")

    def pictures(split: Any, most: int) -> dict[str, Any]:
        path = save_wide(folder / f"{split}.parquet", items(split, few, SIZE, most))
        columns = "caption_{language}"
        return {"source": str(path), "layout": "wide", "id": "id", "columns": columns, "languages": list(few)}

    def questions(split: Any) -> dict[str, Any]:
        path = save_cvqa(folder / f"{split}-questions", cvqa_rows(split, ("es", "tr"), SIZE, 600))
        names = {"es": "Spanish", "tr": "Turkish"}
        own = {"languages": ["es", "tr"], "prompt": "{answer}"}
        return {"source": str(path), "layout": "cvqa", "id": "ID", "names": names, **own}

    data = {
        "languages": list(LANGUAGES),
        "train": {
            "drawings": {"source": "emoji", "split": "train", "weight": 3},
            "photos": {**pictures("train", 300), "weight": 1},
        },
        "retrieval": {"drawings": {"split": "validation"}, "photos": pictures("validation", 200)},
        "vqa": {"emoji": {"split": "validation"}, "cvqa": questions("validation")},
        "test": {
            "retrieval": {"drawings": {"split": "test"}, "photos": pictures("test", 200)},
            "vqa": {"emoji": {"split": "test"}, "cvqa": questions("test")},
        },
    }
    search = {**TINY["search"], "objectives": {"retrieval_map": "maximise", "vqa_variance@cvqa": "minimise"}}
    fit = {**TINY["teacher"], "fit": {**TINY["teacher"]["fit"], "steps": 150}}  # it has to beat chance on every set
    return {**TINY, "data": data, "teacher": fit, "search": {**search, "trials": 3}}


@pytest.mark.long
def test_study_of_several_sets_ends_with_a_front_whose_test_scores_name_each(
    content: dict[str, Any], study: Study, tmp_path: Path
) -> None:
    outcome = study.run(UNCONFIRMED, content=content)
    assert outcome.code == 0, study.runs[0].said()
    check_that_nothing_is_left(study.runs[0])
    front = study.read("results/front.json")
    assert front["objectives"] == {"retrieval_map": "maximise", "vqa_variance@cvqa": "minimise"}
    assert set(front["reference_point"]) == {"retrieval_map", "vqa_variance@cvqa"}
    assert front["members"]
    names = {f"{name}@{of}" for name in ("vqa_accuracy", "vqa_variance", "vqa_lift_kept") for of in ("emoji", "cvqa")}
    names |= {"retrieval_map@drawings", "retrieval_map@photos", "retrieval_map", "vqa_variance"}
    for member in front["members"]:
        for split in ("validation", "test"):
            assert names <= set(member[split])
            assert member[split]["retrieval_map"] == pytest.approx(
                (member[split]["retrieval_map@drawings"] + member[split]["retrieval_map@photos"]) / 2
            )
        number = member["number"]
        assert told(study)[number].values == [member["validation"][name] for name in front["objectives"]]
        assert "map@photos/tr" in told(study)[number].user_attrs

    rows = pd.read_parquet(study.folder / "results" / "languages.parquet")
    teacher = rows[(rows["trial"] == "teacher") & (rows["split"] == "test")].set_index(["set", "language"])
    assert list(teacher.index) == [
        *(("drawings", language) for language in LANGUAGES),
        *(("photos", language) for language in ("en", "tr")),
        *(("cvqa", language) for language in ("es", "tr")),
        *(("emoji", language) for language in LANGUAGES),
    ]
    assert teacher["map_i2t"].notna().tolist() == [True] * 5 + [False] * 5
    assert teacher["vqa_accuracy"].notna().tolist() == [False] * 5 + [True] * 5
    assert teacher.loc[("cvqa", "tr"), "vqa_items"] == 300

    assert set(study.read("data_report.json")) - {"leakage"} == {
        f"{purpose}.{name}"
        for purpose, name in (
            ("train", "photos"), ("retrieval", "photos"), ("test.retrieval", "photos"), ("vqa", "cvqa"), ("test.vqa", "cvqa")
        )
    }  # fmt: skip
    trial = front["members"][0]["trial"]
    examples = pq.read_table(study.folder / "trials" / trial / "examples.parquet", columns=["task", "set"]).to_pylist()
    assert {row["set"] for row in examples} == {"drawings", "photos", "emoji", "cvqa"}
    assert "By set" in outcome.output
    assert any(line.split()[1:2] == ["cvqa"] for line in outcome.output.splitlines())
    assert export([str(study.folder), trial, "--to", str(tmp_path / "student")]) == 0
    card = (tmp_path / "student" / "README.md").read_text(encoding="utf-8")
    assert "- training, photos: " in card
    assert "| test, cvqa | mAP | teacher | VQA | teacher |" in card
