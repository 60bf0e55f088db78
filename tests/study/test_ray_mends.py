"""That Ray behaves as `study.ray_mends` has it behave, in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from tests.study.tiny import TINY, UNCONFIRMED
from trainables.resources import is_out_of_memory

if TYPE_CHECKING:
    from tests.study.tiny import Study

ROOT = Path(__file__).parents[2]

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


MODULES_OF_A_STUDY = """
import sys
from study.run import main

found = [main(sys.argv[1:]), "mlflow" in sys.modules]
from ray import tune
from ray.air._internal import usage

usage._count_callbacks([tune.Callback()])
print(*found, "mlflow" in sys.modules)
"""


def test_a_study_imports_no_tracker_that_it_does_not_use_though_ray_alone_would(study: Study) -> None:
    config = study.place / "tiny.yaml"
    config.write_text(yaml.safe_dump(TINY, allow_unicode=True), encoding="utf-8")
    settings = (f"storage.path={study.place}", "search.trials=1", UNCONFIRMED)
    command = [sys.executable, "-c", MODULES_OF_A_STUDY, str(config), *(w for key in settings for w in ("--set", key))]
    ran = subprocess.run(command, cwd=ROOT, env=study.environment, capture_output=True, text=True, timeout=180)
    assert ran.stdout.splitlines()[-1] == "0 False True", ran.stderr[-2000:]
