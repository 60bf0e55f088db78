"""The cache against the teacher itself, run on the same views and texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from trainables.config import CacheConfig
from trainables.data.augment import apply_views
from trainables.data.prepared import CaptionedImages
from trainables.models.dual_encoder import DualEncoder
from trainables.teacher_cache import TeacherCache, build_cache

HALF = {"rtol": 1e-3, "atol": 1e-3}  # float16


def test_images_are_what_the_teacher_makes_of_the_very_views(
    cache: TeacherCache, teacher: DualEncoder, train_data: CaptionedImages
) -> None:
    for view in range(2):
        pixels = apply_views(torch.tensor(train_data.images), torch.tensor(cache.views[:, view]))
        with torch.no_grad():
            expected = teacher.encode_image(teacher.preprocess(pixels))
        np.testing.assert_allclose(cache.image[:, view], expected.embedding, **HALF)
        for row, number in enumerate(cache.image_layer_numbers):
            np.testing.assert_allclose(cache.image_layers[row, :, view], expected.layers[number], **HALF)
    assert not np.array_equal(cache.views[:, 0], cache.views[:, 1])


def test_texts_are_what_the_teacher_makes_of_every_caption(
    cache: TeacherCache, teacher: DualEncoder, train_data: CaptionedImages
) -> None:
    for language in range(3):
        with torch.no_grad():
            expected = teacher.encode_text(torch.tensor(train_data.tokens[language], dtype=torch.long))
        np.testing.assert_allclose(cache.text[language], expected.embedding, **HALF)
        for row, number in enumerate(cache.text_layer_numbers):
            np.testing.assert_allclose(cache.text_layers[row, language], expected.layers[number], **HALF)
    np.testing.assert_allclose(cache.logit_scale, float(teacher.logit_scale.detach()))


def test_arrays_are_half_precision_and_stay_on_disk(cache: TeacherCache) -> None:
    for array in (cache.image, cache.text, cache.image_layers, cache.text_layers):
        assert isinstance(array, np.memmap)
        assert array.dtype == np.float16
    assert cache.image.shape == (48, 2, 32)
    assert cache.text.shape == (3, 48, 32)
    assert cache.image_layers.shape == (3, 48, 2, 64)
    assert cache.text_layers.shape == (3, 3, 48, 64)


def test_only_the_layers_that_were_asked_for_are_kept(
    cache: TeacherCache, teacher_folder: Path, train_folder: Path
) -> None:
    progress: list[tuple[int, int]] = []

    def build(image: list[int], text: list[int], seed: int = 5) -> Path:
        return build_cache(
            teacher_folder, train_folder, CacheConfig(views=2), {"image": image, "text": text}, seed, "fp32",
            lambda *done: progress.append(done),
        )  # fmt: skip

    folder = build([2], [])
    few = TeacherCache.load(folder)
    assert (few.image_layer_numbers, few.text_layer_numbers) == ([2], [])
    np.testing.assert_array_equal(few.image_layers[0], cache.image_layers[2])
    assert few.text_layers.shape[:3] == (0, 3, 48)
    np.testing.assert_array_equal(few.image, cache.image)
    assert progress[-1] == (48 * 2 + 3 * 48, 48 * 2 + 3 * 48)
    seen = len(progress)
    assert build([2], []) == folder
    assert len(progress) == seen
    assert len({folder, build([1], []), build([2], [0]), build([2], [], seed=6)}) == 4
