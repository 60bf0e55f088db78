"""How many trials nodes hold, and what is said where they hold none."""

from __future__ import annotations

import re

import pytest

from study import placement
from study.config import ResourcesConfig
from study.errors import UserError
from study.placement import Node, Room, check_fit, trials_at_once

HEAD: Node = {"trial": 8.0}
NODE: Node = {"CPU": 4.0, "GPU": 1.0}
CLUSTER = [HEAD, NODE, NODE]


@pytest.mark.parametrize(
    ("resources", "nodes", "expected"),
    [
        (ResourcesConfig(), CLUSTER, 8),
        (ResourcesConfig(), [HEAD], 0),
        (ResourcesConfig(cpus_per_worker=3), CLUSTER, 2),  # what is left of a node is not joined to another's
        (ResourcesConfig(cpus_per_worker=0.4), [{"CPU": 1.2}], 3),
        (ResourcesConfig(gpus_per_worker=1), CLUSTER, 2),
        (ResourcesConfig(gpus_per_worker=0.25), CLUSTER, 8),
        (ResourcesConfig(gpus_per_worker=0.4), [{"CPU": 9.0, "GPU": 2.0}], 4),  # a share is one of one GPU
        (ResourcesConfig(gpus_per_worker=2), [{"CPU": 9.0, "GPU": 5.0}], 2),
        (ResourcesConfig(gpus_per_worker=1), [{"CPU": 9.0}, {"GPU": 1.0}], 0),
        (ResourcesConfig(workers_per_trial=2, gpus_per_worker=1), CLUSTER, 1),
        (ResourcesConfig(workers_per_trial=1), CLUSTER, 8),
        (ResourcesConfig(workers_per_trial=1), [{"trial": 3.0}, NODE, NODE], 3),
        (ResourcesConfig(workers_per_trial=1), [NODE, NODE], 0),  # nowhere for their drivers
        (ResourcesConfig(workers_per_trial=4, cpus_per_worker=2), CLUSTER, 1),
        (ResourcesConfig(workers_per_trial=4, cpus_per_worker=3), CLUSTER, 0),
    ],
)
def test_trials_fit_nodes_one_by_one(resources: ResourcesConfig, nodes: list[Node], expected: int) -> None:
    assert trials_at_once(resources, nodes) == expected


LAPTOP: Node = {"CPU": 16.0, "trial": 16.0, "memory": 7e9, "object_store_memory": 3e9}


@pytest.mark.parametrize(
    ("resources", "nodes", "memory", "expected"),
    [
        (ResourcesConfig(), [LAPTOP], 0.0, 16),
        (ResourcesConfig(), [LAPTOP], 1.6e9, 5),  # of 10 GB half a one is not theirs
        (ResourcesConfig(), [LAPTOP, LAPTOP], 1.6e9, 10),
        (ResourcesConfig(), [LAPTOP], 1e8, 16),
        (ResourcesConfig(), [LAPTOP], 1e12, 1),  # it may be an estimate that is too high
        (ResourcesConfig(cpus_per_worker=8), [LAPTOP], 1.6e9, 2),
        (ResourcesConfig(workers_per_trial=2), [LAPTOP], 1.6e9, 2),
        (ResourcesConfig(gpus_per_worker=1), [{**LAPTOP, "GPU": 8.0}], 1.6e9, 8),
        (ResourcesConfig(), [NODE], 1.6e9, 4),  # of an unknown memory
    ],
)
def test_memory_keeps_cores_free(resources: ResourcesConfig, nodes: list[Node], memory: float, expected: int) -> None:
    assert trials_at_once(resources, nodes, memory) == expected


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        (ResourcesConfig(), 5),
        (ResourcesConfig(concurrent_trials=7), 7),
        (ResourcesConfig(workers_per_trial=2), 2),
        (ResourcesConfig(workers_per_trial=8), 1),
    ],
)
def test_as_many_trials_as_memory_holds_run_at_once_unless_a_number_says_otherwise(
    resources: ResourcesConfig, expected: int
) -> None:
    notes: list[str] = []
    room = Room(resources, False, notes.append, lambda: [LAPTOP])
    cores = room.trials()
    room.expect(lambda: 1.6e9)
    assert room.trials() == expected
    assert notes == [] if expected == cores else f"Memory holds {expected} of the {cores} trials" in notes[0]


@pytest.mark.parametrize("resources", [ResourcesConfig(concurrent_trials=7), ResourcesConfig(gpus_per_worker=0.5)])
def test_what_a_worker_takes_is_not_asked_where_it_does_not_matter(resources: ResourcesConfig) -> None:
    room = Room(resources, False, lambda _: None, lambda: [{**LAPTOP, "GPU": 8.0}])
    room.expect(lambda: pytest.fail("asked"))


@pytest.mark.parametrize(
    ("resources", "nodes", "message"),
    [
        (
            ResourcesConfig(workers_per_trial=5, gpus_per_worker=1),
            CLUSTER,
            "resources.gpus_per_worker: 1 for each of 5 workers is more than the 2 GPUs that there are; "
            "lower it or resources.workers_per_trial",
        ),
        (
            ResourcesConfig(cpus_per_worker=17),
            CLUSTER,
            "resources.cpus_per_worker: 17 is more than the 8 CPUs that there are; lower it",
        ),
        (
            ResourcesConfig(cpus_per_worker=4),
            [HEAD, *[{"CPU": 1.0}] * 4],
            "resources.cpus_per_worker: 4 is more than the 1 CPUs of any node; lower it",
        ),
        (
            ResourcesConfig(workers_per_trial=2),
            [NODE],
            "resources.workers_per_trial: the cluster has no resource 'trial' for the drivers of trials with workers; "
            "start its head with --resources '{\"trial\": 8}'",
        ),
        (
            ResourcesConfig(workers_per_trial=2, cpus_per_worker=3),
            [HEAD, NODE, {"CPU": 2.0}],
            "resources: 2 workers of 3 CPUs and 0 GPUs each do not fit the nodes that there are, 1 of 4 CPUs and 1 GPUs, "
            "1 of 2 CPUs and 0 GPUs; lower workers_per_trial, cpus_per_worker or gpus_per_worker",
        ),
    ],
)
def test_a_trial_that_fits_nowhere_is_refused_by_what_is_lacking(
    resources: ResourcesConfig, nodes: list[Node], message: str
) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        check_fit(resources, nodes)


def test_room_grows_and_shrinks_with_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "_LOOK_AGAIN", 0.0)
    nodes, notes = [HEAD, NODE], list[str]()
    room = Room(ResourcesConfig(), True, notes.append, lambda: nodes)
    assert room.trials() == 4
    nodes.append(NODE)
    assert room.trials() == 8
    assert room.trials() == 8
    del nodes[1:]
    assert room.trials() == 1  # one waits, so that whoever adds nodes sees that one is wanted
    assert notes == [
        "The cluster has room for 8 trials at once, before for 4",
        "The cluster has room for 0 trials at once, before for 8",
    ]


def test_a_number_of_trials_is_run_as_nodes_for_them_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "_LOOK_AGAIN", 0.0)
    notes = list[str]()
    with pytest.raises(
        UserError, match=r"more than the 0 CPUs that there are; .*make resources.concurrent_trials a nu"
    ):
        Room(ResourcesConfig(), True, notes.append, lambda: [HEAD])
    with pytest.raises(UserError, match=r"than the 0 CPUs that there are; lower it$"):
        Room(ResourcesConfig(concurrent_trials=9), False, notes.append, lambda: [HEAD])
    assert notes == []
    room = Room(ResourcesConfig(concurrent_trials=9), True, notes.append, lambda: [HEAD])
    assert notes == ["Waiting for nodes: resources.cpus_per_worker: 1 is more than the 0 CPUs that there are; lower it"]
    assert room.trials() == 9
    assert Room(ResourcesConfig(concurrent_trials=9), False, notes.append, lambda: [NODE]).trials() == 4
    assert Room(ResourcesConfig(concurrent_trials=3), False, notes.append, lambda: [NODE]).trials() == 3


def test_a_stage_gets_the_best_node_and_asks_for_one_where_none_will_do() -> None:
    def of(resources: ResourcesConfig, *nodes: Node) -> tuple[float, float]:
        return Room(resources, True, lambda _: None, lambda: nodes).for_stage()

    several = (HEAD, {"CPU": 16.0}, NODE, {"CPU": 8.0, "GPU": 4.0})
    assert of(ResourcesConfig(), *several) == (16, 0)  # no GPU that trials do without
    assert of(ResourcesConfig(gpus_per_worker=0.25), *several) == (8, 1)
    assert of(ResourcesConfig(gpus_per_worker=0.5, concurrent_trials=2), *several[:2]) == (1, 1)
    assert of(ResourcesConfig(cpus_per_worker=2, concurrent_trials=2), HEAD) == (2, 0)
