"""What a study says of data that it cannot use, or that leaks; test_paper_presets.py has studies of the user's own data."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.own_data import cvqa_rows, items, save_cvqa, save_per_language, save_wide
from tests.study.tiny import check_that_nothing_is_left

if TYPE_CHECKING:
    from tests.study.tiny import Outcome, Study

LANGUAGES = ("en", "es-419", "tr")  # one that the embedded data does not know by this name
STORED = ("en", "es", "tr")
SIZE = 24


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """The `data` section of a study whose training data is wide, its galleries per_language and its questions cvqa."""
    folder = tmp_path_factory.mktemp("data")
    save_wide(folder / "train.parquet", items("train", STORED, SIZE, 300))
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
            "share": [0.0, 0.9],
        },
        **own["validation"],
        "test": own["test"],
    }


def test_data_that_cannot_be_used_ends_a_study_in_one_line(study: Study, settings: dict[str, object]) -> None:
    broken = {**settings, "retrieval": {**settings["retrieval"], "min_items": 10_000}}  # type: ignore[dict-item]
    outcome = study.run(f"data={json.dumps(broken)}")
    assert outcome.code == 2
    (line,) = [line for line in outcome.errors.splitlines() if line.startswith("study.run: ")]
    assert line.startswith("study.run: data.retrieval: fewer than min_items, 10000, usable items in en (")
    check_that_nothing_is_left(study.runs[0])


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
