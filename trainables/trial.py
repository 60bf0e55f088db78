"""What Ray Tune runs: one recipe as one `TorchTrainer`, in the trial's own process or on Ray Train workers."""

from __future__ import annotations

import json
from typing import Any

from trainables.config import TrialPlan
from trainables.remote_folder import is_url


def run_trial(config: dict[str, Any]) -> None:
    """A Tune function trainable. ``config["plan"]`` is a `TrialPlan` as JSON.

    Without workers Ray Train's local mode runs the same training function in this process: no worker start-up, and
    Tune re-uses the process for the next trial.
    """
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    plan = TrialPlan.model_validate_json(config["plan"])
    local = plan.workers == 0
    resources = {"CPU": plan.cpus_per_worker, "GPU": plan.gpus_per_worker}
    trainer = TorchTrainer(
        _train_here if local else _train_on_worker,
        train_loop_config={"plan": config["plan"]},
        scaling_config=ScalingConfig(
            num_workers=plan.workers,
            use_gpu=plan.gpus_per_worker > 0,
            resources_per_worker=None if local else {name: amount for name, amount in resources.items() if amount},
        ),
        run_config=RunConfig(
            name=f"trial-{plan.number:05d}",
            **ray_storage(config["ray_storage"]),
            # Results of Ray Train workers reach Tune through this callback; in local mode they go there directly.
            callbacks=[] if local else [TuneReportCallback()],
            failure_config=FailureConfig(max_failures=0 if local else plan.retries),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
        ),
    )
    trainer.fit()


def ray_storage(place: str) -> dict[str, Any]:
    """Where Ray Tune and Ray Train write, a path or a URL, as both take it; credentials stay in the environment."""
    if not is_url(place):
        return {"storage_path": place}
    import pyarrow.fs

    from trainables.data.remote import filesystem

    files, path = filesystem(place)
    return {"storage_path": path, "storage_filesystem": pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(files))}


def _train_here(config: dict[str, Any]) -> None:
    import ray.tune

    from trainables.worker import train

    train(TrialPlan.model_validate_json(config["plan"]), lambda result: ray.tune.report(_flat(result)))


def _train_on_worker(config: dict[str, Any]) -> None:
    import ray.train

    from trainables.worker import train

    train(TrialPlan.model_validate_json(config["plan"]), lambda result: ray.train.report(_flat(result)))


def _flat(result: dict[str, Any]) -> dict[str, Any]:
    """A result as Tune takes it: the metrics at the top, where schedulers look, and all of it as one JSON text."""
    return {**result["metrics"], "step": result["step"], "result": json.dumps(result)}
