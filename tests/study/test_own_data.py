"""Studies on data of the user's own, in every layout."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from tests.own_data import cvqa_rows, items, save_cvqa, save_per_language, save_wide
from tests.study.tiny import check_that_nothing_is_left, check_that_optuna_and_ledger_agree

if TYPE_CHECKING:
    from tests.study.tiny import Study

LANGUAGES = ("en", "es-419", "tr")  # one that the embedded data does not know by this name
STORED = ("en", "es", "tr")
SIZE = 24


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """The `data` section of a study whose training data is wide, its galleries per_language and its questions cvqa."""
    folder = tmp_path_factory.mktemp("data")
    chosen = items("train", STORED, SIZE, 1500)
    save_wide(folder / "train.parquet", [replace(chosen[0], picture=b"no picture"), *chosen[1:]])
    own = {}
    for split in ("validation", "test"):
        gallery = save_per_language(folder / split, items(split, STORED, SIZE))
        questions = save_cvqa(folder / f"{split}-questions", cvqa_rows(split, STORED[1:], SIZE))
        own[split] = {
            "retrieval": {
                "source": str(gallery / "{language}.jsonl"),
                "layout": "per_language",
                "id": "key",
                "image": "picture",
                "caption": "text",
                "names": {"es-419": "es"},
            },
            "vqa": {
                "source": str(questions),
                "layout": "cvqa",
                "id": "ID",
                "names": {"es-419": "('Spanish', 'Mexico')", "tr": "Turkish"},
                "translation": {"language": "en"},
                "prompt": "{answer}",
            },
        }
    return {
        "languages": list(LANGUAGES),
        "train": {
            "source": str(folder / "train.parquet"),
            "layout": "wide",
            "id": "id",
            "columns": {language: f"caption_{name}" for language, name in zip(LANGUAGES, STORED, strict=True)},
            "share": [0.0, 0.999],
        },
        **own["validation"],
        "test": own["test"],
    }


def test_a_study_of_ones_own_data_ends_with_a_front(study: Study, settings: dict[str, object]) -> None:
    outcome = study.run(f"data={json.dumps(settings)}", "search.trials=3")
    assert outcome.code == 0, study.runs[0].said()
    check_that_optuna_and_ledger_agree(study)
    front = study.read("results/front.json")
    assert front["members"]
    reports = study.read("data_report.json")
    assert set(reports) == {"train", "retrieval", "vqa", "test.retrieval", "test.vqa"}
    assert reports["train"]["listed"] == [{"row": "row 0", "reason": "picture: not a picture"}]
    assert (
        f"data.train: 1 of {reports['train']['rows']} rows are bad: {study.folder / 'data_report.json'}"
        in outcome.errors
    )
    scores = study.read("teacher.json")["scores"]["validation"]["languages"]
    asked = {language: row["vqa_items"] for language, row in scores.items()}
    assert asked["en"] == asked["es-419"] + asked["tr"]  # the translations of all
    languages = pd.read_parquet(study.folder / "results" / "languages.parquet")
    assert set(languages["language"]) == set(LANGUAGES)
    examples = pd.read_parquet(study.folder / "trials" / front["members"][0]["trial"] / "examples.parquet")
    assert set(zip(examples["task"], examples["language"], strict=True)) == {
        (task, language) for task in ("retrieval", "vqa") for language in LANGUAGES
    }
    check_that_nothing_is_left(study.runs[0])


def test_data_that_cannot_be_used_ends_a_study_in_one_line(study: Study, settings: dict[str, object]) -> None:
    broken = {**settings, "retrieval": {**settings["retrieval"], "min_items": 10_000}}  # type: ignore[dict-item]
    outcome = study.run(f"data={json.dumps(broken)}")
    assert outcome.code == 2
    (line,) = [line for line in outcome.errors.splitlines() if line.startswith("study.run: ")]
    assert line.startswith("study.run: data.retrieval: fewer than min_items, 10000, usable items in en (")
    check_that_nothing_is_left(study.runs[0])
