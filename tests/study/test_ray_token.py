from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from study.ray_token import has_token, use_own_token
from tests.study.nodes import ROOT, cluster


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Ray looks for this user's token."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    monkeypatch.setattr(os, "environ", {**others, "HOME": str(tmp_path)})
    return tmp_path / ".ray" / "auth_token"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_token_is_made_once_and_is_its_owners_alone(token: Path) -> None:
    assert not has_token()
    use_own_token()
    content = token.read_text(encoding="utf-8")
    assert (len(content), mode(token)) == (64, 0o600)
    token.chmod(0o644)  # as Ray leaves one that it makes
    use_own_token()
    assert (token.read_text(encoding="utf-8"), mode(token)) == (content, 0o600)


def test_a_token_that_is_named_elsewhere_is_left_to_its_user(token: Path) -> None:
    os.environ["RAY_AUTH_TOKEN"] = "secret"
    use_own_token()
    assert has_token()
    assert not token.exists()


def test_where_there_is_no_room_for_a_token_it_is_handed_on(token: Path) -> None:
    token.parent.write_text("in the way", encoding="utf-8")
    use_own_token()
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64


TASK = """
import sys
from study.config import ResourcesConfig
from study.environment import prepare_process, ray_cluster

prepare_process(sys.argv[1])
import ray


@ray.remote(num_returns="streaming")
def words():  # for each of which the task calls the driver
    yield "a task"
    yield "has run"


with ray_cluster(sys.argv[1], ResourcesConfig(), print):
    print(*map(ray.get, words.remote()))
"""


@pytest.mark.parametrize("mode", ["token", "disabled"])
def test_a_cluster_is_shown_the_token_if_it_asks_for_one(
    mode: str, run_environment: dict[str, str], tmp_path: Path
) -> None:
    environment = {name: value for name, value in run_environment.items() if name != "RAY_AUTH_MODE"}
    with cluster(tmp_path, environment | {"RAY_AUTH_MODE": mode}, 1, "--include-dashboard", "false") as nodes:
        nodes.add(1)
        ran = subprocess.run(
            [sys.executable, "-c", TASK, nodes.address],
            cwd=ROOT,
            env=environment | {"RAY_AUTH_TOKEN": nodes.environment["RAY_AUTH_TOKEN"]},
            capture_output=True,
            text=True,
            timeout=180,
        )
    assert (ran.returncode, ran.stdout) == (0, "a task has run\n"), ran.stderr[-3000:]
