"""What a trial takes of its process, on the process of the test itself."""

from __future__ import annotations

import gc
import mmap
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from trainables.resources import is_out_of_memory, limited_memory, measure_peak

MEGABYTE = 10**6
CPU = torch.device("cpu")


def touch(megabytes: int) -> torch.Tensor:
    """So much memory, really in use."""
    return torch.ones(megabytes * MEGABYTE, dtype=torch.uint8)


def test_peak_is_that_of_the_trial_and_not_of_an_earlier_one() -> None:
    first = measure_peak(CPU)
    before = first()
    block = touch(400)
    del block
    assert first() == pytest.approx(before + 0.4, abs=0.05)  # the peak, not what is left
    second = measure_peak(CPU)
    assert second() < before + 0.1
    touch(200)
    assert second() == pytest.approx(before + 0.2, abs=0.1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_peak_on_a_gpu_is_what_tensors_took_of_it() -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    gc.collect()
    peak = measure_peak(device)
    before = peak()
    block = torch.ones(400 * MEGABYTE, dtype=torch.uint8, device=device)
    del block
    assert peak() == pytest.approx(before + 0.4, abs=0.01)
    assert measure_peak(device)() == pytest.approx(before, abs=0.01)


def taken() -> float:
    return measure_peak(CPU)()


@pytest.mark.parametrize(
    "allocate",
    [
        lambda: touch(500),
        lambda: np.ones(500 * MEGABYTE, np.uint8),
        lambda: bytearray(500 * MEGABYTE),
        lambda: mmap.mmap(-1, 500 * MEGABYTE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS),
    ],
    ids=["torch", "numpy", "python", "kernel"],
)
def test_more_than_the_limit_is_refused_and_is_known_as_out_of_memory(allocate: Callable[[], object]) -> None:
    with limited_memory(taken() + 0.3, CPU):
        touch(100)
        with pytest.raises((RuntimeError, MemoryError, OSError)) as refused:
            allocate()
    assert is_out_of_memory(f"{refused.type.__name__}: {refused.value}")
    touch(500)  # the limit is gone


def test_every_trial_of_a_process_gets_what_the_limit_leaves() -> None:
    """With glibc told to keep what is freed, and a heap for every thread, as in the processes of a study."""
    code = """
import threading
import torch
from trainables.resources import limited_memory, measure_peak
cpu = torch.device("cpu")
for _ in range(12):
    threading.Thread(target=lambda: bytearray(1000) and threading.Event().wait(), daemon=True).start()

def trial():
    peak = measure_peak(cpu)
    before, kept = peak(), []
    with limited_memory(before + 0.5, cpu):
        try:
            while True:
                kept.append(torch.ones(20 * 10**6, dtype=torch.uint8))
        except RuntimeError:
            pass
        print(round(1000 * (peak() - before)))

for _ in range(3):
    trial()
worker = threading.Thread(target=trial)
worker.start()
worker.join()
"""
    settings = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**36), "MALLOC_TOP_PAD_": str(2**27)}
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), **settings}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    taken = [int(line) for line in done.stdout.split()]  # megabytes
    assert len(taken) == 4
    assert 450 <= taken[0] <= 560
    assert all(350 <= megabytes <= 1000 for megabytes in taken), taken


def test_limit_below_what_the_process_has_already_is_refused_at_once() -> None:
    words = r"before the trial begins its process has [\d.]+ GB, more than 0.01 GB"
    with pytest.raises(MemoryError, match=words), limited_memory(0.01, CPU):
        pass


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", True),
        ("ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory.", True),
        ("2 worker(s) were killed due to the node running low on memory. Memory on the node was 15 GB", True),
        # What Ray says of every process that dies.
        (
            "The actor died unexpectedly before finishing this task. Some common causes include: (1) the process was "
            "killed by the OOM killer due to high memory usage, (2) ray stop --force was called, or (3) the worker "
            "crashed unexpectedly due to SIGSEGV or another unexpected error.",
            False,
        ),
        ("ValueError: the memory of a queue cannot be empty", False),
        ("", False),
    ],
)
def test_out_of_memory_is_told_from_other_ends_of_a_process(text: str, expected: bool) -> None:
    assert is_out_of_memory(text) is expected


def test_errors_are_judged_without_torch() -> None:
    code = "import sys, trainables.resources; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
