"""A folder at a URL, of which processes keep copies of their own: files go there and come from there whole.

Credentials and endpoints come from the environment alone, as for data (`trainables.data.remote`).
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
PATIENCE = 600.0  # seconds for which a store that does not answer is asked again
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 15.0
# No store mends these by waiting.
_FINAL = (FileNotFoundError, FileExistsError, PermissionError, ImportError, ValueError)
_AT_ONCE = 64  # files

_log = logging.getLogger(__name__)


class RemoteError(OSError):
    """A store could not be used, or has not answered for ten minutes; the message is one line."""


def is_url(place: str) -> bool:
    return "://" in place


@dataclass(frozen=True)
class RemoteFolder:
    """The folder at ``url``. Names are relative to it, with slashes. Every method raises `RemoteError` as said there."""

    url: str
    patience: float = PATIENCE  # seconds

    def __truediv__(self, name: str) -> RemoteFolder:
        return RemoteFolder(f"{self.url.rstrip('/')}/{name}", self.patience)

    def names(self) -> list[str]:
        """Those of all files in the folder and below, sorted; empty if there is no such folder.

        A store may hold names that as paths would lead out of the folder: those are left out.
        """

        def find(files: Any, path: str) -> list[str]:
            files.invalidate_cache()
            try:
                found = (name.removeprefix(f"{path}/") for name in files.find(path))
                return sorted(name for name in found if not {"", ".."} & set(name.split("/")))
            except FileNotFoundError:
                return []

        return self._do(find)

    def read(self, name: str) -> bytes | None:
        """What is in a file, None if it is not there."""

        def cat(files: Any, path: str) -> bytes | None:
            try:
                content: bytes = files.cat_file(f"{path}/{name}")
            except FileNotFoundError:
                return None
            return content

        return self._do(cat)

    def write(self, name: str, content: bytes) -> None:
        """Replace a file, whole."""
        self._do(lambda files, path: files.pipe_file(f"{path}/{name}", content))

    def create(self, name: str, content: bytes) -> bool:
        """Write a file unless it is there; whether it was not. Of several at once one wins, on S3 and stores that can."""

        def pipe(files: Any, path: str) -> bool:
            files.invalidate_cache()
            try:
                files.pipe_file(f"{path}/{name}", content, mode="create")
            except FileExistsError:
                return False
            except OSError as error:
                # s3fs knows S3's answer to a file that is there by its code alone.
                if "PreconditionFailed" in f"{error!r} {error.__cause__!r}":
                    return False
                raise
            return True

        return self._do(pipe)

    def pull(self, folder: Path, names: Iterable[str]) -> None:
        """Bring these files into ``folder``, each whole: a reader there sees the old one or the new."""
        names = list(names)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".pull-") as place:
            for start in range(0, len(names), _AT_ONCE):
                some = names[start : start + _AT_ONCE]
                targets = [str(Path(place, name)) for name in some]
                self._do(lambda files, path, s=some, t=targets: files.get([f"{path}/{name}" for name in s], t))  # type: ignore[misc]
            for name in names:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(Path(place, name), folder / name)

    def push(self, folder: Path, names: Iterable[str]) -> None:
        """Write these files of ``folder``, each whole, in no order."""
        names = list(names)
        for start in range(0, len(names), _AT_ONCE):
            some = names[start : start + _AT_ONCE]
            sources = [str(folder / name) for name in some]
            self._do(lambda files, path, s=some, f=sources: files.put(f, [f"{path}/{name}" for name in s]))  # type: ignore[misc]

    def remove(self, names: Iterable[str]) -> None:
        """Delete these files, those that are there."""
        for name in names:

            def rm(files: Any, path: str, name: str = name) -> None:
                try:
                    files.rm_file(f"{path}/{name}")
                except FileNotFoundError:
                    return

            self._do(rm)

    def remove_all(self) -> None:
        """Delete the folder with all that is in it."""

        def rm(files: Any, path: str) -> None:
            files.invalidate_cache()
            try:
                files.rm(path, recursive=True)
            except FileNotFoundError:
                return

        self._do(rm)

    def move(self, names: Iterable[str], to: RemoteFolder) -> None:
        """Copy these files to another folder of the same store, then delete them here."""
        names = list(names)

        def copy(files: Any, path: str) -> None:
            other = files._strip_protocol(to.url)
            for name in names:
                files.cp_file(f"{path}/{name}", f"{other}/{name}")

        self._do(copy)
        self.remove(names)

    def _do(self, action: Callable[[Any, str], T]) -> T:
        """``action`` on the file system and this folder's path in it, again while the store does not answer."""
        from trainables.data.remote import filesystem, reason

        deadline, pause = time.monotonic() + self.patience, _FIRST_PAUSE
        while True:
            try:
                files, path = filesystem(self.url)
                return action(files, path.rstrip("/"))
            except _FINAL as error:
                raise RemoteError(f"{self.url} cannot be used: {reason(self.url, error)}") from error
            except (TypeError, AttributeError, LookupError):
                raise  # a mistake of ours
            except Exception as error:  # what clients of storage raise has no base in common
                said = reason(self.url, error)
                if time.monotonic() > deadline or _is_refusal(error):
                    raise RemoteError(f"{self.url} cannot be used: {said}") from error
                _log.warning("%s does not answer (%s), it is asked again in %s s", self.url, said, pause)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


def _is_refusal(error: BaseException) -> bool:
    """Whether a store has answered, and will not have it: no such bucket, no such key, no access."""
    cause: BaseException | None = error
    while cause is not None:
        code = getattr(cause, "response", {}).get("Error", {}).get("Code", "")
        if isinstance(cause, PermissionError) or code in ("NoSuchBucket", "AccessDenied", "InvalidBucketName"):
            return True
        cause = cause.__cause__
    return False
