from __future__ import annotations

import emoji
import pytest

from analysis.language_names import UNKNOWN, family, name, script


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("ja", ("Japanese", "Japanese", "Japonic")),
        ("zh", ("Chinese", "Han, simplified", "Sino-Tibetan")),
        ("zh-Hant", ("Chinese (Traditional)", "Han, traditional", "Sino-Tibetan")),
        ("zh-TW", ("Chinese (Traditional, Taiwan)", "Han, traditional", "Sino-Tibetan")),
        ("sr-Latn", ("Serbian (Latin)", "Latin", "Indo-European")),
        ("fa", ("Persian", "Arabic", "Indo-European")),
        ("pt_BR", ("Portuguese (Brazil)", "Latin", "Indo-European")),
        ("xx", ("xx", UNKNOWN, UNKNOWN)),
        ("!", ("!", UNKNOWN, UNKNOWN)),
    ],
)
def test_a_code_has_a_name_a_script_and_a_family(language: str, expected: tuple[str, str, str]) -> None:
    assert (name(language), script(language), family(language)) == expected


def test_all_embedded_languages_are_known() -> None:
    for language in emoji.LANGUAGES:
        assert UNKNOWN not in (script(language), family(language))
        assert name(language) != language
