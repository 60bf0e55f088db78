"""Data as memory-mapped arrays on disk: what every stage after preparation reads.

A folder of arrays opens in milliseconds, and all workers on a node share one copy in the page cache.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trainables.data.images import Images, open_shards

Array = npt.NDArray[Any]
IDENTITIES = "identities.npy"  # beside the arrays of data whose items have ids: a hash of each id, uint64 [items]
_TEXTS = ".arrow"


class Texts(Sequence[str]):
    """Texts that stay on disk until they are looked at."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            part: list[str] = self._column[place].to_pylist()
            return part
        text: str = self._column[int(place)].as_py()
        return text

    def __iter__(self) -> Iterator[str]:
        for chunk in self._column.chunks:
            yield from chunk.to_pylist()


class TextWriter:
    """Writes the texts of a folder's field a batch at a time, as columns of equal length; closed by a ``with`` block."""

    def __init__(self, folder: Path, field: str, columns: int) -> None:
        self._schema = pa.schema([(str(column), pa.large_string()) for column in range(columns)])
        self._file = open(folder / f"{field}{_TEXTS}", "wb")  # noqa: SIM115  closed below
        self._writer = pa.ipc.new_file(self._file, self._schema)

    def __enter__(self) -> Self:
        return self

    def write(self, columns: Sequence[Sequence[str]]) -> None:
        arrays = [pa.array(column, pa.large_string()) for column in columns]
        self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))

    def __exit__(self, *_error: object) -> None:
        self._writer.close()
        self._file.close()


class ArrayWriter:
    """Writes an array to a file a few rows at a time, however many they become; for a ``with`` block."""

    def __init__(self, path: Path, shape: Sequence[int], kind: type[np.generic]) -> None:
        """``shape``: of one row."""
        self._shape, self._kind, self.rows = tuple(shape), np.dtype(kind), 0
        self._file = open(path, "wb")  # noqa: SIM115  closed below
        self._write_header()

    def __enter__(self) -> Self:
        return self

    def write(self, rows: Array | Sequence[Array]) -> None:
        for part in [rows] if isinstance(rows, np.ndarray) else rows:
            self._file.write(np.ascontiguousarray(part, self._kind).data)
        self.rows += len(rows)

    def __exit__(self, *_error: object) -> None:
        self._file.seek(0)
        self._write_header()  # numpy pads it, so that the first number may grow
        self._file.close()

    def _write_header(self) -> None:
        header = {"descr": self._kind.str, "fortran_order": False, "shape": (self.rows, *self._shape)}
        np.lib.format.write_array_header_1_0(self._file, header)


class ArrayFolder:
    """Dataclass of arrays and JSON-able metadata, one file a field; pictures that were written in shards are a folder."""

    def save(self, folder: Path) -> None:
        """Write a file for each field, but for an array that is mapped from its file in this very folder.

        Raises:
            OSError: with its number, if a file cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, np.memmap) and str(value.filename) == str((folder / f"{field.name}.npy").resolve()):
                value.flush()
            elif isinstance(value, np.ndarray):
                save_array(folder / f"{field.name}.npy", value)
            elif field.name == "texts":
                with TextWriter(folder, field.name, len(value)) as writer:
                    writer.write(value)
            else:
                (folder / f"{field.name}.json").write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Open the folder; arrays stay on disk until they are touched.

        Raises:
            FileNotFoundError: if a field's file is missing.
        """
        values: dict[str, Any] = {}
        for field in fields(cls):  # type: ignore[arg-type]
            array, texts = folder / f"{field.name}.npy", folder / f"{field.name}{_TEXTS}"
            if (folder / field.name).is_dir():
                values[field.name] = open_shards(folder / field.name)
            elif array.exists():
                values[field.name] = np.load(array, mmap_mode="r", allow_pickle=False)
            elif texts.exists():
                values[field.name] = [
                    Texts(column) for column in pa.ipc.open_file(pa.memory_map(str(texts))).read_all().columns
                ]
            else:
                values[field.name] = json.loads((folder / f"{field.name}.json").read_text(encoding="utf-8"))
        return cls(**values)


def save_array(path: Path, array: Array) -> None:
    """As `np.save` does, whose error says no number when the disk is full."""
    whole = np.ascontiguousarray(array)
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(whole))
        file.write(whole.data)


@dataclass(frozen=True)
class CaptionedImages(ArrayFolder):
    """Images and their captions in several languages, for training and for retrieval.

    An image and a text are relevant to each other if they show the same item. N images, M texts a language.
    """

    languages: Sequence[str]  # [L]
    images: Images  # uint8 [N, H, W, 3]
    image_item: Array  # int64 [N]
    tokens: Array  # int32 [L, M, T]
    present: Array  # bool [L, M]: whether the language has this caption
    text_item: Array  # int64 [M]
    texts: Sequence[Sequence[str]]  # [L][M], "" where not present


@dataclass(frozen=True)
class VisualQuestions(ArrayFolder):
    """Multiple-choice questions on images. Languages may ask the same items, others, or partly the same.

    N items, at most C options each in each of L languages, M option texts in all.
    """

    languages: Sequence[str]  # [L]
    images: Images  # uint8 [N, H, W, 3]
    tokens: Array  # int32 [M, T]
    options: Array  # int32 [L, N, C]: rows of tokens; -1 where there are fewer options, or the language lacks the item
    answer: Array  # int64 [N]: the right option's position in options, the same in every language
    texts: Sequence[Sequence[str]]  # [1][M]

    @property
    def asked(self) -> Array:
        """Whether a language asks an item, bool [L, N]."""
        return np.asarray(self.options[:, :, 0]) >= 0

    @property
    def chance(self) -> float:
        """The accuracy of guessing, from the real number of options: as accuracy is, a mean over items, then languages."""
        return float(np.mean([np.mean(1.0 / (row[row[:, 0] >= 0] >= 0).sum(axis=1)) for row in self.options]))
