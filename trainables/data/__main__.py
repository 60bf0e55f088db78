# PYTHON_ARGCOMPLETE_OK
"""Look at a study's data before anything is trained: what it would see, and what its sources share.

    python -m trainables.data                                 the embedded study
    python -m trainables.data my_study.yaml --to look
    python -m trainables.data my_study.yaml --set data.retrieval.split=test --json

Data is prepared as the study would do it, which then finds it in the cache. A picture of examples, contact_sheet.png,
goes into a folder, data-NAME if none is named.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

# The entry point stands above the packages: nothing imports it, and it reads a study's configuration as the study does.
from analysis.commands import CommandParser, add_json, command_parser, made_folder, run_command
from study.arguments import add_config
from study.checks import check_data
from study.config import load_config
from study.data_config import CONTROL_LANGUAGE
from study.environment import check_cache, use_mirror
from study.errors import UserError
from trainables.data.report import DataError

if TYPE_CHECKING:
    from study.config import StudyConfig

_SHEET = "contact_sheet.png"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit code: 0 done, 2 a mistake in the input or in the data."""
    return run_command(_parser(), _run, arguments, (UserError, DataError))


def _parser() -> CommandParser:
    parser = command_parser("trainables.data", __doc__)
    add_config(parser)
    parser.add_argument("--to", type=Path, metavar="FOLDER", help=f"where {_SHEET} goes; default data-NAME, here")
    add_json(parser)
    return parser


def _run(options: argparse.Namespace) -> int:
    config = load_config(options.config, options.overrides, options.name)
    check_data(config)
    check_cache()
    use_mirror(config.storage)
    folder = made_folder((options.to or Path(f"data-{config.name}")).expanduser())
    if not os.access(folder, os.W_OK):
        raise UserError(f"{folder}: cannot be written to; name another folder with --to")
    _look(config, folder / _SHEET, options.json)
    return 0


def _look(config: StudyConfig, sheet: Path, as_json: bool) -> None:
    # Only now is a library imported that takes its time.
    from rich.console import Console
    from transformers.utils import logging

    from trainables.data.contact_sheet import write_contact_sheet
    from trainables.data.inspection import inspect
    from trainables.data.inspection_tables import print_inspection
    from trainables.data.leakage import load_prepared
    from trainables.data.prepare import prepare_sources
    from trainables.models.checkpoint import CheckpointError

    logging.set_verbosity_error()
    data, sources = config.data, config.data.sources
    working = Console(stderr=True, highlight=False, markup=False, emoji=False)
    with working.status("preparing the data") as status:

        def progress(done: int, total: int) -> None:
            status.update(f"preparing the data: {done / total:.0%}")

        is_trimmed = config.student.vocabulary == "trimmed"
        try:
            prepared = prepare_sources(
                sources,
                data.languages,
                CONTROL_LANGUAGE,
                config.teacher,
                is_trimmed,
                round(data.pictures_gb * 1e9),
                progress,
            )
        except CheckpointError as error:
            raise UserError(f"teacher.pretrained: {error}") from None
        status.update("looking at it")
        found = inspect(sources, prepared, config.student.text.context_length)
        undrawn = write_contact_sheet(sheet, load_prepared(sources, prepared.folders))
    if as_json:
        content = {"name": config.name, **found.as_json(), "contact_sheet": str(sheet), "without_font": undrawn}
        print(json.dumps(content, indent=1))
        return
    console = Console(width=None if sys.stdout.isatty() else 160, markup=False, emoji=False, highlight=False)
    print_inspection(found, console)
    console.print(f"\nExamples: {sheet}", soft_wrap=True)
    if undrawn:
        console.print(f"No font is installed for {', '.join(undrawn)}: the examples name the script instead.")


if __name__ == "__main__":
    sys.exit(main())
