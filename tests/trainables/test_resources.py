"""What a trial takes of its process, on the process of the test itself."""

from __future__ import annotations

import gc

import pytest
import torch

from trainables.resources import measure_peak

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
