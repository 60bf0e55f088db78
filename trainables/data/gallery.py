"""Writes the pictures of a data set in shards: several at once, none kept in memory, none written twice.

A process that was killed leaves the shards that it had finished, and the next goes on with the others. On a cluster the
shards are shared among its nodes (`trainables.data.cluster`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from trainables.artifacts import atomically, write_json
from trainables.data import cluster
from trainables.data.images import EncodedWriter
from trainables.data.pictures import PictureError, Pixels, read_picture
from trainables.data.prepared import Array, ArrayWriter
from trainables.data.report import DataReport

_BATCH = 128  # pictures read at once; two batches are under way
# Pictures in a shard, and shards at most: each is a file that readers hold open.
_ROWS, _MOST_SHARDS = 4096, 256

Progress = Callable[[int, int], None]  # pictures done, pictures in all
Submit = Callable[..., Callable[[], Any]]  # takes a call and gives what waits for its result
Cells = Callable[[Array], Sequence[tuple[Any, str | None]]]


def batches(items: Array, size: int) -> Iterator[Array]:
    """``items`` in order, so many at once."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


@dataclass(frozen=True)
class Gallery:
    """The pictures of ``items`` in shards: all that a process, of this node or another, needs to know to write one.

    ``cells``: what the data has as the pictures of some items, and what paths are relative to.
    """

    folder: Path
    items: Array
    rows: int  # of a shard; bad ones are left out
    cells: Cells
    pixels: Pixels

    @property
    def shards(self) -> list[Array]:
        """The items of each shard."""
        return list(batches(self.items, self.rows))

    def written(self, number: int) -> dict[str, Any] | None:
        """What a shard holds, None if it is not there as a whole: ``bad`` lists places among its items, and reasons."""
        try:
            found: dict[str, Any] = json.loads(self._path(number, ".json").read_text(encoding="utf-8"))
            return found if self._pictures(number).stat().st_size == found["bytes"] else None
        except (OSError, ValueError, KeyError):
            return None

    def write(self, number: int, threads: int, progress: Callable[[int], None]) -> None:
        """Write one shard; ``progress`` is told how many more of its pictures are done."""
        bad: list[tuple[int, str]] = []
        path, place, items = self._pictures(number), 0, self.shards[number]
        with atomically(path) as temporary, self._writer(temporary) as writer, _side_by_side(threads) as submit:
            for batch in self._ahead(submit, items):
                good: list[Any] = []
                for found in batch:
                    if isinstance(found, PictureError):
                        bad.append((place, str(found)))
                    else:
                        good.append(found)
                    place += 1
                writer.write(good)
                progress(len(batch))
        content = {
            "rows": writer.rows,
            "bytes": path.stat().st_size,
            "pixels": [self.pixels.size, self.pixels.fit, self.pixels.interpolation],
            "encoded": self.pixels.encoded,
            "bad": bad,
        }
        write_json(self._path(number, ".json"), content)

    def _ahead(self, submit: Submit, items: Array) -> Iterator[list[Any]]:
        """The pictures of batches of ``items``; while one is decoded, the next is read."""
        waiting: list[Callable[[], Any]] = []
        for batch in batches(items, _BATCH):
            following = [submit(self._picture, *cell) for cell in self.cells(batch)]
            if waiting:
                yield [result() for result in waiting]
            waiting = following
        yield [result() for result in waiting]

    def _picture(self, cell: Any, base: str | None) -> Array | bytes | PictureError:
        try:
            content = read_picture(cell, base)
            return self.pixels.packed(content) if self.pixels.encoded else self.pixels.fitted(content)
        except PictureError as error:
            return error

    def _writer(self, path: Path) -> EncodedWriter | ArrayWriter:
        size = self.pixels.size
        return EncodedWriter(path) if self.pixels.encoded else ArrayWriter(path, (size, size, 3), np.uint8)

    def _pictures(self, number: int) -> Path:
        return self._path(number, ".arrow" if self.pixels.encoded else ".npy")

    def _path(self, number: int, ending: str) -> Path:
        return self.folder / f"{number:05d}{ending}"


@contextmanager
def _side_by_side(threads: int) -> Iterator[Submit]:
    """Calls in so many threads; one alone would only take turns with its caller, which then does without."""
    if threads == 1:
        yield lambda work, *arguments: partial(work, *arguments)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield lambda work, *arguments: pool.submit(work, *arguments).result


def write_pictures(
    folder: Path,
    items: Array,
    cells: Cells,
    name: Callable[[int], str],
    pixels: Pixels,
    report: DataReport,
    progress: Progress,
) -> Array:
    """Write ``images`` with a picture for each of ``items`` that has a readable one, but for the shards that are there
    already; returns those items.

    ``cells`` is sent to other processes if there is a cluster. ``name``: an item's row as its user would find it.

    Raises:
        DataError: as soon as too many cannot be read.
    """
    rows = max(_ROWS, -(-len(items) // _MOST_SHARDS))
    gallery = Gallery(folder / "images", items, rows, cells, pixels)
    kept, done = [], 0

    def more(count: int) -> None:
        nonlocal done
        done += count
        progress(done, len(items))

    for part, content in zip(gallery.shards, _in_order(gallery, more), strict=True):
        bad = dict(content["bad"])
        for place, reason in bad.items():
            report.add(name(int(part[place])), "picture", reason)
        report.check()
        kept.append(np.delete(part, list(bad)))
    return np.concatenate(kept)


def _in_order(gallery: Gallery, more: Callable[[int], None]) -> Iterator[dict[str, Any]]:
    """What each shard holds, as soon as it is written: here, or on all nodes."""
    sizes = [len(part) for part in gallery.shards]
    ready = {number for number in range(len(sizes)) if gallery.written(number) is not None}
    missing = [number for number in range(len(sizes)) if number not in ready]
    more(sum(sizes[number] for number in ready))
    if len(missing) > 1 and cluster.has_several_nodes():
        arriving = _write_there(gallery, missing, more)
    else:
        arriving = _write_here(gallery, missing, more)
    for number in range(len(sizes)):
        while number not in ready:
            ready.add(next(arriving))
        content = gallery.written(number)
        if content is None:
            raise FileNotFoundError(f"{gallery.folder}: shard {number} is gone; do all nodes share the cache folder?")
        yield content


def _write_here(gallery: Gallery, numbers: Sequence[int], more: Callable[[int], None]) -> Iterator[int]:
    for number in numbers:
        gallery.write(number, len(os.sched_getaffinity(0)), more)
        yield number


def _write_there(gallery: Gallery, numbers: Sequence[int], more: Callable[[int], None]) -> Iterator[int]:
    for written in cluster.write(gallery, numbers):
        more(len(gallery.shards[written.number]))
        yield written.number
