"""One process at a time on a trial: an old worker may outlive the driver that started it by some seconds."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

LOCK = "worker.lock"
PATIENCE = 60.0  # seconds
_LOOK_AGAIN = 0.1  # seconds

_log = logging.getLogger(__name__)


class TrialInUseError(RuntimeError):
    """Another process trains the trial and does not end."""


@contextmanager
def held(folder: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Hold a trial's folder for the ``with`` block; the kernel gives it free when the process ends, however it ends.

    Raises:
        TrialInUseError: if another process still holds it after ``patience`` seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "a+", encoding="utf-8") as lock:
        _wait(lock, folder, patience)
        with suppress(OSError):  # the name is for messages alone: a full disk does not break the lock
            os.ftruncate(lock.fileno(), 0)
            os.write(lock.fileno(), f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield


def _wait(lock: IO[str], folder: Path, patience: float) -> None:
    until, is_said = time.monotonic() + patience, False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
        if time.monotonic() >= until:
            raise TrialInUseError(f"{holder} trains the trial in {folder} and did not end within {patience:g} s")
        if not is_said:
            _log.warning("%s trains the trial in %s: waiting for it to end", holder, folder)
            is_said = True
        time.sleep(_LOOK_AGAIN)
