"""The device that a process computes on, and what is fastest there."""

from __future__ import annotations

import json
import time
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from trainables.artifacts import cache_root, content_key, write_json
from trainables.config import Precision
from trainables.data.images import decode_in

_PROBE_SIZE, _PROBE_REPEATS = 512, 8
_WORTHWHILE = 1.2  # clear of the noise of a busy machine
_FUSED_FROM = 128  # tokens


def default_device() -> torch.device:
    """The current accelerator, else the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def resolve_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """The dtype of forward passes: bf16 where asked for or, with ``auto``, where the hardware is faster in it."""
    if precision == "auto":
        if device.type == "cuda":  # those before Ampere only emulate it, slowly
            is_faster = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            is_faster = _cpu_multiplies_faster_in_bf16()
        return torch.bfloat16 if is_faster else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32


@lru_cache(maxsize=1)
def _cpu_multiplies_faster_in_bf16() -> bool:
    """Measured, since flags do not tell: with AVX512-BF16 but no AMX, products took from half to twice as long.

    Measured once for a kind of CPU: on a busy machine a later process might find otherwise, and fit the teacher anew.
    """
    capabilities = torch.cpu.get_capabilities()
    if not (capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")):
        return False
    known = cache_root() / "bf16" / f"{content_key({'cpu': dict(capabilities), 'torch': torch.__version__})}.json"
    try:
        return bool(json.loads(known.read_text(encoding="utf-8"))["is_faster"])
    except (OSError, ValueError, KeyError, TypeError):
        is_faster = _measured()
        write_json(known, {"is_faster": is_faster})
        return is_faster


def _measured() -> bool:
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        matrix = torch.ones(_PROBE_SIZE, _PROBE_SIZE, dtype=dtype)
        taken = []
        for _ in range(_PROBE_REPEATS):
            before = time.perf_counter()
            torch.mm(matrix, matrix)
            taken.append(time.perf_counter() - before)
        seconds[dtype] = min(taken)
    return seconds[torch.float32] > _WORTHWHILE * seconds[torch.bfloat16]


def set_up_process(threads: int) -> torch.device:
    """Settings of the whole process that make it fast, and the device that it computes on."""
    torch.set_num_threads(max(1, threads))
    decode_in(threads)
    return default_device()


def attention_with_gradients(device: torch.device, tokens: int) -> AbstractContextManager[None]:
    """The attention kernel for forward passes on sequences of so many ``tokens`` at most that a backward pass follows.

    On a CPU the fused kernel's backward pass is slow for short sequences: of 9 tokens it takes six times as long as the
    plain one's, forward pass included, of 77 twice as long, of 197 seven tenths. Whole steps of the embedded students are 1.4
    times as fast with the plain one. Without a backward pass the fused one is up to four times as fast, and stays.
    """
    is_plain = device.type == "cpu" and tokens < _FUSED_FROM
    return sdpa_kernel(SDPBackend.MATH) if is_plain else nullcontext()


def computing(device: torch.device, precision: Precision) -> torch.autocast:
    """Autocast for forward passes on ``device``."""
    dtype = resolve_precision(precision, device)
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
