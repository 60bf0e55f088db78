"""The forms that captions of the user's own come in, and how they are prepared."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, Features, Image, List, Value

from tests.own_data import Item, save_per_language, save_wide
from trainables.data.captions import prepare_captions
from trainables.data.headers import check_source
from trainables.data.pictures import Pixels
from trainables.data.prepared import CaptionedImages
from trainables.data.settings import PerLanguageCaptions, WideCaptions
from trainables.models.tokenizer import Tokenizer

LANGUAGES = ("en", "ja", "ar")
SIZE = 24
COUNT = 20


def wide(source: Path | str, **settings: Any) -> WideCaptions:
    return WideCaptions.model_validate(
        {"source": str(source), "layout": "wide", "columns": "caption_{language}", **settings}
    )


def prepared(
    source: WideCaptions | PerLanguageCaptions, tokenizer: Tokenizer, control: str | None = "en"
) -> tuple[CaptionedImages, dict[str, Any]]:
    check_source("data.train", source, LANGUAGES)
    folder = prepare_captions("data.train", source, LANGUAGES, control, Pixels(SIZE), tokenizer, lambda *_: None)
    return CaptionedImages.load(folder), json.loads((folder / "data_report.json").read_text(encoding="utf-8"))


def write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


# The forms that data comes in: each puts `chosen` into a folder and says how a configuration names it.


def parquet(folder: Path, chosen: list[Item]) -> WideCaptions:
    return wide(save_wide(folder / "rows.parquet", chosen), id="id")


def parts(folder: Path, chosen: list[Item]) -> WideCaptions:
    save_wide(folder / "rows-0.parquet", chosen[:7])
    save_wide(folder / "rows-1.parquet", chosen[7:])
    return wide(folder / "rows-*.parquet")


def at_a_url(folder: Path, chosen: list[Item]) -> WideCaptions:
    return wide(f"file://{save_wide(folder / 'rows.parquet', chosen)}")


def pictures_with_metadata(folder: Path, chosen: list[Item]) -> WideCaptions:
    rows = [
        {"file_name": f"{item.id}.png", **{f"caption_{code}": name for code, name in item.names.items()}}
        for item in chosen
    ]
    for item in chosen:
        (folder / f"{item.id}.png").write_bytes(item.picture)
    write_lines(folder / "metadata.jsonl", rows)
    return wide(folder)


def pictures_in_subfolders(folder: Path, chosen: list[Item]) -> WideCaptions:
    rows = []
    for place, item in enumerate(chosen):
        path = folder / "pictures" / f"{place % 3}" / f"{item.id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(item.picture)
        rows.append({"file_name": str(path.relative_to(folder)), **item.names})
    Dataset.from_list(rows).to_parquet(str(folder / "metadata.parquet"))
    return wide(folder, columns="{language}")


def table_of_paths(folder: Path, chosen: list[Item], name: str = "rows.csv", delimiter: str = ",") -> WideCaptions:
    """As a spreadsheet saves one: with a byte order mark, and cells of several lines in quotation marks."""
    (folder / "pictures").mkdir()
    with open(folder / name, "w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["picture", *LANGUAGES, 'the "note"'])
        for item in chosen:
            (folder / "pictures" / f"{item.id}.png").write_bytes(item.picture)
            names = [caption.replace(" ", "\n") for caption in item.names.values()]
            writer.writerow([f"pictures/{item.id}.png", *names, f'"{delimiter}'])
    return wide(folder / name, image="picture", columns={code: code for code in LANGUAGES})


def table_of_tabs(folder: Path, chosen: list[Item]) -> WideCaptions:
    return table_of_paths(folder, chosen, "rows.tsv", "\t")


def _structs(folder: Path, chosen: list[Item]) -> list[dict[str, Any]]:
    for item in chosen:
        (folder / f"{item.id}.png").write_bytes(item.picture)
    return [{"file": {"name": f"{item.id}.png"}, "captions": {"of": {**item.names, "xx": 3}}} for item in chosen]


def packed_lines_of_structs(folder: Path, chosen: list[Item]) -> WideCaptions:
    lines = "".join(json.dumps(row) + "\n" for row in _structs(folder, chosen))
    (folder / "rows.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    return wide(folder / "rows.jsonl.gz", image="file.name", columns="captions.of.{language}")


def array_of_objects(folder: Path, chosen: list[Item]) -> WideCaptions:
    (folder / "rows.json").write_text(json.dumps(_structs(folder, chosen), indent=1), encoding="utf-8")
    return wide(folder / "rows.json", image="file.name", columns="captions.of.{language}")


def parquet_of_structs(folder: Path, chosen: list[Item]) -> WideCaptions:
    Dataset.from_list(_structs(folder, chosen)).to_parquet(str(folder / "rows.parquet"))
    return wide(folder / "rows.parquet", image="file.name", columns="captions.of.{language}")


def bytes_alone(folder: Path, chosen: list[Item]) -> WideCaptions:
    rows = [
        {"image": item.picture, **{f"caption_{code}": name for code, name in item.names.items()}} for item in chosen
    ]
    Dataset.from_list(rows).to_parquet(str(folder / "rows.parquet"))
    return wide(folder / "rows.parquet")


def _shard(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as file:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))


def shard_of_texts(folder: Path, chosen: list[Item]) -> WideCaptions:
    files = {}
    for item in chosen:
        files[f"{item.id}.png"] = item.picture
        files |= {f"{item.id}.{code}.txt": name.encode() for code, name in item.names.items()}
    _shard(folder / "rows.tar", files)
    return wide(folder / "rows.tar", image="png", columns="{language}.txt")


def folder_of_shards(folder: Path, chosen: list[Item]) -> WideCaptions:
    for number, part in enumerate((chosen[:7], chosen[7:])):
        files = {}
        for item in part:
            described = {"size": SIZE, **{f"caption_{code}": [name] for code, name in item.names.items()}}
            files |= {f"{item.id}.png": item.picture, f"{item.id}.json": json.dumps(described).encode()}
        _shard(folder / f"train-{number:05}.tar", files)
    return wide(folder, image="png", columns="json.caption_{language}")


def file_a_language(folder: Path, chosen: list[Item]) -> PerLanguageCaptions:
    path = save_per_language(folder / "rows", chosen) / "{language}.jsonl"
    return PerLanguageCaptions(source=str(path), layout="per_language", id="key", image="picture", caption="text")


def _by_language(chosen: list[Item]) -> DatasetDict:
    """As `floschne/xm3600` has them: a split a language, with lists of captions."""
    features = Features({"image_id": Value("string"), "image": Image(), "captions": List(Value("string"))})
    return DatasetDict(
        {
            language: Dataset.from_list(
                [
                    {
                        "image_id": item.id,
                        "image": {"bytes": item.picture, "path": None},
                        "captions": [item.names[language]],
                    }
                    for item in chosen
                ],
                features=features,
            )
            for language in LANGUAGES
        }
    )


def split_a_language(folder: Path, chosen: list[Item]) -> PerLanguageCaptions:
    _by_language(chosen).save_to_disk(str(folder / "saved"))
    return PerLanguageCaptions(
        source=str(folder / "saved"), layout="per_language", split="{language}", id="image_id", caption="captions"
    )


def configuration_a_language(folder: Path, chosen: list[Item]) -> PerLanguageCaptions:
    """A folder as the hub stores it."""
    configurations = []
    for language, rows in _by_language(chosen).items():
        (folder / language).mkdir()
        rows.to_parquet(str(folder / language / "test-00000-of-00001.parquet"))
        path = f"{language}/test-*"
        configurations.append(f"- config_name: of-{language}\n  data_files:\n  - split: test\n    path: {path}\n")
    (folder / "README.md").write_text(f"---\nconfigs:\n{''.join(configurations)}---\n", encoding="utf-8")
    return PerLanguageCaptions(
        source=str(folder),
        layout="per_language",
        config="of-{language}",
        split="test",
        id="image_id",
        caption="captions",
    )


FORMS: list[Callable[[Path, list[Item]], WideCaptions | PerLanguageCaptions]] = [
    parquet,
    parts,
    at_a_url,
    pictures_with_metadata,
    pictures_in_subfolders,
    table_of_paths,
    table_of_tabs,
    packed_lines_of_structs,
    array_of_objects,
    parquet_of_structs,
    bytes_alone,
    shard_of_texts,
    folder_of_shards,
    file_a_language,
    split_a_language,
    configuration_a_language,
]
