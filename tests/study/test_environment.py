from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from study.environment import describe_environment, quiet

ROOT = Path(__file__).parents[2]


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


SEEN = """
import os, ray
from study.config import ResourcesConfig
from study.environment import prepare_process, ray_cluster
prepare_process(None)
with ray_cluster(None, ResourcesConfig(), print):
    seen = ray.remote(num_cpus=1)(lambda: os.environ["CUDA_VISIBLE_DEVICES"])
    asked = seen.options(num_gpus=0.25)
    print([ray.get(task.remote()) for task in (seen, asked)])
"""


def test_a_process_that_asks_for_no_gpu_sees_none(tmp_path: Path) -> None:
    """As all trials of a study with resources.gpus_per_worker: 0 do; Ray counts the GPUs that it is told of."""
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "0",
        "HOME": str(tmp_path),
        "RAY_OVERRIDE_RESOURCES": '{"GPU": 1}',
    }
    command = [sys.executable, "-c", SEEN]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert ran.stdout == "['', '0']\n", ran.stderr


STARTED = """
from study.config import ResourcesConfig
from study.environment import prepare_process, ray_cluster
prepare_process(None)
with ray_cluster(None, ResourcesConfig(), print):
    import ray
    print(ray.get(ray.remote(lambda: "up").remote()))
"""


def test_ray_starts_where_the_folder_for_temporary_files_has_a_long_name(tmp_path: Path) -> None:
    folder = tmp_path / "of_a_job_of_a_batch_system" / "on_a_disk_of_its_own" / "with_a_name_that_says_it_all"
    folder.mkdir(parents=True)
    environment = {name: value for name, value in os.environ.items() if name != "RAY_TMPDIR"}
    environment |= {"TMPDIR": str(folder), "HOME": str(tmp_path)}
    command = [sys.executable, "-c", STARTED]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert ran.stdout == "up\n", ran.stderr
