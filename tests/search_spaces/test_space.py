from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.inverse import parameters_of
from search_spaces.space import SearchSpace, SpaceError, Surroundings, available_spaces, language_groups, load_space

LANGUAGES = ("en", "es", "ja", "ko", "tr")
AROUND = Surroundings({"image": 2, "text": 1}, {"image": 4, "text": 3}, LANGUAGES)


class Answers:
    """Answers a space's questions from a script, else at random; remembers all that it was asked."""

    def __init__(self, script: Mapping[str, Any] | None = None, seed: int = 0) -> None:
        self.script = dict(script or {})
        self.asked: dict[str, Any] = {}
        self.random = random.Random(seed)

    def _answer(self, name: str, drawn: Any) -> Any:
        assert name not in self.asked, f"{name} was asked for twice"
        self.asked[name] = self.script.get(name, drawn)
        return self.asked[name]

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._answer(name, self.random.choice(choices))

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return self._answer(name, self.random.uniform(low, high))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return self._answer(name, self.random.randint(low, high))


def every_point(space: SearchSpace, around: Surroundings) -> Iterator[dict[str, Any]]:
    """All points of a space that asks for whole numbers alone, always the same ones."""
    ranges: dict[str, range] = {}

    class Recorder(Answers):
        def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
            ranges[name] = range(low, high + 1)
            return super().suggest_int(name, low, high, log=log)

    space.suggest(Recorder(), around)
    for values in itertools.product(*ranges.values()):
        yield space.suggest(Answers(dict(zip(ranges, values, strict=True))), around)


def write_space(folder: Path, text: str) -> Path:
    path = folder / "space.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_conditions_open_entries_only_where_they_hold() -> None:
    space = load_space("full")
    seen: dict[str, set[bool]] = {}
    for seed in range(100):
        answers = Answers(seed=seed)
        space.suggest(answers, AROUND)
        asked = answers.asked
        is_open = {
            "strategy_weights.fd": asked["strategy"] == "mix",
            "replication.teacher_temperature": asked["strategy"] in ("dr", "mix"),
            "image_mapping.layers.0": asked["image_mapping.kind"] == "monotone",
            "text_mapping.layers.0": asked["text_mapping.kind"] == "monotone",
            "language_weighting.gamma": asked["language_weighting.kind"] == "difficulty",
            "language_weighting.logits.0": asked["language_weighting.kind"] == "free",
        }
        for name, expected in is_open.items():
            assert (name in asked) is expected, (name, asked)
            seen.setdefault(name, set()).add(expected)
    assert all(both == {True, False} for both in seen.values())


def test_a_condition_on_an_entry_that_is_closed_does_not_hold(tmp_path: Path) -> None:
    text = "a: {choice: [1, 2]}\nb: {choice: [3], when: {a: [1]}}\nc: {int: [0, 9], when: {b: [3]}}\n"
    space = load_space(str(write_space(tmp_path, text)))
    assert set(space.suggest(Answers({"a": 1}), AROUND)) == {"a", "b", "c"}
    assert set(space.suggest(Answers({"a": 2}), AROUND)) == {"a"}


def test_dots_lead_into_the_parts_of_a_recipe(tmp_path: Path) -> None:
    space = load_space(str(write_space(tmp_path, "a.b.c: {choice: [x]}\na.b.d: {choice: [true]}\ne: {int: [4, 4]}\n")))
    assert space.suggest(Answers(), AROUND) == {"a": {"b": {"c": "x", "d": True}}, "e": 4}
    assert (space.values("a.b.c"), space.values("e"), space.values("f")) == (["x"], [], [])


def test_layer_maps_are_all_strictly_increasing_maps_and_nothing_else(tmp_path: Path) -> None:
    space = load_space(str(write_space(tmp_path, "m: {layers: image}\n")))
    around = Surroundings({"image": 3, "text": 1}, {"image": 5, "text": 1}, LANGUAGES)
    found = {tuple(point["m"]) for point in every_point(space, around)}
    assert found == set(itertools.combinations(range(1, 6), 3))


def test_a_student_as_deep_as_its_teacher_has_one_layer_map(tmp_path: Path) -> None:
    space = load_space(str(write_space(tmp_path, "m: {layers: text}\n")))
    around = Surroundings({"image": 1, "text": 3}, {"image": 1, "text": 3}, LANGUAGES)
    assert [point["m"] for point in every_point(space, around)] == [[1, 2, 3]]


@given(st.integers(1, 30), st.one_of(st.integers(1, 40), st.just("each")))
def test_language_groups_are_runs_of_nearly_equal_length(count: int, groups: Any) -> None:
    languages = [f"l{place}" for place in range(count)]
    found = language_groups(languages, groups)
    assert [language for group in found for language in group] == languages
    assert len(found) == (count if groups == "each" else min(count, groups))
    sizes = {len(group) for group in found}
    assert max(sizes) - min(sizes) <= 1


def test_languages_of_a_group_share_a_logit(tmp_path: Path) -> None:
    text = "grouped: {languages: [-1, 1], groups: 2}\nsingle: {languages: [-1, 1]}\n"
    space = load_space(str(write_space(tmp_path, text)))
    around = Surroundings({}, {}, ("en", "es", "ja", "ko"))
    single = {"single.0": 0.1, "single.1": 0.2, "single.2": 0.3, "single.3": 0.4}
    found = space.suggest(Answers({"grouped.0": 0.5, "grouped.1": -0.5, **single}), around)
    assert found["grouped"] == {"en": 0.5, "es": 0.5, "ja": -0.5, "ko": -0.5}
    assert found["single"] == {"en": 0.1, "es": 0.2, "ja": 0.3, "ko": 0.4}


@pytest.mark.parametrize(
    ("text", "entry", "hints"),
    [
        ("a: {choise: [1]}", "a", ["exactly one of", "choice", "choise"]),
        ("a: {choice: [1], int: [0, 1]}", "a", ["exactly one of"]),
        ("a: 3", "a", ["exactly one of", "3"]),
        ("a: {choice: []}", "a", ["choice", "at least 1"]),
        ("a: {float: [1]}", "a", ["float"]),
        ("a: {float: [1, x]}", "a", ["float", "x"]),
        ("a: {float: [2, 1]}", "a", ["[2.0, 1.0]", "no range"]),
        ("a: {float: [0, 1], log: true}", "a", ["[0.0, 1.0]", "logarithmic"]),
        ("a: {int: [0.5, 1]}", "a", ["int", "0.5"]),
        ("a: {int: [0, 1], lg: true}", "a", ["lg"]),
        ("a: {layers: audio}", "a", ["image", "text", "audio"]),
        ("a: {languages: [1, -1]}", "a", ["[1.0, -1.0]", "no range"]),
        ("a: {languages: [-1, 1], groups: 0}", "a", ["groups", "0"]),
        ("b: {choice: [1]}\na: {int: [0, 1], when: {c: [1]}}", "a", ["when", "'c'", "choice that stands above it"]),
        ("a: {int: [0, 1], when: {b: [1]}}\nb: {choice: [1]}", "a", ["when", "'b'", "above"]),
        ("b: {choice: [x, y]}\na: {int: [0, 1], when: {b: [z]}}", "a", ["when", "'z'", "['x', 'y']"]),
        ("b: {choice: [x, y]}\na: {int: [0, 1], when: {b: x}}", "a", ["when", "'x'"]),
    ],
)
def test_a_mistake_in_an_entry_names_file_entry_and_value(
    tmp_path: Path, text: str, entry: str, hints: list[str]
) -> None:
    path = write_space(tmp_path, text)
    with pytest.raises(SpaceError) as raised:
        load_space(str(path))
    message = str(raised.value)
    assert message.startswith(f"{path}: {entry}: ")
    assert "\n" not in message
    assert all(hint in message for hint in hints), message


@pytest.mark.parametrize("text", ["a: [1", "- a\n- b\n", "", "just text"])
def test_a_file_that_is_no_mapping_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    path = write_space(tmp_path, text)
    with pytest.raises(SpaceError) as raised:
        load_space(str(path))
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


def test_a_space_that_does_not_exist_is_refused_with_a_suggestion() -> None:
    assert "full" in available_spaces()
    with pytest.raises(SpaceError, match=r"'ful'.*did you mean full"):
        load_space("ful")


depths = st.tuples(st.integers(1, 5), st.integers(0, 5)).map(lambda sizes: (sizes[0], sum(sizes)))


@given(st.sampled_from(["full", "mix"]), st.integers(0, 2**32), depths, depths, st.integers(2, 14))
def test_the_parameters_of_a_point_are_those_that_give_it_again(
    name: str, seed: int, image: tuple[int, int], text: tuple[int, int], languages: int
) -> None:
    around = Surroundings(
        {"image": image[0], "text": text[0]}, {"image": image[1], "text": text[1]}, [f"l{n}" for n in range(languages)]
    )
    space, drawn = load_space(name), Answers(seed=seed)
    recipe = space.suggest(drawn, around)
    parameters, messages = parameters_of(space, recipe, around)
    assert messages == []
    assert set(parameters) == set(drawn.asked)
    assert space.suggest(Answers(parameters, seed=seed + 1), around) == recipe


SMALL = """
kind: {choice: [a, b]}
only: {choice: [x]}
rate: {float: [0.1, 1.0], log: true, when: {kind: [a]}}
part.size: {int: [2, 8]}
map: {layers: image}
logits: {languages: [-1, 1], groups: 2}
"""
FITS = {"kind": "a", "only": "x", "rate": 0.5, "part": {"size": 4}, "map": [2, 4], "logits": {"en": 0.5, "ja": -0.5}}
FITTED = {
    "kind": "a", "only": "x", "rate": 0.5, "part.size": 4, "map.0": 1, "map.1": 2, "logits.0": 0.5, "logits.1": -0.5,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "instead", "messages"),
    [
        ({}, {}, []),
        ({"rate": 1}, {"rate": 1.0}, []),
        ({"rate": 2}, {"rate": 1.0}, ["rate 2 is above this space's 1: 1 is tried"]),
        ({"rate": 0.05}, {"rate": 0.1}, ["rate 0.05 is below this space's 0.1: 0.1 is tried"]),
        ({"part": {"size": 9}}, {"part.size": 8}, ["part.size 9 is above this space's 8: 8 is tried"]),
        ({"part": {"size": 2.6}}, {"part.size": 3}, ["part.size 2.6 is no whole number: 3 is tried"]),
        ({"part": {"size": "big"}}, {"part.size": None}, ["part.size big is no number: it is left to the sampler"]),
        (
            {"kind": "c"},
            {"kind": None, "rate": None},
            ["kind c is not in this space: one of a, b is left to the sampler, with what depends on it"],
        ),
        ({"kind": "b"}, {"kind": "b", "rate": None}, ["rate 0.5 is not searched where kind is b"]),
        ({"only": "y"}, {}, ["only y is not in this space: x is tried"]),
        (
            {"map": [1, 2, 3]},
            {"map.0": None, "map.1": None},
            ["map [1, 2, 3] is no map of 2 student layers into 4 teacher layers: it is left to the sampler"],
        ),
        (
            {"map": [2, 5]},
            {"map.0": None, "map.1": None},
            ["map [2, 5] is no map of 2 student layers into 4 teacher layers: it is left to the sampler"],
        ),
        (
            {"logits": {"en": 0.5, "es": 0.25, "xx": 3.0}},
            {"logits.0": 0.375, "logits.1": None},
            [
                "logits: xx is no language of this study: its logit is passed over",
                "logits of en, es [0.5, 0.25] has one value in this space: their mean, 0.375, stands for them",
                "logits lacks ja: their logit is left to the sampler",
            ],
        ),
        (
            {"logits": {"en": 2.0, "ja": -0.5}},
            {"logits.0": 1.0},
            [
                "logits of en 2 is above this space's 1: 1 is tried",
                "logits lacks es: that of en stands for them",
            ],
        ),
        ({"other": 1}, {}, ["other 1 is not searched in this space"]),
        ({"usual": 1}, {}, []),
        ({"usual": 2}, {}, ["usual 2 is not searched in this space: it stays 1"]),
        ({"part": {"size": 9, "shape": "o"}}, {"part.size": 8}, ["part.shape o is not searched in this space", "part.size 9 is above this space's 8: 8 is tried"]),
        (
            {"part": {"size": 4, "colour": "red"}},
            {},
            ["part.colour red is not searched in this space: it stays blue"],
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_a_space_is_said_and_the_nearest_is_taken(
    tmp_path: Path, change: dict[str, Any], instead: dict[str, Any], messages: list[str]
) -> None:
    space = load_space(str(write_space(tmp_path, SMALL)))
    languages = ("en", "es", "ja") if "es" in str(messages) or "es" in str(change) else ("en", "ja")
    around = Surroundings({"image": 2}, {"image": 4}, languages)
    found, said = parameters_of(space, FITS | change, around, {"usual": 1, "part": {"colour": "blue"}})
    assert said == messages
    assert found == {name: value for name, value in (FITTED | instead).items() if value is not None}


def test_what_a_recipe_does_not_name_is_left_to_the_sampler_without_a_word(tmp_path: Path) -> None:
    space = load_space(str(write_space(tmp_path, SMALL)))
    assert parameters_of(space, {"kind": "a"}, AROUND) == ({"kind": "a"}, [])
    assert parameters_of(space, {"rate": 0.5}, AROUND) == ({"rate": 0.5}, [])  # for the case that kind becomes a
