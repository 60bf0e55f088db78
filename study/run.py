"""Run a study, from configuration to Pareto front.

    python -m study.run                                  the embedded study: two cores, no GPU, no network
    python -m study.run emoji_clip --set search.trials=40 --name longer
    python -m study.run my_study.yaml --address auto     on the Ray cluster of this machine

A study that was interrupted goes on when the same command runs again.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from study.config import DEFAULT_PRESET, StudyConfig, available_presets, dump_config, load_config, storage_url
from study.errors import UserError
from trainables.artifacts import write_text

if TYPE_CHECKING:
    from study.ledger import Ledger

# What may change between two runs of one study; everything else would mix trials that do not compare.
_MAY_CHANGE = ("storage", "search.trials", "resources")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit code: 0 done, 1 no trial succeeded, 2 a mistake in the input, 130 interrupted."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except UserError as error:
        print(f"study.run: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    description, _, examples = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m study.run",
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "config",
        nargs="?",
        default=DEFAULT_PRESET,
        metavar="PRESET or FILE",
        help=f"a preset ({', '.join(available_presets())}) or a YAML file; default {DEFAULT_PRESET}",
    )
    parser.add_argument("--name", help="the study's name, which is also its folder's")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="override a key; repeatable"
    )
    parser.add_argument("--address", help="the Ray cluster to run on, for example auto; default: a Ray of its own")
    parser.add_argument("--fresh", action="store_true", help="set an earlier study of this name aside and start anew")
    return parser


def _run(options: argparse.Namespace) -> int:
    from study.checks import checked_space
    from study.ledger import Ledger

    config = load_config(options.config, options.overrides, options.name)
    space = checked_space(config)
    folder = (Path(config.storage.path).expanduser() / config.name).absolute()
    url = storage_url(config.storage, folder)
    ledger = Ledger(folder)
    ledger.open()
    if options.fresh and (aside := ledger.set_aside()):
        print(f"The earlier study is now in {aside}")
    _refuse_changes(config, folder)
    write_text(folder / "config.yaml", dump_config(config))
    if _is_finished(config, ledger):
        print(f"The study in {folder} is finished; for more, raise search.trials, now {config.search.trials}.")
        return _show(folder, sys.stdout)

    # Everything below is slow: only now is a library imported that takes its time.
    from study.engine import run_stages
    from study.environment import quiet

    with quiet(folder / "study.log") as (output, terminal):
        try:
            run_stages(config, space, ledger, url, options.address, terminal)
            return _show(folder, output)
        except KeyboardInterrupt:
            ended = sum(record.result is not None for record in ledger.records())
            print(f"\nInterrupted: {ended} finished trials are kept in {folder}.", file=terminal)
            print("The same command goes on from there.", file=terminal)
            return 130
        except UserError:
            raise
        except Exception as error:
            traceback.print_exc()  # into the log
            reason = " ".join(str(error).split())[:500]
            print(f"study.run: {type(error).__name__}: {reason}; details in {folder / 'study.log'}", file=terminal)
            return 1


def _refuse_changes(config: StudyConfig, folder: Path) -> None:
    """Hold the configuration against the one that the study in ``folder`` began with.

    Raises:
        UserError: naming the first key that differs and may not.
    """
    import yaml

    path = folder / "config.yaml"
    if not path.exists():
        return
    before = _flat(yaml.safe_load(path.read_text(encoding="utf-8")))
    now = _flat(yaml.safe_load(dump_config(config)))
    for key in [*now, *(key for key in before if key not in now)]:
        if before.get(key) != now.get(key) and not key.startswith(_MAY_CHANGE):
            raise UserError(
                f"the study in {folder} began with {key}: {before.get(key)} and cannot go on with {now.get(key)}; "
                "give the new study another --name, or --fresh to set the earlier one aside"
            )


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix.rstrip("."): tree}
    return {key: value for name, branch in tree.items() for key, value in _flat(branch, f"{prefix}{name}.").items()}


def _is_finished(config: StudyConfig, ledger: Ledger) -> bool:
    """Whether every trial of the budget has ended and the front is reported."""
    records = ledger.records()
    ended = sum(record.result is not None for record in records)
    return ended == len(records) >= config.search.trials and (ledger.folder / "results" / "front.json").exists()


def _show(folder: Path, output: IO[str]) -> int:
    """Print the front of a study that has ended. Returns the exit code."""
    from rich.console import Console

    from analysis.load import load_study
    from study.results import print_front

    data = load_study(folder)
    console = Console(file=output, width=None if output.isatty() else 140, markup=False, emoji=False)
    print_front(data, console)
    failed = data.trials[data.trials["state"] == "failed"]
    for trial, reason in zip(failed["trial"], failed["reason"], strict=True):
        console.print(f"Trial {trial} failed: {reason}", soft_wrap=True)
    console.print(f"Figure: {folder / 'report' / 'pareto.png'}", soft_wrap=True)
    return 0 if (data.trials["state"] == "complete").any() else 1


if __name__ == "__main__":
    sys.exit(main())
