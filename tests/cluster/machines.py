"""Machines in boxes on this one: each has processes, a network address and a host name of its own, and this machine's
files, of which it changes copies. What ends "all processes" or writes into a home folder stays within its box.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = ("unshare", "nsenter", "mount", "ip", "ssh", "ssh-keygen", "sshd", "rsync")
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"  # where sshd and ip are
HOME = pwd.getpwuid(0).pw_dir  # of the user that logs into a box
_NETWORK = "10.77.0."
_SSHD = """Port 22
HostKey /etc/ssh/box_key
AuthorizedKeysFile .ssh/authorized_keys
PasswordAuthentication no
PermitRootLogin prohibit-password
UsePAM no
StrictModes no
"""
# The first process of a box: with it, all others end.
_INIT = """
mount -t overlay overlay -o lowerdir=/,upperdir=$1/upper,workdir=$1/work $1/root
mount -t proc proc $1/root/proc
mount --rbind /dev $1/root/dev
mount -t tmpfs tmpfs $1/root/dev/shm
mkdir -p $1/root/shared
mount --bind $2 $1/root/shared
hostname $3
ip link set lo up
touch $1/up
while :; do sleep 3600; done  # bash waits for the orphans of the box, too
"""


def what_is_missing() -> str | None:
    """Why there can be no boxes here, None if there can."""
    if os.geteuid() != 0:
        return "boxes need root"
    missing = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    return f"boxes need {', '.join(missing)}" if missing else None


@dataclass
class Machine:
    """A box. The first one has the switch that the others are plugged into."""

    number: int
    folder: Path  # of its changed files, on a file system that an overlay may lie on
    shared: Path  # what it has as /shared
    switch: Machine | None = None
    _process: subprocess.Popen[bytes] = field(init=False)
    _pid: int = field(init=False)

    @property
    def address(self) -> str:
        return f"{_NETWORK}{self.number}"

    def __post_init__(self) -> None:
        for name in ("upper", "work", "root"):
            (self.folder / name).mkdir(parents=True)
        command = [
            "unshare",
            "--fork",
            "--kill-child",
            "--pid",
            "--mount",
            "--net",
            "--uts",
            "bash",
            "-ec",
            _INIT,
            "init",
        ]
        self._process = subprocess.Popen(
            [*command, str(self.folder), str(self.shared), f"box{self.number}"], env=_environment()
        )
        deadline = time.monotonic() + 30
        while not (self.folder / "up").exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise OSError(f"box {self.number} does not start: are overlays and name spaces allowed?")
            time.sleep(0.02)
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        self._pid = int(children.read_text(encoding="ascii"))
        self._plug_in()
        self.write("/etc/hosts", f"127.0.0.1 localhost\n{self.address} box{self.number}\n")

    def _plug_in(self) -> None:
        if self.switch is None:
            self._network("link", "add", "switch", "type", "bridge")
            self._network("addr", "add", f"{self.address}/24", "dev", "switch")
            self._network("link", "set", "switch", "up")
            return
        cable = f"cable{self.number}"
        self.switch._network("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", str(self._pid))
        self.switch._network("link", "set", cable, "master", "switch", "up")
        self._network("addr", "add", f"{self.address}/24", "dev", "eth0")
        self._network("link", "set", "eth0", "up")
        self._network("route", "add", "default", "via", self.switch.address)

    def _network(self, *words: str) -> None:
        subprocess.run(["nsenter", "--target", str(self._pid), "--net", "ip", *words], check=True, env=_environment())

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file in the box, and the folders to it."""
        subprocess.run(
            [*self._inside(), "bash", "-c", f"mkdir -p $(dirname {path}) && cat > {path} && chmod {mode:o} {path}"],
            input=text.encode(),
            check=True,
            env=_environment(),
        )

    def start_sshd(self, authorized: str) -> None:
        """An SSH server that lets root in by this public key."""
        self.write("/etc/ssh/box.conf", _SSHD)
        self.write(f"{HOME}/.ssh/authorized_keys", authorized, 0o600)
        start = "rm -f /etc/ssh/box_key; ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/box_key; mkdir -p /run/sshd; $(command -v sshd) -f /etc/ssh/box.conf"
        assert self.run(["bash", "-c", start]).returncode == 0

    def run(self, command: Sequence[str], timeout: float = 60, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the box to its end, with its output and errors together."""
        return subprocess.run(
            [*self._inside(), "env", *(f"{name}={value}" for name, value in environment.items()), *command],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )

    def _inside(self) -> list[str]:
        spaces = ["--mount", "--pid", "--net", "--uts"]
        return ["nsenter", "--target", str(self._pid), *spaces, "chroot", f"{self.folder}/root"]

    def end(self) -> None:
        """Kill every process of the box, and let go of its files."""
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("LANG", "TERM") if name in os.environ}
    return {**kept, "PATH": f"{Path(sys.executable).parent}:{PATH}", "HOME": HOME}
