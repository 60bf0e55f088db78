"""Tiny real studies, shared by the tests of a session; what is left of their runs ends with the tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.study.tiny import Outcome, Study


@pytest.fixture(scope="session")
def run_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What all runs share: data and teacher are prepared once, also where pytest has several processes.

    Ray's sockets need a short path.
    """
    ray_folder = tempfile.mkdtemp(prefix="pd-")
    own = tmp_path_factory.getbasetemp()
    of_all = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    yield {
        **os.environ,
        "POLYDISTILL_CACHE": str(of_all / "cache-of-studies"),
        "RAY_TMPDIR": ray_folder,
        "OMP_WAIT_POLICY": "PASSIVE",  # beside other work, threads that spin while they wait take minutes
    }
    shutil.rmtree(ray_folder, ignore_errors=True)


@pytest.fixture(scope="session")
def finished(
    run_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Study, Outcome]]:
    """A study of five trials that has ended, and how. Tests leave it as it is."""
    study = Study(tmp_path_factory.mktemp("finished"), run_environment)
    yield study, study.run()
    study.end()


@pytest.fixture
def study(run_environment: dict[str, str], tmp_path: Path) -> Iterator[Study]:
    """A study that has not begun."""
    new = Study(tmp_path, run_environment)
    yield new
    new.end()


@pytest.fixture
def copied(finished: tuple[Study, Outcome], study: Study) -> Study:
    """A copy of the finished study."""
    shutil.copytree(finished[0].folder, study.folder)
    return study
