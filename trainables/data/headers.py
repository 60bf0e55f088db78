"""What can be known of the user's data before any of it is read: its files, splits and columns, here or at a URL.

A column within a column of structs has a dotted name, such as ``captions.en`` or, of the JSON files of WebDataset shards,
``json.caption``.
"""

from __future__ import annotations

import csv
import glob
import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from trainables.data.remote import is_offline, opened, reaching, snapshot, url_files
from trainables.data.report import DataError, hint
from trainables.data.settings import OwnData, PerLanguageCaptions

if TYPE_CHECKING:
    import pyarrow as pa

_CELLS = {"keep_default_na": False, "na_values": [""]}  # of tables: NA, None and null are words, an empty cell is none
# By the ending of a file: the `datasets` module that reads it, and its options.
READERS: Mapping[str, tuple[str, dict[str, Any]]] = {
    ".parquet": ("parquet", {}),
    ".arrow": ("arrow", {}),
    ".json": ("json", {}),
    ".jsonl": ("json", {}),
    ".csv": ("csv", _CELLS),
    ".tsv": ("csv", {**_CELLS, "sep": "\t"}),
    ".tar": ("webdataset", {}),
}
_PACKED = (".gz", ".bz2", ".xz")  # of texts
_TEXTS = (".json", ".jsonl", ".csv", ".tsv")
_LINES = 10 << 20  # characters
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def ending(source: str) -> str:
    """What a file's name says of its form: its ending, or that of the text that is packed in it."""
    path = PurePosixPath(source)
    inner = PurePosixPath(path.stem).suffix
    return inner if path.suffix in _PACKED and inner in _TEXTS else path.suffix


def check_source(key: str, source: OwnData, languages: tuple[str, ...]) -> None:
    """Hold what a configuration says of data against its files.

    Raises:
        DataError: beginning with ``key``, if a file, split or column is not there.
    """
    if source.revision is not None:
        if is_offline():
            with reaching(f"{key}.source", source.source):
                snapshot(source.source, source.revision)
        return  # its columns are known once it is downloaded
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
        with reaching(f"{key}.source", source):
            found = url_files(source)
            try:
                return _of_file(found[0]) if ending(source) in READERS else None
            except ValueError:
                if not source.startswith("http"):
                    raise
                return None  # of a server that has files from their beginning only: reading it will tell
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
    if ending(source) not in READERS:
        raise DataError(f"{key}.source: {source} should end in {', '.join(READERS)}, or be a folder")
    if split.partition("[")[0] != "train":
        raise DataError(f"{key}.split: '{split}': files have no splits, which split: train means")
    try:
        return _of_file(files[0])
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
    could_be_hub = _HUB_ID.fullmatch(last) and ending(path.name) not in READERS
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
    return _dotted(_features(info["features"]))


def columns_of(schema: pa.Schema) -> list[str]:
    """The names of all columns of a table, those within structs too."""
    return _dotted(_fields(schema))


def head_of_table(path: str) -> list[str]:
    """The names in the first line of a CSV or TSV file."""
    with opened(path, "rt", encoding="utf-8-sig", newline="") as text:
        return next(csv.reader(text, delimiter="\t" if ending(path) == ".tsv" else ","), [])


def _of_file(path: str) -> list[str] | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = ending(path)
    if kind == ".parquet":
        with opened(path, "rb") as file:
            return columns_of(pq.read_schema(file))
    if kind == ".arrow":
        with opened(path, "rb") as file:
            try:
                return columns_of(pa.ipc.open_stream(file).schema)
            except pa.ArrowInvalid:
                file.seek(0)
                return columns_of(pa.ipc.open_file(file).schema)
    if kind in (".csv", ".tsv"):
        return head_of_table(path)
    if kind in (".json", ".jsonl"):
        return _keys_of_lines(path)
    return None


# The columns of a table as a tree: the names within a struct by its name, None for what is no struct.
_Tree = dict[str, Any]
_PICTURE = {"bytes", "path"}  # of structs that are one picture


def _dotted(tree: Mapping[str, Any], before: str = "") -> list[str]:
    found = []
    for name, within in tree.items():
        found.append(before + name)
        if within and set(within) != _PICTURE:
            found += _dotted(within, f"{before}{name}.")
    return found


def _fields(fields: Any) -> _Tree:
    import pyarrow as pa

    return {field.name: _fields(field.type) if pa.types.is_struct(field.type) else None for field in fields}


def _features(features: Mapping[str, Any]) -> _Tree:
    """Of features as `datasets` writes them."""
    return {name: None if "_type" in feature else _features(feature) for name, feature in features.items()}


def _merge(tree: _Tree, row: Mapping[str, Any]) -> None:
    for name, value in row.items():
        known = tree.setdefault(name, None)
        if isinstance(value, dict):
            tree[name] = known = known or {}
            _merge(known, value)


def _keys_of_lines(path: str) -> list[str] | None:
    """The keys in as much of a file of JSON lines as `datasets` looks at for its columns; None of other JSON."""
    keys: _Tree = {}
    with opened(path, "rt", encoding="utf-8-sig") as text:
        for line in text.readlines(_LINES):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                return None  # an object over several lines, or none: reading it will tell
            if not isinstance(row, dict):
                return None
            _merge(keys, row)
    return _dotted(keys)
