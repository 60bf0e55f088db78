"""What a teacher makes of the training data: all of it in one process, or shards that the nodes of a cluster share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from trainables.artifacts import atomically
from trainables.config import Precision
from trainables.data.augment import apply_views, draw_views
from trainables.data.mixture import load_training
from trainables.data.prepared import Array, save_array
from trainables.device import computing, default_device
from trainables.models.dual_encoder import Encoded
from trainables.models.factory import load_model

IMAGES, TEXTS = 256, 4096  # encoded at once
_SHARDS = {"image": 8 * IMAGES, "text": TEXTS}  # rows: whole batches, so that a shard has those of a single run

Tower = Literal["image", "text"]
More = Callable[[int], None]


@dataclass(frozen=True)
class Encoding:
    """What is to be encoded, and how: all that a process, of this node or another, needs to know."""

    teacher: Path
    train: Path
    views: int  # of every image
    layers: Mapping[str, Sequence[int]]  # of each tower, kept beside the embeddings
    seed: int  # of the views
    precision: Precision

    def open(self) -> Teacher:
        return _opened(self.teacher, self.train, self.views, self.seed, self.precision)


@dataclass(frozen=True)
class Shard:
    tower: Tower
    start: int
    stop: int


@dataclass(frozen=True)
class Shards:
    """An encoding in shards, each of which is in ``folder`` as a whole or not at all."""

    encoding: Encoding
    folder: Path
    all: tuple[Shard, ...]

    @classmethod
    def of(cls, encoding: Encoding, folder: Path) -> Shards:
        found = []
        for tower, count in encoding.open().counts.items():
            for start in range(0, count, _SHARDS[tower]):
                found.append(Shard(tower, start, min(start + _SHARDS[tower], count)))
        return cls(encoding, folder, tuple(found))

    def write(self, number: int, threads: int, more: More) -> None:
        """Encode one shard, in so many threads where there is no GPU."""
        torch.set_num_threads(threads)
        shard = self.all[number]
        kept = self.encoding.layers[shard.tower]
        found = self.encoding.open().encoded(shard.tower, shard.start, shard.stop, kept, more)
        for path, array in zip(reversed(self._paths(number)), reversed(found), strict=True):
            with atomically(path) as temporary:
                save_array(temporary, array)

    def is_written(self, number: int) -> bool:
        return self._paths(number)[0].exists()  # it is written last

    def read(self, number: int) -> tuple[Array, Array]:
        """Embeddings [rows, D] and hidden states [layers, rows, H]."""
        embeddings, states = (np.load(path, allow_pickle=False) for path in self._paths(number))
        return embeddings, states

    def _paths(self, number: int) -> tuple[Path, Path]:
        shard = self.all[number]
        name = f"{shard.tower}.{shard.start}.{shard.stop}"
        return self.folder / f"{name}.npy", self.folder / f"{name}.layers.npy"


class Teacher:
    """A teacher, and the views and texts that it is to encode."""

    def __init__(self, teacher: Path, train: Path, views: int, seed: int, precision: Precision) -> None:
        self._device, self._precision = default_device(), precision
        self.model = load_model(teacher).eval()
        self._data = load_training(train)
        self.views = draw_views((len(self._data.images), views), torch.Generator().manual_seed(seed))
        self.tokens_shape = self._data.tokens.shape  # [L, M, T]
        self._texts = np.asarray(self._data.tokens).reshape(-1, self._data.tokens.shape[-1])
        self.counts: dict[Tower, int] = {"image": self.views[:, :, 0, 0].numel(), "text": len(self._texts)}
        self.logit_scale = float(self.model.logit_scale.detach())

    def encoded(self, tower: Tower, start: int, stop: int, kept: Sequence[int], more: More) -> tuple[Array, Array]:
        """Embeddings [rows, D] and the ``kept`` layers [layers, rows, H] of a tower's rows, float16: views of images, one
        image after another, or texts, one language after another. ``more`` is told how many are done.
        """
        size, batch = (IMAGES, self._of_views) if tower == "image" else (TEXTS, self._of_texts)
        self.model.to(self._device)  # only now: who has others encode needs no GPU
        embeddings, states = [], []
        with torch.inference_mode(), computing(self._device, self._precision):
            for first in range(start, stop, size):
                encoded = batch(slice(first, min(first + size, stop)))
                embeddings.append(_half(encoded.embedding))
                layers = [_half(encoded.layers[number]) for number in kept]
                states.append(np.stack(layers) if layers else np.empty((0, len(encoded.embedding), 0), np.float16))
                more(len(encoded.embedding))
        return np.concatenate(embeddings), np.concatenate(states, axis=1)

    def _of_views(self, rows: slice) -> Encoded:
        flat = torch.arange(self.counts["image"])[rows]
        image, view = flat // self.views.shape[1], flat % self.views.shape[1]
        pictures = torch.from_numpy(self._data.images[image.numpy()]).to(self._device)
        seen = apply_views(pictures, self.views[image, view].to(self._device))
        return self.model.encode_image(self.model.preprocess(seen))

    def _of_texts(self, rows: slice) -> Encoded:
        return self.model.encode_text(torch.tensor(self._texts[rows], dtype=torch.long, device=self._device))


@lru_cache(maxsize=1)
def _opened(*arguments: Any) -> Teacher:
    """A process that writes several shards loads the teacher once."""
    return Teacher(*arguments)


def _half(rows: Tensor) -> Array:
    return rows.to(torch.float16).cpu().numpy()
