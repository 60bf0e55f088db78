"""`python -m trainables.data` on a small set in each layout, with copies, leaks, cuts and gaps that are known."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from datasets import Dataset, DatasetDict, Features, Image, List, Value
from PIL import Image as Pictures
from tokenizers import Tokenizer as Backend

from tests.own_data import SPOKEN, cvqa_rows, items, save_cvqa, save_per_language, wide_rows
from trainables.data.__main__ import main
from trainables.data.contact_sheet import _HEADING, CARD_WIDTH, COLUMNS, MARGIN, PICTURE

ROOT = Path(__file__).parents[3]
LANGUAGES = ("en", "ja", "ar")
CONTEXT, OWN_CONTEXT = 24, 6
LONG = " ".join("abcdefghijklmnopqrstuvwxyzabcdef")  # 32 words of a letter each
# Runs the command, then says which of the slow libraries it has imported.
WATCHED = """
import atexit, sys
slow = {"ray", "torch", "transformers", "open_clip", "datasets", "tokenizers"}
atexit.register(lambda: print("imported:", *sorted(slow & set(sys.modules))))
import runpy
sys.argv[0] = "trainables.data"
runpy.run_module("trainables.data", run_name="__main__")
"""


def as_jpeg(png: bytes) -> bytes:
    buffer = io.BytesIO()
    Pictures.open(io.BytesIO(png)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a study of three languages; what is known of its data is in the tests."""
    folder = tmp_path_factory.mktemp("own")
    shown = items("novel", LANGUAGES, 64)
    train, retrieval, test = (wide_rows(part) for part in (shown[:24], shown[24:36], shown[36:48]))
    train[1]["caption_en"] = train[0]["caption_en"] = [*train[0]["caption_en"], "the same words"]
    train[2]["caption_en"] = ["the same words"]
    train[3]["caption_ar"] = []
    train[4]["caption_en"] = [LONG]
    train[5]["image"] = train[6]["image"]
    train[7]["image"] = {"bytes": b"no picture", "path": None}
    test[0]["id"] = train[8]["id"]
    captions = {f"caption_{language}": List(Value("string")) for language in LANGUAGES}
    features = Features({"id": Value("string"), "image": Image(), **captions})
    wide = DatasetDict(
        {name: Dataset.from_list(rows, features=features) for name, rows in (("train", train), ("test", test))}
    )
    wide.save_to_disk(str(folder / "wide"))
    save_per_language(folder / "gallery", shown[24:36])
    copy = folder / "gallery" / "pictures" / f"{retrieval[0]['id']}.png"
    copy.write_bytes(as_jpeg(train[9]["image"]["bytes"]))
    for split in ("validation", "test"):
        save_cvqa(folder / split, cvqa_rows(split, LANGUAGES[1:], 64, 20))
    asked = {"layout": "cvqa", "id": "ID", "names": {language: SPOKEN[language] for language in LANGUAGES[1:]}}
    asked |= {"translation": {"language": "en"}, "prompt": "{answer}", "min_items": 5}
    tower = {"layers": 1, "width": 64, "head_width": 32}
    content = {
        "name": "own",
        "data": {
            "languages": list(LANGUAGES),
            "train": {
                "source": str(folder / "wide"),
                "layout": "wide",
                "id": "id",
                "columns": "caption_{language}",
                "max_bad": 0.1,
            },
            "retrieval": {
                "source": str(folder / "gallery" / "{language}.jsonl"),
                "layout": "per_language",
                "id": "key",
                "image": "picture",
                "caption": "text",
            },
            "vqa": {"source": str(folder / "validation"), **asked},
            "test": {
                "retrieval": {
                    "source": str(folder / "wide"),
                    "split": "test",
                    "layout": "wide",
                    "id": "id",
                    "columns": "caption_{language}",
                },
                "vqa": {"source": str(folder / "test"), **asked},
            },
        },
        "teacher": {
            "model": {"embed_dim": 64, "image": {**tower, "patch_size": 12, "image_size": 48}, "text": tower},
            "tokenizer": {"vocab_size": 600, "context_length": CONTEXT},
        },
        "student": {
            "image": {"layers": 1, "width": 64},
            "text": {"layers": 1, "width": 64, "context_length": OWN_CONTEXT},
        },
    }
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return path


@pytest.fixture
def found(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main([str(study), "--to", str(tmp_path / "look"), "--json"]) == 0
    content: dict[str, Any] = json.loads(capsys.readouterr().out)
    return content


def test_json_says_what_is_known_of_the_captions(found: dict[str, Any]) -> None:
    train = found["sources"]["train"]
    assert (train["items"], train["pictures"]) == (23, 23)
    assert train["bad_rows"]["reasons"] == {"picture": 1}
    assert train["bad_rows"]["listed"] == [{"row": "row 7", "reason": "picture: not a picture"}]
    english, _, arabic = (train["languages"][language] for language in LANGUAGES)
    assert (english["items"], english["captions"], english["missing"]) == (23, 25, 0)
    assert (arabic["items"], arabic["captions"], arabic["missing"]) == (22, 22, 1)
    assert english["shared"]["different"] == 2  # those words, and the name of the first item
    assert english["shared"]["items"] == 3
    assert english["shared"]["examples"][0] == {"caption": "the same words", "items": 3}
    assert arabic["shared"] == {"different": 0, "items": 0, "examples": []}
    assert (train["copies"]["different"], train["copies"]["items"]) == (1, 2)
    assert english["texts"]["cut"] == pytest.approx(1 / 25)
    assert english["texts"]["longest"] == 32 + 2
    assert arabic["texts"]["cut"] == 0
    assert found["sources"]["retrieval"]["copies"]["items"] == 0


def test_texts_are_measured_as_the_tokenizers_library_does_without_a_limit(found: dict[str, Any]) -> None:
    backend = Backend.from_file(str(Path(found["tokenizer"], "tokenizer.json")))
    names = [item.names["ja"] for item in items("novel", LANGUAGES, 64)[24:36]]
    encoded = [backend.encode(name) for name in names]
    lengths = np.asarray([len(row.ids) for row in encoded])
    texts = found["sources"]["retrieval"]["languages"]["ja"]["texts"]
    assert (texts["texts"], texts["measured"]) == (12, 12)
    assert texts["median"] == np.median(lengths)
    assert texts["percentile_95"] == pytest.approx(np.quantile(lengths, 0.95))
    assert texts["longest"] == lengths.max()
    assert texts["cut_for_student"] == (lengths > OWN_CONTEXT).mean() > 0
    assert texts["characters_per_token"] == pytest.approx(sum(map(len, names)) / (lengths - 2).sum())
    unknown = sum(row.tokens.count("<unk>") for row in encoded)
    assert unknown > 0  # characters that only other splits have
    assert texts["unknown"] == pytest.approx(unknown / (lengths - 2).sum())


def test_json_says_what_is_known_of_the_questions(found: dict[str, Any]) -> None:
    questions = found["sources"]["vqa"]["languages"]
    rows = cvqa_rows("validation", LANGUAGES[1:], 64, 20)
    for place, language in enumerate(LANGUAGES[1:]):
        counts = Counter(str(len(row["Options"])) for row in rows[place::2])
        assert questions[language]["options"] == dict(counts)
        assert (questions[language]["items"], questions[language]["missing"]) == (10, 10)
    counts = [len(row["Options"]) for row in rows]
    assert questions["en"]["items"] == 20
    assert questions["en"]["chance"] == pytest.approx(np.mean([1 / count for count in counts]))


def test_leaks_are_found_and_say_what_was_compared(found: dict[str, Any]) -> None:
    pairs = {(pair["first"], pair["second"]): pair for pair in found["overlaps"]}
    assert len(pairs) == 8  # training data with four others, and two of validation with two of test
    copied = pairs["data.train", "data.retrieval"]
    names = [item.names["en"] for item in items("novel", LANGUAGES, 64)]
    assert (copied["pictures"], copied["items"]) == (1, 1)
    assert copied["examples"] == [{"first": names[9], "second": names[24]}]
    assert (copied["ids"], copied["same_data"]) == (0, False)
    same_id = pairs["data.train", "data.test.retrieval"]
    assert (same_id["ids"], same_id["same_data"], same_id["pictures"]) == (1, True, 0)
    assert pairs["data.retrieval", "data.test.retrieval"]["pictures"] == 0
    assert pairs["data.vqa", "data.test.vqa"]["ids"] == 0


def test_the_contact_sheet_shows_pictures_beside_texts(found: dict[str, Any], tmp_path: Path) -> None:
    assert found["contact_sheet"] == str(tmp_path / "look" / "contact_sheet.png")
    assert found["without_font"] == []
    sheet = np.asarray(Pictures.open(found["contact_sheet"]))
    assert sheet.shape[1] == MARGIN + COLUMNS * (CARD_WIDTH + MARGIN)
    assert sheet.shape[0] > 5 * 2 * (PICTURE + 2 * MARGIN)  # two rows for each of five sources
    for column in range(COLUMNS):
        left, top = MARGIN + column * (CARD_WIDTH + MARGIN), MARGIN + 2 * _HEADING
        card = sheet[top : top + PICTURE + 2 * MARGIN, left : left + CARD_WIDTH]
        for part in (card[:, : PICTURE + MARGIN], card[:, PICTURE + 2 * MARGIN :]):
            assert (part < 100).any()
            assert (part == 255).all(axis=2).mean() > 0.2


def test_tables_are_plain_text_where_there_is_no_terminal(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(study), "--to", str(tmp_path / "look")]) == 0
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out
    assert shown.err == ""
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.out.splitlines() if "│" in line]
    assert ["ar", "22", "22", "1"] in [row[:4] for row in cells]
    assert ["data.train, data.retrieval", "0", "1", "1"] in cells
    assert ["data.train, data.test.retrieval", "1", "0", "0"] in cells
    assert "1 of 24 rows cannot be used (1 × picture): row 7: picture: not a picture" in shown.out
    assert "data.train and data.test.retrieval share 1 id\n" in shown.out
    assert "data.train and data.retrieval share 1 picture: " in shown.out
    assert "No question" not in shown.out  # each is asked once more in English


@pytest.mark.parametrize(
    ("column", "remark"),
    [
        ("ID", "No question is asked in two languages."),
        (
            "null",
            "No question is asked in two languages: rows of one question are joined by id, which names no column.",
        ),
    ],
)
def test_questions_that_no_two_languages_share_are_told(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], column: str, remark: str
) -> None:
    save_cvqa(tmp_path / "asked", cvqa_rows("validation", LANGUAGES, 64, 20))
    named = {language: SPOKEN[language] for language in LANGUAGES}
    settings = {"source": tmp_path / "asked", "id": column, "translation": "null", "names": json.dumps(named)}
    words = [word for key, value in settings.items() for word in ("--set", f"data.vqa.{key}={value}")]
    assert main([str(study), *words, "--to", str(tmp_path / "look")]) == 0
    shown = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert [line for line in shown if line.startswith("No question")] == [remark]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WATCHED, *arguments]
    return subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, timeout=60)


def test_help_says_how_to_run_it_without_loading_anything_slow() -> None:
    ran = run("--help")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines()[-1] == "imported:"
    assert "python -m trainables.data my_study.yaml --to look" in ran.stdout


def test_too_many_bad_rows_are_one_line(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--set", "data.train.max_bad=0.01", "--to", str(tmp_path / "look")]
    assert main([str(study), *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert line.startswith("trainables.data: data.train: 1 of 24 rows are bad (1 × picture)")
