"""A Chrome trace of a part of a trial, for https://ui.perfetto.dev or chrome://tracing."""

from __future__ import annotations

import gzip
import shutil
import tempfile
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from trainables.artifacts import atomically

_STEPS = 8  # before the evaluation: a trial's first steps take longer than those that follow


class Profile:
    """Records the last steps of a trial before an evaluation, and that evaluation, once."""

    def __init__(self, path: Path, evaluated_at: int) -> None:
        """``path``: of the trace; ``evaluated_at``: the step after which the evaluation comes."""
        self._path, self._from = path, evaluated_at - _STEPS
        self._profiler: profile | None = None
        self._is_done = False

    def before_step(self, steps_done: int) -> None:
        if self._profiler is None and not self._is_done and steps_done >= self._from:
            activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
            self._profiler = profile(activities=activities)
            self._profiler.start()

    def written(self) -> bool:
        """Write what was recorded, after the evaluation. Returns whether that is a new trace.

        Raises:
            OSError: if it cannot be written.
        """
        if self._profiler is None:
            return False
        self._profiler.stop()
        with tempfile.TemporaryDirectory() as place, atomically(self._path) as temporary:
            trace = Path(place) / "trace.json"
            self._profiler.export_chrome_trace(str(trace))
            with open(trace, "rb") as plain, gzip.open(temporary, "wb") as packed:
                shutil.copyfileobj(plain, packed)
        self._profiler, self._is_done = None, True
        return True

    def close(self) -> None:
        """Record no more: of a trial that has failed, nothing is written, and its process may train others."""
        if self._profiler is not None:
            self._profiler.stop()
            self._profiler = None
        self._is_done = True
