# PYTHON_ARGCOMPLETE_OK
"""Write a student of a study as a model that its family's own library loads, with a model card.

    python -m trainables.export runs/emoji-clip 13
    python -m trainables.export runs/emoji-clip 13 --to my-student

A CLIP student is a folder for open_clip (`local-dir:`), a SigLIP2 student one for transformers (`AutoModel`,
`AutoProcessor`): the files that either library puts on a model hub.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# The entry point stands above the packages: nothing imports it, and its command line is like the others'.
from analysis.commands import CommandParser, add_json, add_run, add_trial, command_parser, run_command
from trainables.artifacts import write_json
from trainables.remote_folder import RemoteError, is_url
from trainables.study_files import CompleteTrial, StudyFilesError, find_trial, load_student, study_here

_MARK = "polydistill.json"  # in a folder that this command wrote: of which training


class ExportError(Exception):
    """What was wrong and what would be right, in one line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit code: 0 done, 2 a mistake in the input."""
    return run_command(_parser(), _run, arguments, (StudyFilesError, ExportError, RemoteError))


def _parser() -> CommandParser:
    parser = command_parser("trainables.export", __doc__)
    add_run(parser)
    add_trial(parser, "the number of a complete trial")
    parser.add_argument("--to", metavar="FOLDER", help="where to write it; default RUN/export/TRIAL")
    add_json(parser)
    return parser


def _run(options: argparse.Namespace) -> int:
    if is_url(options.run) and not options.to:
        raise ExportError(f"{options.run} is a URL: name a folder to write to with --to")
    try:
        with study_here(options.run, options.trial) as run:
            trial = find_trial(run, options.trial)
            folder = Path(options.to).expanduser() if options.to else run / "export" / trial.folder.name
            _check_target(folder, trial)
            _export(trial, folder)
    except RemoteError:
        raise
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise ExportError(f"{where}{error.strerror}; name another folder with --to") from None
    if options.json:
        written = {"study": trial.config.name, "trial": trial.number, "folder": str(folder)}
        print(json.dumps({**written, "family": trial.config.teacher.family}, indent=1))
    else:
        print(f"Trial {trial.number} is now in {folder}: its README.md says how to load it.")
    return 0


def _check_target(folder: Path, trial: CompleteTrial) -> None:
    """Refuse a folder that holds anything but an earlier export of this trial; hidden files, such as git's, may stay.

    Raises:
        ExportError: saying what is there.
        OSError: if the folder cannot be made or read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if found and _mark_in(folder) != _mark(trial):
        raise ExportError(f"{folder} is not empty, it holds {found[0]}: name another folder with --to")


def _mark_in(folder: Path) -> Any:
    try:
        return json.loads((folder / _MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _mark(trial: CompleteTrial) -> dict[str, Any]:
    """What tells one export from another."""
    recipe = trial.begun.recipe.model_dump(mode="json")
    return {"study": trial.config.name, "trial": trial.number, "seed": trial.begun.seed, "recipe": recipe}


def _export(trial: CompleteTrial, folder: Path) -> None:
    """Write model and card apart, then move them into ``folder``.

    Raises:
        StudyFilesError: if the student cannot be read.
        ExportError: if its weights cannot be written.
        OSError: if the folder cannot be written.
    """
    model, tokenizer = load_student(trial)

    from safetensors import SafetensorError
    from transformers.utils import logging

    from trainables.model_card import write_model_card
    from trainables.models.publish import publish

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as name:
        temporary = Path(name)
        write_json(temporary / _MARK, _mark(trial))
        try:
            publish(model, tokenizer, temporary, folder)
        except SafetensorError as error:  # as safetensors says that a disk is full
            raise ExportError(f"{folder} cannot be written ({error}): name another folder with --to") from None
        write_model_card(trial, model, temporary)
        # The mark first: a folder that an interrupted command left can be written to again.
        for path in sorted(temporary.iterdir(), key=lambda path: path.name != _MARK):
            if path.is_dir():  # of an earlier export
                shutil.rmtree(folder / path.name, ignore_errors=True)
            path.replace(folder / path.name)


if __name__ == "__main__":
    sys.exit(main())
