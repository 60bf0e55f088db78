"""Who can reach a study on this machine: nobody from outside it, and within it nobody without the token."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from tests.study.tiny import Run, Study

LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
CONNECT = """
import sys
from ray._raylet import GcsClient

try:
    GcsClient(address=sys.argv[1]).internal_kv_keys(b"", namespace=None, timeout=5)
except Exception as error:
    sys.exit(f"refused: {error}")
"""


def listening(run: Run) -> dict[tuple[str, int], str]:
    """Where processes of the study listen, addresses and ports, and their command lines."""
    found = {}
    for pid, command in run.processes().items():
        try:
            connections = psutil.Process(pid).net_connections("tcp")
        except psutil.NoSuchProcess:
            continue
        found |= {tuple(one.laddr): command for one in connections if one.status == psutil.CONN_LISTEN}
    return found


@pytest.mark.long
def test_a_study_listens_on_loopback_alone_and_lets_nobody_in_without_its_token(study: Study, tmp_path: Path) -> None:
    home = tmp_path / "home"
    study.environment = {**study.environment, "HOME": str(home)}
    run = study.start("resources.workers_per_trial=1")  # so that there is a dashboard

    def port_of(server: str) -> int | None:
        return next((port for (_, port), command in listening(run).items() if server in command), None)

    said = run.until(lambda: re.search(r"^Ray dashboard: (http://127\.0\.0\.1:\d+)$", run.said(), re.MULTILINE))
    run.until(lambda: any(command.startswith("ray::") for command in run.processes().values()))
    found = listening(run)
    gcs = port_of("gcs/gcs_server")
    assert gcs
    assert port_of("raylet/raylet")
    assert {ip for ip, _ in found} <= LOOPBACK, found

    assert (home / ".ray" / "auth_token").stat().st_mode & 0o077 == 0
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{said[1]}/api/jobs/", timeout=60)
    for mode in ("disabled", "token"):
        environment = {**os.environ, "HOME": str(home), "RAY_AUTH_MODE": mode}
        command = [sys.executable, "-c", CONNECT, f"127.0.0.1:{gcs}"]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert ran.returncode == (mode == "disabled"), ran.stderr
        assert ("InvalidAuthToken" in ran.stderr) == (mode == "disabled")
