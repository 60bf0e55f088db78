"""Opens a data set as rows: of the hub, of a folder or of files, by the `datasets` library.

Rows are memory-mapped Arrow tables, which `datasets` makes once and keeps in the cache folder.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from trainables.artifacts import cache_root
from trainables.data.headers import READERS, check_columns
from trainables.data.prepared import Array
from trainables.data.report import DataError, hint

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

    def content(self, image: str) -> str:
        """What names the rows, and the files that a column of paths points to, by their sizes and times."""
        feature = self.table.features.get(image)
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
        alone = self._alone([name])
        for start in range(0, len(alone), _BATCH):
            yield alone[start : start + _BATCH][name]

    def take(self, names: Sequence[str], rows: Array) -> dict[str, list[Any]]:
        """The values of columns in some rows; pictures are left as they are stored."""
        alone = self._alone(names)
        if len(rows) and rows[-1] - rows[0] < 2 * len(rows) and (np.diff(rows) > 0).all():
            first = int(rows[0])  # a slice is read at once, single rows one by one
            part = alone[first : int(rows[-1]) + 1]
            return {name: [part[name][row - first] for row in rows.tolist()] for name in names}
        found: dict[str, list[Any]] = alone[rows.tolist()]
        return found

    def _alone(self, names: Sequence[str]) -> Dataset:
        """The columns without the others, which would be read too; made once, since that takes a while."""
        key = tuple(dict.fromkeys(names))
        if key not in self._selected:
            self._selected[key] = self.table.select_columns(list(key))
        return self._selected[key]


def open_rows(key: str, place: tuple[str, str | None, str], revision: str | None, columns: Mapping[str, str]) -> Rows:
    """The rows of a source, configuration and split that have ``columns``, given by the keys that name them.

    Raises:
        DataError: beginning with ``key``, if something of it is not there or cannot be read.
    """
    import datasets

    source, config, split = place
    datasets.disable_progress_bars()
    try:
        table = _load(source, config, split, revision)
    except (OSError, ValueError, KeyError, ImportError, datasets.exceptions.DatasetsError) as error:
        cause = error.__cause__ or error
        raise DataError(
            f"{key}: {source}, split {split}, cannot be opened: {' '.join(str(cause).split())[:400]}"
        ) from None
    check_columns(key, source, columns, table.column_names)
    pa.default_memory_pool().release_unused()  # what the conversion to Arrow took
    # The fingerprint is that of the data as it was loaded: `datasets` keeps it by the files' names, sizes and times, or
    # the hub's commit.
    fingerprint = str(table._fingerprint)
    for name, feature in table.features.items():
        if isinstance(feature, datasets.Image):
            table = table.cast_column(name, datasets.Image(decode=False))
    return Rows(table, fingerprint, None if revision else base_of(source))


def base_of(source: str) -> str:
    """The folder that paths in the data of ``source`` are relative to: of a glob, what comes before its wildcards."""
    if "://" not in source and Path(source).is_dir():
        return source
    if "://" in source and Path(source).suffix not in READERS:
        return source.rstrip("/")
    parent = source.rpartition("/")[0]
    while any(character in parent for character in "*?["):
        parent = parent.rpartition("/")[0]
    return parent


def _load(source: str, config: str | None, split: str, revision: str | None) -> Dataset:
    import datasets
    import fsspec

    cache = str(cache_root() / "datasets")
    if revision is not None:
        return datasets.load_dataset(source, config, split=split, revision=revision, cache_dir=cache)
    reader = READERS.get(Path(source).suffix)
    if reader is not None and not ("://" not in source and Path(source).is_dir()):
        module, options = reader
        if module != "webdataset":  # which has rows, not tables: they would be held until there are so many
            options = {**options, "writer_batch_size": _WRITTEN}
        return datasets.load_dataset(module, data_files={"train": source}, split=split, cache_dir=cache, **options)
    files, folder = fsspec.core.url_to_fs(source)
    if not files.isdir(folder):
        raise FileNotFoundError("there is no such folder or file")
    if files.exists(f"{folder}/dataset_dict.json"):
        found = datasets.load_from_disk(source)
        if split not in found:
            raise ValueError(f"no split '{split}': {hint(split, list(found))}")
        return found[split]
    if files.exists(f"{folder}/state.json"):
        table = datasets.load_from_disk(source)
        if split not in ("train", str(table.split)):
            raise ValueError(f"no split '{split}': it is one data set, which split: train means")
        return table
    return datasets.load_dataset(source, config, split=split, cache_dir=cache)


def identities(rows: Rows, column: str | None) -> tuple[Array, Array]:
    """The hash of each row's id, uint64 [rows], and whether it has one, bool [rows]; without a column rows are counted.

    A hash stays the same wherever and whenever it is computed; two ids share one with a chance of 2⁻⁶⁴.
    """
    hashes = np.empty(len(rows), np.uint64)
    known = np.ones(len(rows), np.bool_)
    place = 0
    batches = rows.column(column) if column else ([row] for row in range(len(rows)))
    for batch in batches:
        for value in batch:
            if value is None or value == "":
                known[place] = False
            if isinstance(value, float) and value.is_integer():
                value = int(value)  # of a column that lacks ids elsewhere
            hashes[place] = int.from_bytes(hashlib.blake2b(str(value).encode(), digest_size=8).digest(), "big")
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
