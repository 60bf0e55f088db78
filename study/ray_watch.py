"""Notice that Ray is gone: left to itself, Ray ends the driver after a minute, from native code and without a word."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

_EVERY, _ANSWER_WITHIN = 1.0, 3.0  # seconds
_SERVERS = ("gcs_server", "raylet")


@contextmanager
def watched(head: str, patience: float, lost: Callable[[str], None]) -> Iterator[None]:
    """Call ``lost``, with a reason, once nothing has listened at ``head``, HOST:PORT, for ``patience`` seconds.

    It is called in a thread of its own, at most once: the main thread may never come back from Ray.
    """
    ended = threading.Event()
    threading.Thread(target=_watch, args=(head, patience, lost, ended), name="watch Ray", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


@contextmanager
def start_watched(lost: Callable[[str], None]) -> Iterator[None]:
    """Call ``lost``, as `watched` does, if a server of a Ray that this process starts in the block ends before it does."""
    ended = threading.Event()
    threading.Thread(target=_watch_start, args=(lost, ended), name="watch Ray's start", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _watch_start(lost: Callable[[str], None], ended: threading.Event) -> None:
    import psutil

    seen: dict[psutil.Process, str] = {}
    while not ended.wait(_EVERY / 4):
        for child in psutil.Process().children():
            with suppress(psutil.Error):
                if child.name() in _SERVERS:  # also of one that was killed at once, as long as Ray has not looked
                    seen[child] = child.name()
        gone = [name for child, name in seen.items() if not _is_alive(child)]
        if gone and not ended.is_set():
            lost(f"Ray's {gone[0]} ended while Ray started")
            return


def _is_alive(process: psutil.Process) -> bool:
    import psutil

    with suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def _watch(head: str, patience: float, lost: Callable[[str], None], ended: threading.Event) -> None:
    host, _, port = head.rpartition(":")
    heard = time.monotonic()
    while not ended.wait(_EVERY):
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_WITHIN).close()
            heard = time.monotonic()
        except OSError as error:
            if time.monotonic() - heard > patience and not ended.is_set():
                lost(f"Ray's head at {head} is gone ({error.strerror or error})")
                return
