"""YAML that a user writes, and what is wrong with it, in the words of one who writes YAML."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import yaml

# What PyYAML says, by its beginning, and what a user would do about it.
_SAID = {
    "mapping values are not allowed here": "a second colon: put the value in quotes, or indent the line as its neighbours are",
    "found character '\\t' that cannot start any token": "a tab: YAML is indented by spaces",
    "could not find expected ':'": "a key without a colon after it",
    "expected <block end>, but found": "not indented as the lines before it, or a list and keys side by side",
    "found unhashable key": "a key is a word, not a list or a mapping",
    "found undefined alias": "a reference (*) to what no anchor (&) above it names",
    "expected the node content, but found": "a value that is not there, or a bracket that is never closed",
    "found unexpected end of stream": "a quotation mark that is never closed",
    "found unconstructable recursive node": "a reference (*) inside what its own anchor (&) names",
    "could not determine a constructor for the tag": "a tag (!), where there are plain values alone",
    "but found another document": "a second document (---), where there is one",
}
_END = "'<stream end>'"

# By pydantic's type of error, with what is in its context.
_WORDS = {
    "missing": "is required",
    "int_type": "should be a whole number",
    "int_parsing": "should be a whole number",
    "int_from_float": "should be a whole number",
    "float_type": "should be a number",
    "float_parsing": "should be a number",
    "finite_number": "should be a finite number",
    "string_type": "should be text",
    "string_too_short": "should not be empty",
    "too_short": "should have at least {min_length}",
    "too_long": "should have at most {max_length}",
    "greater_than": "should be more than {gt}",
    "greater_than_equal": "should be at least {ge}",
    "less_than": "should be less than {lt}",
    "less_than_equal": "should be at most {le}",
    "tuple_type": "should be a list, as [en, de] or [10, 20]",
    "list_type": "should be a list",
    "bool_parsing": "should be true or false",
    "bool_type": "should be true or false",
    "dict_type": "should be a section of keys and values",
    "model_type": "should be a section of keys and values",
    "model_attributes_type": "should be a section of keys and values",
}


def read_yaml(path: Path) -> Any:
    """What the file holds, None if it is empty.

    Raises:
        ValueError: with the reason in one line, as `parse_yaml` does, or if the file is not text.
        OSError: if it cannot be read.
    """
    try:
        return parse_yaml(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not text in UTF-8, from byte {error.start} on") from None


def parse_yaml(text: str) -> Any:
    """What a text in YAML says, None if nothing.

    Raises:
        ValueError: with the reason in one line, if it is not YAML, or has a key twice, of which YAML keeps the last.
    """
    try:
        return yaml.load(text, _OfEachKeyOne)  # a SafeLoader: no tag makes an object or calls anything
    except yaml.MarkedYAMLError as error:
        said = " ".join(str(error.problem or error.context).split())
        reason = next((ours for theirs, ours in _SAID.items() if said.startswith(theirs)), said)
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{where}{reason.replace(_END, 'the end')}") from None
    except yaml.reader.ReaderError as error:
        raise ValueError(f"character {error.position + 1} is one that YAML may not hold") from None


def reason_in_words(error: Mapping[str, Any]) -> str:
    """What is wrong with a value, of one of a pydantic `ValidationError`'s errors; it goes between key and value."""
    kind, given = error["type"], error["input"]
    if kind in ("string_type", "literal_error", "enum") and isinstance(given, bool):
        reason = _WORDS["string_type"] if kind == "string_type" else _without_subject(error)
        return f"{reason} (YAML reads no, yes, on and off as false and true: put such a word in quotes)"
    context = {key: f"{value:g}" if isinstance(value, float) else value for key, value in error.get("ctx", {}).items()}
    reason = _WORDS[kind].format_map(context) if kind in _WORDS else _without_subject(error)
    if kind == "string_type" and isinstance(given, int | float | date):
        return f"{reason} (put it in quotes)"
    if kind in ("float_type", "float_parsing") and _is_number(given):
        return f"{reason} (to YAML {given} is text: write it with a point, as 1.0e-3)"
    return reason


def _without_subject(error: Mapping[str, Any]) -> str:
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return message.replace("Input should be", "should be")


def _is_number(text: Any) -> bool:
    try:
        return isinstance(text, str) and math.isfinite(float(text))
    except ValueError:
        return False


class _OfEachKeyOne(yaml.SafeLoader):
    """Makes plain values alone, as every `SafeLoader`, and refuses a key that its mapping has already."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.deep_construct = True  # finds what refers to itself, which no configuration may

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        found: dict[tuple[str, str], yaml.Mark] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (first := found.get((key.tag, key.value))) is not None:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {key.value} is there already, in line {first.line + 1}",
                    problem_mark=key.start_mark,
                )
            found[key.tag, key.value] = key.start_mark
        return super().construct_mapping(node, deep)
