"""What goes wrong around a study, done for real: a full disk, a damaged student, a cluster that is somebody else's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from trainables.resources import is_out_of_memory

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


def test_a_full_disk_ends_the_study_in_one_line_and_it_goes_on_where_there_is_room(
    study: Study, small_disk: Path
) -> None:
    stopped = study.run("search.trials=3")
    assert stopped.code == 1, study.runs[0].said()
    last = [line for line in stopped.errors.splitlines() if line.startswith("study.run:")]
    assert len(last) == 1
    assert "no space left" in last[0]
    assert "finished trials are kept" in last[0]
    kept = study.results()
    assert "failed" not in {result["state"] for result in kept.values()}

    mounted("-o", "remount,size=100m", str(small_disk))
    outcome = study.run("search.trials=3")
    assert outcome.code == 0, study.runs[1].said()
    results = study.results()
    assert len(results) == 3
    assert {result["state"] for result in results.values()} <= {"complete", "stopped"}
    assert kept.items() <= results.items()


def test_a_student_that_a_disk_has_damaged_costs_its_test_scores_alone(copied: Study) -> None:
    member = copied.read("results/front.json")["members"][0]["trial"]
    folder = copied.folder / "trials" / member
    (folder / "test.json").unlink()
    (copied.folder / "results" / "front.json").unlink()
    weights = folder / "checkpoint" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    outcome = copied.run()
    assert outcome.code == 0, copied.runs[0].said()
    assert f"Trial {member} has no test scores: {weights.parent} cannot be read" in outcome.errors
    members = {found["trial"]: found["test"] for found in copied.read("results/front.json")["members"]}
    assert members[member] is None


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
    try:
        yield f"127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def test_a_study_runs_on_a_cluster_that_is_up_and_leaves_it_up(study: Study, run_environment: dict[str, str]) -> None:
    with cluster(run_environment) as address:
        for _ in range(2):
            outcome: Outcome = study.start("search.trials=2", address=address).wait()
            if "nothing answers" not in outcome.errors:
                break
            time.sleep(10)
        assert outcome.code == 0, study.runs[-1].said()
        assert len(study.results()) == 2
        assert study.read("results/front.json")["members"] is not None
        again = study.start("search.trials=3", address=address).wait()
        assert again.code == 0, study.runs[-1].said()
        assert len(study.results()) == 3


KILLED_FOR_MEMORY = """
import sys, time
from pathlib import Path
import ray
from ray import tune
from study.ray_mends import fail_one_trial_when_memory_runs_out

fail_one_trial_when_memory_runs_out()
lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
memory = {words[0]: 1024 * float(words[1]) for words in lines}
settings = {
    "memory_usage_threshold": (memory["MemTotal:"] - memory["MemAvailable:"] + 3e9) / memory["MemTotal:"],
    "memory_monitor_refresh_ms": 100,
}
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, _system_config=settings)


def trial(config):
    taken = []
    while config["greedy"]:
        taken.append(b"x" * 100_000_000)
        time.sleep(0.05)
    tune.report({"ended": 1})


space = {"greedy": tune.grid_search([True, False])}
config = tune.RunConfig(verbose=0, storage_path=sys.argv[1], name="killed")
found = tune.Tuner(trial, param_space=space, run_config=config).fit()
ray.shutdown()
print(found.num_errors, found.num_terminated)
"""


def test_a_trial_that_rays_memory_monitor_kills_fails_alone_and_says_why(
    tmp_path: Path, run_environment: dict[str, str]
) -> None:
    command = [sys.executable, "-c", KILLED_FOR_MEMORY, str(tmp_path)]
    ran = subprocess.run(command, cwd=ROOT, env=run_environment, capture_output=True, text=True, timeout=180)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.splitlines()[-1] == "1 1"
    (error,) = tmp_path.glob("killed/*/error.txt")
    assert is_out_of_memory(error.read_text(encoding="utf-8"))
