"""What the commands of this package share: how their command lines look, and how they say what is wrong in one line."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.load import StudyData


class CommandError(Exception):
    """What is missing or wrong, and what would be right, in one line."""


def command_parser(module: str, doc: str | None) -> argparse.ArgumentParser:
    """A parser for ``python -m module``: the first paragraph of ``doc`` says what it does, the rest gives examples."""
    description, _, examples = (doc or "").partition("\n\n")
    return argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def run_command(
    module: str,
    parser: argparse.ArgumentParser,
    work: Callable[[argparse.Namespace], int],
    arguments: Sequence[str] | None,
) -> int:
    """Parse ``arguments`` and do the ``work``. Returns its exit code; 2, after one line, for a mistake in the input."""
    options = parser.parse_args(arguments)
    try:
        return work(options)
    except CommandError as error:
        print(f"{module}: {error}", file=sys.stderr)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"{module}: {where}{error.strerror or error}", file=sys.stderr)
    return 2


def open_study(run: str) -> StudyData:
    """The study in the folder, or at the URL, ``run``.

    Raises:
        CommandError: if it is no study's folder, naming the nearest, or a file that all frames need cannot be read.
    """
    folder = _study_folder(run)
    from analysis.load import load_study

    try:
        return load_study(folder)
    except ValueError as error:
        raise CommandError(" ".join(str(error).split())) from None


def _study_folder(run: str) -> Path:
    from analysis.remote import copied_here, is_url

    if is_url(run):
        folder = copied_here(run)
        if not (folder / "config.yaml").is_file():
            raise CommandError(f"no study in {run}: a study's folder holds config.yaml")
        return folder
    folder = Path(run).expanduser()
    if (folder / "config.yaml").is_file():
        return folder
    studies = {str(path.parent) for place in (folder.parent, Path("runs")) for path in place.glob("*/config.yaml")}
    named = sorted(study for study in studies if Path(study).name == folder.name)
    near = named or difflib.get_close_matches(str(folder), sorted(studies), 1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise CommandError(f"no study in {run}: {hint}a study's folder holds config.yaml")
