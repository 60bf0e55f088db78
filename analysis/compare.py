# PYTHON_ARGCOMPLETE_OK
"""Compare studies: hypervolume from one reference point, what runs attain, and whether groups of runs differ.

    python -m analysis.compare runs/emoji-clip runs/even
    python -m analysis.compare --group tpe runs/tpe-* --group random runs/random-* --to comparison
    python -m analysis.compare --group tpe runs/tpe-* --json

Figures (PNG, SVG) and tables (CSV, parquet, LaTeX) go into a folder. Studies may still be running.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.commands import (
    CommandError,
    CommandParser,
    add_json,
    command_parser,
    made_folder,
    open_study,
    run_command,
)
from analysis.completion import completed_by, studies

if TYPE_CHECKING:
    import pandas as pd

    from analysis.comparison import Groups

_FOLDER = "comparison"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit code: 0 done, 2 a mistake in the input."""
    return run_command(_parser(), _run, arguments)


def _parser() -> CommandParser:
    parser = command_parser("analysis.compare", __doc__)
    parser.usage = "%(prog)s [RUN ...] [--group NAME RUN [RUN ...]] ... [--to FOLDER] [--json]"
    runs = parser.add_argument(
        "runs", nargs="*", metavar="RUN", help="folders or URLs of studies, each a group of its own"
    )
    group = parser.add_argument(
        "--group",
        nargs="+",
        action="append",
        default=[],
        metavar=("NAME", "RUN"),
        help="a name, and the folders or URLs of runs that differ in their seeds alone; repeatable",
    )
    parser.add_argument(
        "--to", default=_FOLDER, metavar="FOLDER", help=f"where figures and tables go; default {_FOLDER}"
    )
    add_json(parser)
    for action in (runs, group):
        completed_by(action, studies)
    return parser


def _run(options: argparse.Namespace) -> int:
    groups = _groups(options)
    from analysis.comparison import common_reference, differences, runs
    from analysis.figures.comparison import attained, hypervolumes
    from analysis.figures.compression import compression
    from analysis.files import save_table
    from analysis.style import save

    table = runs(groups)
    tests = differences(
        {str(group): rows["hypervolume"].tolist() for group, rows in table.groupby("group", sort=False)}
    )
    folder = made_folder(Path(options.to).expanduser())
    for name, frame in {"runs": table, "differences": tests}.items():
        save_table(frame, folder / name)
    best = table.assign(place=table.groupby("group").cumcount()).sort_values(
        "hypervolume", ascending=False, kind="stable"
    )
    leaders = best.drop_duplicates("group").set_index("group")["place"]
    figures = {
        "attainment": attained(groups),
        "hypervolumes": hypervolumes(groups, table, tests),
        "compression": compression([studies[leaders[group]] for group, studies in groups.items()]),
    }
    for name, figure in figures.items():
        save(figure, folder / name)
    notes = _notes(groups)
    if options.json:
        content = {"reference_point": common_reference(groups), "runs": _rows(table), "differences": _rows(tests)}
        print(json.dumps({**content, "notes": notes, "folder": str(folder)}, indent=1))
    else:
        _print(table, tests, notes, common_reference(groups), folder)
    return 0


def _groups(options: argparse.Namespace) -> Groups:
    """The studies by group, loaded.

    Raises:
        CommandError: if there are none, a folder is no study, one is named twice, or they do not compare.
    """
    named: dict[str, list[str]] = {}
    for name, *paths in options.group:
        if not paths:
            raise CommandError(f"--group {name}: name the folders of its runs after it")
        named.setdefault(name, []).extend(paths)
    paths = [*options.runs, *(path for group in named.values() for path in group)]
    if not paths:
        raise CommandError("name the folders of one or more studies, for example runs/emoji-clip")
    places = [Path(path).resolve() for path in paths]
    for path, place in zip(paths, places, strict=True):
        if places.count(place) > 1:
            raise CommandError(f"{path} is named more than once")
    alone = [open_study(path) for path in options.runs]
    from analysis.comparison import common_reference, labels

    groups = {name: [study] for name, study in zip(labels(alone), alone, strict=True)}
    for name, members in named.items():
        groups[f"--group {name}" if name in groups else name] = [open_study(path) for path in members]
    try:
        common_reference(groups)
    except ValueError as error:
        raise CommandError(str(error)) from None
    return groups


def _notes(groups: Groups) -> list[str]:
    """What whoever compares these studies should know."""
    studies = [study for members in groups.values() for study in members]
    notes = []
    if len({study.languages for study in studies}) > 1:
        notes.append("The studies have different languages: their scores do not compare.")
    for study in studies:
        states = study.trials["state"].value_counts()
        if study.teacher is None:
            notes.append(f"{study.path}: its teacher is not scored yet.")
        if states.get("running", 0):
            notes.append(f"{study.path}: trials that have not ended, running or interrupted: {states['running']}.")
        for row in study.trials[study.trials["state"] == "unreadable"].itertuples():
            notes.append(f"Trial {row.trial} cannot be read: {row.reason}")
    return notes


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Plain rows, with null for what JSON has not."""
    rows: list[dict[str, Any]] = json.loads(frame.to_json(orient="records", double_precision=15))
    return rows


def _print(
    table: pd.DataFrame, tests: pd.DataFrame, notes: list[str], reference: dict[str, float], folder: Path
) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 140, markup=False, emoji=False, highlight=False)
    corner = ", ".join(f"{name} {value:.4g}" for name, value in reference.items())
    for title, frame in (
        (f"Runs; hypervolume from {corner or 'nowhere: no teacher is scored'}", table),
        ("Differences in hypervolume", tests),
    ):
        if frame.empty:
            continue
        shown = Table(title=title, title_justify="left")
        for column in frame.columns:
            shown.add_column(column.replace("_", " "), justify="right" if frame[column].dtype.kind in "if" else "left")
        for row in frame.itertuples(index=False):
            shown.add_row(*(_cell(value) for value in row))
        console.print(shown)
    for note in notes:
        console.print(note, soft_wrap=True)
    console.print(f"Figures and tables: {folder}", soft_wrap=True)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else ""
    return str(value)


if __name__ == "__main__":
    sys.exit(main())
