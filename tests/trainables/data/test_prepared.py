from __future__ import annotations

import errno
import resource
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from trainables.data.prepared import Array, ArrayFolder, ArrayWriter, Texts, TextWriter


@dataclass(frozen=True)
class Fields(ArrayFolder):
    numbers: Array
    transposed: Array
    empty: Array
    names: list[str]
    texts: list[list[str]]


FIELDS = Fields(
    np.arange(100_000, dtype=np.int32),
    np.arange(6.0).reshape(2, 3).T,
    np.zeros((0, 4), np.uint8),
    ["é", "中"],
    [["a", "", "\U0001f600"], ["عربي", "中", "b"]],
)


def test_fields_are_read_as_they_were_written(tmp_path: Path) -> None:
    FIELDS.save(tmp_path)
    read = Fields.load(tmp_path)
    assert isinstance(read.numbers, np.memmap)
    for name in ("numbers", "transposed", "empty"):
        written = getattr(FIELDS, name)
        np.testing.assert_array_equal(getattr(read, name), written, strict=True)
    assert read.names == FIELDS.names
    assert [list(column) for column in read.texts] == FIELDS.texts


def test_rows_that_are_written_as_they_come_are_read_as_one(tmp_path: Path) -> None:
    numbers = np.arange(1_234 * 6, dtype=np.int32).reshape(-1, 2, 3)
    words = [[f"{column} {row}" for row in range(len(numbers))] for column in "ab"]
    FIELDS.save(tmp_path)
    with ArrayWriter(tmp_path / "numbers.npy", (2, 3), np.int32) as rows, TextWriter(tmp_path, "texts", 2) as texts:
        for start in range(0, len(numbers), 100):
            rows.write(numbers[start : start + 100])
            texts.write([column[start : start + 100] for column in words])
        rows.write(numbers[:0])
        texts.write([[], []])
    read = Fields.load(tmp_path)
    np.testing.assert_array_equal(read.numbers, numbers, strict=True)
    assert isinstance(read.numbers, np.memmap)
    second = read.texts[1]
    assert isinstance(second, Texts)
    assert list(second) == words[1]
    assert (second[1_001], second[98:203], second[-1], len(second)) == ("b 1001", words[1][98:203], "b 1233", 1_234)


def test_an_array_that_cannot_be_written_to_its_end_is_an_error_with_a_number(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))  # a disk that has room for the beginning
    try:
        with pytest.raises(OSError) as raised:  # noqa: PT011  its number is looked at
            FIELDS.save(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert raised.value.errno == errno.EFBIG
