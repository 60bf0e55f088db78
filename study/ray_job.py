"""A study inside a job of a Ray cluster, as `ray job submit -- python -m study.run ...` starts it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from study.errors import UserError

_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set by Ray in jobs alone: RAY_ADDRESS may also name a dashboard for `ray job`


def own_cluster() -> str | None:
    """The address of the cluster that this process is a job of, None outside a job."""
    return os.environ.get("RAY_ADDRESS") or "auto" if _JOB in os.environ else None


def settings_of_job() -> set[str]:
    """The environment variables that the job was submitted with, which Ray does not let a job set again."""
    if _JOB not in os.environ:
        return set()
    return set(json.loads(os.environ[_JOB]).get("runtime_env", {}).get("env_vars", {}))


def check_storage_outlives_job(path: str, folder: Path) -> None:
    """Whether a study in ``folder``, at ``path`` of the configuration, is still there when its job has ended.

    Raises:
        UserError: if it would lie in the copy of `--working-dir`, which Ray deletes.
    """
    if any(place.name == "working_dir_files" and place.parent.name == "runtime_resources" for place in folder.parents):
        raise UserError(
            f"storage.path: {path} is in the job's copy of --working-dir, which Ray deletes after the job; name a folder "
            "that outlives it and that all nodes share, --set storage.path=/shared/runs"
        )
