"""What can be known of the user's data before any of it is read: its files, splits and columns."""

from __future__ import annotations

import csv
import glob
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainables.data.report import DataError, hint
from trainables.data.settings import OwnData, PerLanguageCaptions

# By the ending of a file: the `datasets` module that reads it, and its options.
READERS: Mapping[str, tuple[str, dict[str, Any]]] = {
    ".parquet": ("parquet", {}),
    ".arrow": ("arrow", {}),
    ".json": ("json", {}),
    ".jsonl": ("json", {}),
    ".csv": ("csv", {}),
    ".tsv": ("csv", {"sep": "\t"}),
    ".tar": ("webdataset", {}),
}
_LINES = 10 << 20  # characters
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def check_source(key: str, source: OwnData, languages: tuple[str, ...]) -> None:
    """Hold what a configuration says of data in local files against the files.

    Raises:
        DataError: beginning with ``key``, if a file, split or column is not there.
    """
    if source.revision is not None:
        return  # of the hub: known once it is downloaded
    known = []
    for place in dict.fromkeys(source.places(languages).values()):
        columns = _columns(key, *place)
        if columns is not None:
            check_columns(key, place[0], source.needed(languages), columns)
        known.append(columns)
    if isinstance(source, PerLanguageCaptions):
        check_image(key, source.image, known)


def check_columns(key: str, source: str, needed: Mapping[str, str], columns: list[str]) -> None:
    """Raises:
    DataError: naming the setting whose column is not among ``columns``.
    """
    for setting, column in needed.items():
        if column not in columns:
            raise DataError(f"{key}.{setting}: {source} has no column '{column}': {hint(column, columns)}")


def check_image(key: str, image: str, known: list[list[str] | None]) -> None:
    """Raises:
    DataError: if no language's data has the column of pictures; None stands for columns that are not known.
    """
    if None not in known and not any(image in columns for columns in known if columns):
        every = list(dict.fromkeys(column for columns in known if columns for column in columns))
        raise DataError(f"{key}.image: no language has a column '{image}': {hint(image, every)}")


def _columns(key: str, source: str, config: str | None, split: str) -> list[str] | None:
    """The columns of local data, None where only reading it tells.

    Raises:
        DataError: if it is not there.
    """
    if "://" in source:
        return None
    path = Path(source)
    if path.is_dir():
        try:
            return _of_folder(key, path, split)
        except (OSError, KeyError, json.JSONDecodeError) as error:
            raise DataError(f"{key}.source: {path} is a damaged folder of save_to_disk: {error}") from None
    files = sorted(glob.glob(source, recursive=True)) if any(mark in source for mark in "*?[") else [source]
    if not files:
        raise DataError(f"{key}.source: no file matches {source}")
    if not Path(files[0]).is_file():
        raise DataError(f"{key}.source: {_not_there(Path(files[0]))}")
    if path.suffix not in READERS:
        raise DataError(f"{key}.source: {source} should end in {', '.join(READERS)}, or be a folder")
    if split.partition("[")[0] != "train":
        raise DataError(f"{key}.split: '{split}': files have no splits, which split: train means")
    try:
        return _of_file(Path(files[0]))
    except (OSError, ValueError) as error:  # pyarrow's errors and JSON's are ValueErrors
        raise DataError(f"{key}.source: {files[0]} cannot be read: {' '.join(str(error).split())[:200]}") from None


def _not_there(path: Path) -> str:
    last = "/".join(path.parts[-2:])
    if not path.parent.is_dir():
        message = f"there is no folder {path.parent}"
    else:
        message = (
            f"{path.parent} has no '{path.name}': {hint(path.name, sorted(p.name for p in path.parent.iterdir())[:30])}"
        )
    could_be_hub = _HUB_ID.fullmatch(last) and path.suffix not in READERS
    return message + (f"; if {last} is a hub data set, it needs its revision" if could_be_hub else "")


def _of_folder(key: str, folder: Path, split: str) -> list[str] | None:
    if (folder / "dataset_dict.json").exists():
        splits: list[str] = json.loads((folder / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
        if split not in splits:
            raise DataError(f"{key}.split: {folder} has no split '{split}': {hint(split, splits)}")
        folder = folder / split
    elif not (folder / "state.json").exists():
        return None
    info = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))
    return list(info["features"])


def _of_file(path: Path) -> list[str] | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix == ".parquet":
        return list(pq.read_schema(path).names)
    if path.suffix == ".arrow":
        with pa.memory_map(str(path)) as file:
            try:
                return list(pa.ipc.open_stream(file).schema.names)
            except pa.ArrowInvalid:
                return list(pa.ipc.open_file(file).schema.names)
    if path.suffix in (".csv", ".tsv"):
        with open(path, encoding="utf-8-sig", newline="") as text:
            return next(csv.reader(text, delimiter="\t" if path.suffix == ".tsv" else ","), [])
    if path.suffix in (".json", ".jsonl"):
        return _keys_of_lines(path)
    return None


def _keys_of_lines(path: Path) -> list[str] | None:
    """The keys in as much of a file of JSON lines as `datasets` looks at for its columns; None of other JSON."""
    keys: dict[str, None] = {}
    with open(path, encoding="utf-8") as text:
        for line in text.readlines(_LINES):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                return None  # an object over several lines, or none: reading it will tell
            if not isinstance(row, dict):
                return None
            keys |= dict.fromkeys(row)
    return list(keys)
