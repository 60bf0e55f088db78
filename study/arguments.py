"""What the commands that take a configuration have in common on their command lines."""

from __future__ import annotations

import argparse

from study.config import DEFAULT_PRESET, available_presets


def add_config(parser: argparse.ArgumentParser, other: str = "") -> None:
    """Add ``config`` and ``--set``; ``other``: what may be named beside a preset and a file."""
    presets = f"a preset ({', '.join(available_presets())})"
    files = f", a YAML file or {other}" if other else " or a YAML file"
    parser.add_argument(
        "config",
        nargs="?",
        default=DEFAULT_PRESET,
        metavar="PRESET, FILE or FOLDER" if other else "PRESET or FILE",
        help=f"{presets}{files}; default {DEFAULT_PRESET}",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="override a key; repeatable"
    )
