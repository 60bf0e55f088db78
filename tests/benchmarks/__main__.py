"""Every figure of docs/performance.md, measured on this machine, and held against its goal.

    python -m tests.benchmarks                            (about 25 minutes on two cores that do nothing else)
    python -m tests.benchmarks evaluation caching

Prints a table and writes benchmarks.json. Exit code 1 if a goal is not met.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from study.environment import describe_environment
from tests.benchmarks.figures import Figure, line

ROOT = Path(__file__).parents[2]
BENCHMARKS = ("whole_study", "distillation", "caching", "evaluation")
_OUTPUT = "benchmarks.json"


def main() -> int:
    description, _, examples = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("benchmarks", nargs="*", metavar="BENCHMARK", help=f"of {', '.join(BENCHMARKS)}; default: all")
    parser.add_argument("--one", choices=BENCHMARKS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps([asdict(figure) for figure in _figures(options.one)]))
        return 0
    if unknown := [name for name in options.benchmarks if name not in BENCHMARKS]:
        parser.error(f"no benchmark {unknown[0]}: there are {', '.join(BENCHMARKS)}")
    return report({name: _measured(name) for name in options.benchmarks or BENCHMARKS}, Path(_OUTPUT))


def report(found: Mapping[str, Sequence[Figure]], path: Path) -> int:
    """Print the figures of each benchmark and write them to ``path``. Returns the command's exit code."""
    _show(found)
    content = {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": describe_environment(),
        "figures": {
            name: [{**asdict(figure), "is_met": figure.is_met} for figure in of_one] for name, of_one in found.items()
        },
    }
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    figures = [figure for of_one in found.values() for figure in of_one]
    missed = [figure.what for figure in figures if not figure.is_met]
    but = f"; not: {'; '.join(missed)}" if missed else ""
    print(f"{len(figures) - len(missed)} of {len(figures)} goals are met{but}")
    return 1 if missed else 0


def _measured(name: str) -> list[Figure]:
    """A benchmark's figures, from a process of its own: settings of a process are part of what is measured."""
    print(f"{name} …", file=sys.stderr, flush=True)
    command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks", "--one", name]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    found = [Figure(**values) for values in json.loads(done.stdout.splitlines()[-1])]
    print(*map(line, found), sep="\n", file=sys.stderr, flush=True)
    return found


def _figures(name: str) -> list[Figure]:
    figures: list[Figure] = importlib.import_module(f"tests.benchmarks.{name}").figures()
    return figures


def _show(found: Mapping[str, Sequence[Figure]]) -> None:
    table = Table(title="Benchmarks", title_justify="left")
    for column in ("what", "measured", "goal", ""):
        table.add_column(column, justify="right" if column == "measured" else "left")
    for place, figures in enumerate(found.values()):
        if place:
            table.add_section()
        for figure in figures:
            unit = f" {figure.unit}" if figure.unit else ""
            goal = f"{figure.kind} {figure.bound:g}{unit}"
            table.add_row(figure.what, f"{figure.value:.3g}{unit}", goal, "met" if figure.is_met else "not met")
    Console(width=None if sys.stdout.isatty() else 140).print(table)


if __name__ == "__main__":
    sys.exit(main())
