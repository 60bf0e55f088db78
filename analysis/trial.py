# PYTHON_ARGCOMPLETE_OK
"""Show one recipe of a study: in words, its scores by language beside the teacher's, its best and worst cases.

    python -m analysis.trial runs/emoji-clip 7
    python -m analysis.trial runs/emoji-clip 7 --json     for programs

Prints the numbers and writes report/trial-00007.html, one file with learning curves and with the pictures of the
retrievals and questions that the student got most right and most wrong; the figures are also PNG and SVG files. No model
is loaded.
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
    add_run,
    add_trial,
    command_parser,
    open_study,
    run_command,
)

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from analysis.examples import Example
    from analysis.load import StudyData
    from analysis.recipe_report import RecipeReport

_NEAREST = 3
_CASES = {
    ("retrieval", "best"): "Most right retrieval",
    ("retrieval", "worst"): "Most wrong retrieval",
    ("vqa", "best"): "Most right answer",
    ("vqa", "worst"): "Most wrong answer",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit code: 0 done, 2 a mistake in the input."""
    return run_command(_parser(), _run, arguments)


def _parser() -> CommandParser:
    parser = command_parser("analysis.trial", __doc__)
    add_run(parser)
    add_trial(parser, "the trial's number")
    add_json(parser)
    return parser


def _run(options: argparse.Namespace) -> int:
    data = open_study(options.run)
    trial = find_trial(data, options.trial)
    from analysis.files import write_atomically
    from analysis.recipe_report import figures, gather, page
    from analysis.style import save

    report = gather(data, trial)
    target = data.path / "report" / f"trial-{trial}"
    target.parent.mkdir(exist_ok=True)
    pictures = {}
    for name, figure in figures(report).items():
        save(figure, f"{target}-{name}")
        pictures[name] = Path(f"{target}-{name}.png").read_bytes()
    write_atomically(target.with_suffix(".html"), page(report, pictures).encode())
    if options.json:
        print(json.dumps(report.as_json(), indent=1))
    else:
        _print(report)
        print(f"Report: {target}.html")
    return 0


def find_trial(data: StudyData, name: str) -> str:
    """The trial that a user calls ``name``, as in 7 or 00007.

    Raises:
        CommandError: if there is none, naming the nearest, or its files cannot be read.
    """
    trials = data.trials.set_index("number")
    number = int(name) if name.isdecimal() else None
    if number is None or number not in trials.index:
        if trials.empty:
            raise CommandError(f"no trial {name} in {data.path}: the study has no trials yet")
        there_are = f"there are {len(trials)}, from {trials.index.min()} to {trials.index.max()}"
        near = (
            sorted(trials.index, key=lambda other: (abs(other - number), other))[:_NEAREST]
            if number is not None
            else []
        )
        hint = f"the nearest are {', '.join(map(str, sorted(near)))}; " if near else ""
        raise CommandError(f"no trial {name} in {data.path}: {hint}{there_are}")
    row = trials.loc[number]
    if row["state"] == "unreadable":
        raise CommandError(f"trial {number} cannot be read: {' '.join(str(row['reason']).split())}")
    return str(row["trial"])


def _print(report: RecipeReport) -> None:
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 140, markup=False, emoji=False, highlight=False)
    console.print(f"Trial {int(report.trial)} of {report.data.name}: {report.standing}", style="bold", soft_wrap=True)
    for sentence in report.words:
        console.print(f"  {sentence}", soft_wrap=True)
    console.print(_table(report.scores))
    if report.languages[["retrieval", "vqa"]].notna().any(axis=None):
        console.print(_table(report.languages_in_words))
    if report.confirmed:
        again = f"Trained again with {report.confirmed.seeds} new seed{'s' if report.confirmed.seeds != 1 else ''}"
        console.print(f"{again}: it keeps its place with a chance of {100 * report.confirmed.support:.0f} %.")
    for note in report.notes:
        console.print(note, soft_wrap=True)
    for example in _telling(report.examples):
        console.print(f"{_CASES[example.task, example.case]} in {example.language}: {example.text}", soft_wrap=True)


def _table(frame: pd.DataFrame) -> Table:
    from rich.table import Table

    table = Table()
    kept = frame.dropna(axis="columns", how="all")
    for place, name in enumerate(kept.columns):
        table.add_column(name.replace("_", " "), justify="right" if place else "left")
    for row in kept.itertuples(index=False):
        table.add_row(*map(_cell, row))
    return table


def _cell(value: Any) -> str:
    return str(value) if not isinstance(value, float) else "" if math.isnan(value) else f"{value:.3g}"


def _telling(examples: Sequence[Example]) -> list[Example]:
    """The first case of each kind in the first language that has any: the rest is in the page, with pictures."""
    kinds: dict[tuple[str, str], Example] = {}
    for example in examples:
        if example.language == examples[0].language:
            kinds.setdefault((example.task, example.case), example)
    return [example for kind, example in kinds.items() if kind in _CASES]


if __name__ == "__main__":
    sys.exit(main())
