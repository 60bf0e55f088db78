"""YAML files that a user writes, and their first mistake in one line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from search_spaces.yaml_file import read_yaml, reason_in_words
from study.errors import UserError

_UNKNOWN = ("extra_forbidden", "invalid_key")  # pydantic's types of error; the latter: a key that is no text
_KEY_FIRST = re.compile(r"([a-z_]+(?:\.[\w@-]+)*): ")
_KINDS = {str: "text", list: "a list", bool: "true or false", int: "a number", float: "a number"}


def read_mapping(path: Path, what: str) -> dict[str, Any]:
    """The mapping in a YAML file, empty if the file is; ``what`` says what it is to be, as in 'a configuration'.

    Raises:
        UserError: if the file cannot be read, or holds something else.
    """
    try:
        content = read_yaml(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path}: cannot be read as YAML: {error}") from None
    if content is None:
        content = {}
    if not isinstance(content, dict):
        kind = _KINDS.get(type(content), "a value")
        raise UserError(f"{path}: {what} is a mapping of keys to values (KEY: VALUE), not {kind}")
    return content


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """A question with the nearest of the ``known`` words, to go before what else helps; empty if none is near."""
    near = difflib.get_close_matches(word, known, 1)
    return f"did you mean {near[0]}? " if near else ""


def first_mistake(model: type[BaseModel], error: ValidationError) -> tuple[str, str]:
    """What is wrong with a mapping as a ``model``: the key, and it again in a line with its value and what would be right."""
    errors = error.errors(include_url=False)
    # A key that is not known says why another is missing.
    first = next((one for one in errors if one["type"] in _UNKNOWN), errors[0])
    location = _location(first)
    key = ".".join(location)
    if first["type"] in _UNKNOWN:
        known = _keys_at(model, [str(part) for part in first["loc"][:-1]])
        near = difflib.get_close_matches(location[-1], known, 1) if location else []
        hint = f"did you mean {'.'.join([*location[:-1], near[0]])}?" if near else f"there are {', '.join(known)}"
        return key, f"unknown key {key or repr('')}: {hint}"
    if not location:  # a check across sections names its keys itself
        reason = reason_in_words(first)
        return reason.partition(": ")[0], reason
    value = "" if isinstance(first["input"], Mapping) else f", not {_short(first['input'])}"
    branches = [other for other in errors if _location(other) == location]
    reason = " or ".join(dict.fromkeys(reason_in_words(branch) for branch in branches)).replace(
        " or should be ", " or "
    )
    if first["type"] == "value_error":
        if named := _KEY_FIRST.match(reason):  # a check of a section names the key in it that is wrong
            return f"{key}.{named[1]}", f"{key}.{reason}"
        return key, f"{key}: {reason}"
    if first["type"] == "literal_error" and isinstance(first["input"], str):
        allowed = [word.strip("'") for word in str(first["ctx"]["expected"]).replace(" or ", ", ").split(", ")]
        near = difflib.get_close_matches(first["input"], allowed, 1)
        reason += f" (did you mean {near[0]}?)" if near else ""
    return key, f"{key}: {reason}{value}"


def _location(error: Any) -> list[str]:
    """The user's key: without what pydantic adds for the key of a mapping or the branch of a union, and without the empty
    name of a source that stands alone."""
    added = ("[", "constrained-", "literal[", "dict[", "tuple[")
    return [str(part) for part in error["loc"] if part not in ("str", "") and not str(part).startswith(added)]


def _short(value: Any) -> str:
    text = "empty" if value is None else str(value) if isinstance(value, date) else repr(value)
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
