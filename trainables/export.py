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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.artifacts import write_json
from trainables.remote_folder import RemoteError, RemoteFolder, is_url
from trainables.study_files import CompleteTrial, StudyFilesError, find_trial

if TYPE_CHECKING:
    from trainables.models.dual_encoder import DualEncoder
    from trainables.models.tokenizer import Tokenizer

_PATIENCE = 10.0  # seconds that a store at a URL has to answer
_MARK = "polydistill.json"  # in a folder that this command wrote: of which training


class ExportError(Exception):
    """What was wrong and what would be right, in one line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit code: 0 done, 2 a mistake in the input."""
    options = _parser().parse_args(arguments)
    try:
        with _study_here(options) as run:
            trial = find_trial(run, options.trial)
            folder = Path(options.to) if options.to else run / "export" / trial.folder.name
            _check_target(folder, trial)
            _export(trial, folder)
    except (StudyFilesError, ExportError, RemoteError) as error:
        print(f"trainables.export: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"trainables.export: {where}{error.strerror}; name another folder with --to", file=sys.stderr)
        return 2
    print(f"Trial {trial.number} is now in {folder}: its README.md says how to load it.")
    return 0


def _parser() -> argparse.ArgumentParser:
    description, _, examples = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m trainables.export",
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", help="a study's folder or URL, for example runs/emoji-clip")
    parser.add_argument("trial", metavar="TRIAL", help="the number of a complete trial, for example 13")
    parser.add_argument("--to", metavar="FOLDER", help="where to write it; default RUN/export/TRIAL")
    return parser


@contextmanager
def _study_here(options: argparse.Namespace) -> Iterator[Path]:
    """The study's folder; of one at a URL a copy, for the ``with`` block, of what the trial needs.

    Raises:
        ExportError: if there is a URL, and no folder to write to.
        RemoteError: if the URL cannot be used.
    """
    if not is_url(options.run):
        yield Path(options.run)
        return
    if not options.to:
        raise ExportError(f"{options.run} is a URL: name a folder to write to with --to")
    remote = RemoteFolder(options.run.rstrip("/"), patience=_PATIENCE)
    whole = f"trials/{int(options.trial):05d}/" if options.trial.isdecimal() else "trials/"
    records = ("config.yaml", "teacher.json", "/recipe.json", "/result.json")
    with tempfile.TemporaryDirectory(prefix="study-") as place:
        folder = Path(place, remote.url.rpartition("/")[2])
        remote.pull(folder, [name for name in remote.names() if name.startswith(whole) or name.endswith(records)])
        yield folder


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
        ExportError: if the student cannot be read, or its weights not be written.
        OSError: if the folder cannot be written.
    """
    model, tokenizer = _load(trial.folder / "checkpoint")

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


def _load(checkpoint: Path) -> tuple[DualEncoder, Tokenizer]:
    """A saved student.

    Raises:
        ExportError: if it is not whole.
    """
    from safetensors import SafetensorError

    from trainables.models.factory import load_model
    from trainables.models.tokenizer import Tokenizer

    try:
        model = load_model(checkpoint).eval()
        return model, Tokenizer(checkpoint)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise ExportError(f"the student in {checkpoint} cannot be read ({reason}): export another trial") from None


if __name__ == "__main__":
    sys.exit(main())
