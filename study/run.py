# PYTHON_ARGCOMPLETE_OK
"""Run a study, from configuration to Pareto front.

    python -m study.run                                  the embedded study: two cores, no GPU, no network
    python -m study.run emoji_clip --set search.trials=40 --name longer
    python -m study.run my_study.yaml --address auto     on the Ray cluster of this machine
    ray job submit --working-dir . -- python -m study.run my_study.yaml     on the cluster that the job runs on

A study that was interrupted goes on when the same command runs again.
"""

from __future__ import annotations

import argparse
import errno
import json
import sys
import traceback
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING

from analysis.commands import CommandParser, add_json, command_parser, run_command
from study.arguments import add_config
from study.changes import refuse_another_space, refuse_changes, refuse_foreign, refuse_kept_elsewhere
from study.config import StudyConfig, dump_config, load_config
from study.errors import UserError
from study.storage_config import storage_url, study_folder
from trainables.artifacts import write_text
from trainables.remote_folder import RemoteError

if TYPE_CHECKING:
    from study.ledger import Ledger
    from study.plan import Plan


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit code: 0 done, 1 no trial succeeded, 2 a mistake in the input, 130 interrupted."""
    return run_command(_parser(), _run, arguments, (UserError,))


def _parser() -> CommandParser:
    parser = command_parser("study.run", __doc__, "no trial succeeded, or the study broke off")
    add_config(parser)
    parser.add_argument(
        "--address", help="the Ray cluster to run on, for example auto; default: that of the job, or a Ray of its own"
    )
    parser.add_argument("--fresh", action="store_true", help="set an earlier study of this name aside and start anew")
    parser.add_argument(
        "--profile", action="store_true", help="write a Chrome trace of a part of the first trial that this run trains"
    )
    add_json(parser)
    return parser


def _run(options: argparse.Namespace) -> int:
    try:
        return _run_study(options)
    except RemoteError as error:
        raise UserError(f"storage.path: {error}") from None


def _run_study(options: argparse.Namespace) -> int:
    from study.checks import check_data, checked_space
    from study.environment import check_address, check_cache, check_resources, use_mirror
    from study.ledger import Ledger
    from study.models import check_student
    from study.plan import Plan
    from study.ray_job import check_storage_outlives_job, own_cluster
    from study.remote_study import remote_study
    from study.tracking import check_tracking
    from study.warm_start import starting_points

    config = load_config(options.config, options.overrides, options.name)
    check_student(config)
    space = checked_space(config)
    check_data(config)
    check_tracking(config.tracking)
    check_cache()
    address = own_cluster() if options.address is None else options.address
    check_address(address)
    if address is None:
        check_resources(config.resources)
    folder = study_folder(config)
    if options.name is None:
        refuse_kept_elsewhere(options.config, config, folder)
    check_storage_outlives_job(config.storage.path, folder)
    use_mirror(config.storage)
    ledger = Ledger(folder, remote_study(config))
    # Where the first trials come from matters, and need be there, only until there are trials.
    has_begun = not options.fresh and ledger.has_begun()
    points = [] if has_begun else starting_points(config, space)
    url = storage_url(config.storage, folder)
    refuse_foreign(folder)
    ledger.open()
    has_begun = has_begun or (not options.fresh and ledger.has_begun())  # by another process, before the lock was free
    try:
        return _run_opened(options, Plan(config, space, points, url, address, options.profile), ledger, has_begun)
    finally:
        ledger.close()


def _run_opened(options: argparse.Namespace, plan: Plan, ledger: Ledger, has_begun: bool) -> int:
    from study.environment import prepare_process, quiet

    config, folder = plan.config, ledger.folder
    said = sys.stderr if options.json else sys.stdout
    if options.fresh and (aside := ledger.set_aside()):
        print(f"The earlier study is now in {aside}", file=said)
    refuse_changes(config, folder, has_begun)
    refuse_another_space(plan.space, folder, has_begun)
    write_text(folder / "config.yaml", dump_config(config))
    ledger.keep_all()
    if (reason := _why_finished(config, ledger)) is not None:
        print(f"The study in {ledger.place} is finished ({reason}); to go on, raise what ended it.", file=said)
        return _show(ledger, sys.stdout, options.json)

    prepare_process(plan.address)
    # Everything below is slow: only now is a library imported that takes its time.
    from study.engine import run_stages

    with quiet(folder / "study.log") as (output, terminal):
        try:
            run_stages(plan, ledger, terminal)
            return _show(ledger, output, options.json)
        except KeyboardInterrupt:
            print(f"\nInterrupted: {ledger.what_is_kept()}", file=terminal)
            return 130
        except UserError as error:
            if any(record.result is not None for record in ledger.records()):
                raise UserError(f"{error}; {ledger.what_is_kept()}") from None
            raise
        except Exception as error:
            traceback.print_exc()  # into the log
            full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
            reason = "no space left" if full else f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
            where = f"where {error.filename or folder} lies" if isinstance(error, OSError) and full else ""
            print(f"study.run: {reason} {where}; {ledger.what_is_kept()}", file=terminal)
            if not full:
                print(f"Details are in {folder / 'study.log'}.", file=terminal)
            return 1


def _why_finished(config: StudyConfig, ledger: Ledger) -> str | None:
    """What ended the study, None if anything is left to run, confirm or report."""
    from analysis.pareto import reference_point
    from study.budget import Budget
    from study.confirmation import is_complete
    from study.ledger import read_field

    folder = ledger.folder
    finished = {record: record.result for record in ledger.records()}
    ended = {record: result for record, result in finished.items() if result is not None}
    if len(ended) < len(finished) or not (folder / "results" / "front.json").exists():
        return None
    teacher = read_field(folder / "teacher.json", "scores", "validation", "summary", of=dict)
    reference = reference_point(teacher, config.search.directions)
    budget = Budget(config.search, ledger, reference)
    for result in sorted(ended.values(), key=lambda result: str(result["finished"])):
        budget.take(result)
    return budget.over(0) if is_complete(ledger, ended, config) else None


def _show(ledger: Ledger, output: IO[str], as_json: bool) -> int:
    """Print the front of a study that has ended. Returns the exit code."""
    from rich.console import Console

    from analysis.files import without_nan
    from analysis.load import front, load_study
    from study.results import print_front

    data = load_study(ledger.folder)
    code = 0 if (data.trials["state"] == "complete").any() else 1
    if as_json:
        content = without_nan({"name": data.name, "study": ledger.place, **front(data)})
        print(json.dumps(content, indent=1), file=output)
        return code
    console = Console(file=output, width=None if output.isatty() else 140, markup=False, emoji=False)
    print_front(data, console)
    said = {"failed": "failed", "infeasible": "does not fit", "unreadable": "cannot be read"}
    ended_badly = data.trials[data.trials["state"].isin([*said])]
    for trial, state, reason in zip(*(ended_badly[name] for name in ("trial", "state", "reason")), strict=True):
        console.print(f"Trial {trial} {said[state]}: {reason}", soft_wrap=True)
    console.print(f"Figure: {ledger.folder / 'report' / 'pareto.png'}", soft_wrap=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
