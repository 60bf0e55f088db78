"""Content-addressed folders in the cache: prepared data, fitted teachers and teacher caches, shared by all studies.

An artifact's folder is named by a hash of everything that it depends on. It is built in a temporary folder beside its
final place and renamed when it is complete, so that a half-written one is never seen.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from trainables.artifact_mirror import fetch, mirror, share

MANIFEST = "manifest.json"
_HALF_WRITTEN = re.compile(r"\..+\.[a-z0-9_]{8}")  # as `atomically` names its files
_LOCK = ".lock"
_UNFINISHED, _TURN = ".unfinished", ".turn"
_KEPT = 14 * 24 * 3600  # seconds without a change, after which nobody is expected to go on with what is unfinished


def cache_root() -> Path:
    """The cache folder: ``POLYDISTILL_CACHE``, or else the user's own cache folder."""
    configured = os.environ.get("POLYDISTILL_CACHE")
    if configured:
        return Path(configured).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("polydistill")


def artifact_root() -> Path:
    """Where artifacts lie: in the cache folder, those that a mirror has (`trainables.artifact_mirror`) apart."""
    remote = mirror()
    return cache_root() if remote is None else cache_root() / "mirrored" / content_key({"url": remote.url})


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


def remove_half_written(folder: Path) -> None:
    """Delete the temporary files in ``folder`` and below that `atomically` left because its process was killed.

    Nobody else may be writing there: a file that is being written would be lost.
    """
    for parent, _, names in os.walk(folder):
        for name in names:
            if _HALF_WRITTEN.fullmatch(name):
                Path(parent, name).unlink(missing_ok=True)


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
    return artifact_root() / kind / content_key(fields)


def artifact(kind: str, fields: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
    """The folder of a complete artifact, built by ``build(temporary_folder)`` if it is not there yet.

    Two processes may build the same artifact at once: the first to finish wins and the other's copy is dropped.
    """
    final = artifact_path(kind, fields)
    if not is_complete(final) and not fetch(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(final.parent)  # before as much is written again
        _build(kind, fields, build, final)
    share(final)
    _remove_abandoned(final.parent)  # a builder may have been killed meanwhile
    return final


def artifact_in_parts(
    kind: str, fields: Mapping[str, Any], build: Callable[[Path], None], hopeless: type[Exception] | tuple[()]
) -> Path:
    """Like `artifact`, for what takes long: ``build(folder)`` finds in ``folder`` what an earlier builder left that was
    killed, or failed in another way than by ``hopeless``, and goes on with it.

    One process builds it at a time. Another waits until it is there, or goes on in place of one that was killed. What
    nobody has gone on with for two weeks is deleted when an artifact of its kind is asked for.
    """
    final = artifact_path(kind, fields)
    if not is_complete(final) and not fetch(final):
        unfinished = final.with_name(f".{final.name}{_UNFINISHED}")
        final.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            os.utime(unfinished)  # it is gone on with, however old it is
        _remove_abandoned(final.parent)
        with turn(unfinished.with_suffix(_TURN), fcntl.LOCK_EX):
            if not is_complete(final):
                unfinished.mkdir(exist_ok=True)
                remove_half_written(unfinished)
                try:
                    build(unfinished)
                except hopeless:
                    shutil.rmtree(unfinished)
                    raise
                _publish(kind, fields, unfinished, final)
    share(final)
    _remove_abandoned(final.parent)
    return final


def _build(kind: str, fields: Mapping[str, Any], build: Callable[[Path], None], final: Path) -> None:
    with _temporary_folder(final) as temporary:
        build(temporary)
        _publish(kind, fields, temporary, final)


def _publish(kind: str, fields: Mapping[str, Any], folder: Path, final: Path) -> None:
    """Make a folder that holds everything the artifact ``final``."""
    (folder / MANIFEST).unlink(missing_ok=True)  # of a builder that was killed here
    sizes = {
        str(path.relative_to(folder)): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not _HALF_WRITTEN.fullmatch(path.name)
    }
    write_json(folder / MANIFEST, {"kind": kind, "fields": dict(fields), "files": sizes})
    if final.exists() and not is_complete(final):
        shutil.rmtree(final)  # left by a damaged disk or by hand: our own writes are never partial
    folder.chmod(0o755)
    try:
        folder.rename(final)
    except OSError:
        if not is_complete(final):
            raise


@contextmanager
def turn(path: Path, how: int) -> Iterator[None]:
    """Have the lock on the file ``path``, asked for by `flock` as ``how`` says; the kernel frees that of a killed process.

    Raises:
        BlockingIOError: if another process has it, and it was not to be waited for.
    """
    while True:
        with open(path, "ab") as lock:
            fcntl.flock(lock, how)
            if not _is_still(lock, path):
                continue  # whoever had it has deleted the file
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _is_still(file: IO[bytes], path: Path) -> bool:
    """Whether an opened file is the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def _temporary_folder(final: Path) -> Iterator[Path]:
    """A folder beside ``final``, gone at the end; the lock on a file beside it says that its builder is alive."""
    with _new_lock(final) as lock:
        temporary = Path(lock.name.removesuffix(_LOCK))
        try:
            temporary.mkdir()
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            Path(lock.name).unlink(missing_ok=True)


def _new_lock(final: Path) -> IO[bytes]:
    """A locked file beside ``final`` that has a name of its own."""
    while True:
        handle, name = tempfile.mkstemp(dir=final.parent, prefix=f".{final.name}.", suffix=_LOCK)
        os.close(handle)
        with suppress(FileNotFoundError):
            lock = open(name, "r+b")  # noqa: SIM115  closed by whoever has it
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _is_still(lock, Path(name)):
                return lock
            lock.close()  # it was taken for an abandoned one before it was locked


def _remove_abandoned(folder: Path) -> None:
    """Delete the temporary folders in ``folder`` whose builders were killed: the kernel has given their locks free."""
    for path in folder.glob(f".*{_LOCK}"):
        try:
            lock = open(path, "r+b")  # noqa: SIM115  closed below
        except OSError:
            continue  # its builder has just ended, or is another user
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(path.with_suffix(""), ignore_errors=True)
            path.unlink(missing_ok=True)
    for unfinished in folder.glob(f".*{_UNFINISHED}"):
        with suppress(OSError):  # somebody is at work in it
            changed = max(path.stat().st_mtime for path in (unfinished, *unfinished.rglob("*")))
            if time.time() - changed > _KEPT:
                with turn(unfinished.with_suffix(_TURN), fcntl.LOCK_EX | fcntl.LOCK_NB):
                    shutil.rmtree(unfinished, ignore_errors=True)
