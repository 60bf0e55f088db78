"""`ray job submit -- python -m study.run ...` on a cluster that is up and asks for a token."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.study.tiny import ROOT, TINY, UNCONFIRMED

BIN = Path(sys.executable).parent


@dataclass
class Cluster:
    """A head with a dashboard, and where its user works."""

    process: subprocess.Popen[bytes]
    dashboard: str
    environment: dict[str, str]
    place: Path

    def submit(self, *arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """`ray job submit` from the user's folder, to its end."""
        command = [str(BIN / "ray"), "job", "submit", "--address", self.dashboard, "--working-dir", ".", *arguments]
        deadline = time.monotonic() + timeout
        while True:
            ran = subprocess.run(
                command,
                cwd=self.place,
                env=self.environment,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
            if "No available agent" not in ran.stderr or time.monotonic() > deadline:
                return ran  # a head that has just started has none for a while

    def ask(self, path: str) -> Any:
        """What the dashboard answers to whoever has the token."""
        token = (Path(self.environment["HOME"]) / ".ray" / "auth_token").read_text(encoding="utf-8")
        request = urllib.request.Request(self.dashboard + path, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def is_ready(self) -> bool:
        try:
            return bool(self.ask("/api/jobs/") == [])
        except OSError:
            return False


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    place, ray_folder = tmp_path / "user", tempfile.mkdtemp(prefix="pd-")
    place.mkdir()
    (place / "tiny.yaml").write_text(yaml.safe_dump({**TINY, "storage": {"path": "runs"}}), encoding="utf-8")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "POLYDISTILL"))},
        "HOME": str(tmp_path),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "RAY_TMPDIR": ray_folder,
        "RAY_AUTH_MODE": "token",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    subprocess.run([BIN / "ray", "get-auth-token", "--generate"], env=environment, check=True, capture_output=True)
    port, dashboard, client, agent = free_ports(4)
    options = {
        "port": port,
        "node-ip-address": "127.0.0.1",
        "dashboard-host": "127.0.0.1",
        "dashboard-port": dashboard,
        "dashboard-agent-listen-port": agent,
        "ray-client-server-port": client,
        "num-cpus": 2,
        "resources": '{"trial": 2}',
    }
    command = [str(BIN / "ray"), "start", "--head", "--block", *(f"--{key}={value}" for key, value in options.items())]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    found = Cluster(process, f"http://127.0.0.1:{dashboard}", environment, place)
    deadline = time.monotonic() + 180
    try:
        while not found.is_ready():
            assert process.poll() is None, f"ray start ended with {process.returncode}"
            assert time.monotonic() < deadline, "ray start takes too long"
            time.sleep(0.5)
        yield found
        assert process.poll() is None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)
        shutil.rmtree(ray_folder, ignore_errors=True)


@pytest.mark.long
def test_a_study_runs_in_a_job_on_the_jobs_cluster_and_not_where_the_job_is_deleted(
    cluster: Cluster, tmp_path: Path
) -> None:
    study = ["--", "python", "-m", "study.run", "tiny.yaml", "--set", "resources.workers_per_trial=1"]
    refused = cluster.submit(*study)
    assert refused.returncode != 0
    said = list({line for line in refused.stdout.splitlines() if "study.run: " in line})  # shown live, and at the end
    assert len(said) == 1, refused.stdout + refused.stderr
    assert "storage.path: runs is in the job's copy of --working-dir, which Ray deletes after the job" in said[0]

    # What a user hands to a job for all its processes, a study hands on too.
    cache = json.dumps({"env_vars": {"POLYDISTILL_CACHE": str(tmp_path / "cache")}})
    settings = [f"storage.path={tmp_path / 'runs'}", "search.trials=2", UNCONFIRMED]
    ran = cluster.submit("--runtime-env-json", cache, *study, *(word for key in settings for word in ("--set", key)))
    assert ran.returncode == 0, f"{ran.stdout[-4000:]}\n{ran.stderr[-2000:]}"
    results = [json.loads(path.read_text("utf-8")) for path in (tmp_path / "runs").glob("tiny/trials/*/result.json")]
    assert {result["state"] for result in results} <= {"complete", "stopped"}
    assert len(results) == 2
    assert list((tmp_path / "cache").iterdir())
    # A driver of Ray's that a study of its own Ray would not be.
    jobs = {job["entrypoint"]: job for job in cluster.ask("/api/jobs/")}
    assert {bool(job["driver_info"]): job["status"] for job in jobs.values()} == {False: "FAILED", True: "SUCCEEDED"}
