# PYTHON_ARGCOMPLETE_OK
"""Describe a configuration before anything is run: teacher beside student, what they cost, and how much there is to do.

    python -m study.describe                                        the embedded study
    python -m study.describe emoji_siglip2 --set student.text.layers=3
    python -m study.describe my_study.yaml --json

All numbers are computed from sizes; none is measured.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from analysis.commands import CommandParser, add_json, command_parser, run_command
from study.arguments import add_config
from study.config import load_config
from study.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from study.description import Description, Model

_PREFIXES = ("", "k", "M", "G", "T", "P", "E")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit code: 0 done, 2 a mistake in the input."""
    return run_command(_parser(), _run, arguments, (UserError,))


def _parser() -> CommandParser:
    parser = command_parser("study.describe", __doc__)
    add_config(parser)
    add_json(parser)
    return parser


def _run(options: argparse.Namespace) -> int:
    from study.checks import check_data, checked_space
    from study.models import check_student

    config = load_config(options.config, options.overrides, options.name)
    check_student(config)
    space = checked_space(config)
    check_data(config)
    # Only now is a library imported that takes its time.
    from rich.console import Console
    from transformers.utils import logging

    from study.description import describe

    logging.set_verbosity_error()
    found = describe(config, space)
    if options.json:
        print(json.dumps(found.as_json(), indent=1))
    else:
        _print(found, Console(width=None if sys.stdout.isatty() else 140, markup=False, emoji=False, highlight=False))
    return 0


def _print(found: Description, console: Console) -> None:
    console.print(_sizes(found))
    console.print(_parameters(found))
    console.print(
        "The vocabulary is the one that is configured; a fitted tokenizer may turn out smaller, or larger by rare characters, "
        "and what student.vocabulary: trimmed leaves is known once the data is prepared."
    )
    console.print(_mappings(found))
    console.print("The teacher layer of each student layer, counted from 1.")
    console.print(_cost(found))
    console.print(
        "Memory is in fp32 and without what single operations take beside. A step is one with all strategies and losses, and a "
        "queue of the default size: a single strategy needs less. "
        "FLOPs are those of products, a multiplication and an addition each."
    )
    console.print(_work(found))


def _table(title: str, *columns: str) -> Table:
    """A table whose first column holds words, and the others numbers."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left")
    return table


def _sizes(found: Description) -> Table:
    table = _table(f"{found.name}: sizes", "", "teacher", "student")
    rows = [_size_row(model) for model in (found.teacher, found.student)]
    for name in rows[0]:
        table.add_row(name, *(row[name] for row in rows))
    return table


def _size_row(model: Model) -> dict[str, str]:
    spec = model.spec
    image, text = spec.image, spec.text
    return {
        "family": spec.family,
        "joint dimension": str(spec.embed_dim),
        **{
            f"{name} tower: layers × width, heads": f"{tower.layers} × {tower.width}, {tower.width // tower.head_width}"
            for name, tower in (("image", image), ("text", text))
        },
        "image size / patch: patches": f"{image.image_size} / {image.patch_size}: {image.patches}",
        "context length": str(text.context_length),
        "vocabulary": f"{text.vocab_size:,}",
    }


def _parameters(found: Description) -> Table:
    table = _table("Parameters", "part", "teacher", "share", "student", "share", "student / teacher")
    teacher, student = found.teacher, found.student
    for part, count in [*teacher.parameters.items(), ("in all", teacher.total)]:
        own = student.parameters.get(part, student.total)
        table.add_row(
            part,
            f"{count:,}",
            f"{100 * count / teacher.total:.1f} %",
            f"{own:,}",
            f"{100 * own / student.total:.1f} %",
            f"{100 * own / count:.0f} %" if count else "",
            style="bold" if part == "in all" else None,
        )
    return table


def _mappings(found: Description) -> Table:
    table = _table("Layer mappings", "tower", "layers", "uniform", "last", "first", "monotone")
    for tower, maps in found.mappings.items():
        layers = f"{maps.student_layers} of {maps.teacher_layers}"
        lists = [" ".join(map(str, layer)) for layer in (maps.uniform, maps.last, maps.first)]
        table.add_row(tower, layers, *lists, f"{maps.monotone:,} maps")
    return table


def _cost(found: Description) -> Table:
    step = found.step
    share = f", one of {found.workers} workers" if found.workers > 1 else ""
    share += f", in {found.accumulation} parts" if found.accumulation > 1 else ""
    table = _table("Cost", "", "FLOPs", "memory")
    table.add_row(f"training step of the student{share}", _flops(step.flops), _memory(step.memory), style="bold")
    table.add_row("  forward; kept for backward", _flops(step.forward_flops), _memory(step.kept_for_backward))
    table.add_row("  backward; gradients", _flops(step.backward_flops), _memory(step.gradients))
    table.add_row("  optimizer and its state", _flops(step.optimizer_flops), _memory(step.optimizer_state))
    table.add_row("  weights, projections of layers included", "", _memory(step.weights))
    for name, model in (("teacher", found.teacher), ("student", found.student)):
        cost = model.encoding
        table.add_row(f"encode an image, {name}", _flops(cost.image_flops), "")
        table.add_row(f"encode a text, {name}", _flops(cost.text_flops), "")
        table.add_row(
            f"encode {cost.images_at_once} images or {cost.texts_at_once} texts at once, {name}",
            "",
            _memory(cost.memory),
        )
    table.add_row("a process that trains on a CPU, libraries included", "", _memory(found.worker_memory), style="bold")
    table.add_row(f"teacher cache of {found.cached_images:,} images, on disk", "", _memory(found.cache_bytes))
    return table


def _work(found: Description) -> Table:
    table = _table("To be trained, at most", "", "steps", "images", "passes over the data", "FLOPs")
    for name, work in (("a trial", found.trial), ("the study, confirmations included", found.study)):
        passes = f"{work.images / found.training_images:,.1f}" if found.training_images else ""
        table.add_row(name, f"{work.steps:,}", f"{work.images:,}", passes, _flops(work.flops))
    return table


def _flops(count: int) -> str:
    return _scaled(count, "FLOP")


def _memory(size: int) -> str:
    return _scaled(size, "B")


def _scaled(value: float, unit: str) -> str:
    """Three digits and a decimal prefix."""
    place = 0
    while value >= 999.5 and place < len(_PREFIXES) - 1:
        value, place = value / 1000, place + 1
    return f"{value:.3g} {_PREFIXES[place]}{unit}"


if __name__ == "__main__":
    sys.exit(main())
