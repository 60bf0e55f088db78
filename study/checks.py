"""Checks across a configuration and its search space, before anything slow starts."""

from __future__ import annotations

import difflib
import random
from collections.abc import Sequence
from typing import Any, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from search_spaces.space import (
    Choice,
    Entry,
    FloatRange,
    IntRange,
    LayerMap,
    SearchSpace,
    SpaceError,
    Surroundings,
    Tower,
    available_spaces,
    load_space,
)
from search_spaces.yaml_file import reason_in_words
from study.config import StudyConfig
from study.errors import UserError
from study.models import student_layers, teacher_towers
from trainables.data.headers import check_source
from trainables.data.report import DataError
from trainables.data.settings import OwnData
from trainables.language_weights import language_weights
from trainables.layer_mapping import mapped_layers
from trainables.recipe import LayerMapping, Recipe

_SAMPLES = 200


def surroundings(config: StudyConfig) -> Surroundings:
    """What the study's space needs to know of its models and languages."""
    return Surroundings(
        student_layers=student_layers(config),
        teacher_layers={tower: sizes.layers for tower, sizes in teacher_towers(config).items()},
        languages=config.data.languages,
    )


def checked_space(config: StudyConfig) -> SearchSpace:
    """The study's space, after every entry was held against what a recipe can be.

    Raises:
        UserError: naming the space's file, the entry, the value and what would be right.
    """
    try:
        space = load_space(config.search.space)
    except SpaceError as error:
        raise UserError(f"search.space: {error}") from None
    where = f"search.space: {space.source}"
    for name, entry in space.entries.items():
        _check_entry(where, name, entry)
    _check_sampler(config, space)
    around = surroundings(config)
    rng = random.Random(0)
    for _ in range(_SAMPLES):  # what no single entry shows: a choice that lacks the settings that it needs
        point = space.suggest(_RandomPoint(rng), around)
        try:
            recipe = Recipe.model_validate(point)
            language_weights(recipe.language_weighting, around.languages, dict.fromkeys(around.languages, 0.5))
            _check_mappings(recipe, around)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = "".join(f"{part}: " for part in [".".join(map(str, first["loc"]))] if part)
            raise UserError(f"{where}: {key}{reason_in_words(first)}") from None
        except ValueError as error:
            raise UserError(f"{where}: {error}") from None
    return space


def check_data(config: StudyConfig) -> None:
    """Hold data of the user's own against its files, as far as they are here.

    Raises:
        UserError: naming the key, its value and what would be right.
    """
    for key, source in config.data.sources.items():
        if isinstance(source, OwnData):
            try:
                check_source(f"data.{key}", source, config.data.languages_of(source))
            except DataError as error:
                raise UserError(str(error)) from None


def _check_sampler(config: StudyConfig, space: SearchSpace) -> None:
    """A Gaussian process models only what every trial has: of a conditional space it would see a part."""
    conditional = _conditional(space)
    if config.search.sampler == "gp" and conditional:
        whole = [name for name in available_spaces() if not _conditional(load_space(name))]
        raise UserError(
            f"search.sampler: gp models a space as a whole, but {len(conditional)} of the {len(space.entries)} entries "
            f"of {config.search.space} are conditional (they have a when): take search.space: {' or '.join(whole)}, or "
            "search.sampler: tpe"
        )


def _conditional(space: SearchSpace) -> list[str]:
    return [name for name, entry in space.entries.items() if entry.when]


def _check_mappings(recipe: Recipe, around: Surroundings) -> None:
    """Raises:
    ValueError: naming the tower whose layers a recipe cannot map.
    """
    mappings: tuple[tuple[Tower, LayerMapping], ...] = (("image", recipe.image_mapping), ("text", recipe.text_mapping))
    for tower, mapping in mappings:
        try:
            mapped_layers(mapping, around.student_layers[tower], around.teacher_layers[tower])
        except ValueError as error:
            raise ValueError(f"{tower}_mapping: {error}") from None


def _check_entry(where: str, name: str, entry: Entry) -> None:
    kind: Any = Recipe
    path: list[str] = []
    for part in name.split("."):
        fields = getattr(kind, "model_fields", None)
        if fields is not None:
            if part not in fields:
                _refuse(where, name, part, path, list(fields))
            kind = fields[part].rebuild_annotation()
        else:
            if get_origin(kind) is not dict:
                raise UserError(f"{where}: {name}: {'.'.join(path)} has no parts")
            keys, kind = get_args(kind)
            try:
                TypeAdapter(keys).validate_python(part)
            except ValidationError as error:
                raise UserError(f"{where}: {name}: {_wish(error)}, not {part!r}") from None
        path.append(part)
    said = ""  # of what is no single value
    if isinstance(entry, Choice):
        values: Sequence[Any] = entry.choice
    elif isinstance(entry, FloatRange):
        values = entry.float
    elif isinstance(entry, IntRange):
        values = entry.int
    elif isinstance(entry, LayerMap):
        values, said = [(1,)], "layers of a tower"
    else:
        values, said = [{"en": entry.languages[0]}], "logits of languages"
    for value in values:
        try:
            TypeAdapter(kind).validate_python(value)
        except ValidationError as error:
            raise UserError(f"{where}: {name}: {_wish(error)}, not {said or repr(value)}") from None


def _refuse(where: str, name: str, part: str, path: Sequence[str], known: list[str]) -> None:
    near = difflib.get_close_matches(part, known, 1)
    hint = f"did you mean {'.'.join([*path, near[0]])}?" if near else f"there are {', '.join(known)}"
    raise UserError(f"{where}: {name}: a recipe has no such field: {hint}")


def _wish(error: ValidationError) -> str:
    return reason_in_words(error.errors(include_url=False)[0])


class _RandomPoint:
    """Answers a space's questions at random, as a sampler would."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._rng.choice(choices)

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return self._rng.uniform(low, high)

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return self._rng.randint(low, high)
