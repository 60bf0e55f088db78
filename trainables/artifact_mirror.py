"""Artifacts at a URL, for machines that share no disk: built on one, taken from there on all others.

``POLYDISTILL_MIRROR`` names the URL; a study at a URL sets it for all of its processes. The local folders of artifacts
are then copies of what is there, in a part of the cache that belongs to this URL.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import tempfile
import uuid
from pathlib import Path

from trainables.remote_folder import RemoteFolder

MIRROR = "POLYDISTILL_MIRROR"
# Beside the folders of builders: which of them it is, so that a half-pushed one is never seen.
_CURRENT = "current.json"
_COPY_OF = ".copy-of"  # in a folder here: which builder's
_KEY = re.compile(r"[0-9a-f]{16}")


def mirror() -> RemoteFolder | None:
    """Where artifacts are mirrored, None if they lie in the cache folder alone."""
    url = os.environ.get(MIRROR)
    return RemoteFolder(url) if url else None


def fetch(final: Path) -> bool:
    """Bring the artifact that belongs at ``final`` here from the mirror; whether it was there, whole."""
    remote = mirror()
    if remote is None:
        return False
    from trainables.artifacts import is_complete, turn

    here = remote / f"{final.parent.name}/{final.name}"
    current = here.read(_CURRENT)
    if current is None:
        return False
    final.parent.mkdir(parents=True, exist_ok=True)
    with turn(final.with_name(f".{final.name}.fetch"), fcntl.LOCK_EX):  # the trials of a machine start at once
        if is_complete(final):
            return True
        name = json.loads(current)["place"]
        source = here / name
        with tempfile.TemporaryDirectory(dir=final.parent, prefix=".fetch-") as place:
            temporary = Path(place, final.name)
            source.pull(temporary, source.names())
            if not is_complete(temporary):  # somebody has deleted a part of it there
                here.remove([_CURRENT])
                return False
            (temporary / _COPY_OF).write_text(name, encoding="utf-8")
            shutil.rmtree(final, ignore_errors=True)  # left by a damaged disk or by hand
            temporary.rename(final)
    return True


def share(final: Path) -> None:
    """Put a complete artifact into the mirror; if that has one from another builder, it takes this one's place here."""
    remote = mirror()
    if remote is None:
        return
    here = remote / f"{final.parent.name}/{final.name}"
    mark, current = final / _COPY_OF, here.read(_CURRENT)
    if current is None:
        name = uuid.uuid4().hex[:8]
        files = [str(path.relative_to(final)) for path in sorted(final.rglob("*")) if path.is_file() and path != mark]
        (here / name).push(final, files)
        mark.write_text(name, encoding="utf-8")
        current = json.dumps({"place": name}).encode()
        if not here.create(_CURRENT, current):
            current = here.read(_CURRENT) or current
            if json.loads(current)["place"] != name:  # it is, if only the answer was lost
                (here / name).remove_all()
    if mark.exists() and mark.read_text(encoding="utf-8") == json.loads(current)["place"]:
        return
    with tempfile.TemporaryDirectory(dir=final.parent, prefix=".fetch-") as place:
        own, is_there = final.rename(Path(place, final.name)), False
        try:
            is_there = fetch(final)
        finally:
            if not is_there and not final.exists():
                own.rename(final)


def at_hand(folder: Path) -> Path:
    """An artifact's folder as it is called on this machine, brought here if need be; any other one as it is.

    Raises:
        FileNotFoundError: if neither this machine nor the mirror has it.
    """
    if mirror() is None or not _KEY.fullmatch(folder.name):
        return folder
    from trainables.artifacts import artifact_root, is_complete

    final = artifact_root() / folder.parent.name / folder.name
    if not is_complete(final) and not fetch(final):
        raise FileNotFoundError(f"{final} is neither here nor at {mirror()}")
    return final


def read_file(folder: Path, name: str) -> bytes | None:
    """What is in one file of an artifact that may be on another machine, None if it has no such file."""
    remote = mirror()
    if (folder / name).exists():
        return (folder / name).read_bytes()
    if remote is None or folder.exists():
        return None
    here = remote / f"{folder.parent.name}/{folder.name}"
    current = here.read(_CURRENT)
    return None if current is None else (here / json.loads(current)["place"]).read(name)
