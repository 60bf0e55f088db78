"""Opens a data set as rows: of the hub, of a folder or of files, by the `datasets` library.

Rows are memory-mapped Arrow tables, which `datasets` makes once and keeps in the cache folder.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from glob import glob
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from trainables.artifacts import cache_root
from trainables.data.headers import READERS, check_columns, columns_of, ending, head_of_table
from trainables.data.prepared import Array
from trainables.data.remote import METADATA, SAVED, before_wildcards, is_offline, reaching, snapshot, stamp, url_files
from trainables.data.report import hint

if TYPE_CHECKING:
    from datasets import Dataset

_BATCH = 4096  # rows of text read at once
# Rows that `datasets` writes at once of what it reads from tables. Of pictures it would be a hundred, and each such part stays
# in memory as a few objects a column: 80 MB for a million rows.
_WRITTEN = 1000


@dataclass(frozen=True)
class Rows:
    """An opened data set."""

    table: Dataset
    fingerprint: str  # of its content
    base: str | None  # the folder or URL that paths of pictures are relative to; None for hub data
    _selected: dict[tuple[str, ...], Dataset] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def columns(self) -> list[str]:
        """The names of its columns, those within structs too."""
        return columns_of(self.table.features.arrow_schema)

    def content(self, image: str) -> str:
        """What names the rows, and the files that a column of paths points to, by their sizes and times.

        Pictures at URLs are taken to stay what they are: to ask for each whether it has changed would take hours.
        """
        column, *within = self._path(image)
        feature = self.table.features.get(column)
        for name in within:
            feature = feature[name]
        if self.base is None or "://" in self.base or getattr(feature, "dtype", "") not in ("string", "large_string"):
            return self.fingerprint
        digest = hashlib.sha256(self.fingerprint.encode())
        for paths in self.column(image):
            for path in paths:
                with suppress(OSError, TypeError, ValueError):  # it will be reported when it is opened
                    found = os.stat(os.path.join(self.base, path))
                    digest.update(f"{path} {found.st_size} {found.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def column(self, name: str) -> Iterator[list[Any]]:
        """The values of one column, in batches."""
        column, *within = self._path(name)
        alone = self._alone([column])
        for start in range(0, len(alone), _BATCH):
            yield _within(alone[start : start + _BATCH][column], within)

    def take(self, names: Sequence[str], rows: Array) -> dict[str, list[Any]]:
        """The values of columns in some rows; pictures are left as they are stored."""
        paths = {name: self._path(name) for name in names}
        alone = self._alone([column for column, *_ in paths.values()])
        if len(rows) and rows[-1] - rows[0] < 2 * len(rows) and (np.diff(rows) > 0).all():
            first = int(rows[0])  # a slice is read at once, single rows one by one
            part = alone[first : int(rows[-1]) + 1]
            found = {column: [cells[row - first] for row in rows.tolist()] for column, cells in part.items()}
        else:
            found = alone[rows.tolist()]
        return {name: _within(found[column], within) for name, (column, *within) in paths.items()}

    def _path(self, name: str) -> list[str]:
        """A column of the table and the names within its structs that a dotted name stands for."""
        parts = name.split(".")
        for count in range(len(parts), 0, -1):
            column = ".".join(parts[:count])
            if column in self.table.features:
                return [column, *parts[count:]]
        return [name]

    def _alone(self, names: Sequence[str]) -> Dataset:
        """The columns without the others, which would be read too; made once, since that takes a while."""
        key = tuple(dict.fromkeys(names))
        if key not in self._selected:
            self._selected[key] = self.table.select_columns(list(key))
        return self._selected[key]


def _within(cells: list[Any], names: Sequence[str]) -> list[Any]:
    """What is inside of structs; None of a struct that is not there."""
    for name in names:
        cells = [None if cell is None else cell.get(name) for cell in cells]
    return cells


def open_rows(key: str, place: tuple[str, str | None, str], revision: str | None, columns: Mapping[str, str]) -> Rows:
    """The rows of a source, configuration and split that have ``columns``, given by the keys that name them.

    Raises:
        DataError: beginning with ``key``, if something of it is not there or cannot be read.
    """
    import datasets

    source, config, split = place
    datasets.disable_progress_bars()
    with reaching(key, f"{source}, split {split},"):
        version = stamp(source) if "://" in source and revision is None else revision or ""
        table = _load(source, config, split, revision, str(cache_root() / "datasets" / version))
    check_columns(key, source, columns, columns_of(table.features.arrow_schema))
    pa.default_memory_pool().release_unused()  # what the conversion to Arrow took
    # The fingerprint is that of the data as it was loaded: `datasets` keeps it by the files' names, sizes and times, or
    # the hub's commit. Of a file of a plain web server it knows the name alone.
    fingerprint = f"{table._fingerprint}{version}"
    for name, feature in table.features.items():
        if isinstance(feature, datasets.Image):
            table = table.cast_column(name, datasets.Image(decode=False))
    return Rows(table, fingerprint, None if revision else base_of(source))


def base_of(source: str) -> str:
    """The folder that paths in the data of ``source`` are relative to: of a glob, what comes before its wildcards."""
    if "://" not in source and Path(source).is_dir():
        return source
    if "://" in source and ending(source) not in READERS:
        return source.rstrip("/")
    return before_wildcards(source) or source.rpartition("/")[0]


def _load(source: str, config: str | None, split: str, revision: str | None, cache: str) -> Dataset:
    import datasets

    if revision is not None:
        if is_offline():
            return datasets.load_dataset(snapshot(source, revision), config, split=split, cache_dir=cache)
        return datasets.load_dataset(source, config, split=split, revision=revision, cache_dir=cache)
    is_remote = "://" in source
    if ending(source) in READERS and (is_remote or not Path(source).is_dir()):
        return _of_files(source, split, cache)
    if is_remote:
        (described,) = url_files(source)
        if PurePosixPath(described).name in METADATA:  # `datasets` would look for its pictures beside its own copy
            table = _of_files(described, split, cache)
            return table.rename_column("file_name", "image") if "file_name" in table.column_names else table
        return _saved(source, PurePosixPath(described).name, split)
    for name in SAVED:
        if Path(source, name).exists():
            return _saved(source, name, split)
    if not Path(source).is_dir():
        raise FileNotFoundError("there is no such folder or file")
    return datasets.load_dataset(source, config, split=split, cache_dir=cache)


def _of_files(source: str, split: str, cache: str) -> Dataset:
    """Of a file or a pattern of several."""
    import datasets

    module, options = READERS[ending(source)]
    if module == "csv":  # cells as they are written: 007 is no number
        first = url_files(source)[0] if "://" in source else sorted(glob(source, recursive=True) or [source])[0]
        names = [name for name in head_of_table(first) if name]
        options = {**options, "features": datasets.Features(dict.fromkeys(names, datasets.Value("string")))}
    if module != "webdataset":  # which has rows, not tables: they would be held until there are so many
        options = {**options, "writer_batch_size": _WRITTEN}
    return datasets.load_dataset(module, data_files={"train": source}, split=split, cache_dir=cache, **options)


def _saved(folder: str, by: str, split: str) -> Dataset:
    """Of a folder of `save_to_disk`, which has the file ``by``: the splits of `SAVED`, or one data set."""
    import datasets

    found = datasets.load_from_disk(folder)
    if by == SAVED[0]:
        if split not in found:
            raise ValueError(f"no split '{split}': {hint(split, list(found))}")
        return found[split]
    if split not in ("train", str(found.split)):
        raise ValueError(f"no split '{split}': it is one data set, which split: train means")
    return found


def identities(rows: Rows, column: str | None, seed: int = 0) -> tuple[Array, Array]:
    """The hash of each row's id, uint64 [rows], and whether it has one, bool [rows]; without a column rows are counted.

    An id is its text: 7 and '7' are one, as different files may have it. A hash stays the same wherever and whenever it is computed; two ids share one with a chance of 2⁻⁶⁴.
    """
    hashes = np.empty(len(rows), np.uint64)
    known = np.ones(len(rows), np.bool_)
    salt = seed.to_bytes(8, "big")
    place = 0
    batches = rows.column(column) if column else ([row] for row in range(len(rows)))
    for batch in batches:
        for value in batch:
            if value is None or value == "":
                known[place] = False
            if isinstance(value, float) and value.is_integer():
                value = int(value)  # of a column that lacks ids elsewhere
            hashes[place] = int.from_bytes(
                hashlib.blake2b(str(value).encode(), digest_size=8, salt=salt).digest(), "big"
            )
            place += 1
    return hashes, known


def first_of_each(hashes: Array) -> Array:
    """Whether a hash is the first of its kind, bool."""
    order = np.argsort(hashes, kind="stable")
    of_order = np.ones(len(hashes), np.bool_)
    for start in range(1, len(hashes), _BATCH):
        rows = hashes[order[start - 1 : start + _BATCH]]
        of_order[start : start + _BATCH] = rows[1:] != rows[:-1]
    found = np.empty_like(of_order)
    found[order] = of_order
    return found


def in_share(hashes: Array, share: tuple[float, float]) -> Array:
    """Which ids belong to a part of all items, bool."""
    place = hashes.astype(np.float64)
    place /= 2.0**64
    # A hash may round up to 1, which is no number below it.
    return (place >= share[0]) & ((place < share[1]) | (share[1] >= 1.0))
