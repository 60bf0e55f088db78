"""What all commands share: how their command lines look, how they end, and how they say what is wrong in one line."""

from __future__ import annotations

import argparse
import difflib
import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from analysis.completion import answer_if_asked, completed_by, studies, trials

if TYPE_CHECKING:
    from analysis.load import StudyData

_PACKAGE = "polydistill"


class CommandError(Exception):
    """What is missing or wrong, and what would be right, in one line."""


class CommandParser(argparse.ArgumentParser):
    """Reads a command line; a mistake in it is a `CommandError`, where argparse prints its usage and exits."""

    def read(self, arguments: Sequence[str] | None) -> argparse.Namespace:
        """Raises:
        CommandError: naming the option or argument, and what would be right.
        """
        if "_ARGCOMPLETE" in os.environ:
            answer_if_asked(self)
        options, unknown = self.parse_known_args(arguments)
        if unknown:
            raise CommandError(_unknown(unknown[0], self._option_string_actions))
        return options

    def error(self, message: str) -> NoReturn:
        raise CommandError(self._in_our_words(message))

    def _in_our_words(self, message: str) -> str:
        name, _, reason = message.removeprefix("argument ").partition(": ")
        if name == "the following arguments are required":
            shown = " ".join(self._written(action) for action in self._actions if not action.option_strings)
            return f"missing {reason.replace(', ', ' and ')}: write {self.prog} {shown}"
        if reason.startswith("expected "):
            return f"{name}: a value is missing: write {name} {self._written(self._option_string_actions[name])}"
        if given := re.fullmatch(r"ignored explicit argument (.*)", reason):
            return f"{name}: takes no value, not {given[1]}"
        return message.removeprefix("argument ")

    @staticmethod
    def _written(action: argparse.Action) -> str:
        names = action.metavar or action.dest.upper()
        return names if isinstance(names, str) else " ".join(names)


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version of polydistill and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_given: Any) -> None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"{_PACKAGE} {version(_PACKAGE)}")
        except PackageNotFoundError:
            print(f"{_PACKAGE}, not installed: run from its own folder")
        parser.exit()


def command_parser(module: str, doc: str | None, failure: str | None = None) -> CommandParser:
    """A parser for ``python -m module``: the first paragraph of ``doc`` says what it does, the rest gives examples;
    ``failure``: what exit code 1 means, of a command that has it.
    """
    description, _, examples = (doc or "").partition("\n\n")
    failed = f"1 {failure}; " if failure else ""
    parser = CommandParser(
        prog=f"python -m {module}",
        description=description,
        epilog=f"{examples}\nExit codes: 0 done; {failed}2 a mistake in the input; 130 interrupted by Ctrl-C.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # a script that abbreviates an option breaks when there is another one
    )
    parser.add_argument("--version", action=_Version)
    return parser


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add ``run``, the study that a command reads."""
    run = parser.add_argument("run", metavar="RUN", help="a study's folder or URL, for example runs/emoji-clip")
    completed_by(run, studies)


def add_trial(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``trial``, one of that study's; ``what`` says which will do."""
    completed_by(parser.add_argument("trial", metavar="TRIAL", help=f"{what}, for example 13"), trials)


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text, for programs")


def whole_number(text: str) -> int:
    """The type of options that take one."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"should be a whole number, not {text!r}") from None


def made_folder(folder: Path) -> Path:
    """The folder that `--to` names, made if it is not there.

    Raises:
        CommandError: if it cannot be.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"{folder}: cannot be made: {error.strerror}; name another folder with --to") from None
    return folder


def run_command(
    parser: CommandParser,
    work: Callable[[argparse.Namespace], int],
    arguments: Sequence[str] | None,
    mistakes: tuple[type[Exception], ...] = (),
) -> int:
    """Parse ``arguments`` and do the ``work``. Returns its exit code, or that of how it ended otherwise, after one line.

    ``mistakes``: what the work raises for a mistake in the input, beside `CommandError`.
    """
    module = parser.prog.removeprefix("python -m ")
    refused: tuple[type[Exception], ...] = (CommandError, *mistakes)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # what a terminal's encoding lacks, such as ×
    try:
        code = work(parser.read(arguments))
        sys.stdout.flush()
        return code
    except refused as error:
        reason = str(error)
    except BrokenPipeError:  # whoever reads, as in `| head`, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        reason = f"{f'{error.filename}: ' if error.filename else ''}{error.strerror or error}"
    except KeyboardInterrupt:
        print(f"{module}: interrupted", file=sys.stderr)
        return 130
    print(f"{module}: {reason}", file=sys.stderr)
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
    inside = sorted(str(path.parent) for path in folder.glob("*/config.yaml"))
    near = named or inside or difflib.get_close_matches(str(folder), sorted(studies), 1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise CommandError(f"no study in {run}: {hint}a study's folder holds config.yaml")


def _unknown(word: str, known: Sequence[str] | dict[str, argparse.Action]) -> str:
    """What to say of a word that a command line has no place for."""
    if not word.startswith("-"):
        example = f"; to set a key, write --set {word if '=' in word else 'KEY=VALUE'}" if "--set" in known else ""
        return f"unknown argument {word}: one too many, or one that belongs before the options{example}"
    name, _, value = word.partition("=")
    if "." in name and "--set" in known:
        return f"unknown option {name}: did you mean --set {name.strip('-')}={value or 'VALUE'}?"
    options = sorted(option for option in known if option.startswith("--"))
    near = difflib.get_close_matches(name, options, 1)
    return f"unknown option {name}: " + (f"did you mean {near[0]}?" if near else f"there are {', '.join(options)}")
