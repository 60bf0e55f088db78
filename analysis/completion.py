"""What a shell completes on the command lines, once argcomplete's function is active there."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Completer = Callable[..., Iterable[str]]
_STUDIES = Path("runs")


def completed_by(action: argparse.Action, completer: Completer) -> None:
    """Let ``completer`` propose the values of an option or argument; it is called with ``prefix`` and ``parsed_args``."""
    action.completer = completer  # type: ignore[attr-defined]  # argcomplete's way


def answer_if_asked(parser: argparse.ArgumentParser) -> None:
    """Tell the shell how the line goes on, and exit, if it is a shell that started this command to ask that."""
    import argcomplete

    argcomplete.autocomplete(parser, always_complete_options=False)


def studies(prefix: str, **_: Any) -> list[str]:
    """Folders of studies in ``runs``, and any folder."""
    from argcomplete.completers import DirectoriesCompleter

    return [*(str(path.parent) for path in _STUDIES.glob("*/config.yaml")), *DirectoriesCompleter()(prefix)]


def trials(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """The numbers of the trials of the study that stands before."""
    return [str(int(path.name)) for path in Path(parsed_args.run, "trials").glob("*") if path.name.isdecimal()]
