"""Pictures on disk in shards, read as one array: decoded ones memory-mapped, encoded ones decoded when they are looked at.

A shard is a file of pictures, ``00000.npy`` or ``00000.arrow``, and ``00000.json``, which says what it holds; it is
written last, so that a shard without it is none.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import pyarrow as pa

from trainables.data.pictures import Pixels

if TYPE_CHECKING:
    from trainables.data.prepared import Array

_SCHEMA = pa.schema([("picture", pa.large_binary())])
_threads = 1


class Images(Protocol):
    """What the pictures of prepared data are to those who read them: an array, or something that is read like one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, 3)."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any:
        """uint8 [..., H, W, 3] of a row, a slice, an array of rows, or a mask bool [N]."""


def decode_in(threads: int) -> None:
    """Let this process decode pictures in so many threads."""
    global _threads
    _threads = max(1, threads)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="decode")


class _Shards(ABC):
    """Rows of several parts as rows of one array."""

    def __init__(self, lengths: Sequence[int], shape: tuple[int, ...]) -> None:
        """``shape``: of one picture."""
        self._ends = np.cumsum(lengths)
        self.shape = (int(self._ends[-1]), *shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Array:
        count = len(self)
        wanted = np.arange(*rows.indices(count)) if isinstance(rows, slice) else np.asarray(rows)
        if wanted.dtype == np.bool_:
            if wanted.shape != (count,):
                raise IndexError(f"a mask of {wanted.shape} for {count} pictures")
            wanted = np.flatnonzero(wanted)
        if wanted.size and not (-count <= wanted.min() and wanted.max() < count):
            raise IndexError(f"rows {wanted.min()} to {wanted.max()} of {count} pictures")
        flat = wanted.ravel().astype(np.int64)
        flat = np.where(flat < 0, flat + count, flat)
        part = np.searchsorted(self._ends, flat, side="right")
        start = np.concatenate([[0], self._ends])[part]
        found = np.empty((len(flat), *self.shape[1:]), np.uint8)
        self._read(part, flat - start, found)
        return found.reshape(*wanted.shape, *self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(self[:], dtype)

    @abstractmethod
    def _read(self, part: Array, row: Array, into: Array) -> None:
        """Fill ``into`` with the pictures in these rows of these parts."""


class JoinedImages(_Shards):
    """Arrays, or what is read like one, as one: shards of decoded pictures, or the parts of a mixture."""

    def __init__(self, parts: Sequence[Images]) -> None:
        """``parts``: pictures of one size."""
        self.sizes = tuple(len(part) for part in parts)
        super().__init__(self.sizes, parts[0].shape[1:])
        self._parts = parts

    def _read(self, part: Array, row: Array, into: Array) -> None:
        for number in np.unique(part):
            places = np.flatnonzero(part == number)
            into[places] = self._parts[number][row[places]]


class EncodedShards(_Shards):
    """Memory-mapped columns of encoded pictures; those that are looked at are decoded, in `decode_in` threads."""

    def __init__(self, parts: Sequence[pa.ChunkedArray], pixels: Pixels) -> None:
        super().__init__([len(part) for part in parts], (pixels.size, pixels.size, 3))
        self._parts, self._pixels = parts, pixels

    def _read(self, part: Array, row: Array, into: Array) -> None:
        def decode(place: int) -> None:
            into[place] = self._pixels.fitted(self._parts[part[place]][int(row[place])].as_py())

        places = range(len(row))
        for _ in map(decode, places) if _threads == 1 else _pool(_threads).map(decode, places):
            pass


class EncodedWriter:
    """Writes encoded pictures to a file that `open_shards` reads; for a ``with`` block."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "wb")  # noqa: SIM115  closed below
        self._writer = pa.ipc.new_file(self._file, _SCHEMA)
        self.rows = 0

    def __enter__(self) -> Self:
        return self

    def write(self, pictures: Sequence[bytes]) -> None:
        self._writer.write_batch(pa.record_batch([pa.array(pictures, pa.large_binary())], schema=_SCHEMA))
        self.rows += len(pictures)

    def __exit__(self, *_error: object) -> None:
        self._writer.close()
        self._file.close()


def open_shards(folder: Path) -> Images:
    """All shards in a folder as one; nothing is read until it is looked at.

    Raises:
        FileNotFoundError: if there are none, or one of them is gone.
    """
    shards = sorted(folder.glob("*.json"))
    if not shards:
        raise FileNotFoundError(f"{folder} holds no shard of pictures")
    form = json.loads(shards[0].read_text(encoding="utf-8"))
    size, fit, interpolation = form["pixels"]
    pixels = Pixels(size, fit, interpolation, encoded=form["encoded"])
    if pixels.encoded:
        columns = [
            pa.ipc.open_file(pa.memory_map(str(path.with_suffix(".arrow")))).read_all().column(0) for path in shards
        ]
        return EncodedShards(columns, pixels)
    arrays = [np.load(path.with_suffix(".npy"), mmap_mode="r", allow_pickle=False) for path in shards]
    return arrays[0] if len(arrays) == 1 else JoinedImages(arrays)
