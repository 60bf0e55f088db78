"""What goes wrong around a study, done for real: a full disk, killed processes, a cluster that is somebody else's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from study.config import load_config
from tests.study.slow_folder import DEVICE, slow_folder
from tests.study.tiny import (
    UNCONFIRMED,
    check_that_nothing_is_left,
    check_that_optuna_and_ledger_agree,
    check_that_trials_are_those_of_a_fast_storage,
)

if TYPE_CHECKING:
    from tests.study.tiny import Outcome, Study

ROOT = Path(__file__).parents[2]


def mounted(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


@pytest.fixture
def small_disk(study: Study) -> Iterator[Path]:
    """The folder of all runs, on a disk of its own that is too small for a study."""
    runs = study.place / "runs"
    runs.mkdir()
    try:
        mounted("-t", "tmpfs", "-o", "size=1500k", "tmpfs", str(runs))
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small disk needs root")
    yield runs
    study.end()
    subprocess.run(["umount", "--lazy", str(runs)], check=True)


@pytest.mark.long
def test_a_full_disk_ends_the_study_in_one_line_and_it_goes_on_where_there_is_room(
    study: Study, small_disk: Path
) -> None:
    settings = ["search.trials=3", UNCONFIRMED]
    stopped = study.run(*settings)
    assert stopped.code == 1, study.runs[0].said()
    last = [line for line in stopped.errors.splitlines() if line.startswith("study.run:")]
    assert len(last) == 1
    assert "no space left" in last[0]
    assert "finished trials are kept" in last[0]
    kept = study.results()
    assert "failed" not in {result["state"] for result in kept.values()}

    mounted("-o", "remount,size=100m", str(small_disk))
    outcome = study.run(*settings)
    assert outcome.code == 0, study.runs[1].said()
    results = study.results()
    assert len(results) == 3
    assert {result["state"] for result in results.values()} <= {"complete", "stopped"}
    assert kept.items() <= results.items()


@pytest.mark.long
@pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists(DEVICE), reason=f"mounting a slow folder needs root and {DEVICE}"
)
def test_a_file_server_that_answers_slowly_costs_time_and_no_trial(study: Study) -> None:
    settings = ["search.trials=3", "search.sampler=random", "resources.concurrent_trials=1", UNCONFIRMED]
    disk, runs = study.place / "disk", study.place / "runs"
    disk.mkdir()
    runs.mkdir()
    with slow_folder(disk, runs, seconds=0.02):
        run = study.start(*settings)
        outcome = run.wait(800)
        assert outcome.code == 0, run.said()
        check_that_optuna_and_ledger_agree(study)
        check_that_trials_are_those_of_a_fast_storage(study, load_config(str(study.place / "tiny.yaml"), settings))


@pytest.mark.long
def test_trials_go_on_from_their_rung_after_termination_and_one_crash_and_fail_after_two(study: Study) -> None:
    settings = ["training.steps=120", "search.scheduler.reduction=1.01", UNCONFIRMED]
    run = study.start("search.trials=2", *settings)
    run.until(lambda: study.reports(0) and study.reports(1))
    run.process.send_signal(signal.SIGTERM)
    outcome = run.wait(60)
    assert (outcome.code, study.results()) == (130, {}), run.said()
    assert "Interrupted: 0 finished trials are kept" in outcome.errors
    check_that_nothing_is_left(run)
    # As if the second trial had saved its state, and been ended before its report was written down.
    (study.folder / "trials" / "00001" / "reports.jsonl").unlink()

    again = study.start("search.trials=3", *settings)
    killed = set(again.until(lambda: len(found := again.trials()) == 2 and found)[:1])
    os.kill(*killed, signal.SIGKILL)
    again.until(lambda: len(study.results()) == 2 and 2 in study.recipes())

    def has_failed() -> bool:
        for trial in set(again.trials()) - killed:  # a killed one may be seen until Ray has cleared it away
            with suppress(ProcessLookupError):
                os.kill(trial, signal.SIGKILL)
            killed.add(trial)
        return 2 in study.results()

    again.until(has_failed)
    assert len(killed) >= 3
    outcome = again.wait()
    assert outcome.code == 0, again.said()
    check_that_optuna_and_ledger_agree(study)
    check_that_nothing_is_left(again)
    results = study.results()
    assert [results[number]["state"] for number in range(3)] == ["complete", "complete", "failed"]
    assert "died" in results[2]["reason"]
    assert f"Trial 00002 failed: {results[2]['reason']}" in outcome.output
    # From the start, the first would have reported at its rung twice; the second is judged there after all.
    assert [report["step"] for report in study.reports(0)] == [6, 120]
    assert [report["step"] for report in study.reports(1)] == [6, 120]


FREE = """
import sys
from study.environment import prepare_process, ray_cluster
from study.config import ResourcesConfig

prepare_process(sys.argv[1])
import ray

with ray_cluster(sys.argv[1], ResourcesConfig(), print):
    free = ray.available_resources()
    print(free.get("CPU"), free.get("trial"))
"""


def answers(address: str, environment: dict[str, str]) -> bool:
    """Whether a cluster is up, and all that trials ask for is free there."""
    command = [sys.executable, "-c", FREE, address]
    asked = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    return asked.returncode == 0 and asked.stdout.splitlines()[-1:] == ["2.0 2.0"]


@contextmanager
def cluster(environment: dict[str, str]) -> Iterator[str]:
    """A Ray that somebody has started, and its address."""
    port = "26379"
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--port", port]
    command += ["--num-cpus", "2", "--resources", '{"trial": 2}', "--include-dashboard", "false"]
    command += ["--node-ip-address", "127.0.0.1"]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    address, deadline = f"127.0.0.1:{port}", time.monotonic() + 90
    try:
        while not answers(address, environment):
            assert process.poll() is None, f"ray start ended with {process.returncode}"
            assert time.monotonic() < deadline, "ray start takes too long"
        yield address
        assert process.poll() is None
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


@pytest.mark.long
def test_a_study_runs_on_a_cluster_that_is_up_and_leaves_it_up(study: Study, run_environment: dict[str, str]) -> None:
    with cluster(run_environment) as address:
        outcome: Outcome = study.start("search.trials=2", UNCONFIRMED, address=address).wait()
        assert outcome.code == 0, study.runs[-1].said()
        assert len(study.results()) == 2
        assert study.read("results/front.json")["members"] is not None
        assert answers(address, run_environment)


def test_a_ray_that_is_killed_while_it_starts_ends_the_study_at_once_and_with_a_word(study: Study) -> None:
    run = study.start()

    def server(name: str) -> int | None:
        return next((pid for pid, title in run.processes().items() if title.split()[0].endswith(f"/{name}")), None)

    run.until(lambda: server("raylet"))
    head = server("gcs_server")
    assert head is not None
    os.kill(head, signal.SIGKILL)
    outcome = run.wait(30)  # left to itself, Ray waits for a minute and ends the driver without a word
    assert outcome.code == 1, run.said()
    last = outcome.errors.splitlines()[-1]
    assert last.startswith("study.run: Ray's gcs_server ended while Ray started; 0 finished trials are kept in ")
    check_that_nothing_is_left(run)
