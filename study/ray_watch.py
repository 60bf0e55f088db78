"""Notice that Ray is gone: left to itself, Ray ends the driver after a minute, from native code and without a word."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_EVERY, _ANSWER_WITHIN = 1.0, 3.0  # seconds


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
