"""Studies on a Ray cluster of several nodes, which fail, come late, or are not there at first."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import yaml

from tests.crash.observer import Observer
from tests.study.nodes import cluster, free_port, processes_of
from tests.study.tiny import UNCONFIRMED, Run, Study, check_that_optuna_and_ledger_agree

SLOW = 900.0  # seconds, for whatever a test waits for on a machine with other work


class Watched:
    """A study's checkpoints, looked at whenever the test waits: none may be followed by an earlier one."""

    def __init__(self, study: Study) -> None:
        self._study, self._seen = study, Observer(study.folder)

    def reach(self, number: int, step: int) -> bool:
        """Whether a trial that is under way has a checkpoint of this step or a later one."""
        folder = self._study.folder / "trials" / f"{number:05d}"
        return (self._seen.checkpoint_step(folder) or 0) >= step

    def finished(self, run: Run) -> bool:
        """Wait for the study's end."""
        while run.process.poll() is None:
            self._seen.checkpoint_step(self._study.folder)
            time.sleep(0.02)
        return True

    @property
    def violations(self) -> list[str]:
        return self._seen.violations


@pytest.mark.long
def test_a_study_outlives_workers_nodes_and_its_driver_and_uses_a_node_that_comes_late(
    study: Study, run_environment: dict[str, str]
) -> None:
    """Every trial has a worker of its own; the first two go through everything that happens, two more follow."""
    settings = [
        "search.trials=4",
        "training.steps=240",
        "search.scheduler={rungs: [6, 120], reduction: 1.01}",
        "resources={workers_per_trial: 1, retries: 3}",
        UNCONFIRMED,
    ]
    watched = Watched(study)
    with cluster(study.place, run_environment, drivers=3) as nodes:
        study.environment = nodes.environment
        first = nodes.add(1)
        run = study.start(*settings, address=nodes.address)
        # A worker's process ends: its trial goes on from its checkpoint.
        run.until(lambda: watched.reach(0, 6), SLOW)
        (worker,) = nodes.workers()
        os.kill(worker, signal.SIGKILL)
        assert len(study.recipes()) == 1  # no other trial had room
        # A node joins: there is room for another trial.
        late = nodes.add(1)
        run.until(lambda: late in nodes.workers().values() and watched.reach(1, 6), SLOW)
        assert "The cluster has room for 2 trials at once, before for 1" in run.files[1].read_text(encoding="utf-8")
        # A node goes in the middle of a trial: what ran there goes on elsewhere, once there is room.
        nodes.remove(first)
        nodes.add(1)
        run.until(lambda: watched.reach(0, 120) or watched.reach(1, 120) or study.results(), SLOW)
        # The driver ends, and the same command goes on.
        finished = study.results()
        os.kill(run.process.pid, signal.SIGKILL)
        run.wait()
        again = study.start(*settings, address=nodes.address)
        watched.finished(again)
        outcome = again.wait(SLOW)
        assert outcome.code == 0, again.said()
        head = nodes.started[0]
        on_head = [title for title in processes_of(head.pid).values() if title.startswith("ray::RayTrainWorker")]
        assert on_head == []
    assert watched.violations == []
    results = study.results()
    assert sorted(results) == [0, 1, 2, 3]
    assert finished.items() <= results.items()
    assert {result["state"] for result in results.values()} <= {"complete", "stopped"}
    check_that_optuna_and_ledger_agree(study)
    for number, result in results.items():
        steps = [report["step"] for report in study.reports(number)]
        assert steps == sorted(set(steps))
        assert steps[-1] == result["steps"]


@pytest.mark.long
def test_a_study_has_an_autoscaler_add_nodes_where_there_are_none_and_trials_share_a_gpu(
    study: Study, run_environment: dict[str, str]
) -> None:
    """The autoscaler is Ray's own; its nodes are processes on this machine that claim to have a GPU."""
    settings = [
        "search.trials=2",
        "training.steps=120",
        "search.scheduler.kind=none",
        "resources={cpus_per_worker: 0.5, gpus_per_worker: 0.5, concurrent_trials: 2}",
        UNCONFIRMED,
    ]
    port = free_port()
    config = {
        "cluster_name": "fake",
        "max_workers": 2,
        "provider": {"type": "fake_multinode", "gcs_address": f"127.0.0.1:{port}"},
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "gpu": {"resources": {"CPU": 1, "GPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 2},
        },
        "head_node_type": "ray.head.default",
        "idle_timeout_minutes": 30,
        "upscaling_speed": 1.0,
        **{key: {} for key in ("auth", "docker", "file_mounts")},
        **{key: [] for key in ("cluster_synced_files", "initialization_commands", "setup_commands")},
        **{f"{kind}_{key}_commands": [] for kind in ("head", "worker") for key in ("setup", "start_ray")},
    }
    path = study.place / "autoscaling.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    environment = run_environment | {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    with cluster(study.place, environment, 2, "--autoscaling-config", str(path), port=port) as nodes:
        study.environment = nodes.environment
        head = nodes.started[0]
        assert raylets(head.pid) == 1
        run = study.start(*settings, address=nodes.address)
        together = run.until(lambda: len(found := trials(head.pid)) == 2 and found, SLOW)
        outcome = run.wait(SLOW)
        assert outcome.code == 0, run.said()
        assert len(together) == 2
        assert raylets(head.pid) == 2  # half a GPU each: one node was enough
    assert "Waiting for nodes: resources.cpus_per_worker" in outcome.errors
    assert {result["state"] for result in study.results().values()} == {"complete"}
    check_that_optuna_and_ledger_agree(study)


@pytest.mark.long
def test_two_nodes_share_each_trial_while_more_trials_want_them_than_there_is_room_for(
    study: Study, run_environment: dict[str, str]
) -> None:
    """A worker of each trial on either node, in two parts; two drivers for the workers of one."""
    settings = [
        "search.trials=2",
        "search.scheduler.kind=none",
        "training.accumulation=2",
        "resources={workers_per_trial: 2, concurrent_trials: 2}",
        UNCONFIRMED,
    ]
    with cluster(study.place, run_environment, drivers=2) as nodes:
        study.environment = nodes.environment
        pair = [nodes.add(1), nodes.add(1)]
        run = study.start(*settings, address=nodes.address)
        together = run.until(lambda: len(found := nodes.workers()) == 2 and found, SLOW)
        assert set(together.values()) == set(pair)
        assert len(trials(nodes.started[0].pid)) == 2
        outcome = run.wait(SLOW)
        assert outcome.code == 0, run.said()
    assert {result["state"] for result in study.results().values()} == {"complete"}
    check_that_optuna_and_ledger_agree(study)


def raylets(session: int) -> int:
    """How many nodes run in a session of processes."""
    return sum(Path(command.split()[0]).name == "raylet" for command in processes_of(session).values())


def trials(session: int) -> list[int]:
    """The processes that trials run in."""
    return [pid for pid, command in processes_of(session).items() if command.startswith("ray::ImplicitFunc")]
