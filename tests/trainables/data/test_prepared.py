from __future__ import annotations

import errno
import resource
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from trainables.data.prepared import Array, ArrayFolder


@dataclass(frozen=True)
class Fields(ArrayFolder):
    numbers: Array
    transposed: Array
    empty: Array
    names: list[str]


FIELDS = Fields(
    np.arange(100_000, dtype=np.int32), np.arange(6.0).reshape(2, 3).T, np.zeros((0, 4), np.uint8), ["é", "中"]
)


def test_fields_are_read_as_they_were_written(tmp_path: Path) -> None:
    FIELDS.save(tmp_path)
    read = Fields.load(tmp_path)
    assert isinstance(read.numbers, np.memmap)
    for name in ("numbers", "transposed", "empty"):
        written = getattr(FIELDS, name)
        np.testing.assert_array_equal(getattr(read, name), written, strict=True)
    assert read.names == FIELDS.names


def test_an_array_that_cannot_be_written_to_its_end_is_an_error_with_a_number(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))  # a disk that has room for the beginning
    try:
        with pytest.raises(OSError) as raised:  # noqa: PT011  its number is looked at
            FIELDS.save(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert raised.value.errno == errno.EFBIG
