"""The arrays that the embedded data is prepared as."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trainables.config import TokenizerConfig
from trainables.data import embedded, emoji
from trainables.data.prepared import CaptionedImages, VisualQuestions
from trainables.models.tokenizer import Tokenizer, fit_bpe

LANGUAGES = ("en", "ja", "ar")


def names(item: int) -> list[str]:
    return [emoji.catalogue()[item].names[emoji.LANGUAGES.index(language)] for language in LANGUAGES]


def kept(data: VisualQuestions) -> list[emoji.Question]:
    """The questions that became rows, in their order: the others' pictures cannot answer them."""
    columns = zip(data.answer, data.options[0], strict=True)
    rows = {(int(answer), *(data.texts[0][i] for i in row if i >= 0)) for answer, row in columns}
    return [
        item for item in emoji.questions("validation") if (item.answer, *(names(i)[0] for i in item.options)) in rows
    ]


def test_gallery_shows_each_emoji_of_the_split_in_every_view(validation_captions: CaptionedImages) -> None:
    data, views = validation_captions, len(embedded.GALLERY_VIEWS)
    items = list(emoji.splits()["validation"])
    assert data.languages == list(LANGUAGES)
    assert list(data.text_item) == items
    assert list(data.image_item) == [item for item in items for _ in range(views)]
    assert data.images.shape == (views * len(items), 24, 24, 3)
    assert data.images.dtype == np.uint8
    assert data.present.all()
    assert [[row[i] for row in data.texts] for i in range(len(items))] == [names(item) for item in items]


def test_tokens_are_those_of_the_names(validation_captions: CaptionedImages, tokenizer: Tokenizer) -> None:
    for tokens, texts in zip(validation_captions.tokens, validation_captions.texts, strict=True):
        np.testing.assert_array_equal(tokens[:20], tokenizer.encode(texts[:20]))


def test_pictures_are_drawn_on_white_and_tell_people_apart_but_for_their_gender(
    validation_captions: CaptionedImages,
) -> None:
    views = len(embedded.GALLERY_VIEWS)
    pictures = np.asarray(validation_captions.images).reshape(-1, views, 24, 24, 3)
    shown: dict[bytes, set[tuple[str, str]]] = {}
    for item, of_item in zip(validation_captions.text_item, pictures, strict=True):
        assert (of_item[0, 0, 0] == 255).all()
        assert of_item[0].min() < 100
        assert len({view.tobytes() for view in of_item}) == views
        entry = emoji.catalogue()[item]
        if len(entry.tone) <= 1:  # some couples are drawn alike in all tones
            shown.setdefault(of_item[0].tobytes(), set()).add((entry.group, entry.tone))
    assert len(shown) > 250
    assert all(len(looks) == 1 for looks in shown.values())  # but a pilot is drawn as the man who is one


def test_questions_keep_their_subjects_options_and_answers(
    validation_questions: VisualQuestions, tokenizer: Tokenizer
) -> None:
    data, items = validation_questions, kept(validation_questions)
    assert len(items) >= 1500
    assert len(data.answer) == len(data.images) == len(items)
    for row in range(0, len(items), 17):
        options = data.options[:, row]
        said = [[data.texts[0][option] for option in language if option >= 0] for language in options]
        assert list(zip(*said, strict=True)) == [tuple(names(i)) for i in items[row].options]
        assert data.answer[row] == items[row].answer
        np.testing.assert_array_equal(data.tokens[options[1, 0]], tokenizer.encode([said[1][0]])[0])
    widths = [len(item.options) for item in items]
    assert [int((row >= 0).sum()) for row in data.options[2]] == widths
    assert data.asked.all()
    assert data.chance == pytest.approx(np.mean([1 / width for width in widths]))


def test_questions_show_a_style_that_the_gallery_does_not(
    validation_captions: CaptionedImages, validation_questions: VisualQuestions
) -> None:
    subjects = [item.subject for item in kept(validation_questions)]
    views = len(embedded.GALLERY_VIEWS)
    for row, item in enumerate(validation_captions.text_item[:20]):
        drawn = np.asarray(validation_captions.images[views * row])
        if item not in subjects:
            continue
        outline_free = np.asarray(validation_questions.images[subjects.index(item)])
        assert outline_free.min() < 250
        assert outline_free.mean() > drawn.mean() + 8  # of 255: the black lines are gone


def test_picture_of_a_question_is_not_that_of_one_of_its_distractors(validation_questions: VisualQuestions) -> None:
    items = kept(validation_questions)
    pictures = {item.subject: validation_questions.images[row].tobytes() for row, item in enumerate(items)}
    for item in items:
        shown = [pictures[option] for option in item.options if option in pictures]
        assert shown.count(pictures[item.subject]) == 1, [emoji.catalogue()[option].names[0] for option in item.options]


def test_default_tokenizer_tells_the_options_of_every_question_apart() -> None:
    settings, languages = TokenizerConfig(), ("en", "es", "ru", "ar")
    folder = fit_bpe(embedded.training_texts(emoji.LANGUAGES), settings.vocab_size)
    tokenizer = Tokenizer(folder, settings.context_length)
    alike = dict.fromkeys(languages, 0)
    for language in languages:
        column = emoji.LANGUAGES.index(language)
        tokens = tokenizer.encode([entry.names[column] for entry in emoji.catalogue()])
        for item in emoji.questions("validation"):
            alike[language] += len({tokens[option].tobytes() for option in item.options}) < len(item.options)
    assert not any(alike.values()), alike


def test_preparing_again_finds_the_same_folder(tokenizer: Tokenizer) -> None:
    novel = [embedded.prepare_captions("novel", LANGUAGES, 12, tokenizer) for _ in range(2)]
    assert novel[0] == novel[1]
    others = [
        embedded.prepare_captions("novel", LANGUAGES[:2], 12, tokenizer),
        embedded.prepare_captions("novel", LANGUAGES, 16, tokenizer),
        embedded.prepare_captions("novel", LANGUAGES, 12, Tokenizer(tokenizer.folder, 8)),
    ]
    assert len({*novel, *others}) == 4


def test_training_texts_are_the_training_captions_alone() -> None:
    texts = embedded.training_texts(LANGUAGES)
    train = emoji.splits()["train"]
    assert len(texts) == len(LANGUAGES) * len(train)
    assert texts[: len(train)] == [names(item)[0] for item in train]
    assert not {names(item)[0] for item in emoji.splits()["test"]} & set(texts)


def test_arrays_stay_on_disk_until_they_are_touched(train_data: CaptionedImages) -> None:
    arrays = (train_data.images, train_data.tokens, train_data.present)
    assert all(isinstance(array, np.memmap) for array in arrays)
    with pytest.raises(ValueError, match="read-only"):
        train_data.images[0] = 0


def test_saved_data_without_one_of_its_files_does_not_load(few_captions: CaptionedImages, tmp_path: Path) -> None:
    few_captions.save(tmp_path)
    loaded = CaptionedImages.load(tmp_path)
    np.testing.assert_array_equal(loaded.images, few_captions.images)
    assert [list(texts) for texts in loaded.texts] == few_captions.texts
    (tmp_path / "tokens.npy").unlink()
    with pytest.raises(FileNotFoundError, match="tokens"):
        CaptionedImages.load(tmp_path)
