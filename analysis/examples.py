"""The best and worst cases of a trial, as its final evaluation stored them: read from examples.parquet, with pictures."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.page import data_url

_COLUMNS = ("task", "language", "case", "text", "score", "shown", "options", "answer", "chosen")
_THUMBNAIL = 128  # pixels a side: pictures of a page are to be looked at, and are many


@dataclass(frozen=True)
class Example:
    """A retrieval or a question that a student got most right or most wrong in a language.

    retrieval: ``text`` is the query, ``score`` its average precision, ``pictures`` the right one and then those that came
    first. vqa: one picture; ``score`` is the margin of the right option over the best wrong one, and ``options`` are the
    texts, with the places of the right one and of the one that was chosen.
    """

    task: str
    language: str
    case: str
    text: str
    score: float
    pictures: tuple[bytes, ...]
    options: tuple[str, ...]
    answer: int | None
    chosen: int | None

    def as_json(self) -> dict[str, Any]:
        """All but the pictures."""
        said = {"task": self.task, "language": self.language, "case": self.case, "text": self.text, "score": self.score}
        choice = {"options": list(self.options), "answer": self.answer, "chosen": self.chosen}
        return said | (choice if self.options else {})


def read_examples(path: Path) -> list[Example]:
    """The cases in a trial's examples.parquet, in the file's order.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file, if it is no Parquet file or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(io.BytesIO(path.read_bytes()), columns=list(_COLUMNS)).to_pylist()
        return [_example(row) for row in rows]
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())[:200]}") from None


def _example(row: dict[str, Any]) -> Example:
    options = tuple(str(option) for option in row["options"] or ())
    places = [place for place in (row["answer"], row["chosen"]) if place is not None]
    if any(not 0 <= place < len(options) for place in places):
        raise ValueError(f"options: there is no option {max(places)}")
    return Example(
        task=str(row["task"]),
        language=str(row["language"]),
        case=str(row["case"]),
        text=str(row["text"]),
        score=float(row["score"]),
        pictures=tuple(bytes(picture) for picture in row["shown"] or ()),
        options=options,
        answer=row["answer"],
        chosen=row["chosen"],
    )


def thumbnail(picture: bytes) -> str | None:
    """A small picture as a data URL, None if it is no picture; made anew, so that nothing else of the file is passed on."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(picture)) as opened:
            small = opened.convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        return None
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    content = io.BytesIO()
    small.save(content, "PNG")
    return data_url(content.getvalue())
