"""Where a study starts: the recipes of its first trials, as `search.start_from` names them, in this study's space."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from analysis.commands import CommandError
from analysis.remote import copied_here, is_url
from search_spaces.inverse import parameters_of
from search_spaces.space import KNOWN_RECIPES, FloatRange, SearchSpace
from study.checks import surroundings
from study.config import StudyConfig
from study.errors import UserError
from study.mistakes import first_mistake, read_mapping
from study.storage_config import study_url
from trainables.recipe import STRATEGY_NAMES, Recipe

_KNOWN = "known"
_SOURCES = f"{_KNOWN}, the folder or the URL of another study, or a YAML file of recipes"
# What a recipe has where a space does not search it.
_ASSUMED = Recipe(strategy="fd").model_dump(mode="json") | {"strategy_weights": dict.fromkeys(STRATEGY_NAMES, 0.0)}


@dataclass(frozen=True)
class StartingPoint:
    """A trial to begin with. What ``params`` lacks is left to the sampler."""

    source: str  # as in 'runs/other, trial 00007'
    params: dict[str, Any]  # by Optuna's names
    messages: tuple[str, ...]  # a line for each part of the recipe that does not fit the study's space


def starting_points(config: StudyConfig, space: SearchSpace) -> list[StartingPoint]:
    """The first trials of a study, in the order of `search.start_from`, each once, as many as the study may run.

    Raises:
        UserError: naming the source, the recipe, the key and its value, and what would be right.
    """
    around = surroundings(config)
    points: list[StartingPoint] = []
    for source in config.search.start_from:
        for name, recipe in _recipes(source, config).items():
            place = f"{source}, {name}"
            fields, changes = _in_terms_of(space, recipe)
            params, misfits = parameters_of(space, fields, around, _ASSUMED)
            messages = tuple(f"start_from {place}: {message}" for message in [*changes, *misfits])
            if all(params != point.params for point in points):
                points.append(StartingPoint(place, params, messages))
    return points[: config.search.trials]


def _recipes(source: str, config: StudyConfig) -> dict[str, Recipe]:
    """The recipes of one source by their names."""
    if source == _KNOWN:
        return _recipes_in(KNOWN_RECIPES)
    if is_url(source):
        return _front_of(source, _copied(source, config))
    path = Path(source).expanduser()
    if path.is_dir():
        own = Path(config.storage.path).expanduser() / config.name
        if path.resolve() == own.resolve():
            raise _is_itself(source)
        return _front_of(source, path)
    if path.is_file():
        return _recipes_in(path)
    beside = [str(path.with_name(entry.name)) for entry in path.parent.glob("*")] if path.parent.is_dir() else []
    near = difflib.get_close_matches(source, [_KNOWN, *beside], 1, cutoff=0.8)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UserError(f"search.start_from: there is no '{source}': {hint}name {_SOURCES}")


def _recipes_in(path: Path) -> dict[str, Recipe]:
    try:
        content = read_mapping(path, "a file of recipes")
    except UserError as error:
        raise UserError(f"search.start_from: {error}") from None
    if not content:
        raise UserError(f"search.start_from: {path} has no recipes: it maps names to recipes")
    return {str(name): _checked(f"search.start_from: {path}: {name}", fields) for name, fields in content.items()}


def _copied(source: str, config: StudyConfig) -> Path:
    """The folder of a copy of the study at a URL."""
    if source.rstrip("/") == study_url(config):
        raise _is_itself(source)
    try:
        return copied_here(source)
    except CommandError as error:
        raise UserError(f"search.start_from: {error}") from None


def _is_itself(source: str) -> UserError:
    return UserError(f"search.start_from: {source} is this study itself: name {_SOURCES}")


def _front_of(source: str, folder: Path) -> dict[str, Recipe]:
    if not (folder / "config.yaml").is_file():
        raise UserError(f"search.start_from: {source} is no study, it has no config.yaml: name {_SOURCES}")
    from analysis.load import front, load_study  # slow, and needed here alone

    try:
        data = load_study(folder)
        members = front(data)["members"]
    except ValueError as error:
        raise UserError(f"search.start_from: {source} cannot be read: {' '.join(str(error).split())}") from None
    if data.unreadable:  # what would be its front without them may not be its front
        raise UserError(f"search.start_from: {source} cannot be read: {next(iter(data.unreadable.values()))}")
    if not members:
        raise UserError(
            f"search.start_from: {source} has no front: none of its {len(data.trials)} trials is complete and feasible; "
            f"name {_SOURCES}"
        )
    return {
        f"trial {member['trial']}": _checked(f"search.start_from: {source}: trial {member['trial']}", member["recipe"])
        for member in members
    }


def _checked(where: str, fields: Any) -> Recipe:
    if not isinstance(fields, dict):
        raise UserError(
            f"{where}: a recipe is a mapping of fields to values, as in NAME: {{strategy: dr, learning_rate: 0.003}}, "
            f"not {fields!r}"
        )
    try:
        return Recipe.model_validate(fields)
    except ValidationError as error:
        raise UserError(f"{where}: {first_mistake(Recipe, error)[1]}") from None


def _in_terms_of(space: SearchSpace, recipe: Recipe) -> tuple[dict[str, Any], list[str]]:
    """The fields that a recipe names, said as this space says them where it has other words for the same.

    Returns the fields, and a message for each part that becomes only nearly the same.
    """
    fields = recipe.model_dump(mode="json", exclude_unset=True)
    messages: list[str] = []
    strategies = space.values("strategy")
    if recipe.strategy == "mix":
        fields["strategy_weights"] = dict.fromkeys(STRATEGY_NAMES, 0.0) | fields["strategy_weights"]
    elif recipe.strategy not in strategies and "mix" in strategies:
        weights = {name: _least_weight(space, name) for name in STRATEGY_NAMES} | recipe.weights
        fields |= {"strategy": "mix", "strategy_weights": weights}
        if sum(weights.values()) > 1:
            messages.append(
                f"strategy {recipe.strategy} is not in this space: a mix is tried that has the least of the others"
            )
    kinds = space.values("language_weighting.kind")
    weighting = fields.get("language_weighting", {})
    if weighting.get("kind") == "uniform" and "uniform" not in kinds and "difficulty" in kinds:
        fields["language_weighting"] = {"kind": "difficulty", "gamma": 0.0}
    return fields, messages


def _least_weight(space: SearchSpace, strategy: str) -> float:
    entry = space.entries.get(f"strategy_weights.{strategy}")
    return entry.float[0] if isinstance(entry, FloatRange) else 0.0
