"""What a trial takes of its process: its peak memory, measured and limited, and errors that say it was too much.

Imports no torch: the driver of a study asks it about errors.
"""

from __future__ import annotations

import ctypes
import gc
import os
import re
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

GB = 10**9  # bytes
_M_TOP_PAD, _SMALL_PAD = -2, 2**20  # of mallopt(3); bytes
_REUSED = 0.5  # of the free heap: blocks of 20 MB found between 42 and 78 % of it again
_RESET_PEAK = "5"  # what proc(5) says of /proc/PID/clear_refs

# torch on a GPU and on a CPU, cuBLAS, Python, NumPy, the kernel's ENOMEM, Ray's own exception, and what Ray says of a
# worker that it killed for a node's memory. Ray mentions "the OOM killer" whatever ended a process: that says nothing.
_OUT_OF_MEMORY = re.compile(
    r"OutOfMemoryError|CUDA out of memory|CUBLAS_STATUS_ALLOC_FAILED|can't allocate memory|MemoryError\b"
    r"|Cannot allocate memory|killed due to the node running low on memory"
)


def is_out_of_memory(error_text: str) -> bool:
    """Whether an error, given as ``TypeName: message`` or as a whole traceback, says that memory ran out."""
    return _OUT_OF_MEMORY.search(error_text) is not None


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


@contextmanager
def limited_memory(gb: float | None, device: torch.device) -> Iterator[None]:
    """Make allocations fail before this process takes more than ``gb``, so that one trial cannot take its node down.

    On a CPU alone: a GPU refuses by itself. The limit is on the process's data (RLIMIT_DATA), which measures what it
    may write and nobody shares: RLIMIT_AS would count memory-mapped files too, and what libraries reserve and never
    use. What the trial may add is what its process has not taken yet, less what the heap holds ready to be used again:
    that part no limit can refuse, but an earlier trial took it, under a limit of its own. Not all of what is free in
    pieces can be used again, so that half of it counts. A process's first trial is so refused close to ``gb``; a later
    one between 0.8 and 1.4 times (measured; at most twice) what ``gb`` leaves beside the libraries.

    Raises:
        MemoryError: if the process has more than ``gb`` in memory before the trial begins.
    """
    if gb is None or device.type != "cpu":
        yield
        return
    taken = _process_bytes("VmRSS")
    left = int(gb * GB) - taken
    if left <= 0:
        raise MemoryError(f"before the trial begins its process has {taken / GB:.2f} GB, more than {gb:g} GB")
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = max(0, _process_bytes("VmData") + left - int(_REUSED * _free_heap()))
    finite = [value for value in (limit, soft, hard) if value != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(finite), hard))
    _set_heap_pad(_SMALL_PAD)  # what the heap takes in advance would count too
    try:
        yield
    finally:
        _set_heap_pad(None)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _free_heap() -> int:
    """Bytes that glibc's main heap holds free, 0 where another library allocates.

    Every thread has a heap of its own beside it, which ``MALLOC_TOP_PAD_`` makes 64 MB of addresses from its first
    use; what is free there, `mallinfo2` would count too, and no large block is ever taken from it.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "malloc_info"):
        return 0
    libc.open_memstream.restype = ctypes.c_void_p
    text, size = ctypes.c_char_p(), ctypes.c_size_t()
    stream = ctypes.c_void_p(libc.open_memstream(ctypes.byref(text), ctypes.byref(size)))
    libc.malloc_info(0, stream)
    libc.fclose(stream)
    main = (text.value or b"").partition(b"</heap>")[0]
    libc.free(text)
    return sum(int(found) for found in re.findall(rb'<total type="\w+" count="\d+" size="(\d+)"/>', main))


def _set_heap_pad(size: int | None) -> None:
    """How much glibc asks for beyond what it needs, if ``MALLOC_TOP_PAD_`` says so at all; None: as much as that says."""
    configured = os.environ.get("MALLOC_TOP_PAD_", "")
    libc = ctypes.CDLL(None)
    if configured.isdecimal() and hasattr(libc, "mallopt"):
        libc.mallopt(_M_TOP_PAD, int(configured) if size is None else size)


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
