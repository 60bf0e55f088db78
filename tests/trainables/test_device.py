from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from trainables import device


@pytest.fixture(autouse=True)
def _found_anew() -> Iterator[None]:
    """What a test has made of this process is not kept."""
    yield
    device._cpu_multiplies_faster_in_bf16.cache_clear()


@pytest.mark.skipif(
    not any(torch.cpu.get_capabilities().get(flag) for flag in ("avx512_bf16", "amx_bf16")),
    reason="this CPU has no bf16",
)
def test_whether_bf16_is_faster_is_measured_once_for_all_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLYDISTILL_CACHE", str(tmp_path))
    cpu = torch.device("cpu")

    def found_by_a_new_process() -> torch.dtype:
        device._cpu_multiplies_faster_in_bf16.cache_clear()
        return device.resolve_precision("auto", cpu)

    first = found_by_a_new_process()
    monkeypatch.setattr(device, "_WORTHWHILE", 1e9 if first == torch.bfloat16 else 0.0)  # it would now find otherwise
    assert found_by_a_new_process() == first
    (known,) = tmp_path.glob("bf16/*.json")
    known.unlink()
    assert found_by_a_new_process() != first


@pytest.mark.parametrize(("generation", "expected"), [(7, torch.float32), (8, torch.bfloat16)])
def test_a_gpu_that_only_emulates_bf16_computes_in_fp32(
    generation: int, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: SimpleNamespace(major=generation))
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda _device: True)
    assert torch.cuda.is_bf16_supported()
    assert device.resolve_precision("auto", torch.device("cuda")) == expected


@pytest.mark.parametrize(("tokens", "is_fused"), [(16, False), (77, False), (197, True)])
def test_attention_that_is_to_have_gradients_is_the_plain_kernels_where_sequences_are_short(
    tokens: int, is_fused: bool
) -> None:
    heads = torch.randn(1, 1, tokens, 8, requires_grad=True)
    with device.attention_with_gradients(torch.device("cpu"), tokens):
        attended = functional.scaled_dot_product_attention(heads, heads, heads)
    assert ("FlashAttention" in type(attended.grad_fn).__name__) == is_fused
