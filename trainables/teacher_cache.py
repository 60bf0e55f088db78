"""The teacher's outputs on the training data, computed once and shared by all trials: no trial runs the teacher."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainables.artifacts import artifact
from trainables.config import CacheConfig, Precision
from trainables.data.augment import apply_views, draw_views
from trainables.data.mixture import load_training
from trainables.data.prepared import Array, ArrayFolder
from trainables.device import computing, default_device, resolve_precision
from trainables.models.dual_encoder import Encoded
from trainables.models.factory import load_model
from trainables.models.spec import ModelSpec

_STAGE_VERSION = 1
IMAGES, TEXTS = 256, 4096  # encoded at once

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TeacherCache(ArrayFolder):
    """Memory-mapped teacher outputs: N images with K views each, M captions in each of L languages."""

    logit_scale: float
    views: Array  # float32 [N, K, 2, 3]: the parameters of each view, for `apply_views`
    image: Array  # float16 [N, K, D]
    text: Array  # float16 [L, M, D]
    image_layers: Array  # float16 [layers, N, K, H]
    text_layers: Array  # float16 [layers, L, M, H]
    image_layer_numbers: Sequence[int]  # which teacher layers image_layers holds, counted from 0
    text_layer_numbers: Sequence[int]


def cache_bytes(teacher: ModelSpec, images: int, captions: int, views: int, layers: Mapping[str, Sequence[int]]) -> int:
    """The bytes of a cache's arrays, for so many ``captions`` in all languages together; arguments as `build_cache`."""
    image_row = teacher.embed_dim + len(layers["image"]) * teacher.image.width
    text_row = teacher.embed_dim + len(layers["text"]) * teacher.text.width
    view = 2 * 3 * np.dtype(np.float32).itemsize
    half = np.dtype(np.float16).itemsize
    return images * views * (view + half * image_row) + captions * half * text_row


def build_cache(
    teacher: Path,
    train: Path,
    config: CacheConfig,
    layers: Mapping[str, Sequence[int]],
    seed: int,
    precision: Precision,
    progress: Progress,
) -> Path:
    """The folder of the `TeacherCache` of a saved teacher on the training data in ``train``, with these layers of each tower."""
    fields: dict[str, Any] = {
        "teacher": teacher.name,
        "train": train.name,
        "views": config.views,
        "image_layers": list(layers["image"]),
        "text_layers": list(layers["text"]),
        "seed": seed,
        "precision": str(resolve_precision(precision, default_device())),
        "stage": _STAGE_VERSION,
    }

    def build(folder: Path) -> None:
        device = default_device()
        model = load_model(teacher).to(device).eval()
        data = load_training(train)
        views = draw_views((len(data.images), config.views), torch.Generator().manual_seed(seed))
        texts = np.asarray(data.tokens).reshape(-1, data.tokens.shape[-1])
        done, total = 0, views[:, :, 0, 0].numel() + len(texts)

        def encode(
            count: int, size: int, batch: Callable[[slice], Encoded], wanted: Sequence[int]
        ) -> tuple[Array, Array]:
            """Embeddings [count, D] and the wanted layers [layers, count, H]."""
            nonlocal done
            embeddings, states = [], []
            for start in range(0, count, size):
                encoded = batch(slice(start, start + size))
                embeddings.append(_half(encoded.embedding))
                kept = [_half(encoded.layers[number]) for number in wanted]
                states.append(np.stack(kept) if kept else np.empty((0, len(encoded.embedding), 0), np.float16))
                done += len(encoded.embedding)
                progress(done, total)
            return np.concatenate(embeddings), np.concatenate(states, axis=1)

        def encode_views(rows: slice) -> Encoded:
            flat = torch.arange(views.shape[0] * views.shape[1])[rows]
            image, view = flat // views.shape[1], flat % views.shape[1]
            pictures = torch.from_numpy(data.images[image.numpy()]).to(device)
            return model.encode_image(model.preprocess(apply_views(pictures, views[image, view].to(device))))

        def encode_texts(rows: slice) -> Encoded:
            return model.encode_text(torch.tensor(texts[rows], dtype=torch.long, device=device))

        with torch.inference_mode(), computing(device, precision):
            image, image_layers = encode(views.shape[0] * views.shape[1], IMAGES, encode_views, layers["image"])
            text, text_layers = encode(len(texts), TEXTS, encode_texts, layers["text"])
            scale = float(model.logit_scale)
        TeacherCache(
            logit_scale=scale,
            views=views.numpy(),
            image=image.reshape(*views.shape[:2], -1),
            text=text.reshape(*data.tokens.shape[:2], -1),
            image_layers=image_layers.reshape(len(layers["image"]), *views.shape[:2], image_layers.shape[-1]),
            text_layers=text_layers.reshape(len(layers["text"]), *data.tokens.shape[:2], text_layers.shape[-1]),
            image_layer_numbers=list(layers["image"]),
            text_layer_numbers=list(layers["text"]),
        ).save(folder)

    return artifact("teacher-cache", fields, build)


def _half(rows: Tensor) -> Array:
    return rows.to(torch.float16).cpu().numpy()
