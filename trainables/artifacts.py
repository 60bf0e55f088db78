"""Content-addressed folders in the cache: prepared data, fitted teachers and teacher caches, shared by all studies.

An artifact's folder is named by a hash of everything that it depends on. It is built in a temporary folder beside its
final place and renamed when it is complete, so that a half-written one is never seen.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"


def cache_root() -> Path:
    """The cache folder: ``POLYDISTILL_CACHE``, or else the user's own cache folder."""
    configured = os.environ.get("POLYDISTILL_CACHE")
    if configured:
        return Path(configured).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("polydistill")


def content_key(fields: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that name ``fields``, whatever the order of its keys."""
    canonical = json.dumps(fields, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


@contextmanager
def atomically(path: Path) -> Iterator[Path]:
    """A temporary file for the ``with`` block to write, then ``path``: a reader sees the old file or the new, whole.

    If the block raises, or the disk is full, the old file stays and the temporary one is removed.

    Raises:
        OSError: naming ``path``, if it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        os.close(handle)
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())  # a full disk may say so only now
        temporary.chmod(0o644)  # a temporary file is its owner's alone
        os.replace(temporary, path)
    except OSError as error:
        if error.filename is not None and Path(error.filename).parent != path.parent:
            raise  # of another file
        if error.errno is None:
            raise OSError(f"{path}: {error}") from error
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path``, `atomically`."""
    with atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Like `write_text`, for a value that JSON can hold."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def is_complete(folder: Path) -> bool:
    """Whether ``folder`` holds every file that its manifest lists, at the listed size."""
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        return all((folder / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def artifact_path(kind: str, fields: Mapping[str, Any]) -> Path:
    """Where the artifact of this kind that depends on ``fields`` lies, whether or not it exists."""
    return cache_root() / kind / content_key(fields)


def artifact(kind: str, fields: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
    """The folder of a complete artifact, built by ``build(temporary_folder)`` if it is not there yet.

    Two processes may build the same artifact at once: the first to finish wins and the other's copy is dropped.
    """
    final = artifact_path(kind, fields)
    if is_complete(final):
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=final.parent, prefix=f".{final.name}."))
    try:
        build(temporary)
        sizes = {
            str(path.relative_to(temporary)): path.stat().st_size
            for path in sorted(temporary.rglob("*"))
            if path.is_file()
        }
        write_json(temporary / MANIFEST, {"kind": kind, "fields": dict(fields), "files": sizes})
        if final.exists() and not is_complete(final):
            shutil.rmtree(final)  # left by a damaged disk or by hand: our own writes are never partial
        temporary.chmod(0o755)
        try:
            temporary.rename(final)
        except OSError:
            if not is_complete(final):
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return final
