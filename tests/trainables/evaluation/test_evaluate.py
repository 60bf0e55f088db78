from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from trainables.data.prepared import CaptionedImages, VisualQuestions
from trainables.evaluation.evaluate import Evaluation, evaluate
from trainables.evaluation.retrieval import average_precision, retrieval_scores
from trainables.evaluation.subset import subset
from trainables.evaluation.vqa import choose, correct_answers
from trainables.models.dual_encoder import DualEncoder

MISSING_JAPANESE = slice(0, 5)


@pytest.fixture(scope="module")
def captions(few_captions: CaptionedImages) -> CaptionedImages:
    """The gallery without five of its Japanese captions."""
    present = np.array(few_captions.present)
    present[1, MISSING_JAPANESE] = False
    return dataclasses.replace(few_captions, present=present)


@pytest.fixture(scope="module")
def evaluation(teacher: DualEncoder, captions: CaptionedImages, few_questions: VisualQuestions) -> Evaluation:
    return evaluate(teacher, {"": captions}, {"": few_questions}, "fp32")


def embed(model: DualEncoder, images: np.ndarray | None = None, tokens: np.ndarray | None = None) -> torch.Tensor:
    with torch.no_grad():
        if images is not None:
            return model.encode_image(model.preprocess(torch.tensor(images))).embedding
        return model.encode_text(torch.tensor(tokens, dtype=torch.long)).embedding


def test_each_language_is_scored_on_its_own_captions(
    evaluation: Evaluation, teacher: DualEncoder, captions: CaptionedImages, few_questions: VisualQuestions
) -> None:
    gallery, pictures = embed(teacher, captions.images), embed(teacher, few_questions.images)
    image_item = torch.tensor(captions.image_item)
    for place, language in enumerate(captions.languages):
        here = captions.present[place]
        texts, item = embed(teacher, tokens=captions.tokens[place][here]), torch.tensor(captions.text_item[here])
        row = evaluation.languages[language]
        for direction, scores in (
            ("i2t", retrieval_scores(*average_precision(gallery, texts, image_item, item))),
            ("t2i", retrieval_scores(*average_precision(texts, gallery, item, image_item))),
        ):
            assert row[f"map_{direction}"] == pytest.approx(scores.mean_average_precision, rel=1e-4)
            assert row[f"mrr_{direction}"] == pytest.approx(scores.mean_reciprocal_rank, rel=1e-4)
            assert row[f"recall_5_{direction}"] == pytest.approx(scores.recall[5])
        options = torch.tensor(few_questions.options[place]).long()
        similarity = choose(pictures, embed(teacher, tokens=few_questions.tokens), options)
        right = correct_answers(similarity, torch.tensor(few_questions.answer))
        assert row["vqa_accuracy"] == pytest.approx(float(right.float().mean()))
        assert row["vqa_items"] == 30


def test_summary_is_the_mean_and_spread_over_languages(evaluation: Evaluation) -> None:
    rows, summary = list(evaluation.languages.values()), evaluation.summary
    accuracy = np.asarray([row["vqa_accuracy"] for row in rows])
    assert summary["retrieval_map"] == pytest.approx(np.mean([(row["map_i2t"] + row["map_t2i"]) / 2 for row in rows]))
    assert summary["vqa_accuracy"] == pytest.approx(accuracy.mean())
    assert summary["vqa_variance"] == pytest.approx((100 * accuracy).var(), rel=1e-5)
    assert summary["vqa_std"] ** 2 == pytest.approx(summary["vqa_variance"])
    assert summary["vqa_variance_noise"] > 0


def test_missing_captions_are_not_scored(
    evaluation: Evaluation, teacher: DualEncoder, captions: CaptionedImages, few_questions: VisualQuestions
) -> None:
    tokens = np.array(captions.tokens)
    tokens[1, MISSING_JAPANESE] = tokens[0, -1]
    changed = evaluate(teacher, {"": dataclasses.replace(captions, tokens=tokens)}, {"": few_questions}, "fp32")
    assert changed.languages == evaluation.languages
    assert changed.summary == evaluation.summary
    precision = evaluation.retrieved[""].text_precision
    assert np.isnan(precision[1, MISSING_JAPANESE]).all()
    assert np.isfinite(precision).sum() == precision.size - 5
    mean = np.nanmean(precision, axis=1)
    assert mean.tolist() == pytest.approx([row["map_t2i"] for row in evaluation.languages.values()], rel=1e-5)


def test_evaluation_leaves_the_model_in_the_mode_it_was_in(
    teacher: DualEncoder, few_captions: CaptionedImages, few_questions: VisualQuestions
) -> None:
    small = subset({"": few_captions}, {"": few_questions}, 0.2, seed=0)
    try:
        for mode in (True, False):
            teacher.train(mode)
            evaluate(teacher, *small, "fp32")
            assert teacher.training == mode
    finally:
        teacher.eval()


def few(
    captions: CaptionedImages, questions: VisualQuestions, share: float, seed: int
) -> tuple[CaptionedImages, VisualQuestions]:
    """A part of one set of each kind."""
    found = subset({"": captions}, {"": questions}, share, seed)
    return found[0][""], found[1][""]


def test_subset_keeps_whole_items_and_what_each_question_says(
    few_captions: CaptionedImages, few_questions: VisualQuestions
) -> None:
    captions, questions = few(few_captions, few_questions, 0.4, seed=0)
    assert len(captions.text_item) == 8
    assert len(captions.image_item) == 3 * 8
    assert set(captions.image_item) == set(captions.text_item)
    for row, item in enumerate(captions.text_item):
        origin = list(few_captions.text_item).index(item)
        assert [texts[row] for texts in captions.texts] == [texts[origin] for texts in few_captions.texts]
        np.testing.assert_array_equal(captions.tokens[:, row], few_captions.tokens[:, origin])
    assert len(questions.answer) == 12

    def sayings(data: VisualQuestions) -> set[tuple[object, ...]]:
        return {
            (data.images[row].tobytes(), data.answer[row], language, data.tokens[option].tobytes(), data.texts[0][option], slot)
            for place, language in enumerate(data.languages) for row in range(len(data.answer))
            for slot, option in enumerate(data.options[place, row]) if option >= 0
        }  # fmt: skip

    assert sayings(questions) < sayings(few_questions)
    assert (questions.options >= 0).sum() == len(sayings(questions))


@pytest.fixture(scope="module")
def unpaired(few_questions: VisualQuestions) -> VisualQuestions:
    """Of thirty questions English asks all, Japanese the first twenty, Arabic the last five."""
    options = np.array(few_questions.options)
    options[1, 20:] = options[2, :25] = -1
    return dataclasses.replace(few_questions, options=options)


def test_each_language_is_scored_on_its_own_questions(
    teacher: DualEncoder, few_captions: CaptionedImages, few_questions: VisualQuestions, unpaired: VisualQuestions
) -> None:
    of_all = evaluate(teacher, {"": few_captions}, {"": few_questions}, "fp32").option_similarity[""]
    found = evaluate(teacher, {"": few_captions}, {"": unpaired}, "fp32")
    assert [row["vqa_items"] for row in found.languages.values()] == [30, 20, 5]
    kept = unpaired.asked
    np.testing.assert_allclose(found.option_similarity[""][kept], of_all[kept], rtol=1e-5)
    assert np.isnan(found.option_similarity[""][~kept]).all()
    right = correct_answers(torch.tensor(of_all).flatten(0, 1), torch.tensor(few_questions.answer).repeat(3))
    accuracy = [np.mean(row[asked]) for row, asked in zip(right.view(3, 30).numpy(), kept, strict=True)]
    assert [row["vqa_accuracy"] for row in found.languages.values()] == pytest.approx(accuracy)
    assert found.summary["vqa_accuracy"] == pytest.approx(np.mean(accuracy))
    assert found.summary["vqa_variance"] == pytest.approx(np.var(accuracy) * 1e4)
    wider = (unpaired.options >= 0).sum(axis=2)
    assert unpaired.chance == pytest.approx(
        np.mean([np.mean(1 / row[asked]) for row, asked in zip(wider, kept, strict=True)])
    )


def test_subset_leaves_no_language_without_captions_or_questions(
    few_captions: CaptionedImages, unpaired: VisualQuestions
) -> None:
    present = np.zeros_like(few_captions.present)
    present[0], present[1, :3], present[2, 7] = True, True, True
    captions, questions = few(dataclasses.replace(few_captions, present=present), unpaired, 0.2, seed=0)
    assert (captions.present.sum(axis=1) >= [4, 1, 1]).all()
    assert (questions.asked.sum(axis=1) >= [6, 4, 1]).all()
    assert len(questions.answer) < 15


def test_subset_is_fixed_by_its_seed(few_captions: CaptionedImages, few_questions: VisualQuestions) -> None:
    first, again, other = (few(few_captions, few_questions, 0.4, seed)[0].text_item for seed in (0, 0, 1))
    assert list(first) == list(again) != list(other)
    whole = few(few_captions, few_questions, 1.0, seed=0)
    assert list(whole[0].text_item) == list(few_captions.text_item)
    np.testing.assert_array_equal(whole[1].options, few_questions.options)


@pytest.fixture(scope="module")
def two_languages(few_captions: CaptionedImages) -> CaptionedImages:
    """The first half of the gallery in Arabic and English alone."""
    half = subset({"": few_captions}, {}, 0.5, seed=2)[0][""]
    order = [2, 0]
    return dataclasses.replace(
        half, languages=["ar", "en"], tokens=half.tokens[order], present=half.present[order],
        texts=[half.texts[place] for place in order],
    )  # fmt: skip


def test_each_set_is_scored_as_if_alone_and_plain_scores_are_means(
    teacher: DualEncoder,
    few_captions: CaptionedImages,
    two_languages: CaptionedImages,
    few_questions: VisualQuestions,
    unpaired: VisualQuestions,
) -> None:
    galleries, quizzes = {"all": few_captions, "two": two_languages}, {"paired": few_questions, "own": unpaired}
    found = evaluate(teacher, galleries, quizzes, "fp32")
    alone = evaluate(teacher, {"": few_captions}, {"": few_questions}, "fp32")
    other = evaluate(teacher, {"": two_languages}, {"": unpaired}, "fp32")
    for name in alone.summary:
        sets = ("all", "two") if name.startswith("retrieval") else ("paired", "own")
        for of, single in zip(sets, (alone, other), strict=True):
            assert found.summary[f"{name}@{of}"] == pytest.approx(single.summary[name], rel=1e-4)
    assert len(found.summary) == 3 * len(alone.summary)
    assert found.summary["retrieval_map"] == pytest.approx(
        (alone.summary["retrieval_map"] + other.summary["retrieval_map"]) / 2, rel=1e-4
    )
    assert [list(rows) for rows in found.sets.values()] == [["en", "ja", "ar"], ["en", "ar"], *[["en", "ja", "ar"]] * 2]
    # In both galleries: a mean; in one alone: its own. Rows and columns are those of the languages.
    places = list(found.languages).index("ja"), list(found.languages).index("ar")
    assert list(found.languages) == ["en", "ja", "ar"]
    of_all, of_two = (np.array(one.consistency["retrieval"], float) for one in (alone, other))
    assert found.consistency["retrieval"][0][2] == pytest.approx((of_all[0, 2] + of_two[0, 1]) / 2, abs=1e-3)
    assert found.consistency["retrieval"][places[0]][places[1]] == pytest.approx(of_all[1, 2], abs=1e-3)
    assert set(found.sets["two"]["en"]).isdisjoint(found.sets["own"]["en"])
    assert found.languages["ja"]["map_i2t"] == pytest.approx(alone.languages["ja"]["map_i2t"], rel=1e-4)
    assert found.languages["ja"]["vqa_items"] == 50
    np.testing.assert_allclose(
        found.retrieved["two"].text_precision, other.retrieved[""].text_precision, rtol=1e-4, equal_nan=True
    )
    assert found.scores().keys() == {"languages", "summary", "consistency", "sets"}


def test_a_single_set_without_a_name_has_the_plain_names_alone(evaluation: Evaluation) -> None:
    assert list(evaluation.summary) == [
        "retrieval_map",
        "retrieval_map_noise",
        "retrieval_consistency",
        "vqa_accuracy",
        "vqa_variance",
        "vqa_std",
        "vqa_variance_noise",
        "vqa_consistency",
    ]
    assert "sets" not in evaluation.scores()


def test_a_text_that_several_sets_share_is_encoded_once(
    teacher: DualEncoder,
    few_captions: CaptionedImages,
    two_languages: CaptionedImages,
    few_questions: VisualQuestions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted = []
    encode = teacher.encode_text
    monkeypatch.setattr(teacher, "encode_text", lambda rows: (counted.append(len(rows)), encode(rows))[1])
    evaluate(teacher, {"all": few_captions}, {"": few_questions}, "fp32")
    evaluate(teacher, {"all": few_captions, "two": two_languages}, {"a": few_questions, "b": few_questions}, "fp32")
    assert counted[:3] == counted[3:]


def test_subset_takes_a_part_of_each_set(
    few_captions: CaptionedImages, two_languages: CaptionedImages, unpaired: VisualQuestions
) -> None:
    captions, questions = subset({"all": few_captions, "two": two_languages}, {"own": unpaired}, 0.4, seed=0)
    assert {name: len(set(data.text_item)) for name, data in captions.items()} == {"all": 8, "two": 4}
    assert list(captions["two"].languages) == ["ar", "en"]
    assert 12 <= len(questions["own"].answer) < 20


def test_languages_agree_with_themselves_and_a_language_of_the_same_texts_agrees_with_its_twin(
    teacher: DualEncoder, few_captions: CaptionedImages, few_questions: VisualQuestions, evaluation: Evaluation
) -> None:
    matrices = {task: np.array(matrix) for task, matrix in evaluation.consistency.items()}
    assert set(matrices) == {"retrieval", "vqa"}
    for task, matrix in matrices.items():
        assert matrix.shape == (len(few_captions.languages),) * 2
        np.testing.assert_allclose(np.diag(matrix), 1.0)
        pairs = matrix[np.tril_indices(len(matrix), -1)]
        assert (pairs < 1).all()
        assert evaluation.summary[f"{task}_consistency"] == pytest.approx(pairs.mean(), abs=1e-5)
    same = dataclasses.replace(
        few_captions, tokens=np.repeat(few_captions.tokens[:1], 3, axis=0), present=few_captions.present
    )
    twins = evaluate(teacher, {"": same}, {"": few_questions}, "fp32").consistency["retrieval"]
    np.testing.assert_allclose(np.array(twins), 1.0, atol=1e-4)
