"""What the sources of a study have in common that should be apart: items of one id, and pictures that are the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from trainables.artifacts import artifact, write_json
from trainables.data.picture_hashes import HashedPictures, hashed, same_pictures
from trainables.data.prepare import Sources, role
from trainables.data.prepared import IDENTITIES, Array, CaptionedImages, VisualQuestions
from trainables.data.settings import EmojiQuestions, OwnData, OwnQuestions

_STAGE_VERSION = 1  # raise it when the same data give other overlaps
_FILE = "overlaps.json"
_EXAMPLES = 20

Prepared = CaptionedImages | VisualQuestions


@dataclass(frozen=True)
class Overlap:
    """What two sources share."""

    first: str  # keys of the configuration
    second: str
    ids: int | None  # that both have; None where either has none
    same_data: bool  # whether the ids are of one data set: those of others may be the same by accident
    pictures: int  # different ones of the second that the first has too
    items: int  # of the second that have such a picture
    examples: list[dict[str, str]]  # an item of each, as it is written

    @property
    def is_leak(self) -> bool:
        return self.pictures > 0 or (self.same_data and bool(self.ids))

    def __str__(self) -> str:
        counts = (("id", self.ids if self.same_data else 0), ("picture", self.pictures))
        shared = [f"{count:,} {what}{'s' if count > 1 else ''}" for what, count in counts if count]
        return f"{self.first} and {self.second} share {' and '.join(shared) or 'nothing'}"


def load_prepared(sources: Sources, folders: Mapping[str, Path]) -> dict[str, Prepared]:
    """The prepared data of each source, by its key; arrays stay on disk."""
    return {
        key: (VisualQuestions if isinstance(source, EmojiQuestions | OwnQuestions) else CaptionedImages).load(
            folders[key]
        )
        for key, source in sources.items()
    }


def find_overlaps(sources: Sources, folders: Mapping[str, Path]) -> list[Overlap]:
    """What training data shares with each source that scores, and a source of validation with one of test.

    Of all pairs that were compared, also where nothing is shared; kept in the cache. See `picture_hashes`.
    """
    order = sorted(sources, key=lambda key: ("train", "validation", "test").index(role(key)))
    pairs = [pair for pair in combinations(order, 2) if role(pair[0]) != role(pair[1])]

    def build(folder: Path) -> None:
        data = load_prepared(sources, folders)
        pictures = {key: hashed(folders[key], part.images) for key, part in data.items()}
        found = [_overlap(*pair, sources, folders, data, pictures) for pair in pairs]
        write_json(folder / _FILE, [asdict(overlap) for overlap in found])

    fields = {"pairs": pairs, "folders": {key: folder.name for key, folder in folders.items()}, "stage": _STAGE_VERSION}
    path = artifact("overlaps", fields, build) / _FILE
    return [Overlap(**overlap) for overlap in json.loads(path.read_text(encoding="utf-8"))]


def _overlap(
    first: str,
    second: str,
    sources: Sources,
    folders: Mapping[str, Path],
    data: Mapping[str, Prepared],
    pictures: Mapping[str, HashedPictures],
) -> Overlap:
    found = same_pictures(pictures[first], pictures[second])
    rows = np.flatnonzero(found >= 0)
    ids = None
    if (folders[first] / IDENTITIES).exists() and (folders[second] / IDENTITIES).exists():
        own, other = (np.load(folders[key] / IDENTITIES, allow_pickle=False) for key in (first, second))
        ids = len(np.intersect1d(own, other))
    return Overlap(
        first=f"data.{first}",
        second=f"data.{second}",
        ids=ids,
        same_data=_is_one_data_set(sources[first], sources[second]),
        pictures=_different(pictures[second], rows),
        items=len(np.unique(_items(data[second])[rows])),
        examples=[
            {"first": one, "second": other}
            for one, other in named_pairs(data[first], data[second], found[rows], rows, _EXAMPLES)
        ],
    )


def _is_one_data_set(first: Any, second: Any) -> bool:
    """Whether ids mean the same in both: they are of one source, if maybe of other splits of it."""
    return (
        isinstance(first, OwnData)
        and isinstance(second, OwnData)
        and type(first) is type(second)
        and (first.source, first.revision, first.config) == (second.source, second.revision, second.config)
        and first.share_seed == second.share_seed  # which salts the hashes of ids
    )


def _different(pictures: HashedPictures, rows: Array) -> int:
    """How many pictures some rows show; questions may share one, to the last pixel."""
    return len({pictures.images[row : row + 1].tobytes() for row in rows.tolist()}) if len(rows) else 0


def _items(data: Prepared) -> Array:
    """The item of each picture, int64 [N]."""
    return np.asarray(data.image_item) if isinstance(data, CaptionedImages) else np.arange(len(data.answer))


def same_within(data: Prepared, pictures: HashedPictures) -> Array:
    """For each picture of a source an earlier one of another item that is the same, int64 [N], -1 for none."""
    items = _items(data)
    return same_pictures(pictures, pictures, lambda one, other: (one < other) & (items[one] != items[other]))


def named_pairs(first: Prepared, second: Prepared, rows: Array, others: Array, most: int) -> list[tuple[str, str]]:
    """Items by the rows of their pictures, each named as it is written: by its first caption, or its right answer, in the
    first language that has one. A pair stands once, whatever views there are of it."""
    named: dict[tuple[str, str], None] = {}
    for row, other in zip(rows.tolist(), others.tolist(), strict=True):
        named.setdefault((next(_texts(first, row), ""), next(_texts(second, other), "")))
        if len(named) == most:
            break
    return list(named)


def _texts(data: Prepared, row: int) -> Iterator[str]:
    if isinstance(data, CaptionedImages):
        places = np.flatnonzero(data.text_item == data.image_item[row])
        for language, texts in enumerate(data.texts):
            for place in places:
                if data.present[language, place]:
                    yield texts[int(place)]
    else:
        for language in range(len(data.languages)):
            if data.options[language, row, 0] >= 0:
                yield data.texts[0][int(data.options[language, row, data.answer[row]])]
