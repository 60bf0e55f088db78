"""Perceptual hashes of pictures, 64 bits each, and which pictures of two sets are the same by them.

A hash is a pHash (Zauner 2010), as the library ImageHash defines it: of the grey picture at 32 × 32 pixels, the 64
lowest frequencies of its discrete cosine transform, each above their median or not. ImageHash takes three times as
long for the same bits; and pictures are averaged here where it resamples, which is quicker and steadier.

Hashes that differ in at most three bits name candidates (multi-index hashing, Norouzi et al. 2012, arXiv 1307.2982:
of four blocks of 16 bits, one is then the same); what they name is held against each other in colour.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trainables.artifacts import artifact
from trainables.data.prepared import Array, save_array

FAR = 3  # bits in which hashes of the same picture may differ
_STAGE_VERSION = 1  # raise it when the same pictures get other hashes
_SIDE, _LOW = 32, 8
_BATCH = 256  # pictures at once
_CHUNK = 2048  # hashes whose neighbours are looked for at once
_TRIES = 16  # pictures that one is held against, the nearest first
_BLOCKS, _BITS = 4, 16
# A copy, compressed or resized, is off everywhere by a little; a variant is off in one place, and by more.
_THUMBNAIL, _MOST_OFF, _FLOOR, _PEAK = 16, 24.0, 3.0, 10.0
_BRIGHTNESS = (0.85, 1.18)  # by which one of two same pictures may be lighter

Allowed = Callable[[Array, Array], Array]


@dataclass(frozen=True)
class HashedPictures:
    """N pictures with their hashes."""

    images: Any  # uint8 [N, H, W, 3], read by rows alone
    hashes: Array  # uint64 [N]


def hashed(folder: Path, images: Any) -> HashedPictures:
    """The pictures of a folder of prepared data with their hashes, which are computed once and kept in the cache."""

    def build(built: Path) -> None:
        save_array(built / "hashes.npy", hash_pictures(images))

    found = artifact("picture-hashes", {"pictures": folder.name, "stage": _STAGE_VERSION}, build)
    return HashedPictures(images, np.load(found / "hashes.npy", mmap_mode="r", allow_pickle=False))


def hash_pictures(images: Any) -> Array:
    """The hashes of pictures, uint8 [N, H, W, 3], as uint64 [N]; a batch of them at a time is in memory for each core."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        parts = pool.map(lambda start: _hashes(images[start : start + _BATCH]), range(0, len(images), _BATCH))
        return np.concatenate([np.empty(0, np.uint64), *parts])


def _hashes(images: Array) -> Array:
    grey = np.stack([_small(picture, _SIDE, "L") for picture in images]).astype(np.float32)
    low = (_COSINES @ grey @ _COSINES.T).reshape(len(images), -1)
    bits = low > np.median(low, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">u8")[:, 0].astype(np.uint64)


def _small(picture: Array, side: int, mode: str) -> Array:
    """A picture averaged to ``side`` × ``side`` pixels."""
    return np.asarray(Image.fromarray(picture).convert(mode).resize((side, side), Image.Resampling.BOX))


_PLACES = 2 * np.arange(_SIDE) + 1
_COSINES = np.cos(np.pi * np.arange(_LOW)[:, None] * _PLACES / (2 * _SIDE)).astype(np.float32)


def same_pictures(first: HashedPictures, second: HashedPictures, allowed: Allowed | None = None) -> Array:
    """For each picture of ``second`` one of ``first`` that is the same, int64 [M], -1 for none.

    ``allowed``: which pairs of rows, of ``first`` and of ``second``, count, bool; None: all.
    """
    found = np.full(len(second.hashes), -1, np.int64)
    for rows, others in _candidates(first.hashes, second.hashes, allowed):
        rank = np.arange(len(rows)) - np.searchsorted(rows, rows)  # rows are sorted
        for turn in range(int(rank.max(initial=-1)) + 1):
            here = (rank == turn) & (found[rows] < 0)
            if here.any():
                same = look_the_same(first.images, others[here], second.images, rows[here])
                found[rows[here][same]] = others[here][same]
    return found


def look_the_same(first: Any, first_rows: Array, second: Any, second_rows: Array) -> Array:
    """Whether pictures are the same when they are small, but for their brightness, bool [pairs]."""
    parts = [np.empty(0, np.bool_)]
    for start in range(0, len(first_rows), _BATCH):
        rows = slice(start, start + _BATCH)
        one, other = _thumbnails(first[first_rows[rows]]), _thumbnails(second[second_rows[rows]])
        lighter = (one * other).sum((1, 2, 3)) / np.maximum((other**2).sum((1, 2, 3)), 1.0)
        off = np.abs(one - other * np.clip(lighter, *_BRIGHTNESS)[:, None, None, None]).max(axis=3)
        most, mean = off.max((1, 2)), off.mean((1, 2))
        parts.append((most <= _MOST_OFF) & (most <= _FLOOR + _PEAK * mean))
    return np.concatenate(parts)


def _thumbnails(images: Array) -> Array:
    return np.stack([_small(picture, _THUMBNAIL, "RGB") for picture in images]).astype(np.float32)


def _candidates(first: Array, second: Array, allowed: Allowed | None) -> Iterator[tuple[Array, Array]]:
    """Rows of ``second``, sorted, each with up to `_TRIES` rows of ``first`` that are near, the nearest first."""
    index = _Index(first)
    different, group = np.unique(second, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(len(different) + 1))
    for start in range(0, len(different), _CHUNK):
        part = different[start : start + _CHUNK]
        hashes, others, far = index.near(part)
        sizes = np.diff(starts)[start + hashes]
        rows = order[_ranges(starts[start + hashes], sizes)]
        others, far = np.repeat(others, sizes), np.repeat(far, sizes)
        if allowed is not None:
            counts = allowed(others, rows)
            rows, others, far = rows[counts], others[counts], far[counts]
        by_row = np.lexsort((others, far, rows))
        rows, others = rows[by_row], others[by_row]
        near = np.arange(len(rows)) - np.searchsorted(rows, rows) < _TRIES
        yield rows[near], others[near]


class _Index:
    """Finds hashes by their blocks: for each block, the different hashes in its order."""

    def __init__(self, hashes: Array) -> None:
        self._rows = np.argsort(hashes, kind="stable")
        self._different, self._starts = np.unique(hashes[self._rows], return_index=True)
        self._sizes = np.diff(np.append(self._starts, len(hashes)))
        self._orders = [np.argsort(_block(self._different, number), kind="stable") for number in range(_BLOCKS)]
        self._blocks = [
            _block(self._different, number)[order] for number, order in zip(range(_BLOCKS), self._orders, strict=True)
        ]

    def near(self, hashes: Array) -> tuple[Array, Array, Array]:
        """Places in ``hashes``, the row of each hash that is near, and in how many bits it differs.

        Of more rows with one hash there are `_TRIES`.
        """
        pairs = []
        for number, (order, blocks) in enumerate(zip(self._orders, self._blocks, strict=True)):
            wanted = _block(hashes, number)
            low = np.searchsorted(blocks, wanted, side="left")
            sizes = np.searchsorted(blocks, wanted, side="right") - low
            places, others = np.repeat(np.arange(len(hashes)), sizes), order[_ranges(low, sizes)]
            near = np.bitwise_count(hashes[places] ^ self._different[others]) <= FAR
            pairs.append(places[near] * len(self._different) + others[near])
        both = np.unique(np.concatenate(pairs))
        places, others = both // max(1, len(self._different)), both % max(1, len(self._different))
        far = np.bitwise_count(hashes[places] ^ self._different[others])
        sizes = np.minimum(self._sizes[others], _TRIES)
        rows = self._rows[_ranges(self._starts[others], sizes)]
        return np.repeat(places, sizes), rows, np.repeat(far, sizes)


def _block(hashes: Array, number: int) -> Array:
    block: Array = (hashes >> np.uint64(_BITS * number)).astype(np.uint16)
    return block


def _ranges(starts: Array, sizes: Array) -> Array:
    """The numbers from each start on, so many of each, one after the other."""
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    numbers: Array = np.arange(total) - np.repeat(ends - sizes, sizes) + np.repeat(starts, sizes)
    return numbers
