"""Whether all nodes of a cluster see the folders that a study writes: tried with files, before anything slow starts, and
when a node joins.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from study.errors import UserError
from study.placement import TRIAL_RESOURCE, Node
from trainables.artifacts import cache_root
from trainables.remote_folder import RemoteFolder

_USED = ("CPU", "GPU", TRIAL_RESOURCE)  # a node that has none of them does nothing of a study
_SEEN_WITHIN = 5.0  # seconds: shared file systems may show a new file late
_OUTAGE = 120.0  # seconds without an answer of a store that do not end a study that runs
_ANSWER_WITHIN = 300.0  # seconds, for a node's first process of a study
_AGAIN = 0.1  # seconds


@dataclass(frozen=True)
class Probe:
    """A file of ours in a folder that all nodes are to share."""

    key: str  # where its path is configured
    what: str  # the folder, in words
    folder: Path | RemoteFolder
    name: str
    word: str

    @property
    def place(self) -> str:
        return self.folder.url if isinstance(self.folder, RemoteFolder) else str(self.folder)

    def answer_of(self, node: str) -> Probe:
        """The file that a node of this id leaves beside it."""
        return replace(self, name=f"{self.name}.{node[:8]}")

    def write(self) -> None:
        """Raises:
        OSError: if it cannot be written.
        """
        if isinstance(self.folder, RemoteFolder):
            self.folder.write(self.name, self.word.encode())
        else:
            (self.folder / self.name).write_text(self.word, encoding="utf-8")

    def is_there(self) -> bool:
        """Whether this process sees it.

        Raises:
            OSError: if the folder cannot be read.
        """
        if isinstance(self.folder, RemoteFolder):
            return self.folder.read(self.name) == self.word.encode()
        os.stat(self.folder)
        path = self.folder / self.name
        return path.exists() and path.read_text(encoding="utf-8") == self.word

    def remove(self) -> None:
        with suppress(OSError):
            if isinstance(self.folder, RemoteFolder):
                self.folder.remove([self.name])
            else:
                (self.folder / self.name).unlink(missing_ok=True)


class SharedNodes:
    """The nodes of the running cluster, each held against the folders that a study's nodes share when it is first seen.

    Those are the folder of the study, and the cache folder unless each node has its own.
    """

    def __init__(self, study: Path | RemoteFolder) -> None:
        self._study = study
        self._seen: set[str] = set()

    def present(self) -> list[Node]:
        """The nodes that there are. Takes seconds where there are new ones, so that nothing runs there before they are
        known to see the folders and to be able to write there.

        Raises:
            UserError: if one cannot, naming the node, the key, the path and what would be right.
        """
        import ray

        present = [node for node in ray.nodes() if node["Alive"]]
        new = [one for one in present if one["NodeID"] not in self._seen and any(map(one["Resources"].get, _USED))]
        if new:
            self._check(new)
            self._seen |= {node["NodeID"] for node in new}
        return [node["Resources"] for node in present]

    def _check(self, nodes: Sequence[Mapping[str, Any]]) -> None:
        folders: list[tuple[str, str, Path | RemoteFolder]] = []
        if isinstance(self._study, RemoteFolder):
            patience = _OUTAGE if self._seen else _SEEN_WITHIN
            folders.append(("storage.path", "study folder", replace(self._study, patience=patience)))
        else:
            folders.append(("storage.path", "study folder", self._study))
            folders.append(("POLYDISTILL_CACHE", "cache folder", cache_root().absolute()))
        # Named as what `atomically` leaves of a killed process, so that it is cleared away as that is.
        probes = [
            Probe(key, what, folder, f".shared.{uuid.uuid4().hex[:8]}", uuid.uuid4().hex)
            for key, what, folder in folders
        ]
        try:
            for probe in probes:
                probe.write()
            for node, answer in _ask(nodes, probes):
                _refuse(node["NodeManagerAddress"], node["NodeID"], probes, answer)
        finally:
            for probe in probes:
                for one in (probe, *(probe.answer_of(node["NodeID"]) for node in nodes)):
                    one.remove()


def _ask(nodes: Sequence[Mapping[str, Any]], probes: list[Probe]) -> Iterator[tuple[Mapping[str, Any], dict[str, str]]]:
    """What every node finds, `look` in a process there; nothing of a node that is gone by then.

    Raises:
        UserError: if a node does not answer.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=1)(look)
    asked = [
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
            probes, node["NodeID"]
        )
        for node in nodes
    ]
    deadline = time.monotonic() + _ANSWER_WITHIN
    for node, reference in zip(nodes, asked, strict=True):
        try:
            yield node, ray.get(reference, timeout=max(0.0, deadline - time.monotonic()))
        except ray.exceptions.RayError as error:
            if all(one["NodeID"] != node["NodeID"] or not one["Alive"] for one in ray.nodes()):
                continue
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"--address: node {node['NodeManagerAddress']} runs nothing: {type(error).__name__}: {reason}"
            ) from None


def look(probes: Sequence[Probe], node: str) -> dict[str, str]:
    """What is wrong with each folder as this process sees it, by key, in words; answers the probes that it can read."""
    wrong: dict[str, str] = {}
    for probe in probes:
        try:
            _wait_for(probe)
            probe.answer_of(node).write()
        except OSError as error:
            wrong[probe.key] = str(error.strerror or error)
        if probe.key == "POLYDISTILL_CACHE" and (own := cache_root().absolute()) != probe.folder:
            wrong[probe.key] = f"its own is {own}"
    return wrong


def _wait_for(probe: Probe) -> None:
    """Raises:
    OSError: if the file does not come to hold its word.
    """
    deadline = time.monotonic() + _SEEN_WITHIN
    while True:
        missing = OSError("it holds other files")
        try:
            if probe.is_there():
                return
        except FileNotFoundError as error:
            missing = error
        if time.monotonic() > deadline:
            raise missing
        time.sleep(_AGAIN)


def _refuse(address: str, node: str, probes: Sequence[Probe], wrong: Mapping[str, str]) -> None:
    """Raises:
    UserError: if the node at ``address`` found something wrong, or what it wrote does not arrive here.
    """
    for probe in probes:
        reason = wrong.get(probe.key)
        if reason is None:
            try:
                _wait_for(probe.answer_of(node))
            except OSError:
                reason = "what it writes there does not arrive here"
        if reason is not None:
            shared = "a folder that every node mounts under the same path"
            mend = f"name {shared}, or the URL of a store, such as s3://bucket/studies"
            if probe.key == "POLYDISTILL_CACHE":
                mend = f"set it, where study.run is called, to {shared}"
            elif isinstance(probe.folder, RemoteFolder):
                mend = "every node must reach it, with credentials in its own environment"
            raise UserError(
                f"{probe.key}: node {address} does not share the {probe.what} {probe.place} ({reason}); {mend}"
            )
