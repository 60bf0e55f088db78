"""Data as memory-mapped arrays on disk: what every stage after preparation reads.

A folder of arrays opens in milliseconds, and all workers on a node share one copy in the page cache.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class ArrayFolder:
    """Dataclass of arrays and JSON-able metadata, one file a field."""

    def save(self, folder: Path) -> None:
        """Write a file for each field.

        Raises:
            OSError: with its number, if a file cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                _save_array(folder / f"{field.name}.npy", value)
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
            array = folder / f"{field.name}.npy"
            if array.exists():
                values[field.name] = np.load(array, mmap_mode="r", allow_pickle=False)
            else:
                values[field.name] = json.loads((folder / f"{field.name}.json").read_text(encoding="utf-8"))
        return cls(**values)


def _save_array(path: Path, array: Array) -> None:
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
    images: Array  # uint8 [N, H, W, 3]
    image_item: Array  # int64 [N]
    tokens: Array  # int32 [L, M, T]
    present: Array  # bool [L, M]: whether the language has this caption
    text_item: Array  # int64 [M]
    texts: Sequence[Sequence[str]]  # [L][M], "" where not present


@dataclass(frozen=True)
class VisualQuestions(ArrayFolder):
    """Multiple-choice questions on images; the same items in every language, so that languages are paired.

    N items, at most C options each, M distinct option texts a language.
    """

    languages: Sequence[str]  # [L]
    images: Array  # uint8 [N, H, W, 3]
    tokens: Array  # int32 [L, M, T]
    options: Array  # int32 [N, C]: rows of tokens[l]; -1 where an item has fewer options
    answer: Array  # int64 [N]: the right option's position in options
    kind: Array  # int8 [N]: index into kinds
    kinds: Sequence[str]
    texts: Sequence[Sequence[str]]  # [L][M]

    @property
    def chance(self) -> float:
        """The accuracy of guessing, from the real number of options of each item."""
        return float(np.mean(1.0 / (np.asarray(self.options) >= 0).sum(axis=1)))
