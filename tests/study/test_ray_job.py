"""A study inside a job of a cluster, and what it says of a folder that the job would take with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from study.errors import UserError
from study.ray_job import check_storage_outlives_job, own_cluster, settings_of_job

JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"


def test_ray_address_is_taken_up_in_jobs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")  # of a dashboard, for `ray job`
    monkeypatch.delenv(JOB, raising=False)
    assert own_cluster() is None
    assert settings_of_job() == set()
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setenv(JOB, json.dumps({"runtime_env": {"env_vars": {"POLYDISTILL_CACHE": "/shared/cache"}}}))
    assert own_cluster() == "10.0.0.1:6379"
    assert settings_of_job() == {"POLYDISTILL_CACHE"}


def test_a_study_is_not_put_where_its_job_is_deleted(tmp_path: Path) -> None:
    copy = tmp_path / "runtime_resources" / "working_dir_files" / "_ray_pkg_1"
    with pytest.raises(UserError, match=r"^storage.path: runs is in the job's copy of --working-dir, .*/shared/runs$"):
        check_storage_outlives_job("runs", copy / "runs" / "tiny")
    check_storage_outlives_job("runs", tmp_path / "runs" / "tiny")
