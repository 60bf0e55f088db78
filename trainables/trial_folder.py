"""The folder that a trial's process writes to: a path that it was given, or a copy here of one at a URL."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainables.artifacts import cache_root, content_key
from trainables.config import STATE
from trainables.fencing import LOCK
from trainables.remote_folder import RemoteFolder, is_url


class TrialFolder:
    """``path`` is where the trial writes; of a trial at a URL the methods carry its files there and back.

    `trainables.fencing` keeps processes of one machine from each other. A process of a machine that was taken for lost
    may still push its state or its student after another one has gone on: both train the same recipe with the same
    random numbers, each file goes there whole, and a state holds the digest of itself, so that whichever is last can be
    gone on from or scored.
    """

    def __init__(self, place: str, rank: int) -> None:
        """``rank``: the worker's among those of its trial, which may lie on one machine or on several."""
        self._remote = RemoteFolder(place) if is_url(place) else None
        copy = cache_root() / "trials" / f"{content_key({'url': place})}-{rank}"
        self.path = copy if self._remote else Path(place)

    def pull_state(self) -> None:
        """Bring the trial's last state here, and drop what an earlier run may have left."""
        if self._remote is None:
            return
        if str(STATE) in self._remote.names():
            self._remote.pull(self.path, [str(STATE)])
        else:
            self.drop_state()

    def push(self, name: str) -> None:
        """Keep one file, such as the trial's state; of a trial that is kept at a URL, not here."""
        if self._remote is not None:
            self._remote.push(self.path, [name])
            (self.path / name).unlink(missing_ok=True)

    def drop_state(self) -> None:
        """Delete the copy here of a state that is kept at a URL: what a worker has when it is killed, as Ray Train does when
        its trial is stopped, stays.
        """
        if self._remote is not None:
            (self.path / STATE).unlink(missing_ok=True)

    def push_all(self) -> None:
        """Keep the student and its examples."""
        if self._remote is None:
            return
        files = (str(path.relative_to(self.path)) for path in self.path.rglob("*") if path.is_file())
        self._remote.push(self.path, sorted(name for name in files if name not in (str(STATE), LOCK)))

    def close(self) -> None:
        """Delete the copy of a trial that is kept at a URL."""
        if self._remote is not None:
            shutil.rmtree(self.path, ignore_errors=True)


@contextmanager
def student_at(place: str) -> Iterator[Path]:
    """The folder of a saved student, brought here for the ``with`` block if it is at a URL."""
    if not is_url(place):
        yield Path(place)
        return
    remote = RemoteFolder(place)
    with tempfile.TemporaryDirectory(prefix="student-") as folder:
        remote.pull(Path(folder), remote.names())
        yield Path(folder)
