"""The teacher's outputs on the training data, computed once and shared by all trials: no trial runs the teacher."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainables.artifacts import artifact, artifact_in_parts
from trainables.config import CacheConfig, Precision
from trainables.data import cluster
from trainables.data.prepared import Array, ArrayFolder
from trainables.device import default_device, resolve_precision
from trainables.encoding import Encoding, More, Shards, Tower
from trainables.models.spec import ModelSpec

_STAGE_VERSION = 1

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
    """The folder of the `TeacherCache` of a saved teacher on the training data in ``train``, with these layers of each tower;
    made on all nodes of a cluster, if there are several."""
    there = cluster.has_several_nodes()
    gpus = cluster.share_of_gpu() if there else 0.0
    dtype = cluster.on_a_node(lambda: _dtype(precision), gpus) if there else _dtype(precision)
    fields: dict[str, Any] = {
        "teacher": teacher.name,
        "train": train.name,
        "views": config.views,
        "image_layers": list(layers["image"]),
        "text_layers": list(layers["text"]),
        "seed": seed,
        "precision": dtype,
        "stage": _STAGE_VERSION,
    }
    exact: Precision = "bf16" if dtype == str(torch.bfloat16) else "fp32"
    encoding = Encoding(teacher, train, config.views, layers, seed, exact)
    if there:
        return artifact_in_parts(
            "teacher-cache", fields, lambda folder: _build_there(encoding, folder, gpus, progress), ()
        )
    return artifact("teacher-cache", fields, lambda folder: build_here(encoding, folder, progress))


def build_here(encoding: Encoding, folder: Path, progress: Progress) -> None:
    """Write the cache into ``folder``, all of it in this process."""
    teacher, more = encoding.open(), _counted(encoding, progress)
    found: list[Array] = []
    for tower, count in teacher.counts.items():
        found += teacher.encoded(tower, 0, count, encoding.layers[tower], more)
    _save(encoding, folder, *found)


def _build_there(encoding: Encoding, folder: Path, gpus: float, progress: Progress) -> None:
    """Have all nodes write the shards that are missing, then join them: each by a task of its own, and once."""
    parts = folder / "shards"
    parts.mkdir(exist_ok=True)
    shards, more = Shards.of(encoding, parts), _counted(encoding, progress)
    missing = []
    for number, shard in enumerate(shards.all):
        if shards.is_written(number):
            more(shard.stop - shard.start)
        else:
            missing.append(number)
    for written in cluster.write(shards, missing, gpus):
        more(shards.all[written.number].stop - shards.all[written.number].start)
    teacher, found = encoding.open(), list[Array]()
    rows: dict[Tower, tuple[int, ...]] = {"image": tuple(teacher.views.shape[:2]), "text": teacher.tokens_shape[:2]}
    for tower, shape in rows.items():
        own = [number for number, shard in enumerate(shards.all) if shard.tower == tower]
        embeddings, states = shards.read(own[0])
        whole = _on_disk(folder / f"{tower}.npy", (*shape, embeddings.shape[-1]))
        layers = _on_disk(folder / f"{tower}_layers.npy", (len(states), *shape, states.shape[-1]))
        count, width = teacher.counts[tower], states.shape[-1]
        for number in own:
            part = slice(shards.all[number].start, shards.all[number].stop)
            whole.reshape(count, -1)[part], layers.reshape(len(states), count, width)[:, part] = shards.read(number)
        found += [whole, layers]
    _save(encoding, folder, *found)
    shutil.rmtree(parts)


def _on_disk(path: Path, shape: tuple[int, ...]) -> Array:
    """An array that is filled in its file: all of a cache may be more than memory holds."""
    if 0 in shape:  # which cannot be mapped
        return np.empty(shape, np.float16)
    return np.lib.format.open_memmap(path, "w+", np.float16, shape)


def _counted(encoding: Encoding, progress: Progress) -> More:
    done, total = 0, sum(encoding.open().counts.values())

    def more(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total)

    return more


def _dtype(precision: Precision) -> str:
    return str(resolve_precision(precision, default_device()))


def _save(encoding: Encoding, folder: Path, image: Array, image_layers: Array, text: Array, text_layers: Array) -> None:
    teacher = encoding.open()
    views, captions = teacher.views.shape[:2], teacher.tokens_shape[:2]
    TeacherCache(
        logit_scale=teacher.logit_scale,
        views=teacher.views.numpy(),
        image=image.reshape(*views, -1),
        text=text.reshape(*captions, -1),
        image_layers=image_layers.reshape(len(image_layers), *views, image_layers.shape[-1]),
        text_layers=text_layers.reshape(len(text_layers), *captions, text_layers.shape[-1]),
        image_layer_numbers=list(encoding.layers["image"]),
        text_layer_numbers=list(encoding.layers["text"]),
    ).save(folder)
