"""The device that a process computes on, and what is fastest there."""

from __future__ import annotations

import torch

from trainables.config import Precision


def default_device() -> torch.device:
    """The current accelerator, else the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def resolve_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """The dtype of forward passes: bf16 where asked for or, with ``auto``, where the hardware multiplies in it."""
    if precision == "auto":
        if device.type == "cuda":
            has_bf16 = torch.cuda.is_bf16_supported()
        else:
            capability = torch.cpu.get_capabilities()
            has_bf16 = bool(capability.get("avx512_bf16") or capability.get("amx_bf16"))
        return torch.bfloat16 if has_bf16 else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32


def set_up_process(threads: int) -> torch.device:
    """Settings of the whole process that make it fast, and the device that it computes on.

    On a CPU the fused attention kernel's backward pass is slow for sequences of a few tokens: a third of a training
    step of a small encoder. The plain kernel made whole steps 1.4 times as fast there.
    """
    torch.set_num_threads(max(1, threads))
    device = default_device()
    if device.type == "cpu":
        torch.backends.cuda.enable_flash_sdp(False)  # despite its name, for all devices
    return device


def computing(device: torch.device, precision: Precision) -> torch.autocast:
    """Autocast for forward passes on ``device``."""
    dtype = resolve_precision(precision, device)
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
