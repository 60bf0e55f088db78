"""What a trial is expected to take of a node's memory, against a process that trains one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from trainables.config import TrialPlan
from trainables.memory import worker_memory
from trainables.models.factory import read_spec

# As a trial's process: Ray's libraries too, and a heap that keeps what it has had, so that the end tells the peak.
TRAIN = """
import sys
import ray.train.torch, ray.tune
from trainables.config import TrialPlan
from trainables.worker import train
train(TrialPlan.model_validate_json(sys.argv[1]), lambda report: None)
for line in open("/proc/self/status"):
    if line.startswith("RssAnon"):
        print(int(line.split()[1]) * 1024)
"""
KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**36), "MALLOC_TOP_PAD_": str(2**27)}


def test_a_worker_takes_about_what_is_expected(plan: TrialPlan, tmp_path: Path) -> None:
    wide = plan.student.model_copy(
        update={
            "image": plan.student.image.resized(plan.student.image.layers, 256),
            "text": plan.student.text.resized(plan.student.text.layers, 256),
        }
    )
    training = plan.training.model_copy(update={"steps": 2, "batch_size": 48, "captions_per_image": 3})
    plan = plan.model_copy(update={"student": wide, "training": training, "rungs": (), "folder": str(tmp_path)})
    command = [sys.executable, "-c", TRAIN, plan.model_dump_json()]
    ran = subprocess.run(command, env={**os.environ, **KEPT}, capture_output=True, text=True, timeout=120, check=True)
    expected = worker_memory(plan.student, read_spec(Path(plan.paths.teacher)), training, 1)
    assert 0.5 * expected < int(ran.stdout) < 1.3 * expected
