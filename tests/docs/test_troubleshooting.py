"""The messages that docs/troubleshooting.md explains are those that the code has."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_PACKAGES = ("study", "search_spaces", "trainables", "analysis")
_ENOUGH = 12  # characters in a row that a message has in common with the code: what differs in it is shorter
_FROM_OPTUNA = "does not support dynamic value space"


def quoted_messages() -> list[str]:
    """The messages in the first column of its tables."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.*?) \|", text, re.MULTILINE)
    return [message for row in rows for message in re.findall(r"`([^`]+)`", row) if len(message) >= _ENOUGH]


@pytest.fixture(scope="module")
def written() -> str:
    """Every text that stands in the code, those with values in them in pieces."""
    trees = [
        ast.parse(path.read_text(encoding="utf-8"))
        for name in _PACKAGES
        for path in sorted((ROOT / name).rglob("*.py"))
    ]
    constants = (node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return "\n".join([*(text for text in constants if isinstance(text, str)), _FROM_OPTUNA])


@pytest.mark.parametrize("message", quoted_messages())
def test_messages_are_those_of_the_code(message: str, written: str) -> None:
    pieces = [message[start : start + _ENOUGH] for start in range(len(message) - _ENOUGH + 1)]
    assert any(piece in written for piece in pieces)
