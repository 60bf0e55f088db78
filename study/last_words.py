"""A line for the user even if this process is ended from outside, or by native code that asks nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO

# It reads until the process that started it says goodbye, or is gone; Ctrl-C is meant for that process.
_WATCH = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
if not os.read(0, 1):
    show_cursor = "\\x1b[?25h" if os.isatty(1) else ""
    os.write(1, f"{show_cursor}{sys.argv[1]}\\n".encode())
"""


@contextmanager
def last_words(text: str, terminal: IO[str]) -> Iterator[Callable[[], None]]:
    """Have ``text`` written to ``terminal`` if this process ends inside the ``with`` block without leaving it.

    Gives a function for whoever ends the process there on purpose: after it nothing is written.

    Ray's native code ends a process at once where it cannot go on (a raylet that dies while a driver registers with it),
    and so do SIGKILL and a kernel that is out of memory: no handler of ours runs then. So a small process of its own
    waits for the end.
    """
    reader, writer = os.pipe()
    command = [sys.executable, "-I", "-S", "-c", _WATCH, text]
    watcher = subprocess.Popen(command, stdin=reader, stdout=terminal, stderr=subprocess.DEVNULL)
    os.close(reader)

    def said() -> None:
        with suppress(OSError):  # somebody has killed the watcher
            os.write(writer, b".")

    try:
        yield said
    finally:
        said()
        os.close(writer)
        watcher.wait()
