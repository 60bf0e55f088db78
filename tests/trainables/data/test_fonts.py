"""Texts of many scripts as drawn lines."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from trainables.data import emoji
from trainables.data.fonts import Writer, font_for, font_of, is_right_to_left

WIDTH, SIZE = 500, 20


def drawn(text: str, width: int = WIDTH, language: str = "") -> tuple[np.ndarray, int, set[str]]:
    """The ink [height, WIDTH] of a line, the width it says it took, and the scripts that it lacks a font for."""
    sheet = Image.new("RGB", (WIDTH, 2 * SIZE), "white")
    writer = Writer(ImageDraw.Draw(sheet), SIZE)
    took = writer.line((0, 4), text, width, language=language)
    return 255 - np.asarray(sheet.convert("L")), took, writer.missing


@pytest.mark.parametrize("language", emoji.LANGUAGES)
def test_every_embedded_language_is_drawn(language: str) -> None:
    names = [entry.names[emoji.LANGUAGES.index(language)] for entry in emoji.catalogue()[::40]]
    for name in names:
        ink, took, missing = drawn(name, language=language)
        assert missing == set()
        assert took > 0
        assert ink.any()


@pytest.mark.parametrize("text", ["हाथ हिलाना", "โบกมือ", "হাত নাড়া", "கை", "చేయి", "እጅ", "යෝ", "מנופף", "χέρι", "ხელი"])
def test_scripts_of_other_data_sets_are_drawn(text: str) -> None:
    assert drawn(text)[2] == set()


def test_a_script_without_a_font_is_named() -> None:
    _, took, missing = drawn("a 𐎀𐎁𐎂 b")
    assert missing == {"Ugaritic"}
    assert abs(took - drawn("a [Ugaritic: 3 characters, no font] b")[1]) <= 2


def test_arabic_letters_are_joined_from_right_to_left() -> None:
    path = font_for("ش")
    assert path is not None
    alone = sum(font_of(path, SIZE).getlength(letter) for letter in "شخص")
    assert drawn("شخص", language="ar")[1] < alone
    assert is_right_to_left("1. شخص abc")
    assert not is_right_to_left("abc شخص")
    # Of a line that needs two fonts the first part stands right.
    ink, took, _ = drawn("ش 犬", language="ar")
    left = ink[:, : took // 2]
    right = ink[:, took // 2 : took]
    assert left.any()
    assert right.any()
    np.testing.assert_array_equal(ink[:, :18], drawn("犬", language="ar")[0][:, :18])


def test_what_is_too_long_ends_in_an_ellipsis_within_its_width() -> None:
    ink, took, _ = drawn("word " * 50, 200)
    assert 150 < took <= 200
    assert not ink[:, 202:].any()
