"""Questions of the user's own as arrays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from tests.own_data import SPOKEN, cvqa_rows, save_cvqa
from trainables.data.choices import QuestionError, parse_label, parse_options, spoken
from trainables.data.headers import check_source
from trainables.data.pictures import Pixels
from trainables.data.prepared import VisualQuestions
from trainables.data.report import DataError
from trainables.data.settings import OwnQuestions
from trainables.data.vqa import prepare_questions
from trainables.models.tokenizer import Tokenizer

LANGUAGES = ("en", "ja", "ar")
NAMES = {language: SPOKEN[language] for language in LANGUAGES}
COUNT = 60


def own(source: Path, **settings: Any) -> OwnQuestions:
    return OwnQuestions.model_validate({"source": str(source), "layout": "cvqa", "names": NAMES, **settings})


def prepared(source: OwnQuestions, tokenizer: Tokenizer) -> tuple[VisualQuestions, dict[str, Any]]:
    check_source("data.vqa", source, LANGUAGES)
    folder = prepare_questions("data.vqa", source, LANGUAGES, Pixels(24), tokenizer, lambda *_: None)
    return VisualQuestions.load(folder), json.loads((folder / "data_report.json").read_text(encoding="utf-8"))


def said(data: VisualQuestions, language: str, item: int) -> tuple[str, set[str]]:
    """The right answer of an item and all its options."""
    options = [data.texts[0][row] for row in data.options[LANGUAGES.index(language), item] if row >= 0]
    return options[data.answer[item]], set(options)


@pytest.mark.parametrize(
    "cell",
    [
        ["a b", "c", "d; e"],
        "['a b', 'c', 'd; e']",
        '["a b", "c", "d; e"]',
        "('a b', 'c', 'd; e')",
        "A. a b B. c C. d; e",
        "(A) a b (B) c (C) d; e",
        "A) a b\nB) c\nC) d; e",
        "a b\nc\nd; e",
        " a b | c | d; e ",
    ],
)
def test_options_are_a_list_or_one_string(cell: Any) -> None:
    assert parse_options(cell) == ["a b", "c", "d; e"]


def test_options_written_as_json_keep_what_json_escapes() -> None:
    assert parse_options(json.dumps(["😀", "caf\u00e9"])) == ["😀", "café"]


def test_options_nested_too_deeply_to_be_read_are_refused() -> None:
    with pytest.raises(QuestionError):
        parse_options("[" * 100_000 + "]" * 100_000)


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (["one"], "1 options, where 2 to 26"),
        ([str(number) for number in range(27)], "27 options"),
        (["a", " "], "an option is empty"),
        ("yes", "lists no others"),
        (None, "neither a list nor text, but NoneType"),
        ("__import__('os').getcwd()", "lists no others"),
    ],
)
def test_what_are_no_options_is_refused(cell: Any, reason: str) -> None:
    with pytest.raises(QuestionError, match=reason):
        parse_options(cell)


@pytest.mark.parametrize(
    ("label", "place"), [(0, 0), (2, 2), (1.0, 1), ("1", 1), ("C", 2), ("b", 1), ("red", 0), (" 7 ", 2), ("A", 0)]
)
def test_a_label_is_a_place_a_letter_or_a_text(label: Any, place: int) -> None:
    assert parse_label(label, ["red", "green", "7"]) == place


@pytest.mark.parametrize(
    ("label", "reason"),
    [(-1, "-1 hides the answer"), (-2, "-2 is out of range"), (3, "3 is out of range: there are 3 options"), ("D", "out of range"),
     ("blue", "'blue' is no option's"), (None, "'None' is no option's"), (True, "no option's"), (0.5, "no option's")],
)  # fmt: skip
def test_what_is_no_label_is_refused(label: Any, reason: str) -> None:
    with pytest.raises(QuestionError, match=reason):
        parse_label(label, ["red", "green", "7"])


def test_a_language_is_called_by_its_name_or_by_its_pair() -> None:
    assert spoken("('Spanish', 'Mexico')") == ("('Spanish', 'Mexico')", "Spanish")
    assert spoken("es") == ("es",)
    assert spoken("(broken") == ("(broken",)


def test_every_language_asks_its_own_questions(tokenizer: Tokenizer, tmp_path: Path) -> None:
    rows = cvqa_rows("validation", LANGUAGES, 24, COUNT)
    data, report = prepared(own(save_cvqa(tmp_path / "rows", rows), id="ID"), tokenizer)
    asked = np.arange(COUNT)[None] % 3 == np.arange(3)[:, None]
    np.testing.assert_array_equal(data.asked, asked)
    for number, row in enumerate(rows):
        texts = [f"{row['Question']} {option}" for option in row["Options"]]
        assert said(data, LANGUAGES[number % 3], number) == (texts[row["Label"]], set(texts))
    used = data.options[data.options >= 0]
    assert sorted(used) == list(range(len(data.tokens)))
    np.testing.assert_array_equal(data.tokens[used[:9]], tokenizer.encode([data.texts[0][row] for row in used[:9]]))
    chances = [np.mean([1 / len(row["Options"]) for row in rows[place::3]]) for place in range(3)]
    assert data.chance == pytest.approx(np.mean(chances))
    assert report["languages"]["ja"] == {"questions": COUNT // 3, "chance": pytest.approx(chances[1])}


def test_chance_counts_every_language_alike_however_many_questions_it_has(tokenizer: Tokenizer, tmp_path: Path) -> None:
    rows = cvqa_rows("validation", LANGUAGES, 24, COUNT)
    for number, row in enumerate(rows):
        row["Options"], row["Label"] = (["a", "b"] if number % 3 else ["a", "b", "c", "d"]), 0
    kept = [row for number, row in enumerate(rows) if number % 3 or number < 30]
    data, _ = prepared(own(save_cvqa(tmp_path / "rows", kept)), tokenizer)
    assert data.asked.sum(axis=1).tolist() == [10, 20, 20]
    assert data.chance == pytest.approx((1 / 4 + 1 / 2 + 1 / 2) / 3)


def test_a_translation_asks_the_same_items_in_one_more_language(tokenizer: Tokenizer, tmp_path: Path) -> None:
    rows = cvqa_rows("validation", LANGUAGES[1:], 24, COUNT)
    source = own(save_cvqa(tmp_path / "rows", rows), translation={"language": "en"}, prompt="{answer}")
    data, _ = prepared(source, tokenizer)
    assert data.asked.sum(axis=1).tolist() == [COUNT, COUNT // 2, COUNT // 2]
    for number, row in enumerate(rows):
        translated = row["Translated Options"]
        assert said(data, "en", number) == (translated[row["Label"]], set(translated))
        assert said(data, LANGUAGES[1 + number % 2], number)[0] == row["Options"][row["Label"]]


def test_a_column_of_questions_is_needed_only_where_the_prompt_holds_them(tokenizer: Tokenizer, tmp_path: Path) -> None:
    rows = cvqa_rows("validation", LANGUAGES[1:], 24, COUNT)
    for row in rows:
        del row["Question"], row["Translated Question"]
    Dataset.from_list(rows).save_to_disk(str(tmp_path / "rows"))
    data, _ = prepared(own(tmp_path / "rows", translation={"language": "en"}, prompt="{answer}"), tokenizer)
    assert said(data, "en", 0)[0] == rows[0]["Translated Options"][rows[0]["Label"]]
    with pytest.raises(DataError, match=r"data\.vqa\.question: .* has no column 'Question'"):
        prepared(own(tmp_path / "rows"), tokenizer)


def test_rows_of_one_id_are_one_question_in_several_languages(tokenizer: Tokenizer, tmp_path: Path) -> None:
    rows = cvqa_rows("validation", LANGUAGES, 24, COUNT)
    turned = []
    for number, row in enumerate(rows):
        row["ID"] = f"question {number // 3}"
        turned.append(row | {"Options": row["Options"][::-1], "Label": len(row["Options"]) - 1 - row["Label"]})
    data, _ = prepared(own(save_cvqa(tmp_path / "rows", rows), id="ID"), tokenizer)
    assert data.asked.all()
    assert len(data.images) == COUNT // 3
    other, _ = prepared(own(save_cvqa(tmp_path / "turned", turned), id="ID"), tokenizer)
    for item in range(COUNT // 3):
        for language in LANGUAGES:
            assert said(data, language, item) == said(other, language, item)


def test_files_of_a_label_by_letter_and_options_in_one_string_are_read(tokenizer: Tokenizer, tmp_path: Path) -> None:
    rows = cvqa_rows("validation", LANGUAGES, 24, COUNT)
    lines = []
    for number, row in enumerate(rows):
        (tmp_path / f"{number}.png").write_bytes(row["image"]["bytes"])
        letters = zip("ABCD", row["Options"], strict=False)
        line = {
            "picture": f"{number}.png",
            "code": LANGUAGES[number % 3],
            "q": row["Question"],
            "choices": " ".join(f"({letter}) {option}" for letter, option in letters),
            "answer": "ABCD"[row["Label"]],
        }
        lines.append(json.dumps(line))
    (tmp_path / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    columns = {"image": "picture", "language": "code", "question": "q", "options": "choices", "label": "answer"}
    found, _ = prepared(own(tmp_path / "rows.jsonl", names={}, **columns), tokenizer)
    expected, _ = prepared(own(save_cvqa(tmp_path / "rows", rows)), tokenizer)
    assert list(found.texts[0]) == list(expected.texts[0])
    np.testing.assert_array_equal(found.options, expected.options)
    np.testing.assert_array_equal(found.images, expected.images)


def test_bad_questions_are_skipped_counted_and_listed(tokenizer: Tokenizer, tmp_path: Path) -> None:
    rows = cvqa_rows("validation", LANGUAGES, 24, COUNT)
    rows[0]["Label"] = 9
    rows[1]["Options"] = ["one"]
    rows[2]["Question"] = ""
    rows[3]["image"] = {"bytes": b"no picture", "path": None}
    rows[4]["ID"] = rows[1]["ID"]
    rows[5]["Options"] = [rows[5]["Options"][rows[5]["Label"]]] * 4
    rows.append(rows[6] | {"Subset": "('Klingon', 'Kronos')", "ID": "other"})
    path = save_cvqa(tmp_path / "rows", rows)
    data, report = prepared(own(path, id="ID", max_bad=0.5), tokenizer)
    assert len(data.images) == COUNT - 6
    assert said(data, "en", 0)[1] == {f"{rows[6]['Question']} {option}" for option in rows[6]["Options"]}
    assert (report["rows"], report["bad_rows"]) == (COUNT, 6)  # what another language asks is not looked at
    assert report["reasons"] == {"duplicate id": 1, "question": 4, "picture": 1}
    listed = {row["row"]: row["reason"] for row in report["listed"]}
    assert listed["row 0"] == "question: en: the label 9 is out of range: there are 4 options, from 0"
    assert listed["row 2"] == "question: ar: no question"
    with pytest.raises(DataError, match="bad"):
        prepared(own(path, id="ID"), tokenizer)


def test_a_language_that_nobody_speaks_is_told_with_those_that_are_spoken(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = save_cvqa(tmp_path / "rows", cvqa_rows("validation", ("en", "ar"), 24, 24))
    with pytest.raises(
        DataError,
        match=r"data\.vqa\.names: no row of column Subset is Japanese, for language ja: .*Egyptian_Arabic, English",
    ):
        prepared(own(path), tokenizer)
    Dataset.from_list([{"image": b"", "Question": ""}]).to_parquet(str(tmp_path / "rows.parquet"))
    with pytest.raises(DataError, match=r"data\.vqa\.options: .* has no column 'Options': there are image, Question"):
        prepared(own(tmp_path / "rows.parquet"), tokenizer)
