"""A Ray cluster of several nodes on this machine, as `ray start` makes it: a head without CPUs, and nodes that come and go."""

from __future__ import annotations

import json
import os
import secrets
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

    def add(self, cpus: int, *options: str) -> subprocess.Popen[bytes]:
        """Start a node; returns once it is up."""
        return self._start("--address", self.address, "--num-cpus", str(cpus), *options)

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

    def _start(self, *options: str) -> subprocess.Popen[bytes]:
        command = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--node-ip-address", "127.0.0.1"]
        said = self.folder / f"node.{time.monotonic_ns()}"
        with open(said, "wb") as output:
            process = subprocess.Popen(
                [*command, *options],
                env=self.environment | _SETTINGS,
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


@contextmanager
def scripted(script: str, arguments: Sequence[str], environment: dict[str, str]) -> Iterator[str]:
    """The address of a cluster that a script makes: it prints it, and ends the nodes when its standard input ends."""
    patient = {name: _SETTINGS[name] for name in ("RAY_raylet_start_wait_time_s", "RAY_agent_register_timeout_ms")}
    with subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        env=environment | patient,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            assert address, f"the nodes did not start: {process.wait()}"
            yield address
        finally:
            process.stdin.close()
            process.wait(60)


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
