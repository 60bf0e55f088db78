"""The token that Ray asks for. Who has it can run any code as its owner, so nobody else may read it."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO

_NAMED = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
# A process reads whether it shows a token once, when it begins with Ray: so another one asks.
_ASK = """
import sys
from ray._private.services import canonicalize_bootstrap_address
from ray._raylet import GcsClient

GcsClient(address=canonicalize_bootstrap_address(sys.argv[1])).internal_kv_keys(b"", namespace=None, timeout=5)
"""
_ANSWER_WITHIN = 60.0  # seconds


def has_token() -> bool:
    """Whether there is a token where Ray looks for one."""
    return _is_named() or _path().exists()


def mode_of(address: str) -> str:
    """What `RAY_AUTH_MODE` is to be for the cluster at ``address``: `disabled` if it answers without a token.

    A driver that asks for a token does not work with a cluster that has none, and the user's token may be younger than
    the cluster, or made by a study on this machine alone.
    """
    with suppress(subprocess.TimeoutExpired):
        asked = subprocess.run(
            [sys.executable, "-c", _ASK, address],
            env={**os.environ, "RAY_AUTH_MODE": "disabled"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_ANSWER_WITHIN,
        )
        if asked.returncode == 0:
            return "disabled"
    return "token"


def use_own_token() -> None:
    """Have a token for a Ray that this process starts, made if there is none; Ray would let all users read its file."""
    if _is_named():
        return
    with suppress(OSError):  # it is somebody else's, who lets this user read it
        _path().chmod(0o600)
    if _path().exists():
        return
    token = secrets.token_hex(32)
    try:
        _path().parent.mkdir(parents=True, exist_ok=True)
        with _new(_path()) as file:
            file.write(token)
    except OSError:
        if _path().exists():
            return  # of another study that has just started
        os.environ["RAY_AUTH_TOKEN"] = token  # the home folder cannot be written: Ray's processes inherit it


def _new(path: Path) -> IO[str]:
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8")


def _is_named() -> bool:
    return any(os.environ.get(name) for name in _NAMED)


def _path() -> Path:
    return Path.home() / ".ray" / "auth_token"
