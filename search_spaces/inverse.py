"""A recipe as a point of a search space: the parameters that would give it, and what of it does not fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from search_spaces.space import (
    Choice,
    Entry,
    FloatRange,
    IntRange,
    LanguageLogits,
    LayerMap,
    SearchSpace,
    Surroundings,
    language_groups,
)

# What a look-up may find beside a value.
_ABSENT = object()  # a recipe does not name it
_OPEN = object()  # it does not fit, so the sampler chooses it
_Fit = tuple[dict[str, Any], list[str]]  # parameters and messages, as `parameters_of` returns them


def parameters_of(
    space: SearchSpace, recipe: Mapping[str, Any], around: Surroundings, assumed: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], list[str]]:
    """The inverse of `SearchSpace.suggest`: the parameters that make it give ``recipe``, or what is nearest to it.

    Args:
        space: where the parameters are looked for.
        recipe: nested recipe fields. What it does not name is left to the sampler: it has no parameter.
        around: as for `SearchSpace.suggest`.
        assumed: nested fields that a recipe has where a space does not search them. A field of ``recipe`` that is
            not searched but has this value anyway fits.

    Returns:
        The parameters by Optuna's names, each within this space, and a message of one line for each field that
        does not fit: it begins with the field and its value, and ends with what is tried in its place.
    """
    assumed = assumed or {}
    parameters: dict[str, Any] = {}
    messages = list(_unsearched(recipe, assumed, space.entries))
    chosen: dict[str, Any] = {}
    for name, entry in space.entries.items():
        value = _at(recipe, name)
        shut = [other for other, values in entry.when.items() if chosen.get(other) not in [*values, _ABSENT, _OPEN]]
        if shut:
            if value is not _ABSENT and value != _at(assumed, name):
                state = f"{shut[0]} is {_shown(chosen[shut[0]])}" if shut[0] in chosen else f"{shut[0]} is not"
                messages.append(f"{name} {_shown(value)} is not searched where {state}")
        elif value is _ABSENT:  # what depends on it keeps its values: they count if the sampler's choice opens it
            chosen[name] = _ABSENT
        elif any(chosen[other] is _OPEN for other in entry.when):
            chosen[name] = _OPEN
        else:
            fitted, misfits = _fit(name, entry, value, around)
            parameters |= fitted
            messages += misfits
            chosen[name] = fitted.get(name, _OPEN)
            if chosen[name] is _OPEN and any(name in other.when for other in space.entries.values()):
                messages[-1] += ", with what depends on it"
    return parameters, messages


def _at(tree: Mapping[str, Any], name: str) -> Any:
    """The value at a dotted name, `_ABSENT` if there is none."""
    value: Any = tree
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return _ABSENT
        value = value[part]
    return value


def _unsearched(
    recipe: Mapping[str, Any], assumed: Mapping[str, Any], entries: Mapping[str, Entry], prefix: str = ""
) -> Iterator[str]:
    """A message for each field of ``recipe`` that has no entry, and another value than it is assumed to have."""
    for key, value in recipe.items():
        name, usual = f"{prefix}{key}", assumed.get(key, _ABSENT)
        if name in entries:
            continue
        parts = usual if isinstance(usual, Mapping) else {}
        has_parts = bool(parts) or any(other.startswith(f"{name}.") for other in entries)
        if isinstance(value, Mapping) and has_parts:
            yield from _unsearched(value, parts, entries, f"{name}.")
        elif value != usual:
            instead = f": it stays {_shown(usual)}" if usual is not _ABSENT and usual not in ([], {}) else ""
            yield f"{name} {_shown(value)} is not searched in this space{instead}"


def _fit(name: str, entry: Entry, value: Any, around: Surroundings) -> _Fit:
    if isinstance(entry, Choice):
        return _fit_choice(name, entry, value)
    if isinstance(entry, FloatRange | IntRange):
        return _fit_number(name, entry, value)
    if isinstance(entry, LayerMap):
        return _fit_layers(name, value, around.student_layers[entry.layers], around.teacher_layers[entry.layers])
    return _fit_languages(name, entry, value, around.languages)


def _fit_choice(name: str, entry: Choice, value: Any) -> _Fit:
    found = [
        choice for choice in entry.choice if choice == value and isinstance(choice, bool) == isinstance(value, bool)
    ]
    if found:
        return {name: found[0]}, []
    misfit = f"{name} {_shown(value)} is not in this space: "
    if len(entry.choice) == 1:
        return {name: entry.choice[0]}, [f"{misfit}{_shown(entry.choice[0])} is tried"]
    among = ", ".join(_shown(choice) for choice in entry.choice)
    return {}, [f"{misfit}one of {among} is left to the sampler"]


def _fit_number(name: str, entry: FloatRange | IntRange, value: Any) -> _Fit:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return {}, [f"{name} {_shown(value)} is no number: it is left to the sampler"]
    low, high = entry.float if isinstance(entry, FloatRange) else entry.int
    nearest = min(max(value, low), high)
    nearest = float(nearest) if isinstance(entry, FloatRange) else round(nearest)
    if nearest == value:
        return {name: nearest}, []
    side = f"above this space's {_shown(high)}" if value > high else f"below this space's {_shown(low)}"
    reason = side if not low <= value <= high else "no whole number"
    return {name: nearest}, [f"{name} {_shown(value)} is {reason}: {_shown(nearest)} is tried"]


def _fit_layers(name: str, value: Any, student: int, teacher: int) -> _Fit:
    layers = list(value) if isinstance(value, Sequence) and all(isinstance(layer, int) for layer in value) else []
    rising = all(earlier < later for earlier, later in pairwise([0, *layers]))
    if len(layers) != student or not rising or layers[-1] > teacher:
        size = f"{student} student layers into {teacher} teacher layers"
        return {}, [f"{name} {_shown(value)} is no map of {size}: it is left to the sampler"]
    return {f"{name}.{place}": layer - place - 1 for place, layer in enumerate(layers)}, []


def _fit_languages(name: str, entry: LanguageLogits, value: Any, languages: Sequence[str]) -> _Fit:
    if not isinstance(value, Mapping):
        return {}, [f"{name} {_shown(value)} is no logit for each language: it is left to the sampler"]
    parameters: dict[str, Any] = {}
    messages: list[str] = []
    strange = [language for language in value if language not in languages]
    if strange:
        messages.append(f"{name}: {', '.join(strange)} is no language of this study: its logit is passed over")
    for place, group in enumerate(language_groups(languages, entry.groups)):
        known = {language: value[language] for language in group if language in value}
        missing = [language for language in group if language not in value]
        if not known:
            messages.append(f"{name} lacks {', '.join(missing)}: their logit is left to the sampler")
            continue
        logits = list(known.values())
        mean = logits[0] if len(set(logits)) == 1 else sum(logits) / len(logits)
        parameter, misfits = _fit_number(f"{name}.{place}", FloatRange(float=entry.languages), mean)
        parameters |= parameter
        messages += [misfit.replace(f"{name}.{place}", f"{name} of {', '.join(known)}", 1) for misfit in misfits]
        if len(set(logits)) > 1:
            messages.append(
                f"{name} of {', '.join(known)} {_shown(logits)} has one value in this space: their mean, "
                f"{_shown(mean)}, stands for them"
            )
        if missing:
            messages.append(f"{name} lacks {', '.join(missing)}: that of {', '.join(known)} stands for them")
    return parameters, messages


def _shown(value: Any) -> str:
    """A value as a message shows it: numbers without the digits that nobody reads."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return "of " + ", ".join(str(key) for key in value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_shown(item) for item in value)}]"
    return str(value)
