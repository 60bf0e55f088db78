"""Writes the pictures of a data set as one array: several decoded at once, none kept in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainables.data.pictures import Fit, Interpolation, PictureError, fit_picture, open_picture, read_picture
from trainables.data.prepared import Array, ArrayWriter
from trainables.data.report import DataReport

_BATCH = 256

Progress = Callable[[int, int], None]  # pictures done, pictures in all


@dataclass(frozen=True)
class Pixels:
    """How a picture becomes what a model sees: by default squashed to a square of so many pixels a side."""

    size: int
    fit: Fit = "squash"
    interpolation: Interpolation = "bicubic"


def batches(items: Array, size: int = _BATCH) -> Iterator[Array]:
    """``items`` in order, so many at once."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def write_pictures(
    folder: Path,
    items: Array,
    cells: Callable[[Array], Sequence[tuple[Any, str | None]]],
    name: Callable[[int], str],
    pixels: Pixels,
    report: DataReport,
    progress: Progress,
) -> Array:
    """Write ``images.npy`` with a picture for each of ``items`` that has a readable one; returns those items.

    ``cells``: what the data has as the pictures of some items, and what paths are relative to; ``name``: an item's row as its user would find it.

    Raises:
        DataError: as soon as too many cannot be read.
    """
    kept, done = [], 0
    cores = len(os.sched_getaffinity(0))
    with (
        ThreadPoolExecutor(cores) as pool,
        ArrayWriter(folder, "images", (pixels.size, pixels.size, 3), np.uint8) as writer,
    ):
        for batch in batches(items):
            found = list(pool.map(lambda cell: _fitted(cell[0], cell[1], pixels), cells(batch)))
            for item, picture in zip(batch, found, strict=True):
                if isinstance(picture, PictureError):
                    report.add(name(int(item)), "picture", str(picture))
                else:
                    writer.write(picture[None])
                    kept.append(item)
            report.check()
            done += len(batch)
            progress(done, len(items))
    return np.asarray(kept, np.int64)


def _fitted(cell: Any, base: str | None, pixels: Pixels) -> Array | PictureError:
    try:
        return fit_picture(open_picture(read_picture(cell, base)), pixels.size, pixels.fit, pixels.interpolation)
    except PictureError as error:
        return error
