"""Training data of several sources as one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from trainables.data.images import JoinedImages
from trainables.data.mixture import load_training, prepare_mixture
from trainables.data.prepared import CaptionedImages

LANGUAGES = ("en", "ja", "ar")


@pytest.fixture(scope="module")
def parts(
    train_folder: Path, few_captions: CaptionedImages, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Data of three languages with a picture an item, and a gallery of two of them, the other way round."""
    folder = tmp_path_factory.mktemp("parts") / "gallery"
    order = [2, 0]
    dataclasses.replace(
        few_captions,
        languages=["ar", "en"],
        tokens=few_captions.tokens[order],
        present=few_captions.present[order],
        texts=[few_captions.texts[place] for place in order],
    ).save(folder)
    return train_folder, folder


@pytest.fixture(scope="module")
def mixture(parts: tuple[Path, Path]) -> Path:
    return prepare_mixture(parts, LANGUAGES)


def test_mixture_has_the_texts_of_its_parts_and_lacks_what_they_lack(
    mixture: Path, parts: tuple[Path, Path], few_captions: CaptionedImages
) -> None:
    joined, first = load_training(mixture), CaptionedImages.load(parts[0])
    count = len(first.text_item)
    assert list(joined.languages) == list(LANGUAGES)
    np.testing.assert_array_equal(joined.present[:, :count], first.present)
    np.testing.assert_array_equal(joined.tokens[:, :count], first.tokens)
    assert [list(texts)[:count] for texts in joined.texts] == [list(texts) for texts in first.texts]
    for place in (0, 2):
        np.testing.assert_array_equal(joined.tokens[place, count:], few_captions.tokens[place])
        assert list(joined.texts[place])[count:] == list(few_captions.texts[place])
        assert joined.present[place, count:].all()
    assert not joined.present[1, count:].any()
    assert set(list(joined.texts[1])[count:]) == {""}


def test_items_of_different_parts_are_different_and_relevance_within_a_part_stays(
    mixture: Path, parts: tuple[Path, Path]
) -> None:
    joined = load_training(mixture)
    images, texts = 0, 0
    seen: set[int] = set()
    for part in map(CaptionedImages.load, parts):
        image_item = joined.image_item[images : images + len(part.image_item)]
        text_item = joined.text_item[texts : texts + len(part.text_item)]
        np.testing.assert_array_equal(
            image_item[:, None] == text_item, np.asarray(part.image_item)[:, None] == part.text_item
        )
        assert seen.isdisjoint(image_item)
        seen |= set(image_item)
        images, texts = images + len(image_item), texts + len(text_item)
    assert (images, texts) == (len(joined.image_item), len(joined.text_item))


def test_pictures_are_those_of_the_parts_and_are_not_copied(mixture: Path, parts: tuple[Path, Path]) -> None:
    images = load_training(mixture).images
    assert isinstance(images, JoinedImages)
    whole = np.concatenate([np.asarray(CaptionedImages.load(part).images) for part in parts])
    assert images.shape == whole.shape
    assert images.sizes == (48, 60)
    assert len(images) == len(whole) == 108
    rows = np.asarray([107, 0, 48, 47, 48, 3])
    for chosen in (rows, rows[:0], slice(40, 60), slice(None), slice(100, 500), slice(20, 20)):
        found = images[chosen]
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, whole[chosen])
    assert sum(path.stat().st_size for path in mixture.iterdir()) < whole.nbytes


def test_mixture_is_prepared_once_and_anew_for_other_parts(mixture: Path, parts: tuple[Path, Path]) -> None:
    assert prepare_mixture(parts, LANGUAGES) == mixture
    assert prepare_mixture(parts[::-1], LANGUAGES) != mixture


def test_data_of_one_source_opens_as_it_is(train_folder: Path) -> None:
    assert isinstance(load_training(train_folder).images, np.ndarray)
