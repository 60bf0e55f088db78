from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.language_weights import language_weights
from trainables.recipe import LanguageWeighting

LANGUAGES = ("en", "ja", "ar")
TEACHER_MAP = {"en": 0.8, "ja": 0.6, "ar": 0.2}


def test_uniform_weights_are_one() -> None:
    assert language_weights(LanguageWeighting(), LANGUAGES, TEACHER_MAP) == {"en": 1.0, "ja": 1.0, "ar": 1.0}


@pytest.mark.parametrize("gamma", [-2.0, -0.5, 0.0, 1.0, 2.0])
def test_difficulty_is_a_power_of_what_the_teacher_lacks(gamma: float) -> None:
    raw = [0.2**gamma, 0.4**gamma, 0.8**gamma]
    expected = dict(zip(LANGUAGES, (3 * value / sum(raw) for value in raw), strict=True))
    found = language_weights(LanguageWeighting(kind="difficulty", gamma=gamma), LANGUAGES, TEACHER_MAP)
    assert found == pytest.approx(expected)


def test_perfect_teacher_gives_finite_weights() -> None:
    found = language_weights(LanguageWeighting(kind="difficulty", gamma=-2), LANGUAGES, {**TEACHER_MAP, "en": 1.0})
    assert math.isfinite(found["en"])
    assert found["en"] > found["ja"] > found["ar"] > 0


@given(st.lists(st.floats(-50, 50), min_size=3, max_size=3), st.floats(-10, 10))
def test_free_weights_are_a_softmax_of_mean_one(logits: list[float], shift: float) -> None:
    def weights(values: list[float]) -> list[float]:
        weighting = LanguageWeighting(kind="free", logits=dict(zip(LANGUAGES, values, strict=True)))
        return list(language_weights(weighting, LANGUAGES, TEACHER_MAP).values())

    raw = [math.exp(value) for value in logits]
    found = weights(logits)
    assert found == pytest.approx([3 * value / sum(raw) for value in raw])
    assert sum(found) == pytest.approx(3)
    assert weights([value + shift for value in logits]) == pytest.approx(found)


def test_huge_logits_do_not_overflow() -> None:
    weighting = LanguageWeighting(kind="free", logits={"en": 5000.0, "ja": 5000.0, "ar": -5000.0})
    assert language_weights(weighting, LANGUAGES, TEACHER_MAP) == {"en": 1.5, "ja": 1.5, "ar": 0.0}


def test_free_weights_need_a_logit_for_every_language() -> None:
    with pytest.raises(ValueError, match="none for ja, ar"):
        language_weights(LanguageWeighting(kind="free", logits={"en": 0.0}), LANGUAGES, TEACHER_MAP)
