"""Captioned pictures of the user's own, in the layouts `wide` and `per_language`, as prepared arrays.

Rows are read in batches and written as they come: what stays in memory is a few bytes a row, not its text or picture.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainables.artifacts import artifact_in_parts
from trainables.data.gallery import Progress, batches, write_pictures
from trainables.data.headers import check_image
from trainables.data.pictures import Pixels
from trainables.data.prepared import IDENTITIES, Array, ArrayWriter, TextWriter, save_array
from trainables.data.report import DataError, DataReport
from trainables.data.settings import PerLanguageCaptions, WideCaptions
from trainables.data.sources import Rows, first_of_each, identities, in_share, open_rows

if TYPE_CHECKING:
    from trainables.models.tokenizer import Tokenizer

_STAGE_VERSION = 2  # raise it when the same data gives other arrays
_TEXTS = 4096  # items whose captions are read at once
_MOST_CAPTIONS = 255  # of one item in one language


@dataclass(frozen=True)
class Table:
    """Opened captions in L languages: K items, each a row in the table of every language that has it."""

    key: str  # of the configuration
    tables: Sequence[Rows]  # [L], the same object for languages that share one
    columns: Sequence[str]  # [L]
    rows: Array  # int [L, K], -1 where a language lacks an item
    image: str
    languages: Sequence[str]
    identities: Array | None  # uint64 [K], the hashes of the items' ids; None where they have none

    @property
    def items(self) -> Array:
        return np.arange(self.rows.shape[1], dtype=np.int32)

    def captions(self, items: Array) -> list[list[Any]]:
        """What the data has as captions of some items, [L][items]; None where a language lacks an item."""
        found = []
        for table, column, rows in zip(self.tables, self.columns, self.rows[:, items], strict=True):
            there = np.flatnonzero(rows >= 0)
            cells: list[Any] = [None] * len(items)
            for place, cell in zip(there, table.take([column], rows[there])[column], strict=True):
                cells[place] = cell
            found.append(cells)
        return found

    def pictures(self, items: Array) -> list[tuple[Any, str | None]]:
        """What the data has as the pictures of some items, and what paths are relative to: of the first language that
        has a picture of the item."""
        pictured = np.asarray([self.image in table.columns for table in self.tables])
        there = (self.rows[:, items] >= 0) & pictured[:, None]
        found: list[tuple[Any, str | None]] = [(None, None)] * len(items)
        for language in np.unique(there.argmax(axis=0)):
            places = np.flatnonzero((there.argmax(axis=0) == language) & there[language])
            table = self.tables[language]
            if len(places):
                cells = table.take([self.image], self.rows[language, items[places]])[self.image]
                for place, cell in zip(places, cells, strict=True):
                    found[place] = cell, table.base
        return found

    def name(self, item: int) -> str:
        """An item's row as its user would find it, counted from 0."""
        language = int((self.rows[:, item] >= 0).argmax())
        row = f"row {self.rows[language, item]}"
        return row if len({id(table) for table in self.tables}) == 1 else f"{row} of {self.languages[language]}"


def open_captions(
    key: str, source: WideCaptions | PerLanguageCaptions, languages: tuple[str, ...]
) -> tuple[Table, DataReport]:
    """The captions of a source in these languages, and a report of the ids that cannot be used.

    Raises:
        DataError: if something of it is not there.
    """
    needed, places = source.needed(languages), source.places(languages)
    if isinstance(source, WideCaptions):
        columns = [source.column(language) for language in languages]
        tables = [open_rows(key, places[languages[0]], source.revision, needed)] * len(languages)
    else:
        columns = [source.caption] * len(languages)
        tables = [open_rows(key, place, source.revision, needed) for place in places.values()]
        check_image(key, source.image, [table.columns for table in tables])
    distinct = {id(table): table for table in tables}
    chosen: dict[int, tuple[Array, Array]] = {}
    bad: list[tuple[str, str]] = []
    for number, table in distinct.items():
        hashes, known = identities(table, source.id, source.share_seed)
        of = "" if len(distinct) == 1 else f" of {languages[[id(table) for table in tables].index(number)]}"
        bad += [(f"row {row}{of}", "no id") for row in np.flatnonzero(~known)]
        rows = np.flatnonzero(known & in_share(hashes, source.share)).astype(np.int32)
        hashes = hashes[rows]
        first = first_of_each(hashes)
        bad += [(f"row {row}{of}", "duplicate id") for row in rows[~first]]
        chosen[number] = hashes[first], rows[first]
    if len(distinct) == 1:
        ((items, rows),) = chosen.values()
        joined = np.broadcast_to(rows, (len(languages), len(rows)))
    else:
        items, joined = _join([chosen[id(table)] for table in tables])
        _check_that_all_join(key, source, languages, tables, joined)
    report = DataReport(key, joined.shape[1] + len(bad), source.max_bad)
    for row, reason in bad:
        report.add(row, reason)
    report.check()
    return Table(key, tables, columns, joined, source.image, languages, items if source.id else None), report


def _join(parts: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """The ids of all items, uint64 [K], and the row of each in each language, int32 [L, K], -1 for none, from the ids
    and rows of each language.

    Items are in the order of the first language, then those that only the next ones have.
    """
    every = np.concatenate([hashes for hashes, _ in parts])
    _, first = np.unique(every, return_index=True)
    items = every[np.sort(first)]
    order = np.argsort(items)
    joined = np.full((len(parts), len(items)), -1, np.int32)
    for language, (hashes, rows) in enumerate(parts):
        joined[language, order[np.searchsorted(items, hashes, sorter=order)]] = rows
    return items, joined


def _check_that_all_join(
    key: str,
    source: WideCaptions | PerLanguageCaptions,
    languages: Sequence[str],
    tables: Sequence[Rows],
    joined: Array,
) -> None:
    """Raises:
    DataError: naming a language of which no id is among those of the others: it writes them in another way.
    """
    shared = (joined >= 0).sum(axis=0) > 1
    for language, rows in enumerate(joined):
        if source.id is not None and (rows >= 0).any() and not (shared & (rows >= 0)).any():
            other = languages[0 if language else 1]
            own, theirs = (
                tables[place].take([source.id], joined[place][joined[place] >= 0][:1])[source.id]
                for place in (language, languages.index(other))
            )
            raise DataError(
                f"{key}.id: no id of {languages[language]}, such as {own[0]!r}, is one of another language's, such as "
                f"{theirs[0]!r} of {other}: rows of one item must have one id"
            )


def _clean(cell: Any) -> tuple[list[str], list[str]]:
    """The captions in a cell, and what is wrong with it: nothing if it holds none, or fills up a list with empty ones."""
    captions = [caption for caption in (cell if isinstance(cell, list) else [cell]) if caption is not None]
    texts = [text for caption in captions if isinstance(caption, str) and (text := " ".join(caption.split()))]
    mistakes = [f"a caption is no text but {type(one).__name__}" for one in captions if not isinstance(one, str)]
    if captions and not texts and not mistakes:
        mistakes = ["empty caption"]
    return texts[:_MOST_CAPTIONS], mistakes


def training_texts(key: str, source: WideCaptions | PerLanguageCaptions, languages: tuple[str, ...]) -> Iterator[str]:
    """Every caption of a source in the given languages, for fitting a tokenizer."""
    table, _ = open_captions(key, source, languages)
    for items in batches(table.items, _TEXTS):
        for cells in table.captions(items):
            for cell in cells:
                yield from _clean(cell)[0]


def prepare_captions(
    key: str,
    source: WideCaptions | PerLanguageCaptions,
    languages: tuple[str, ...],
    control: str | None,
    pixels: Pixels,
    tokenizer: Tokenizer,
    progress: Progress,
) -> Path:
    """The folder of `CaptionedImages` of a source, with a ``data_report.json``.

    Several captions of an item in a language become several text rows of that item. ``key``: where in the
    configuration the source is. ``control``: the language in which every item must have a caption, if one does.

    Raises:
        DataError: if the data cannot be used, saying why.
    """
    table, report = open_captions(key, source, languages)
    pixels = pixels.of_so_many(len(table.items))

    def build(folder: Path) -> None:
        counts = _count(table, control, report)
        usable = np.flatnonzero(counts.any(axis=0)).astype(np.int32)
        _check(table, report, counts[:, usable], source.min_items)
        kept = write_pictures(folder, usable, table.pictures, table.name, pixels, report, progress)
        _check(table, report, counts[:, kept], source.min_items)
        _write_texts(folder, table, kept, counts[:, kept], tokenizer)
        if table.identities is not None:
            save_array(folder / IDENTITIES, table.identities[kept])
        report.save(
            folder,
            items=len(kept),
            languages={
                language: {
                    "items": int((of > 0).sum()),
                    "captions": int(of.sum()),
                    "missing": int((of == 0).sum()),
                    "not_joined": int((rows < 0).sum()),  # items that other languages have
                }
                for language, of, rows in zip(languages, counts[:, kept], table.rows, strict=True)
            },
        )

    fields = {
        "source": source.content(),
        "data": [rows.content(source.image) for rows in table.tables],
        "languages": list(languages),
        "control": control,
        "pixels": pixels.form,
        "tokenizer": tokenizer.fingerprint,
        "stage": _STAGE_VERSION,
    }
    return artifact_in_parts("captions", fields, build, hopeless=DataError)


def _count(table: Table, control: str | None, report: DataReport) -> Array:
    """How many captions each language has of each item, uint8 [L, K]; none of an item that cannot be used."""
    counts = np.zeros(table.rows.shape, np.uint8)
    needed = None if control is None else list(table.languages).index(control)
    for items in batches(table.items, _TEXTS):
        for language, cells in enumerate(table.captions(items)):
            for item, cell in zip(items, cells, strict=True):
                texts, mistakes = _clean(cell)
                counts[language, item] = len(texts)
                for mistake in mistakes:
                    report.add(table.name(int(item)), mistake, table.languages[language])
        for item in items[~counts[:, items].any(axis=0)]:
            report.add(table.name(int(item)), "no caption")
        if needed is not None:
            for item in items[counts[:, items].any(axis=0) & (counts[needed, items] == 0)]:
                report.add(table.name(int(item)), f"no caption in {control}, the control language")
                counts[:, item] = 0
    return counts


def _check(table: Table, report: DataReport, counts: Array, fewest: int) -> None:
    report.check()
    if not counts.shape[1]:
        raise DataError(f"{table.key}: not one usable row is left of {len(table.tables[0])}")
    items = (counts > 0).sum(axis=1)
    report.check_languages(dict(zip(table.languages, map(int, items), strict=True)), fewest)


def _write_texts(folder: Path, table: Table, kept: Array, counts: Array, tokenizer: Tokenizer) -> None:
    """Everything of `CaptionedImages` but the images: item i is the i-th of ``kept``."""
    width = counts.max(axis=0)  # text rows of each item
    shape = (len(counts), int(width.sum(dtype=np.int64)), tokenizer.context_length)
    tokens = np.lib.format.open_memmap(folder / "tokens.npy", "w+", np.int32, shape)
    present = np.zeros(shape[:2], np.bool_)
    first = 0
    with (
        TextWriter(folder, "texts", len(counts)) as writer,
        ArrayWriter(folder / "image_item.npy", (), np.int64) as image_item,
        ArrayWriter(folder / "text_item.npy", (), np.int64) as text_item,
    ):
        for begin in range(0, len(kept), _TEXTS):
            items = kept[begin : begin + _TEXTS]
            places = np.arange(begin, begin + len(items))
            many = width[places].astype(np.int64)
            start, rows = np.cumsum(many) - many, int(many.sum())
            columns = []
            for language, cells in enumerate(table.captions(items)):
                texts = [""] * rows
                for here, cell in zip(start, cells, strict=True):
                    found = _clean(cell)[0]
                    texts[here : here + len(found)] = found
                there = np.asarray([text != "" for text in texts])
                encoded = tokenizer.encode([text for text in texts if text])
                tokens[language, first + np.flatnonzero(there)] = encoded
                present[language, first : first + rows] = there
                columns.append(texts)
            writer.write(columns)
            image_item.write(places)
            text_item.write(np.repeat(places, many))
            first += rows
    tokens.flush()
    save_array(folder / "present.npy", present)
    (folder / "languages.json").write_text(json.dumps(list(table.languages)), encoding="utf-8")
