"""YAML files that a user writes, and their first mistake in one line."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from search_spaces.yaml_file import read_yaml
from study.errors import UserError


def read_mapping(path: Path, what: str) -> dict[str, Any]:
    """The mapping in a YAML file, empty if the file is; ``what`` says what it is to be, as in 'a configuration'.

    Raises:
        UserError: if the file cannot be read, or holds something else.
    """
    try:
        content = read_yaml(path)
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: cannot be read as YAML: {error}") from None
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise UserError(f"{path}: {what} is a mapping of keys to values, not {type(content).__name__}")
    return content


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """A question with the nearest of the ``known`` words, to go before what else helps; empty if none is near."""
    near = difflib.get_close_matches(word, known, 1)
    return f"did you mean {near[0]}? " if near else ""


def first_mistake(where: str, model: type[BaseModel], error: ValidationError) -> str:
    """What is wrong with the content of ``where`` as a ``model``: the key, its value, and what would be right."""
    errors = error.errors(include_url=False)
    # A key that is not known says why another is missing.
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    location = _location(first)
    key = ".".join(location)
    if first["type"] == "extra_forbidden":
        known = _keys_at(model, [str(part) for part in first["loc"][:-1]])
        near = difflib.get_close_matches(location[-1], known, 1)
        hint = f"did you mean {'.'.join([*location[:-1], near[0]])}?" if near else f"there are {', '.join(known)}"
        return f"{where}: unknown key {key}: {hint}"
    if not location:  # a check across sections names its keys itself
        return f"{where}: {_reason(first)}"
    value = "" if isinstance(first["input"], Mapping) else f", not {_short(first['input'])}"
    branches = [other for other in errors if _location(other) == location]
    reason = " or ".join(dict.fromkeys(_reason(branch) for branch in branches))
    if first["type"] == "value_error":
        return f"{where}: {key}: {reason}"
    if first["type"] == "literal_error" and isinstance(first["input"], str):
        allowed = [word.strip("'") for word in str(first["ctx"]["expected"]).replace(" or ", ", ").split(", ")]
        near = difflib.get_close_matches(first["input"], allowed, 1)
        reason += f" (did you mean {near[0]}?)" if near else ""
    return f"{where}: {key}: {reason}{value}"


def _location(error: Any) -> list[str]:
    """The user's key: without what pydantic adds for the key of a mapping or the branch of a union, and without the empty
    name of a source that stands alone."""
    added = ("[", "constrained-", "literal[", "dict[", "tuple[")
    return [str(part) for part in error["loc"] if part not in ("str", "") and not str(part).startswith(added)]


# In the words of a YAML file, by pydantic's type of error.
_WORDS = {
    "missing": "is required",
    "tuple_type": "should be a list, for example [en, de]",
    "bool_parsing": "should be true or false",
    "bool_type": "should be true or false",
    "dict_type": "should be a section of keys and values",
    "model_type": "should be a section of keys and values",
    "model_attributes_type": "should be a section of keys and values",
}


def _reason(error: Any) -> str:
    if error["type"] in _WORDS:
        return _WORDS[error["type"]]
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return message.replace("Input should be", "should be")


def _short(value: Any) -> str:
    text = "empty" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _keys_at(root: type[BaseModel], location: Sequence[str]) -> list[str]:
    """The keys of the section at ``location``, as pydantic gives it, where sections are models."""
    model: Any = root
    for part in location:
        if get_origin(model) is Annotated:
            model = get_args(model)[0]
        if get_origin(model) is dict:
            model = get_args(model)[1]
        elif hasattr(model, "model_fields"):
            field = model.model_fields.get(part)
            model = field.annotation if field is not None else None
        else:  # a tagged union of sections
            branches = (branch for branch in get_args(model) if hasattr(branch, "__metadata__"))
            model = next((get_args(one)[0] for one in branches if one.__metadata__[0].tag == part), None)
        if type(None) in get_args(model):
            model = get_args(model)[0]
    return list(model.model_fields) if hasattr(model, "model_fields") else []
