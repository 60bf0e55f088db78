"""Scores of several sets as one."""

from __future__ import annotations

import pytest

from trainables.evaluation.summary import accuracies_of, languages_over_sets, lift_kept, over_sets, with_lift

FIRST = {"vqa_accuracy": 0.5, "vqa_variance": 16.0, "vqa_std": 4.0, "vqa_variance_noise": 3.0}
SECOND = {"vqa_accuracy": 0.25, "vqa_variance": 2.0, "vqa_std": 2.0**0.5, "vqa_variance_noise": 4.0}


def test_a_set_without_a_name_gives_its_own_scores_and_no_others() -> None:
    assert over_sets({"": FIRST}) == FIRST


def test_sets_give_means_and_each_its_own() -> None:
    found = over_sets({"a": FIRST, "b": SECOND})
    assert {name: value for name, value in found.items() if "@" not in name} == {
        "vqa_accuracy": 0.375,
        "vqa_variance": 9.0,
        "vqa_std": 3.0,  # of the mean variance
        "vqa_variance_noise": 2.5,  # √(3² + 4²) / 2
    }
    for of, scores in (("a", FIRST), ("b", SECOND)):
        assert {name: found[f"{name}@{of}"] for name in scores} == scores
    assert accuracies_of(found, ["a", "b"]) == {"a": 0.5, "b": 0.25}


def test_a_language_has_the_means_over_the_sets_that_have_it() -> None:
    sets = {
        "photos": {"en": {"map_i2t": 0.5}, "tr": {"map_i2t": 0.25}},
        "drawings": {"en": {"map_i2t": 0.25}},
        "quiz": {"tr": {"vqa_accuracy": 0.5, "vqa_items": 20}, "en": {"vqa_accuracy": 0.75, "vqa_items": 30}},
        "other": {"en": {"vqa_accuracy": 0.25, "vqa_items": 10}},
    }
    assert languages_over_sets(sets) == {
        "en": {"map_i2t": 0.375, "vqa_accuracy": 0.5, "vqa_items": 40},
        "tr": {"map_i2t": 0.25, "vqa_accuracy": 0.5, "vqa_items": 20},
    }


def test_lift_kept_is_that_of_each_set_and_their_mean() -> None:
    summary = over_sets({"a": FIRST, "b": SECOND})
    found = with_lift(summary, {"a": 0.75, "b": 0.5}, {"a": 0.25, "b": 0.2})
    assert found == {
        **summary,
        "vqa_lift_kept@a": pytest.approx(0.5),
        "vqa_lift_kept@b": pytest.approx(1 / 6),
        "vqa_lift_kept": pytest.approx(1 / 3),
    }
    assert with_lift(FIRST, {"": 0.75}, {"": 0.25}) == {**FIRST, "vqa_lift_kept": pytest.approx(0.5)}


def test_a_set_on_which_the_teacher_guesses_leaves_no_mean_to_keep() -> None:
    found = with_lift(over_sets({"a": FIRST, "b": SECOND}), {"a": 0.75, "b": 0.2}, {"a": 0.25, "b": 0.2})
    assert found["vqa_lift_kept@a"] == pytest.approx(0.5)
    assert found["vqa_lift_kept@b"] is found["vqa_lift_kept"] is None


@pytest.mark.parametrize(("accuracy", "kept"), [(0.6, 1.0), (0.45, 0.5), (0.3, 0.0), (0.15, -0.5)])
def test_lift_kept_is_the_share_of_the_teachers_lift_over_chance(accuracy: float, kept: float) -> None:
    assert lift_kept(accuracy, teacher_accuracy=0.6, chance=0.3) == pytest.approx(kept)


def test_teacher_that_guesses_has_no_lift_to_keep() -> None:
    with pytest.raises(ValueError, match="does not beat chance"):
        lift_kept(0.5, teacher_accuracy=0.25, chance=0.25)
