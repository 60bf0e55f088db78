"""cluster/on_premise.yaml as it is used: three machines, `ray up` from one of them, a study on the other two."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.machines import HOME, Machine, what_is_missing
from tests.study.tiny import ROOT, TINY, UNCONFIRMED

STRANGER = """
import urllib.error, urllib.request

for path in ("/api/jobs/", "/nodes?view=summary"):
    try:
        urllib.request.urlopen("http://127.0.0.1:8265" + path, timeout=20)
        print("let in")
    except urllib.error.HTTPError as error:
        print(error.code)
"""


@dataclass
class Cluster:
    """A laptop, and two machines that it may log into."""

    laptop: Machine
    head: Machine
    worker: Machine
    shared: Path

    def ray(self, command: str, *arguments: str, timeout: float = 600) -> str:
        """Run a command of Ray's launcher as the user of the laptop would, from the repository; what it said."""
        program = str(Path(sys.executable).with_name("ray"))
        words = ["env", "-C", str(ROOT), program, command, "/laptop/cluster.yaml", *arguments]
        ran = self.laptop.run(words, timeout, HOME="/laptop", RAY_USAGE_STATS_ENABLED="0")
        assert ran.returncode == 0, f"ray {command} ended with {ran.returncode}:\n{ran.stdout[-6000:]}"
        return ran.stdout

    def configuration(self) -> dict[str, Any]:
        """The file of the repository with this cluster's addresses, user and key in the places that are to be filled in."""
        content: dict[str, Any] = yaml.safe_load((ROOT / "cluster" / "on_premise.yaml").read_text(encoding="utf-8"))
        content["provider"] |= {"head_ip": self.head.address, "worker_ips": [self.worker.address]}
        content["auth"] |= {"ssh_user": "root", "ssh_private_key": "/laptop/.ssh/key"}
        assert "REPLACE-ME" not in yaml.safe_dump(content)
        return content


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    if (reason := what_is_missing()) is not None:
        pytest.skip(reason)
    shared, wheels = tmp_path / "shared", tmp_path / "wheels"
    shared.mkdir()
    # The machines reach no package index. They find this test's environment where theirs is to be, a copy as soon as
    # they change it, so that `pip install` has only this code to build and all else to hold against constraints.txt.
    download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(wheels), "setuptools>=77"]
    subprocess.run(download, check=True, capture_output=True)
    machines: list[Machine] = []
    try:
        try:
            for number in (1, 2, 3):
                machines.append(Machine(number, tmp_path / str(number), shared, machines[0] if machines else None))
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no boxes here: {error}")
        laptop, *others = machines
        make_key = (
            "mkdir -p /laptop/.ssh && ssh-keygen -q -t ed25519 -N '' -f /laptop/.ssh/key && cat /laptop/.ssh/key.pub"
        )
        key = laptop.run(["bash", "-c", make_key]).stdout
        for machine in others:
            machine.start_sshd(key)
            machine.write(
                f"{sys.prefix}/pip.conf",
                f"[global]\nno-index = true\nfind-links = {wheels}\nroot-user-action = ignore\n",
            )
            machine.run(["bash", "-c", f"mkdir -p {HOME}/polydistill && ln -s {sys.prefix} {HOME}/polydistill/venv"])
        yield Cluster(laptop, *others, shared)
    finally:
        for machine in reversed(machines):
            machine.end()
        shutil.rmtree(tmp_path, ignore_errors=True)  # copies of a few hundred megabytes


def servers(machine: Machine) -> list[str]:
    found = machine.run(["ps", "-eo", "comm="]).stdout.split()
    return [name for name in found if name in ("gcs_server", "raylet")]


@pytest.mark.long
def test_a_study_runs_on_machines_of_ones_own_from_ray_up_to_ray_down(cluster: Cluster) -> None:
    token = "get-auth-token --generate && chmod 600 ~/.ray/auth_token"
    ray = Path(sys.executable).with_name("ray")
    assert cluster.laptop.run(["bash", "-c", f"{ray} {token}"], HOME="/laptop").returncode == 0
    cluster.laptop.write("/laptop/cluster.yaml", yaml.safe_dump(cluster.configuration()))
    cluster.ray("up", "--yes", "--no-config-cache")
    assert sorted(servers(cluster.head)) == ["gcs_server", "raylet"]
    deadline = time.monotonic() + 300
    while servers(cluster.worker) != ["raylet"]:
        log = "tail -n 60 /tmp/ray/session_latest/logs/monitor*"
        assert time.monotonic() < deadline, cluster.ray("exec", log)
        time.sleep(1)

    while "2 local.cluster.node" not in (status := cluster.ray("exec", "ray status")):
        assert time.monotonic() < deadline, status
    # Both have the token for themselves, and this code; nobody without the token is let in.
    for machine in (cluster.head, cluster.worker):
        said = machine.run(["stat", "-c", "%a", f"{HOME}/.ray/auth_token"]).stdout
        assert said.strip() == "600"
    stranger = cluster.head.run([sys.executable, "-c", STRANGER], HOME="/tmp")
    assert stranger.stdout.split() == ["401", "401"], stranger.stdout

    study = {**TINY, "storage": {"path": "/shared/runs"}, "resources": {"workers_per_trial": 1}}
    cluster.laptop.write("/laptop/tiny.yaml", yaml.safe_dump(study, allow_unicode=True))
    cluster.ray("rsync-up", "/laptop/tiny.yaml", f"{HOME}/tiny.yaml")
    settings = f"--set search.trials=3 --set {UNCONFIRMED}"
    cluster.ray("exec", f"python -m study.run tiny.yaml --address auto {settings}", timeout=900)
    folder = cluster.shared / "runs" / "tiny"
    results = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("trials/*/result.json")]
    assert len(results) == 3
    assert {result["state"] for result in results} <= {"complete", "stopped"}
    assert json.loads((folder / "results" / "front.json").read_text(encoding="utf-8"))["members"]

    cluster.ray("down", "--yes")
    deadline = time.monotonic() + 180  # a worker ends a minute after its head
    while servers(cluster.head) or servers(cluster.worker):
        assert time.monotonic() < deadline
        time.sleep(0.5)
