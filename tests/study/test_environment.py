from __future__ import annotations

import logging
import os
import re
import sys
from pathlib import Path

import pytest

from study.config import ResourcesConfig
from study.environment import check_cache, concurrent_trials, describe_environment, quiet
from study.errors import UserError

CLUSTER = {"CPU": 16.0, "GPU": 4.0, "trial": 12.0}


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        (ResourcesConfig(), 12),  # a driver each
        (ResourcesConfig(cpus_per_worker=2), 8),
        (ResourcesConfig(concurrent_trials=3), 3),
        (ResourcesConfig(concurrent_trials=99), 12),
        (ResourcesConfig(gpus_per_worker=1), 4),
        (ResourcesConfig(gpus_per_worker=0.25), 12),
        (ResourcesConfig(workers_per_trial=2, gpus_per_worker=1), 2),
        (ResourcesConfig(workers_per_trial=4, cpus_per_worker=2), 2),
    ],
)
def test_as_many_trials_run_at_once_as_the_cluster_holds(resources: ResourcesConfig, expected: int) -> None:
    assert concurrent_trials(resources, CLUSTER) == expected


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        (
            ResourcesConfig(workers_per_trial=5, gpus_per_worker=1),
            "resources.gpus_per_worker: 1 for each of 5 workers is more than the 4 GPUs that there are; "
            "lower it or resources.workers_per_trial",
        ),
        (
            ResourcesConfig(cpus_per_worker=17),
            "resources.cpus_per_worker: 17 is more than the 16 CPUs that there are; lower it",
        ),
    ],
)
def test_a_trial_that_does_not_fit_the_cluster_is_refused_by_what_it_lacks(
    resources: ResourcesConfig, message: str
) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        concurrent_trials(resources, CLUSTER)


def test_a_cache_folder_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("POLYDISTILL_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match=r"POLYDISTILL_CACHE: .*file/cache: Not a directory"):
        check_cache()


def test_what_libraries_write_goes_to_the_log_and_the_terminal_stays_ours(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "study.log"

    def work() -> None:
        with quiet(log) as (output, errors):
            os.write(1, b"native output\n")
            os.write(2, b"native error\n")
            logging.getLogger("library").warning("logged")
            output.write("the front\n")
            errors.write("progress\n")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    os.write(1, b"after\n")
    os.write(2, b"after too\n")
    assert capfd.readouterr() == ("the front\nafter\n", "progress\nafter too\n")
    assert {"native output", "native error", "logged"} <= set(log.read_text(encoding="utf-8").splitlines())


def test_the_environment_names_versions_and_leaves_out_what_is_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "hush")
    found = describe_environment()
    assert found["packages"]["ray"]
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert "hush" not in str(found)
