"""Whether all nodes of a cluster see the folders that a study writes: tried with files, before anything slow starts."""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.errors import UserError
from study.placement import TRIAL_RESOURCE
from trainables.artifacts import cache_root

_USED = ("CPU", "GPU", TRIAL_RESOURCE)  # a node that has none of them does nothing of a study
_SEEN_WITHIN = 5.0  # seconds: shared file systems may show a new file late
_ANSWER_WITHIN = 300.0  # seconds, for a node's first process of a study
_AGAIN = 0.1  # seconds


@dataclass(frozen=True)
class Probe:
    """A file of ours in a folder that all nodes are to share."""

    key: str  # where its path is configured
    what: str  # the folder, in words
    path: Path
    word: str

    def answer_of(self, node: str) -> Path:
        """The file that a node of this id leaves beside it."""
        return self.path.with_name(f"{self.path.name}.{node[:8]}")


def check_shared(study: Path) -> None:
    """Whether every node of the running cluster sees the folder of the study and the cache folder, and can write there.

    Nodes that join later are not looked at.

    Raises:
        UserError: naming the node, the key, the path and what would be right.
    """
    import ray

    nodes = [one for one in ray.nodes() if one["Alive"] and any(one["Resources"].get(name) for name in _USED)]
    probes = []
    try:
        for key, what, folder in (
            ("storage.path", "study folder", study),
            ("POLYDISTILL_CACHE", "cache folder", cache_root().absolute()),
        ):
            with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".shared.", delete=False) as file:
                probes.append(Probe(key, what, Path(file.name), uuid.uuid4().hex))
                file.write(probes[-1].word)
            probes[-1].path.chmod(0o644)
        for node, answer in zip(nodes, _ask(nodes, probes), strict=True):
            _refuse(node["NodeManagerAddress"], node["NodeID"], probes, answer)
    finally:
        for probe in probes:
            for path in (probe.path, *(probe.answer_of(node["NodeID"]) for node in nodes)):
                with suppress(OSError):
                    path.unlink(missing_ok=True)


def _ask(nodes: Sequence[Mapping[str, Any]], probes: list[Probe]) -> list[dict[str, str]]:
    """What every node finds, `look` in a process there."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=1)(look)
    asked = [
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
            probes, node["NodeID"]
        )
        for node in nodes
    ]
    deadline, answers = time.monotonic() + _ANSWER_WITHIN, []
    for node, reference in zip(nodes, asked, strict=True):
        try:
            answers.append(ray.get(reference, timeout=max(0.0, deadline - time.monotonic())))
        except ray.exceptions.RayError as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"--address: node {node['NodeManagerAddress']} runs nothing: {type(error).__name__}: {reason}"
            ) from None
    return answers


def look(probes: Sequence[Probe], node: str) -> dict[str, str]:
    """What is wrong with each folder as this process sees it, by key, in words; answers the probes that it can read."""
    wrong: dict[str, str] = {}
    for probe in probes:
        try:
            _seen(probe.path, probe.word)
            probe.answer_of(node).write_text(probe.word, encoding="utf-8")
        except OSError as error:
            wrong[probe.key] = str(error.strerror or error)
        if probe.key == "POLYDISTILL_CACHE" and (own := cache_root().absolute()) != probe.path.parent:
            wrong[probe.key] = f"its own is {own}"
    return wrong


def _seen(path: Path, word: str) -> None:
    """Raises:
    OSError: if ``path`` does not come to hold ``word``.
    """
    deadline = time.monotonic() + _SEEN_WITHIN
    while True:
        try:
            if path.read_text(encoding="utf-8") == word:
                return
            error = OSError("it holds other files")
        except FileNotFoundError as missing:
            error = OSError("it holds other files") if path.parent.is_dir() else missing
        if time.monotonic() > deadline:
            raise error
        time.sleep(_AGAIN)


def _refuse(address: str, node: str, probes: Sequence[Probe], wrong: Mapping[str, str]) -> None:
    """Raises:
    UserError: if the node at ``address`` found something wrong, or what it wrote does not arrive here.
    """
    for probe in probes:
        reason = wrong.get(probe.key)
        if reason is None:
            try:
                _seen(probe.answer_of(node), probe.word)
            except OSError:
                reason = "what it writes there does not arrive here"
        if reason is not None:
            mend = "set it, where study.run is called, to" if probe.key == "POLYDISTILL_CACHE" else "name"
            raise UserError(
                f"{probe.key}: node {address} does not share the {probe.what} {probe.path.parent} ({reason}); {mend} a "
                "folder that every node mounts under the same path"
            )
