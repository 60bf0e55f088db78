"""Small data sets in the layouts that users have, made of the embedded emoji data."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Image, List, Value
from PIL import Image as Pictures

from trainables.data import emoji
from trainables.data.embedded import _render

SPOKEN = {
    "en": "English",
    "es": "Spanish",
    "tr": "Turkish",
    "ja": "Japanese",
    "ar": "Egyptian_Arabic",
    "zh": "Chinese",
    "ru": "Russian",
}
COUNTRIES = {
    "en": "Ireland",
    "es": "Mexico",
    "tr": "Turkey",
    "ja": "Japan",
    "ar": "Egypt",
    "zh": "China",
    "ru": "Russia",
}


@dataclass(frozen=True)
class Item:
    """A picture with its names."""

    id: str
    picture: bytes  # a PNG
    names: dict[str, str]  # by language


@lru_cache(maxsize=8192)
def _png(code: str, size: int) -> bytes:
    buffer = io.BytesIO()
    Pictures.fromarray(_render([code], size)[0]).save(buffer, "PNG")
    return buffer.getvalue()


def items(split: emoji.Split, languages: Sequence[str], size: int = 32, most: int | None = None) -> list[Item]:
    """The emoji of a split, or the first of them."""
    found = [emoji.catalogue()[index] for index in emoji.splits()[split][:most]]
    return [
        Item(
            entry.code,
            _png(entry.code, size),
            {language: entry.names[emoji.LANGUAGES.index(language)] for language in languages},
        )
        for entry in found
    ]


def wide_rows(chosen: Sequence[Item]) -> list[dict[str, Any]]:
    """A row an item, as `romrawinjp/multilingual-coco` has them: a list of captions a language."""
    return [
        {"id": item.id, "image": {"bytes": item.picture, "path": None}}
        | {f"caption_{language}": [name] for language, name in item.names.items()}
        for item in chosen
    ]


def save_wide(path: Path, chosen: Sequence[Item]) -> Path:
    """A Parquet file with embedded pictures."""
    captions = {f"caption_{language}": List(Value("string")) for language in chosen[0].names}
    features = Features({"id": Value("string"), "image": Image(), **captions})
    Dataset.from_list(wide_rows(chosen), features=features).to_parquet(str(path))
    return path


def save_per_language(folder: Path, chosen: Sequence[Item]) -> Path:
    """A JSONL file a language beside a folder of pictures; every language in an order of its own."""
    (folder / "pictures").mkdir(parents=True)
    for item in chosen:
        (folder / "pictures" / f"{item.id}.png").write_bytes(item.picture)
    for turn, language in enumerate(chosen[0].names):
        rows = [
            {"key": item.id, "picture": f"pictures/{item.id}.png", "text": item.names[language]}
            for item in [*chosen[turn:], *chosen[:turn]]
        ]
        (folder / f"{language}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder


def cvqa_rows(split: str, languages: Sequence[str], size: int = 32, most: int | None = None) -> list[dict[str, Any]]:
    """Every question in one language, the languages in turn, as `afaji/cvqa` has them."""
    rows = []
    for number, asked in enumerate(emoji.questions(split)[:most]):  # type: ignore[arg-type]
        language = languages[number % len(languages)]
        column, english = emoji.LANGUAGES.index(language), emoji.LANGUAGES.index("en")
        entries = [emoji.catalogue()[option] for option in asked.options]
        rows.append(
            {
                "ID": f"{split}-{number}",
                "image": {"bytes": _png(emoji.catalogue()[asked.subject].code, size), "path": None},
                "Subset": str((SPOKEN[language], COUNTRIES[language])),
                "Question": f"{asked.kind}?",
                "Translated Question": f"which {asked.kind}?",
                "Options": [entry.names[column] for entry in entries],
                "Translated Options": [entry.names[english] for entry in entries],
                "Label": asked.answer,
            }
        )
    return rows


def save_cvqa(folder: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """A folder as `save_to_disk` writes it."""
    texts = {name: Value("string") for name in ("ID", "Subset", "Question", "Translated Question")}
    options = {name: List(Value("string")) for name in ("Options", "Translated Options")}
    features = Features({**texts, **options, "image": Image(), "Label": Value("int64")})
    Dataset.from_list(list(rows), features=features).save_to_disk(str(folder))
    return folder
