"""Where trials and stages find room: node by node, since what is spread over several nodes cannot be had in one place."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from study.config import ResourcesConfig
from study.errors import UserError

# Drivers of trials with workers of their own ask for this resource, never for a CPU that the workers would wait for.
TRIAL_RESOURCE = "trial"
_LOOK_AGAIN = 2.0  # seconds
_ROUNDING = 1e-9
_OURS = 0.5e9  # bytes of a study's driver and of Ray itself on a node (measured)
_DRIVER = 1.5e9  # bytes of what drives a trial with workers: its own process and Ray Train's controller (measured)

Node = Mapping[str, float]  # what it has of each of Ray's resources


def present_nodes() -> list[Node]:
    """The nodes of the running Ray."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def trials_at_once(resources: ResourcesConfig, nodes: Sequence[Node], memory: float = 0.0) -> int:
    """How many trials these nodes hold.

    A trial without workers computes in its driver's process, on any node. One with workers has each of them on one
    node, and its driver where `TRIAL_RESOURCE` is offered, such as on a head that has no CPUs for trials.

    ``memory``: bytes that a worker is expected to take. It is an estimate: a node with cores is held to have room for one
    worker at least. Workers with a GPU are not counted by it.
    """
    slots = sum(_workers(resources, node, memory) for node in nodes)
    if resources.workers_per_trial == 0:
        return slots
    return min(_drivers(nodes), slots // resources.workers_per_trial)


def check_fit(resources: ResourcesConfig, nodes: Sequence[Node]) -> None:
    """Raises:
    UserError: if not even one trial fits these nodes, saying what is lacking.
    """
    if trials_at_once(resources, nodes) >= 1:
        return
    workers = max(1, resources.workers_per_trial)
    for name, key in (("CPU", "cpus_per_worker"), ("GPU", "gpus_per_worker")):
        each, has = getattr(resources, key), [node.get(name, 0.0) for node in nodes]
        if workers * each > sum(has):
            several = f"{each:g} for each of {workers} workers" if workers > 1 else f"{each:g}"
            lower = f"lower it{' or resources.workers_per_trial' if workers > 1 else ''}"
            raise UserError(f"resources.{key}: {several} is more than the {sum(has):g} {name}s that there are; {lower}")
        if each > max(has):
            raise UserError(f"resources.{key}: {each:g} is more than the {max(has):g} {name}s of any node; lower it")
    if resources.workers_per_trial and not _drivers(nodes):
        raise UserError(
            f"resources.workers_per_trial: the cluster has no resource '{TRIAL_RESOURCE}' for the drivers of trials with "
            "workers; start its head with --resources '{\"trial\": 8}'"
        )
    kinds = Counter(f"{node['CPU']:g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes if node.get("CPU"))
    there = ", ".join(f"{count} of {kind}" for kind, count in kinds.items())
    wanted = f"{resources.cpus_per_worker:g} CPUs and {resources.gpus_per_worker:g} GPUs"
    raise UserError(
        f"resources: {f'{workers} workers of {wanted} each do' if workers > 1 else f'a trial of {wanted} does'} not fit "
        f"the nodes that there are, {there}; lower workers_per_trial, cpus_per_worker or gpus_per_worker"
    )


class Room:
    """The room that a study has, as nodes come and go."""

    def __init__(
        self,
        resources: ResourcesConfig,
        may_grow: bool,
        note: Callable[[str], None],
        nodes: Callable[[], Sequence[Node]],
    ) -> None:
        """``may_grow``: whether nodes may join, as on a cluster. ``note``: hears when there is more room, or less.

        Raises:
            UserError: if no trial fits, and the study is not to wait for nodes that do.
        """
        self._resources, self._may_grow, self._note, self._nodes = resources, may_grow, note, nodes
        self._looked = -math.inf
        self._memory = 0.0  # bytes a worker; 0: not known
        self._held = trials_at_once(resources, nodes())
        # A number is what the user wants there to be: trials that wait for room have an autoscaler add nodes.
        self._waits = may_grow and resources.concurrent_trials != "auto"
        if self._held:
            return
        try:
            check_fit(resources, nodes())
        except UserError as error:
            if not self._waits:
                hint = "; or make resources.concurrent_trials a number, to wait for nodes that are added"
                raise UserError(f"{error}{hint if may_grow else ''}") from None
            note(f"Waiting for nodes: {error}")

    def expect(self, worker: Callable[[], float]) -> None:
        """Keep `trials` to what nodes hold of workers that take so many bytes, unless a number or GPUs say how many; only
        then is ``worker`` asked.
        """
        resources = self._resources
        if resources.concurrent_trials != "auto" or resources.gpus_per_worker:
            return
        memory = worker()
        if resources.workers_per_trial and not self._may_grow:  # their drivers are on this machine too
            memory += _DRIVER / resources.workers_per_trial
        cores, self._memory = self._held, memory
        self._held = trials_at_once(resources, self._nodes(), memory)
        if self.trials() < cores:
            self._note(
                f"Memory holds {self.trials()} of the {cores} trials that there are cores for, at {memory / 1e9:.1f} GB a "
                "worker; a number in resources.concurrent_trials overrides that"
            )

    def trials(self) -> int:
        """How many trials may run at once now: as many as there are wanted or as the nodes hold, at least one."""
        if self._may_grow and time.monotonic() - self._looked > _LOOK_AGAIN:
            self._looked = time.monotonic()
            before, self._held = self._held, trials_at_once(self._resources, self._nodes(), self._memory)
            if self._held != before:
                self._note(f"The cluster has room for {self._held} trials at once, before for {before}")
        wanted = self._resources.concurrent_trials
        if wanted == "auto":
            return max(1, self._held)
        return wanted if self._waits else min(wanted, self._held)

    def for_stage(self) -> tuple[float, float]:
        """CPUs and GPUs of a stage, which has the cluster to itself: all CPUs of the best node, and one GPU if trials ask for
        any; where no node will do, those of a trial's worker, for which nodes are added.
        """
        needs_gpu = self._resources.gpus_per_worker > 0
        fit = [node["CPU"] for node in self._nodes() if node.get("CPU") and (node.get("GPU") or not needs_gpu)]
        return max(fit, default=self._resources.cpus_per_worker), float(needs_gpu)


def _workers(resources: ResourcesConfig, node: Node, memory: float) -> int:
    """How many workers a node holds; a share of a GPU is one of one GPU."""
    fits = math.floor(node.get("CPU", 0.0) / resources.cpus_per_worker + _ROUNDING)
    each, there = resources.gpus_per_worker, node.get("GPU", 0.0)
    if not each:
        # Ray sets a part of the memory aside for objects, which studies have few of.
        free = node.get("memory", math.inf) + node.get("object_store_memory", 0.0) - _OURS
        return min(fits, max(1, int(min(fits, free / memory)))) if memory else fits
    of_gpus = there // each if each >= 1 else there * math.floor(1 / each + _ROUNDING)
    return min(fits, int(of_gpus))


def _drivers(nodes: Sequence[Node]) -> int:
    return int(sum(node.get(TRIAL_RESOURCE, 0.0) for node in nodes))
