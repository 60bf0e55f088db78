"""Mistakes as users make them. A command refuses each in one line, before anything slow starts, and writes nothing."""

from __future__ import annotations

import importlib.abc
import re
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

import analysis.compare
import analysis.notebook
import analysis.trial
import study.dashboard
import study.describe
import study.run
import trainables.data.__main__
import trainables.export

COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "study.run": study.run.main,
    "study.describe": study.describe.main,
    "study.dashboard": study.dashboard.main,
    "trainables.data": trainables.data.__main__.main,
    "analysis.notebook": analysis.notebook.main,
    "analysis.trial": analysis.trial.main,
    "analysis.compare": analysis.compare.main,
    "trainables.export": trainables.export.main,
}
PRESETS = Path(__file__).parents[2] / "study" / "presets"
SLOW = frozenset({"ray", "torch", "transformers", "open_clip", "datasets"})


class NothingSlow(importlib.abc.MetaPathFinder):
    """Lets nothing slow be imported."""

    def find_spec(self, name: str, _path: object, _target: ModuleType | None = None) -> ModuleSpec | None:
        assert name.partition(".")[0] not in SLOW, f"imports {name}"
        return None


class Refused:
    """Runs a command that is to be refused; nothing in the folder that it runs in may change."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys

    def __call__(self, module: str, *arguments: str) -> str:
        """What it says on standard error, without its own name and the folder's."""
        before = self._files()
        code = COMMANDS[module](arguments)
        shown = self._capsys.readouterr()
        assert (code, shown.out) == (2, ""), shown.err
        assert self._files() == before
        (line,) = shown.err.splitlines()
        assert line.startswith(f"{module}: ")
        line = line.removeprefix(f"{module}: ").replace(f"{PRESETS}/", "")
        return line.replace(f"{self.folder}/", "").replace(str(self.folder), "HERE")

    def _files(self) -> dict[Path, bytes | None]:
        """What is there, but for the mark that a study's lock leaves."""
        paths = (path for path in self.folder.rglob("*") if path.name != "study.lock")
        return {path: path.read_bytes() if path.is_file() else None for path in paths}


def as_said(line: str, said: str) -> bool:
    """Whether a line reads as written here, where ``...`` stands for anything."""
    return re.fullmatch(".*".join(map(re.escape, said.split("..."))), line) is not None
