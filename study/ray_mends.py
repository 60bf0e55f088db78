"""Behaviour of Ray that a study cannot live with, mended in place; each mend says what it is for and until when."""

from __future__ import annotations

from typing import Any

from ray.air._internal import usage
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError

_actor_task_failed = RayActorManager._actor_task_failed


def fail_one_trial_when_memory_runs_out() -> None:
    """Let a trial that Ray's memory monitor kills fail alone.

    Ray 2.60 raises `OutOfMemoryError` for it, which Tune's actor manager does not know for the death of an actor: it
    ends the whole run with "Caught unexpected exception". Told as what it is, Tune fails that trial alone, with a
    text that still says why.
    """
    RayActorManager._actor_task_failed = _with_memory_kills


def _with_memory_kills(manager: Any, tracked_actor_task: Any, exception: Exception) -> None:
    if isinstance(exception, OutOfMemoryError):
        exception = RayActorError(error_msg=f"OutOfMemoryError: {exception}")
    _actor_task_failed(manager, tracked_actor_task, exception)


def count_no_callbacks() -> None:
    """Let Tune start without what other people log their trials with.

    Ray 2.60 counts callbacks for its usage statistics even where these are off. To tell which of them are its own, it
    imports mlflow, wandb and comet where they are installed: mlflow alone takes most of a second, and comet changes torch.
    """
    usage.tag_callbacks = _count_none


def _count_none(_callbacks: object) -> bool:
    return False
