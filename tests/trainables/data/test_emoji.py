"""The catalogue, its splits and its questions, checked on the emoji's own code points and names."""

from __future__ import annotations

import unicodedata
from collections import Counter
from functools import lru_cache

import pytest

from trainables.data import emoji
from trainables.data.emoji import LANGUAGES, SPLITS, catalogue, clean_name, splits

TONES = "🏻🏼🏽🏾🏿"
GENDERS = {"👩": "woman", "♀": "woman", "👨": "man", "♂": "man"}
UNSEEN_SPLITS = ("validation", "test")


@lru_cache
def asked(split: str) -> list[emoji.Question]:
    return emoji.questions(split)


def tones(character: str) -> str:
    return "".join(c for c in character if c in TONES)


def untoned(character: str) -> str:
    return "".join(c for c in character if c not in TONES and c != "\ufe0f")


def genders(character: str) -> tuple[str, ...]:
    """The women and men that an emoji names or signs: two for a couple, none for a person or a gesture."""
    return tuple(sorted(GENDERS[c] for c in character if c in GENDERS))


def test_every_emoji_with_a_drawing_and_all_names_is_in_the_catalogue_once() -> None:
    entries = catalogue()
    assert len(entries) == 3944
    assert len({untoned(entry.character) + tones(entry.character) for entry in entries}) == 3944
    assert [entry.character for entry in entries] == sorted(entry.character for entry in entries)
    assert all(len(entry.names) == len(LANGUAGES) for entry in entries)


def test_names_are_clean_composed_and_tell_emoji_apart() -> None:
    for place, language in enumerate(LANGUAGES):
        names = [entry.names[place] for entry in catalogue()]
        assert all(name and name == " ".join(name.split()) for name in names), language
        assert not any(mark in name for name in names for mark in ":_,"), language
        assert all(unicodedata.is_normalized("NFC", name) for name in names), language
        assert len(set(names)) == len(names), language


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        (":woman_farmer_medium_skin_tone:", "woman farmer medium skin tone"),
        (":family:_man,_woman:", "family: man woman"),
        (":и\u0306од:", "йод"),  # stored decomposed
    ],
)
def test_clean_name_reads_like_a_caption(name: str, clean: str) -> None:
    assert clean_name(name) == clean


def test_splits_are_disjoint_and_complete() -> None:
    members = [index for split in SPLITS for index in splits()[split]]
    assert sorted(members) == list(range(len(catalogue())))
    assert all(len(splits()[split]) >= 300 for split in UNSEEN_SPLITS)


@pytest.mark.parametrize("split", UNSEEN_SPLITS)
def test_parts_of_held_out_combinations_are_seen_in_training(split: str) -> None:
    train = [catalogue()[index] for index in splits()["train"]]
    groups, seen_tones = {entry.group for entry in train}, {entry.tone for entry in train}
    for index in splits()[split]:
        entry = catalogue()[index]
        assert entry.kind in ("person", "shape")
        assert entry.tone == tones(entry.character)
        assert entry.tone or entry.kind == "shape"
        assert entry.group in groups, entry
        assert entry.tone in seen_tones, entry


def test_novel_concepts_are_seen_nowhere_else() -> None:
    novel = {catalogue()[index].group for index in splits()["novel"]}
    other = {catalogue()[index].group for split in SPLITS if split != "novel" for index in splits()[split]}
    assert len(novel) >= 50
    assert not novel & other


@pytest.mark.parametrize("split", UNSEEN_SPLITS)
def test_questions_are_well_formed_and_many(split: str) -> None:
    found = asked(split)
    assert len(found) >= 1500
    assert {question.kind for question in found} == set(emoji.QUESTION_KINDS)
    for question in found:
        assert question.options[question.answer] == question.subject
        assert len(set(question.options)) == len(question.options) == (3 if question.kind == "gender" else 4)
    places = Counter(question.answer for question in found if question.kind != "gender")
    assert max(places.values()) < 1.2 * min(places.values())  # the answer's position gives nothing away


@pytest.mark.parametrize("split", UNSEEN_SPLITS)
@pytest.mark.parametrize("kind", ["gender", "colour", "country", "object"])
def test_options_differ_from_the_answer_in_just_the_thing_asked(split: str, kind: str) -> None:
    for question in asked(split):
        if question.kind != kind:
            continue
        options = [catalogue()[index] for index in question.options]
        assert {option.kind for option in options} == {
            {"gender": "person", "colour": "shape", "country": "flag", "object": "object"}[kind]
        }
        characters = [option.character for option in options]
        if kind == "gender":
            assert len({tones(c) for c in characters}) == 1, characters
            assert len({genders(c) for c in characters}) == len(options), characters
            assert len({option.group for option in options}) == 1, characters
        elif kind == "colour":
            assert len({option.group for option in options}) == 1, characters


@pytest.mark.parametrize("split", UNSEEN_SPLITS)
def test_options_on_activity_show_other_activities_by_alike_people(split: str) -> None:
    for question in asked(split):
        if question.kind == "activity":
            options = [catalogue()[index] for index in question.options]
            characters = [option.character for option in options]
            assert len({option.group for option in options}) == len(options), characters
            assert len({tones(c) for c in characters}) == 1, characters
            assert len({genders(c) for c in characters}) == 1, characters


@pytest.mark.parametrize("split", UNSEEN_SPLITS)
def test_options_on_skin_tone_show_the_same_people_in_other_tones(split: str) -> None:
    for question in asked(split):
        if question.kind == "tone":
            characters = [catalogue()[index].character for index in question.options]
            assert len({tones(c) for c in characters}) == len(characters), characters
            assert len({untoned(c) for c in characters}) == 1, characters


@pytest.mark.parametrize("split", UNSEEN_SPLITS)
def test_questions_ask_about_the_splits_own_people_and_objects_seen_in_training(split: str) -> None:
    for question in asked(split):
        asked_of = "train" if question.kind in ("object", "country") else split
        assert question.subject in splits()[asked_of]
        assert not set(question.options) & set(splits()["novel"])


def test_validation_and_test_never_ask_about_the_same_emoji() -> None:
    subjects = [{question.subject for question in asked(split)} for split in UNSEEN_SPLITS]
    assert not subjects[0] & subjects[1]
