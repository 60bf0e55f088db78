"""A study whose folder lies at a URL: the truth is there, the driver works in a copy here, and one driver at a time.

Every record goes to the URL as soon as it is written here, before Optuna hears of it. What trials write themselves
(their state, their student, their examples) goes there from the machine that they run on, and not through this copy.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from study.config import StudyConfig
from study.errors import UserError
from study.storage_config import study_folder, study_url
from trainables.config import STATE
from trainables.remote_folder import RemoteError, RemoteFolder

LOCK = "study.lock"
BEAT, LEASE = 10.0, 60.0  # seconds between two signs of life of a driver; without one for so long, it is dead
_LOOK_AGAIN, _SETTLED = 1.0, 2.0  # seconds
_FIRST_PATIENCE = 10.0  # seconds that a store has to answer at the start
_OF_TRIALS = ("/checkpoint/", "/examples.parquet")  # what the driver has no use for
_LOG = "study.log"  # grows all the time: it goes there at the end alone
_MARK = ".copy"  # in a whole copy
_HERE_ALONE = (LOCK, _LOG, ".", "ray-")  # beginnings of names


class RemoteStudy:
    """The folder of a study at ``url``, and the driver's copy of it at ``folder``."""

    def __init__(self, url: str, folder: Path) -> None:
        self.remote = RemoteFolder(url)
        self.folder = folder
        self._known: dict[str, tuple[int, int]] = {}  # what the URL has of this copy: size and time of change here
        self._id = uuid.uuid4().hex
        self._beat = 0
        since = datetime.now(UTC).isoformat(timespec="seconds")
        self._name = f"process {os.getpid()} on {socket.gethostname()} since {since}"
        self._lost: str | None = None
        self._ended = threading.Event()
        self._signing = threading.Lock()  # the lock's file is written or deleted, never both at once

    def open(self) -> None:
        """Take the study's lock, and make this copy what is at the URL.

        Raises:
            UserError: if another process has the study open, or the URL cannot be used.
        """
        try:
            self._take_lock()
            try:
                self._pull()
            except BaseException:
                self._release()
                raise
        except RemoteError as error:
            raise UserError(f"storage.path: {error}") from None

    def keep(self, path: Path) -> None:
        """Write a file of this copy to the URL.

        Raises:
            UserError: if the study is no longer this process's.
            RemoteError: if the URL cannot be used.
        """
        self._refuse_if_lost()
        name = str(path.relative_to(self.folder))
        stat = path.stat()
        self.remote.push(self.folder, [name])
        self._known[name] = (stat.st_size, stat.st_mtime_ns)

    def keep_all(self) -> None:
        """Write whatever has changed in this copy to the URL, and delete there what was deleted here.

        Raises:
            UserError, RemoteError: as `keep` does.
        """
        self._refuse_if_lost()
        here = {}
        for path in self.folder.rglob("*"):
            name = path.relative_to(self.folder)
            if path.is_file() and not any(part.startswith(_HERE_ALONE) for part in name.parts):
                stat = path.stat()
                here[str(name)] = (stat.st_size, stat.st_mtime_ns)
        gone = {name for name in self._known if name not in here and not name.startswith("trials/")}
        changed = {name for name, state in here.items() if self._known.get(name) != state}
        self.remote.remove(gone)
        # That there is a front says that everything else is there.
        last = {name for name in changed if name.endswith("front.json")}
        for names in (changed - last, last):
            self.remote.push(self.folder, sorted(names))
        self._known = here

    def forget_state(self, training: Path) -> None:
        """Delete what a training would go on from."""
        self.remote.remove([f"{training.relative_to(self.folder)}/{STATE}"])

    def place_of(self, training: Path) -> str:
        """The URL of a training's folder."""
        return (self.remote / str(training.relative_to(self.folder))).url

    def set_aside(self) -> str | None:
        """Move the study to a folder beside this one, whole; None if there was none. Returns its URL."""
        names = self.remote.names()
        if "config.yaml" not in names:
            return None
        number = 1
        while (aside := RemoteFolder(f"{self.remote.url}.{number}")).names():
            number += 1
        self.remote.move([name for name in names if name != LOCK], aside)
        self._pull()
        return aside.url

    def close(self) -> None:
        """Write what is left to the URL, and give the lock free."""
        if self._lost is not None or self._ended.is_set():
            return
        with suppress(RemoteError, UserError):  # whatever ends the study has said more
            self.keep_all()
            if (self.folder / _LOG).exists():
                self.remote.push(self.folder, [_LOG])
        self._release()

    def _release(self) -> None:
        self._ended.set()
        with self._signing, suppress(RemoteError):
            if self._holder().get("id") == self._id:
                self.remote.remove([LOCK])

    def _pull(self) -> None:
        """Make this copy what is at the URL: what is only here is deleted."""
        names = self.remote.names()
        ended = {name.removesuffix("result.json") for name in names if name.endswith("/result.json")}
        self.remote.remove([f"{place}{STATE}" for place in ended if f"{place}{STATE}" in names])
        wanted = [
            name
            for name in names
            if not any(part in f"/{name}" for part in _OF_TRIALS) and not name.startswith(_HERE_ALONE)
        ]
        for path in sorted(self.folder.rglob("*"), reverse=True):
            name = str(path.relative_to(self.folder))
            if path.is_dir() and not path.is_symlink():
                with suppress(OSError):  # not empty
                    path.rmdir()
            elif name not in wanted and name != LOCK:
                path.unlink()
        self.remote.pull(self.folder, wanted)
        (self.folder / _MARK).touch()
        self._known = {}
        for name in wanted:
            stat = (self.folder / name).stat()
            self._known[name] = (stat.st_size, stat.st_mtime_ns)

    def _holder(self) -> dict[str, Any]:
        content = self.remote.read(LOCK)
        with suppress(ValueError):
            found = json.loads(content or b"{}")
            return found if isinstance(found, dict) else {}
        return {}

    def _take_lock(self) -> None:
        """Raises:
        UserError: if another process has it and lives.
        """
        if not self.remote.create(LOCK, self._sign()):
            first = self._holder()
            until = time.monotonic() + LEASE
            while not _has_died_here(first) and time.monotonic() < until:
                now = self._holder()
                if now and (now.get("id"), now.get("beat")) != (first.get("id"), first.get("beat")):
                    raise UserError(
                        f"the study in {self.remote.url} is already running ({now.get('holder')}); wait for it or stop it"
                    )
                if not now and self.remote.create(LOCK, self._sign()):
                    break  # it has just ended
                time.sleep(_LOOK_AGAIN)
            else:
                self.remote.write(LOCK, self._sign())
            # Of several that find a dead holder at once, the last one to have written has it.
            time.sleep(_SETTLED)
            if (now := self._holder()).get("id") != self._id:
                raise UserError(
                    f"the study in {self.remote.url} is already running ({now.get('holder')}); wait for it or stop it"
                )
        threading.Thread(target=self._live, name="study lock", daemon=True).start()

    def _sign(self) -> bytes:
        self._beat += 1
        content = {"holder": self._name, "id": self._id, "beat": self._beat, "pid": os.getpid(), "machine": _machine()}
        return json.dumps(content).encode()

    def _live(self) -> None:
        """Show that this process lives, until the study ends or is another's."""
        while not self._ended.wait(BEAT) and self._lost is None:
            with suppress(RemoteError):  # nobody else reaches it either, or has it by the time that we do
                self._live_once()

    def _live_once(self) -> None:
        holder = self._holder()
        if holder and holder.get("id") != self._id:
            self._lost = str(holder.get("holder"))
            return
        with self._signing:
            if not self._ended.is_set():
                self.remote.write(LOCK, self._sign())

    def _refuse_if_lost(self) -> None:
        """Raises:
        UserError: if the study is another process's by now, or there is no copy left to write from.
        """
        if not (self.folder / _MARK).exists():
            raise UserError(
                f"{self.folder}, the copy of the study in {self.remote.url}, was deleted while it ran; the same command "
                "goes on from there"
            )
        if self._lost is not None:
            raise UserError(
                f"the study in {self.remote.url} was taken over by another process ({self._lost}), since this one had not "
                f"reached it for {LEASE:.0f} s"
            )


def _machine() -> str:
    """What two processes have in common that see each other's ids."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return uuid.uuid4().hex


def _has_died_here(holder: dict[str, Any]) -> bool:
    """Whether a holder was a process of this machine that is no more."""
    if holder.get("machine") != _machine() or not isinstance(holder.get("pid"), int):
        return False
    return not Path(f"/proc/{holder['pid']}").exists()


def remote_study(config: StudyConfig) -> RemoteStudy | None:
    """The study of this configuration, if it lies at a URL.

    Raises:
        UserError: if the URL cannot be used.
    """
    url = study_url(config)
    if url is None:
        return None
    try:
        RemoteFolder(config.storage.path, patience=_FIRST_PATIENCE).read(LOCK)
    except RemoteError as error:
        raise UserError(f"storage.path: {error}") from None
    return RemoteStudy(url, study_folder(config))
