"""What a trial takes of its process: its peak memory, measured.

Imports no torch: the driver of a study reads what this module knows about errors.
"""

from __future__ import annotations

import ctypes
import gc
import resource
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

GB = 10**9  # bytes
_RESET_PEAK = "5"  # what proc(5) says of /proc/PID/clear_refs


def measure_peak(device: torch.device) -> Callable[[], float]:
    """Begin to measure; the function that it gives tells the peak memory since then, in GB.

    On CUDA that is what tensors took of the device. On a CPU it is all that the process had in memory, libraries and
    memory-mapped files included; where the kernel cannot begin anew, since the start of the process.
    """
    gc.collect()
    if device.type == "cuda":
        import torch

        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return lambda: torch.cuda.max_memory_allocated(device) / GB
    _return_free_memory()
    try:
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GB
    return lambda: _process_bytes("VmHWM") / GB


def _return_free_memory() -> None:
    """Give the kernel what earlier trials of this process have freed; glibc may be told to keep it (`study`'s is)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone
    if trim is not None:
        trim(0)


def _process_bytes(name: str) -> int:
    """A size in /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    raise KeyError(f"/proc/self/status has no {name}")
