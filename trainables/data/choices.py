"""Multiple-choice questions as data sets write them: options as a list or one string, the right one by place, letter or text."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_FEWEST, _MOST = 2, 26  # options: as many as there are letters
_LETTERED = re.compile(r"(?:^|\s)\(?([A-Z])[.):]\s+")


class QuestionError(ValueError):
    """A question that cannot be asked, and why."""


@dataclass(frozen=True)
class Question:
    """A question in one language; the right option comes first."""

    text: str
    options: tuple[str, ...]


def parse_options(cell: Any) -> list[str]:
    """The options in a cell: a list, or a string that holds one.

    A string may be a list as JSON or Python write it, or options after letters (``A. … B. …``), on lines of their own,
    or between ``|`` or ``;``.

    Raises:
        QuestionError: if there are not 2 to 26, or one is empty.
    """
    options = [str(option).strip() for option in _listed(cell)]
    if not _FEWEST <= len(options) <= _MOST:
        raise QuestionError(f"{len(options)} options, where {_FEWEST} to {_MOST} are possible")
    if not all(options):
        raise QuestionError("an option is empty")
    return options


def _listed(cell: Any) -> Sequence[Any]:
    if isinstance(cell, list):
        return [option for option in cell if option is not None]
    if not isinstance(cell, str):
        raise QuestionError(f"options are neither a list nor text, but {type(cell).__name__}")
    text = cell.strip()
    if text.startswith(("[", "(")) and text.endswith(("]", ")")):
        found = _written(text)
        if isinstance(found, list | tuple):
            return found
    parts = _LETTERED.split(text)
    if not parts[0].strip() and parts[1::2] == [chr(ord("A") + place) for place in range(len(parts) // 2)]:
        return parts[2::2]
    for separator in ("\n", "|", ";"):
        if separator in text:
            return text.split(separator)
    raise QuestionError("options are one text that lists no others")


def _written(text: str) -> Any:
    """The value that a text writes as JSON or as Python; None if it writes none. Literals alone are read: no name is
    looked up and nothing is called."""
    for read in (
        json.loads,
        ast.literal_eval,
    ):  # JSON first: it writes an emoji as two halves, which Python keeps apart
        try:
            return read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return None


def parse_label(cell: Any, options: Sequence[str]) -> int:
    """The place of the right option: given as its text, its letter, or its place counted from 0.

    Raises:
        QuestionError: if it is none of them.
    """
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    if isinstance(cell, str):
        text = cell.strip()
        if options.count(text) == 1:
            return options.index(text)
        if re.fullmatch(r"[A-Za-z]", text):
            cell = ord(text.upper()) - ord("A")
        elif re.fullmatch(r"\d+", text):
            cell = int(text)
    if not isinstance(cell, int) or isinstance(cell, bool):
        raise QuestionError(f"the label {str(cell)[:40]!r} is no option's place, letter or text")
    if cell == -1:
        raise QuestionError("the label -1 hides the answer: the data is made to be scored elsewhere")
    if not 0 <= cell < len(options):
        raise QuestionError(f"the label {cell} is out of range: there are {len(options)} options, from 0")
    return cell


def parse_question(text: Any, options: Any, label: Any, needs_text: bool) -> Question:
    """A question from its cells.

    Raises:
        QuestionError: if it cannot be asked.
    """
    listed = parse_options(options)
    right = listed.pop(parse_label(label, listed))
    if right in listed:
        raise QuestionError("another option is the same as the right one")
    words = " ".join(text.split()) if isinstance(text, str) else ""
    if needs_text and not words:
        raise QuestionError("no question")
    return Question(words, (right, *listed))


def spoken(cell: Any) -> tuple[str, ...]:
    """What a cell of the language column may be called: itself and, of a pair such as ``('Spanish', 'Mexico')``, its
    first part."""
    text = str(cell).strip()
    if text.startswith("("):
        found = _written(text)
        if isinstance(found, tuple) and found:
            return text, str(found[0])
    return (text,)
