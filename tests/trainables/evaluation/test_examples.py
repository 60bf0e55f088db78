from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from analysis.examples import read_examples, thumbnail
from trainables.data.prepared import CaptionedImages, VisualQuestions
from trainables.evaluation.evaluate import Evaluation, evaluate
from trainables.evaluation.examples import write_examples
from trainables.models.dual_encoder import DualEncoder


@pytest.fixture(scope="module")
def evaluation(teacher: DualEncoder, few_captions: CaptionedImages, few_questions: VisualQuestions) -> Evaluation:
    return evaluate(teacher, {"": few_captions}, {"photos": few_questions}, "fp32")


@pytest.fixture(scope="module")
def path(
    evaluation: Evaluation,
    few_captions: CaptionedImages,
    few_questions: VisualQuestions,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    path = tmp_path_factory.mktemp("examples") / "examples.parquet"
    write_examples(path, {"": few_captions}, {"photos": few_questions}, evaluation)
    assert list(path.parent.iterdir()) == [path]
    return path


@pytest.fixture(scope="module")
def rows(path: Path) -> list[dict[str, Any]]:
    table = pq.read_table(path)
    columns = ["task", "set", "language", "case", "text", "score", "shown", "options", "answer", "chosen"]
    assert table.column_names == columns
    return table.to_pylist()


def test_analysis_reads_the_cases_as_they_were_written(path: Path, rows: list[dict[str, Any]]) -> None:
    read = read_examples(path)
    for example, row in zip(read, rows, strict=True):
        assert list(example.pictures) == row["shown"]
        assert all((thumbnail(picture) or "").startswith("data:image/png;base64,") for picture in example.pictures)
        choice = {"options": row["options"], "answer": row["answer"], "chosen": row["chosen"]}
        said = {name: row[name] for name in ("task", "language", "case", "text", "score")}
        assert example.as_json() == said | (choice if row["options"] else {})


def test_every_language_and_task_has_its_best_and_worst_cases(rows: list[dict[str, Any]]) -> None:
    for task in ("retrieval", "vqa"):
        for language in ("en", "ja", "ar"):
            scores = {
                case: [r["score"] for r in rows if (r["task"], r["language"], r["case"]) == (task, language, case)]
                for case in ("best", "worst")
            }
            assert len(scores["best"]) == len(scores["worst"]) == 2
            assert min(scores["best"]) >= max(scores["worst"])
    assert {(row["task"], row["set"]) for row in rows} == {("retrieval", ""), ("vqa", "photos")}


def picture(png: bytes) -> bytes:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).tobytes()


def test_retrieval_case_shows_the_right_image_and_the_three_found_first(
    rows: list[dict[str, Any]], few_captions: CaptionedImages, evaluation: Evaluation
) -> None:
    found = [row for row in rows if row["task"] == "retrieval"]
    precision = evaluation.retrieved[""].text_precision
    for row in found:
        place = list(few_captions.languages).index(row["language"])
        text = few_captions.texts[place].index(row["text"])
        assert row["score"] == pytest.approx(precision[place, text])
        right = np.flatnonzero(few_captions.image_item == few_captions.text_item[text])[0]
        expected = [right, *evaluation.retrieved[""].best_images[place, text]]
        assert [picture(png) for png in row["shown"]] == [few_captions.images[image].tobytes() for image in expected]
        assert row["options"] is row["answer"] is row["chosen"] is None
    best = [row["score"] for row in found if row["case"] == "best"]
    assert max(best) == pytest.approx(np.nanmax(precision))


def test_question_case_shows_its_picture_options_and_choice(
    rows: list[dict[str, Any]], few_questions: VisualQuestions, evaluation: Evaluation
) -> None:
    pictures = [image.tobytes() for image in np.asarray(few_questions.images)]
    for row in rows:
        if row["task"] != "vqa":
            continue
        place = list(few_questions.languages).index(row["language"])
        texts = few_questions.texts[0]
        options = [[texts[option] for option in item if option >= 0] for item in few_questions.options[place]]
        item = options.index(row["options"])
        assert [picture(png) for png in row["shown"]] == [pictures[item]]
        assert row["answer"] == few_questions.answer[item]
        assert row["text"] == row["options"][row["answer"]]
        similarity = evaluation.option_similarity["photos"][place, item]
        assert row["chosen"] == similarity.argmax()
        others = np.delete(similarity, row["answer"])
        assert row["score"] == pytest.approx(similarity[row["answer"]] - others.max(), rel=1e-6)
