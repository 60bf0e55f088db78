"""A search space: read from YAML, checked, and walked define-by-run, so that a choice may open further choices."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from search_spaces.yaml_file import read_yaml, reason_in_words

_FOLDER = Path(__file__).parent
KNOWN_RECIPES = _FOLDER / "recipes" / "known.yaml"
Tower = Literal["image", "text"]


class Suggester(Protocol):
    """What the space needs of an Optuna trial."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...
    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...
    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    when: dict[str, list[Any]] = {}


class Choice(_Entry):
    choice: Annotated[list[str | int | float | bool], Field(min_length=1)]


class FloatRange(_Entry):
    float: tuple[float, float]
    log: bool = False


class IntRange(_Entry):
    int: tuple[int, int]
    log: bool = False


class LayerMap(_Entry):
    layers: Tower


class LanguageLogits(_Entry):
    languages: tuple[float, float]
    groups: Annotated[int, Field(ge=1)] | Literal["each"] = "each"


Entry = Choice | FloatRange | IntRange | LayerMap | LanguageLogits
_KINDS: dict[str, type[Entry]] = {
    "choice": Choice,
    "float": FloatRange,
    "int": IntRange,
    "layers": LayerMap,
    "languages": LanguageLogits,
}


class SpaceError(ValueError):
    """A space that cannot be read; the message names file, entry and what would be right."""


@dataclass(frozen=True)
class Surroundings:
    """What a study tells its space: the sizes and languages that some entries depend on."""

    student_layers: Mapping[Tower, int]
    teacher_layers: Mapping[Tower, int]
    languages: Sequence[str]


@dataclass(frozen=True)
class SearchSpace:
    """The entries of a space, in order."""

    source: str
    entries: Mapping[str, Entry]

    def suggest(self, trial: Suggester, around: Surroundings) -> dict[str, Any]:
        """Ask ``trial`` for every entry whose conditions hold. Returns a nested dictionary of recipe fields."""
        chosen: dict[str, Any] = {}
        for name, entry in self.entries.items():
            if all(chosen.get(other) in values for other, values in entry.when.items()):
                chosen[name] = _suggest(name, entry, trial, around)
        return _nested(chosen)

    def as_plain(self) -> dict[str, Any]:
        """The entries as JSON has them, to be held against another time's."""
        return {name: entry.model_dump(mode="json", exclude_defaults=True) for name, entry in self.entries.items()}

    def values(self, name: str) -> list[Any]:
        """Every value of a choice, empty if the space does not have that entry."""
        entry = self.entries.get(name)
        return list(entry.choice) if isinstance(entry, Choice) else []


def available_spaces() -> list[str]:
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def load_space(name: str) -> SearchSpace:
    """A space of this package by its name, or of the file that ``name`` is the path of.

    Raises:
        SpaceError: if there is no such space, or an entry in it is wrong.
    """
    path = _FOLDER / f"{name}.yaml"
    if not path.is_file():
        path = Path(name)
        if not path.is_file():
            near = difflib.get_close_matches(name, available_spaces(), 1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise SpaceError(
                f"no space '{name}': {hint}there are {', '.join(available_spaces())}, or the path of a file"
            )
    try:
        content = read_yaml(path)
    except OSError as error:
        raise SpaceError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise SpaceError(f"{path}: cannot be read as YAML: {error}") from None
    if not isinstance(content, dict) or not content:
        raise SpaceError(
            f"{path}: a space is a mapping of fields of a recipe to what they may be, as in learning_rate: {{float: [0.001, 0.01]}}"
        )
    entries: dict[str, Entry] = {}
    for key, value in content.items():
        entry = _parse(f"{path}: {key}", value)
        for other, values in entry.when.items():
            before = entries.get(other)
            if not isinstance(before, Choice):
                raise SpaceError(f"{path}: {key}: when: '{other}' is not a choice that stands above it")
            unknown = [value for value in values if value not in before.choice]
            if unknown:
                raise SpaceError(f"{path}: {key}: when: {other} is never {unknown[0]!r}: it is one of {before.choice}")
        entries[str(key)] = entry
    return SearchSpace(str(path), entries)


def _parse(where: str, value: Any) -> Entry:
    kinds = [kind for kind in _KINDS if isinstance(value, dict) and kind in value]
    if len(kinds) != 1:
        given = value if isinstance(value, dict) and not kinds else {}
        near = [one for key in given for one in difflib.get_close_matches(str(key), _KINDS, 1)]
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise SpaceError(f"{where}: needs exactly one of {', '.join(_KINDS)}{hint}, not {value!r}")
    try:
        entry = TypeAdapter(_KINDS[kinds[0]]).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        branches = ("constrained-", "literal[")  # of a union, as pydantic names them
        field = ".".join(str(part) for part in first["loc"] if not str(part).startswith(branches))
        if first["type"] == "extra_forbidden":
            known = ", ".join(_KINDS[kinds[0]].model_fields)
            raise SpaceError(f"{where}: unknown key {field}: there are {known}") from None
        raise SpaceError(f"{where}: {field}: {reason_in_words(first)}, not {first['input']!r}") from None
    if isinstance(entry, FloatRange | IntRange | LanguageLogits):
        low, high = getattr(entry, kinds[0])
        is_log = getattr(entry, "log", False)
        if low > high or (is_log and low <= 0):
            raise SpaceError(f"{where}: [{low}, {high}] is no range{' on a logarithmic scale' if is_log else ''}")
    return entry


def _suggest(name: str, entry: Entry, trial: Suggester, around: Surroundings) -> Any:
    if isinstance(entry, Choice):
        return trial.suggest_categorical(name, entry.choice)
    if isinstance(entry, FloatRange):
        return trial.suggest_float(name, *entry.float, log=entry.log)
    if isinstance(entry, IntRange):
        return trial.suggest_int(name, *entry.int, log=entry.log)
    if isinstance(entry, LayerMap):
        student, teacher = around.student_layers[entry.layers], around.teacher_layers[entry.layers]
        # Any sorted offsets in [0, m − n] give a strictly increasing map, and every such map has its offsets; each
        # parameter keeps one fixed range, as samplers need.
        offsets = [trial.suggest_int(f"{name}.{place}", 0, teacher - student) for place in range(student)]
        return [place + offset + 1 for place, offset in enumerate(sorted(offsets))]
    groups = language_groups(around.languages, entry.groups)
    logits = {}
    for place, group in enumerate(groups):
        logit = trial.suggest_float(f"{name}.{place}", *entry.languages)
        logits.update(dict.fromkeys(group, logit))
    return logits


def language_groups(languages: Sequence[str], groups: int | Literal["each"]) -> list[list[str]]:
    """The languages in so many runs of nearly equal length, in their order; no more groups than languages."""
    count = len(languages) if groups == "each" else min(groups, len(languages))
    bounds = [round(place * len(languages) / count) for place in range(count + 1)]
    return [list(languages[start:end]) for start, end in pairwise(bounds)]


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *path, last = name.split(".")
        branch = tree
        for part in path:
            branch = branch.setdefault(part, {})
        branch[last] = value
    return tree
