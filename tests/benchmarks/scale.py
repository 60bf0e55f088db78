"""Trials an hour as a cluster grows, as a share of linear: what a study's driver and Ray Tune cost when many trials run.

    python -m tests.benchmarks.scale                       (nine minutes on two cores)
    python -m tests.benchmarks.scale --nodes 1 4 --seconds 5

Ray nodes of one CPU each are simulated by as many raylets on this machine. Each trial takes its time asleep and reports
twice, as one of the embedded study does in about as many seconds; everything else is real: proposals, ledger, SQLite,
Ray Tune, processes that are used again. Each number of nodes has a study and a driver of its own. The rate is that of
all trials but the first on each node, whose process starts here beside all the others, on the same two cores.

Exit code 1 if the rate on the most nodes is below 0.9 of linear, or the driver's memory grows by more than a factor of 2.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from analysis.commands import command_parser
from tests.benchmarks.driver import FACTOR, drawn_report, in_memory, opened_search, resident, student

ROOT = Path(__file__).parents[2]
LEAST_SHARE = 0.9
_TRIALS_A_NODE = 6


@dataclass(frozen=True)
class Run:
    """A study on so many nodes."""

    nodes: int
    trials: int
    rate: float  # trials an hour
    megabytes: float  # resident, of the driver at the end


def sleep(config: Mapping[str, Any]) -> None:
    """What Tune runs in place of a training: half of the time, a report at the first rung, the other half, the last one."""
    import numpy as np
    from ray import tune

    plan = json.loads(config["plan"])
    rng = np.random.default_rng(plan["number"])
    for step in (plan["rungs"][0], plan["training"]["steps"]):
        time.sleep(float(os.environ["SIMULATED_SECONDS"]) / 2)
        report = drawn_report(rng, list(plan["language_weights"]), step, is_final=step == plan["training"]["steps"])
        tune.report({**report["metrics"], "step": step, "result": json.dumps(report)})


def measure_one(nodes: int, seconds: float, trials_a_node: int, folder: Path) -> Run:
    """Run a study of simulated trials on a cluster of so many nodes; this process is its driver."""
    os.environ["SIMULATED_SECONDS"] = str(seconds)
    from study.environment import prepare_process

    prepare_process(None)
    import ray
    from ray.cluster_utils import Cluster

    from study.config import load_config
    from study.ray_metrics import RayMetrics
    from study.stages import Prepared
    from study.trial_plan import Inputs
    from study.trial_runner import TrialRunner

    trials = nodes * trials_a_node
    config = load_config(
        "emoji_clip",
        [f"storage.path={folder}", f"search.trials={trials}", "search.scheduler.kind=none"],
    )
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(nodes):
            cluster.add_node(wait=False, num_cpus=1)
        cluster.wait_for_nodes(timeout=600)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        ledger, search = opened_search(config, io.StringIO())
        ended: list[float] = []
        search.ended = _and_note(search.ended, ended)  # type: ignore[method-assign]
        places = {"": folder}
        inputs = Inputs(
            prepared=Prepared(folder, folder, 0, {"retrieval": places, "vqa": places}, None),
            teacher=folder,
            student=student(config),
            student_parameters=1,
            cache=folder,
            teacher_scores=drawn_teacher(config.data.languages),
            chance={"": 0.25},
        )
        runner = TrialRunner(config, ledger, inputs, lambda: nodes, RayMetrics(config), trainable=sleep)
        runner.run(search, search.scheduler)
        rate = 3600 * (len(ended) - nodes) / (ended[-1] - ended[nodes - 1])
        return Run(nodes, len(ended), rate, resident())
    finally:
        ray.shutdown()
        cluster.shutdown()


def _and_note(ended: Any, times: list[float]) -> Any:
    def noted(*arguments: Any) -> None:
        ended(*arguments)
        times.append(time.monotonic())

    return noted


def drawn_teacher(languages: Sequence[str]) -> dict[str, Any]:
    row = {"map_i2t": 0.4, "map_t2i": 0.4, "vqa_accuracy": 0.5}
    return {"languages": dict.fromkeys(languages, row), "summary": {"vqa_accuracy": 0.5}}


def measure(nodes: Sequence[int], seconds: float, trials_a_node: int) -> list[Run]:
    """Each in a process of its own, whose memory is then its own too."""
    found = []
    for count in nodes:
        command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.scale", "--one", str(count)]
        command += ["--seconds", str(seconds), "--trials-a-node", str(trials_a_node)]
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        found.append(Run(**json.loads(done.stdout.splitlines()[-1])))
        first, last = found[0], found[-1]
        print(
            f"{last.nodes:3} nodes  {last.trials:4} trials  {last.rate:7.0f} trials/h  {shares(found)[-1]:5.2f} of linear  "
            f"{last.megabytes:5.0f} MB resident (× {last.megabytes / first.megabytes:.2f})",
            flush=True,
        )
    return found


def shares(runs: Sequence[Run]) -> list[float]:
    """The rate of each as a share of what the first one's would be on as many nodes."""
    first = runs[0]
    return [run.rate / run.nodes / (first.rate / first.nodes) for run in runs]


def verdict(runs: Sequence[Run]) -> tuple[bool, str]:
    """Whether both goals are met, and in words."""
    share, grown = shares(runs)[-1], runs[-1].megabytes / runs[0].megabytes
    goals = {
        f"{runs[-1].nodes} nodes run {share:.2f} of linear, at least {LEAST_SHARE}": share >= LEAST_SHARE,
        f"the driver's memory grows × {grown:.2f}, at most {FACTOR:g}": grown <= FACTOR,
    }
    said = "; ".join(f"{'met' if is_met else 'not met'}: {goal}" for goal, is_met in goals.items())
    return all(goals.values()), said


def main() -> int:
    parser = command_parser("tests.benchmarks.scale", __doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 4, 16], help="numbers of nodes, rising")
    parser.add_argument("--seconds", type=float, default=20.0, help="that a trial takes")
    parser.add_argument("--trials-a-node", type=int, default=_TRIALS_A_NODE)
    parser.add_argument("--one", type=int, help="measure so many nodes in this process, and print JSON")
    options = parser.parse_args()
    if options.one:
        with tempfile.TemporaryDirectory(dir=in_memory()) as folder:
            found = measure_one(options.one, options.seconds, options.trials_a_node, Path(folder))
            print(json.dumps(asdict(found)))
        return 0
    is_met, said = verdict(measure(options.nodes, options.seconds, options.trials_a_node))
    print(said)
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
