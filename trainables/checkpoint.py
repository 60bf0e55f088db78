"""The state of an unfinished trial on disk: written whole, and read only if it is what was written."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import pickle
from pathlib import Path
from typing import Any

import torch

from trainables.artifacts import atomically

_MAGIC = b"polydistill state 1\n"  # raise the number when older states cannot be gone on from
_DIGEST_BYTES = hashlib.sha256().digest_size
_KEYS = {
    "": ("distiller", "timing", "reported"),
    "distiller": ("steps_done", "towers", "optimizer", "queue"),
    "reported": ("step", "final", "metrics"),
}

_log = logging.getLogger(__name__)


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Replace the file whole: a line that names the format, the SHA-256 of the rest, and the rest, as torch saves it.

    Raises:
        OSError: naming the file, if it cannot be written; the old state is then still there.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()
    with atomically(path) as temporary, open(temporary, "wb") as file:
        file.write(_MAGIC)
        file.write(hashlib.sha256(content).digest())
        file.write(content)


def load_state(path: Path, device: torch.device) -> dict[str, Any] | None:
    """What `save_state` wrote, None if there is nothing to go on from.

    A file that the disk does not give back, that is torn, changed or of another format, or that lacks keys, is set
    aside with a warning in the log.
    """
    try:
        return _read(path, device)
    except FileNotFoundError:
        return None
    except (_UnreadableError, OSError) as error:
        set_aside(path, str(error))
        return None


def set_aside(path: Path, reason: str) -> None:
    """Give a state that cannot be gone on from a name beside it, where whoever looks for the cause finds it."""
    aside = path.with_name(f"{path.name}.unreadable")
    os.replace(path, aside)
    _log.warning("%s cannot be read (%s): it is now %s, and the trial starts again from step 0", path, reason, aside)


class _UnreadableError(Exception):
    """What is wrong with a state."""


def _read(path: Path, device: torch.device) -> dict[str, Any]:
    with open(path, "rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise _UnreadableError("it is not a state of this version")
        digest, content = file.read(_DIGEST_BYTES), file.read()
    if hashlib.sha256(content).digest() != digest:
        raise _UnreadableError("its SHA-256 is not that of its content")
    try:
        state = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise _UnreadableError("it holds more than tensors and plain values") from error
    for part, keys in _KEYS.items():
        found = state.get(part) if part else state
        missing = [key for key in keys if not isinstance(found, dict) or key not in found]
        if missing:
            raise _UnreadableError(f"{part or 'it'} lacks {', '.join(missing)}")
    return dict(state)
