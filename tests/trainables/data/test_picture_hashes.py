"""Hashes as their definition has them, near ones as a search of all pairs finds them, and which pictures are the same."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy.fft import dct
from sklearn.datasets import load_sample_images

from trainables.data import emoji
from trainables.data.embedded import _render
from trainables.data.picture_hashes import FAR, HashedPictures, hash_pictures, same_pictures
from trainables.data.pictures import fit_picture
from trainables.data.prepared import Array

SIZE = 64


@pytest.fixture(scope="module")
def photographs() -> list[Image.Image]:
    """Forty parts of two photographs."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(40):
        whole = load_sample_images().images[number % 2]
        height, width = rng.integers(160, 380, 2)
        top, left = rng.integers(0, whole.shape[0] - height), rng.integers(0, whole.shape[1] - width)
        found.append(Image.fromarray(whole[top : top + height, left : left + width]))
    return found


def of(pictures: list[Image.Image]) -> HashedPictures:
    images = np.stack([fit_picture(picture, SIZE) for picture in pictures])
    return HashedPictures(images, hash_pictures(images))


def compressed(picture: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=70)
    return Image.open(buffer)


def smaller(picture: Image.Image) -> Image.Image:
    return picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.LANCZOS)


def brighter(picture: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(picture).enhance(1.05)


def darker(picture: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(picture).enhance(0.93)


def test_a_hash_says_which_low_frequencies_are_above_their_median() -> None:
    """As ImageHash 4.3 computes it: https://github.com/JohannesBuchner/imagehash, `phash`."""
    images = np.random.default_rng(1).integers(0, 256, (20, 32, 32, 3), np.uint8)
    for picture, found in zip(images, hash_pictures(images), strict=True):
        grey = np.asarray(Image.fromarray(picture).convert("L"))
        low = dct(dct(grey.astype(float), axis=0), axis=1)[:8, :8]
        bits = "".join("1" if above else "0" for above in (low > np.median(low)).ravel())
        assert int(found) == int(bits, 2)


@pytest.mark.parametrize("copy", [compressed, smaller, brighter, darker, lambda one: compressed(smaller(darker(one)))])
def test_copies_of_photographs_are_found_and_nothing_else(
    copy: Callable[[Image.Image], Image.Image], photographs: list[Image.Image]
) -> None:
    found = same_pictures(of(photographs[:30]), of([copy(picture) for picture in photographs[10:]]))
    np.testing.assert_array_equal(found, [*range(10, 30), *[-1] * 10])


def test_skin_tones_genders_and_flags_are_told_apart() -> None:
    names = ["waving hand", "woman farmer", "man farmer", "flag", "France", "Italy", "Ireland", "Mexico", "Netherlands"]
    shown = [
        entry
        for entry in emoji.catalogue()
        if any(entry.names[0] == name or entry.names[0].startswith(f"{name} ") for name in names)
        and not entry.names[0].startswith("flag ")
    ]
    assert len(shown) > 20
    images = _render([entry.code for entry in shown], 48)
    pictures = HashedPictures(images, hash_pictures(images))
    assert (same_pictures(pictures, pictures, lambda one, other: one < other) == -1).all()


class Blank:
    """Pictures that all look the same, so that hashes alone decide."""

    def __getitem__(self, rows: Array) -> Array:
        return np.zeros((len(rows), 8, 8, 3), np.uint8)


def test_near_hashes_are_those_of_all_pairs() -> None:
    rng = np.random.default_rng(2)
    first = rng.integers(0, 2**64, 3000, np.uint64)
    first[:500] = first[500:1000]  # some stand twice
    flips = [
        np.bitwise_xor.reduce(
            [np.uint64(1) << np.uint64(bit) for bit in rng.choice(64, count, False)] or [np.uint64(0)]
        )
        for count in rng.integers(0, 7, 2000)
    ]
    second = rng.choice(first, 2000) ^ np.asarray(flips, np.uint64)
    far = np.bitwise_count(first[None] ^ second[:, None])
    found = same_pictures(HashedPictures(Blank(), first), HashedPictures(Blank(), second))
    np.testing.assert_array_equal(found >= 0, far.min(axis=1) <= FAR)
    there = np.flatnonzero(found >= 0)
    np.testing.assert_array_equal(far[there, found[there]], far[there].min(axis=1))
    assert 500 < len(there) < 1900


def test_many_pictures_of_one_hash_are_compared_with_a_few() -> None:
    same = HashedPictures(Blank(), np.zeros(4_000, np.uint64))
    found = same_pictures(same, same, lambda one, other: one < other)
    assert found[0] == -1
    assert (found[1:] >= 0).all()
