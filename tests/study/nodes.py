"""A Ray cluster of several nodes on this machine, as `ray start` makes it: a head without CPUs, and nodes that come and go."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
# A lost node is noticed in seconds; a busy machine may take its time to start three nodes.
_SETTINGS = {
    "RAY_AUTH_MODE": "token",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "4",
    "RAY_raylet_start_wait_time_s": "120",
    "RAY_agent_register_timeout_ms": "120000",
}


@dataclass
class Nodes:
    """The head's address and what was started; nodes are known by the first process of their session."""

    folder: Path  # for what they say
    address: str
    environment: dict[str, str]  # with the token that the cluster asks for
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def add(self, cpus: int, *hidden: Path, **settings: str) -> subprocess.Popen[bytes]:
        """Start a node; returns once it is up. Over each ``hidden`` folder it has an empty disk of its own, for which
        only root can ask. ``settings``: what its environment has beside the cluster's.
        """
        before: list[str] = []
        if hidden:
            mounts = "".join(f"mount -t tmpfs tmpfs {shlex.quote(str(folder))} && " for folder in hidden)
            before = ["unshare", "--mount", "sh", "-c", f'{mounts}exec "$@"', "sh"]
        return self._start("--address", self.address, "--num-cpus", str(cpus), before=before, **settings)

    def remove(self, node: subprocess.Popen[bytes]) -> None:
        """Take a node's power away: all of its processes end at once."""
        while found := processes_of(node.pid):
            for pid in found:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        node.wait()
        self.started.remove(node)

    def workers(self) -> dict[int, subprocess.Popen[bytes]]:
        """The processes that Ray Train's workers run in, and their nodes."""
        return {
            pid: node
            for node in self.started
            for pid, title in processes_of(node.pid).items()
            if title.startswith("ray::RayTrainWorker")
        }

    def start_head(self, drivers: int, *options: str) -> None:
        self._start(
            *("--head", "--port", self.address.rpartition(":")[2], "--num-cpus", "0"),
            *("--resources", json.dumps({"trial": drivers})),
            *("--dashboard-host", "127.0.0.1", "--dashboard-port", str(free_port()), *options),
        )

    def _start(self, *options: str, before: Sequence[str] = (), **settings: str) -> subprocess.Popen[bytes]:
        command = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--node-ip-address", "127.0.0.1"]
        said = self.folder / f"node.{time.monotonic_ns()}"
        with open(said, "wb") as output:
            process = subprocess.Popen(
                [*before, *command, *options],
                env=_SETTINGS | self.environment | settings,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started.append(process)
        deadline = time.monotonic() + 180
        while b"Ray runtime started" not in said.read_bytes():
            assert process.poll() is None, said.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, said.read_text(encoding="utf-8")
            time.sleep(0.1)
        return process


@contextmanager
def cluster(
    folder: Path, environment: dict[str, str], drivers: int, *options: str, port: int | None = None
) -> Iterator[Nodes]:
    """A head that offers room for so many drivers of trials, and no CPU; all of the cluster ends with the block."""
    nodes = Nodes(folder, f"127.0.0.1:{port or free_port()}", environment | {"RAY_AUTH_TOKEN": secrets.token_hex(32)})
    try:
        nodes.start_head(drivers, *options)
        yield nodes
    finally:
        for node in reversed(list(nodes.started)):
            nodes.remove(node)


def said_on_two_nodes(
    script: str, arguments: Sequence[str], environment: dict[str, str], cpus: int, folder: Path
) -> str:
    """The last line of a script to which `ray.init()` gives a cluster of two nodes, with so many CPUs each."""
    with cluster(folder, environment, 2, "--include-dashboard", "false") as nodes:
        for _ in range(2):
            nodes.add(cpus)
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            cwd=ROOT,
            env={**nodes.environment, "RAY_ADDRESS": nodes.address, "RAY_AUTH_MODE": _SETTINGS["RAY_AUTH_MODE"]},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()[-1]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def processes_of(session: int) -> dict[int, str]:
    """The command lines of all processes of a session that are alive."""
    found = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            if os.getsid(pid) == session:
                content = Path(f"/proc/{pid}/cmdline").read_bytes()
                if command := content.replace(b"\0", b" ").decode(errors="replace").strip():  # a zombie has none
                    found[pid] = command
        except OSError:
            continue  # it ended meanwhile
    return found
