"""What it takes teacher and student to encode an image and a text: parameters, FLOPs, and milliseconds, measured side by side."""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainables.config import Precision
from trainables.cost import encoding_flops
from trainables.data.prepared import Array, CaptionedImages
from trainables.device import computing, resolve_precision
from trainables.models.dual_encoder import DualEncoder

_BATCH = 64  # images, or texts
_ROUNDS = 7  # after one that is not counted


def encoding(models: dict[str, DualEncoder], captions: CaptionedImages, precision: Precision) -> dict[str, Any]:
    """``device``, ``threads`` and ``precision``, and of each model, by its name, its cost of encoding.

    That is ``parameters``, ``image_flops`` and ``text_flops`` of one image and one text (computed), and ``image_ms`` and
    ``text_ms``, milliseconds in a batch: the median over batches of evaluation data, in rounds that all models take
    in turn, so that whatever else the machine does meets all of them alike.
    """
    device = next(next(iter(models.values())).parameters()).device
    images, texts = captions.images[:_BATCH], _texts(captions)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    with torch.inference_mode():
        for _ in range(1 + _ROUNDS):
            for name, model in models.items():
                taken[name].append(_milliseconds(model, images, texts, device, precision))
    costs = {}
    for name, model in models.items():
        image_ms, text_ms = (median(column) for column in zip(*taken[name][1:], strict=True))
        image_flops, text_flops = encoding_flops(model.spec)
        costs[name] = {
            "parameters": model.parameter_count(),
            "image_flops": image_flops,
            "text_flops": text_flops,
            "image_ms": image_ms,
            "text_ms": text_ms,
        }
    dtype = str(resolve_precision(precision, device)).removeprefix("torch.")
    return {"device": _name(device), "threads": torch.get_num_threads(), "precision": dtype, **costs}


def _texts(captions: CaptionedImages) -> Array:
    """Token rows [up to 64, T] of the first language."""
    return np.asarray(captions.tokens[0][captions.present[0]][:_BATCH])


def _milliseconds(
    model: DualEncoder, images: Array, texts: Array, device: torch.device, precision: Precision
) -> tuple[float, float]:
    """Of one image and of one text."""
    tokens = torch.tensor(texts, dtype=torch.long, device=device)
    with computing(device, precision):
        of_images = _timed(lambda: model.encode_image(model.preprocess(torch.tensor(images, device=device))).embedding)
        of_texts = _timed(lambda: model.encode_text(model.read(tokens)).embedding)
    return of_images / len(images), of_texts / len(texts)


def _timed(encode: Callable[[], Tensor]) -> float:
    before = time.perf_counter()
    encode().sum().item()  # the sum is there only once the device has computed it
    return 1000.0 * (time.perf_counter() - before)


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpus = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", cpus.read_text(encoding="utf-8"), re.M) if cpus.exists() else None
    return found[1] if found else platform.processor() or platform.machine()
