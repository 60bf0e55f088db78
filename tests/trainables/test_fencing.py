from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainables.fencing import LOCK, TrialInUseError, held


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the trial in ``trial/`` until it is killed."""
    code = f"""
import pathlib, time
from trainables.fencing import held
with held(pathlib.Path({str(tmp_path / "trial")!r})):
    print("held", flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_trial_that_another_process_holds_is_refused_until_that_is_dead(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    folder = tmp_path / "trial"
    words = rf"process {holder.pid} on .* trains the trial in {folder} and did not end within 0.3 s"
    with pytest.raises(TrialInUseError, match=words), held(folder, patience=0.3):
        pass
    holder.kill()
    with held(folder, patience=5):
        assert (folder / LOCK).read_text(encoding="utf-8").startswith("process ")


def test_trial_is_free_after_a_block_that_was_left_early(tmp_path: Path) -> None:
    with pytest.raises(SystemExit), held(tmp_path):
        raise SystemExit
    with held(tmp_path, patience=0):
        pass
