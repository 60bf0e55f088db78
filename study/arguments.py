"""What the commands that take a configuration have in common on their command lines."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.completion import completed_by
from study.completion import configurations, settings
from study.config import DEFAULT_PRESET, available_presets, checked_override


def add_config(parser: argparse.ArgumentParser, other: str = "") -> None:
    """Add ``config``, ``--set`` and ``--name``; ``other``: what may be named beside a preset and a file."""
    presets = f"a preset ({', '.join(available_presets())})"
    files = f", a YAML file or {other}" if other else " or a YAML file"
    config = parser.add_argument(
        "config",
        nargs="?",
        type=_source,
        default=DEFAULT_PRESET,
        metavar="PRESET, FILE or FOLDER" if other else "PRESET or FILE",
        help=f"{presets}{files}; default {DEFAULT_PRESET}",
    )
    setting = parser.add_argument(
        "--set",
        action="append",
        type=checked_override,
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="override a key; repeatable",
    )
    completed_by(config, configurations)
    completed_by(setting, settings)
    parser.add_argument("--name", help="the study's name, which is also its folder's")


def _source(word: str) -> str:
    if "=" in word and "://" not in word and not Path(word).exists():
        raise argparse.ArgumentTypeError(f"{word!r} is none: to set a key, write --set {word}")
    return word
