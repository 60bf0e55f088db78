"""What is in the data of a study, measured on what was prepared: counts, texts, copies, questions, and what sources share."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainables.data.leakage import Overlap, Prepared, find_overlaps, load_prepared, named_pairs, same_within
from trainables.data.picture_hashes import hashed
from trainables.data.prepare import PreparedSources, Sources
from trainables.data.prepared import Array, CaptionedImages, VisualQuestions
from trainables.data.report import REPORT
from trainables.models.tokenizer import Tokenizer

_MEASURED = 100_000  # texts of one language and source that are tokenised anew
_EXAMPLES = 5


@dataclass(frozen=True)
class TextFigures:
    """Texts in one language as the tokenizer sees them; the shares are of texts, that of the unknown of tokens."""

    texts: int
    measured: int  # of the texts, evenly spread
    median: float  # tokens, marks included
    percentile_95: float
    longest: int
    cut: float  # at the tokenizer's context length
    cut_for_student: float | None  # at the student's own
    unknown: float | None  # None: the tokenizer has no such token
    characters_per_token: float


@dataclass(frozen=True)
class Shared:
    """What items have in common with others."""

    different: int  # captions that several items have; pictures of which there is another
    items: int  # that have one
    examples: list[Any]


@dataclass(frozen=True)
class LanguageFigures:
    """One source in one language."""

    items: int  # with a caption, or with a question
    captions: int | None
    missing: int  # items of the source without one
    texts: TextFigures | None  # None: it has none
    shared: Shared | None  # captions, none of questions
    options: dict[int, int] | None  # how many questions have so many
    chance: float | None


@dataclass(frozen=True)
class SourceFigures:
    """One source."""

    source: dict[str, Any]  # as it is configured
    folder: str  # of what was prepared
    items: int
    pictures: int
    copies: Shared  # pictures that look like another item's
    bad_rows: dict[str, Any] | None  # what the preparation said of data of the user's own
    languages: dict[str, LanguageFigures]


@dataclass(frozen=True)
class Inspection:
    """All sources of a study."""

    tokenizer: str  # its folder
    vocabulary: int  # tokens
    context_length: int
    student_context_length: int | None
    sources: dict[str, SourceFigures]
    overlaps: list[Overlap]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def inspect(sources: Sources, prepared: PreparedSources, student_context_length: int | None) -> Inspection:
    """Look at prepared data. ``student_context_length``: where it is not the teacher's."""
    tokenizer = prepared.tokenizer
    data = load_prepared(sources, prepared.folders)
    lengths = (tokenizer.context_length, student_context_length)
    return Inspection(
        tokenizer=str(tokenizer.folder),
        vocabulary=tokenizer.vocab_size,
        context_length=tokenizer.context_length,
        student_context_length=student_context_length,
        sources={
            key: _source(source.model_dump(mode="json"), prepared.folders[key], data[key], tokenizer, lengths)
            for key, source in sources.items()
        },
        overlaps=find_overlaps(sources, prepared.folders),
    )


def _source(
    source: dict[str, Any], folder: Path, data: Prepared, tokenizer: Tokenizer, lengths: tuple[int, int | None]
) -> SourceFigures:
    report, bad = folder / REPORT, None
    if report.exists():
        content = json.loads(report.read_text(encoding="utf-8"))
        bad = {key: content[key] for key in ("rows", "bad_rows", "reasons", "listed")}
    items = len(np.unique(data.image_item)) if isinstance(data, CaptionedImages) else len(data.answer)
    return SourceFigures(
        source=source,
        folder=str(folder),
        items=items,
        pictures=len(data.images),
        copies=_copies(data, folder),
        bad_rows=bad,
        languages={
            language: (
                _captions(data, place, items, tokenizer, lengths)
                if isinstance(data, CaptionedImages)
                else _questions(data, place, items, tokenizer, lengths)
            )
            for place, language in enumerate(data.languages)
        },
    )


def _captions(
    data: CaptionedImages, language: int, items: int, tokenizer: Tokenizer, lengths: tuple[int, int | None]
) -> LanguageFigures:
    rows = np.flatnonzero(data.present[language])
    having = len(np.unique(data.text_item[rows]))
    return LanguageFigures(
        items=having,
        captions=len(rows),
        missing=items - having,
        texts=_texts(data.texts[language], rows, tokenizer, lengths),
        shared=_shared(data.texts[language], rows, np.asarray(data.text_item)),
        options=None,
        chance=None,
    )


def _questions(
    data: VisualQuestions, language: int, items: int, tokenizer: Tokenizer, lengths: tuple[int, int | None]
) -> LanguageFigures:
    options = np.asarray(data.options[language])
    asked = options[options[:, 0] >= 0]
    counts = (asked >= 0).sum(axis=1)
    return LanguageFigures(
        items=len(asked),
        captions=None,
        missing=items - len(asked),
        texts=_texts(data.texts[0], np.unique(asked[asked >= 0]), tokenizer, lengths),
        shared=None,
        options={int(count): int(questions) for count, questions in sorted(Counter(counts.tolist()).items())},
        chance=float(np.mean(1.0 / counts)) if len(counts) else None,
    )


def _texts(
    texts: Sequence[str], rows: Array, tokenizer: Tokenizer, lengths: tuple[int, int | None]
) -> TextFigures | None:
    if not len(rows):
        return None
    chosen = rows[np.linspace(0, len(rows) - 1, min(len(rows), _MEASURED)).astype(np.int64)]
    read = [texts[row] for row in chosen.tolist()]
    tokens, unknown = tokenizer.measure(read)
    whole, own = lengths
    inside = max(1, int(tokens.sum()) - tokenizer.marks * len(read))
    return TextFigures(
        texts=len(rows),
        measured=len(read),
        median=float(np.median(tokens)),
        percentile_95=float(np.quantile(tokens, 0.95)),
        longest=int(tokens.max()),
        cut=float((tokens > whole).mean()),
        cut_for_student=None if own is None else float((tokens > own).mean()),
        unknown=None if tokenizer.unknown_id is None else float(unknown.sum() / inside),
        characters_per_token=sum(map(len, read)) / inside,
    )


def _shared(texts: Sequence[str], rows: Array, items: Array) -> Shared:
    """Captions that several items have: to a loss that compares across a batch, each is a wrong negative of the others."""
    hashes = np.fromiter(map(hash, texts), np.int64, len(texts))[rows]
    _, first, caption = np.unique(hashes, return_index=True, return_inverse=True)
    pairs = np.unique(np.stack([caption, items[rows]]), axis=1)
    having = np.bincount(pairs[0], minlength=len(first))
    most = np.argsort(-having, kind="stable")[:_EXAMPLES]
    return Shared(
        different=int((having > 1).sum()),
        items=len(np.unique(pairs[1][having[pairs[0]] > 1])),
        examples=[
            {"caption": texts[int(rows[first[place]])], "items": int(having[place])}
            for place in most
            if having[place] > 1
        ],
    )


def _copies(data: Prepared, folder: Path) -> Shared:
    """Pictures that look like an earlier one of another item."""
    earlier = same_within(data, hashed(folder, data.images))
    rows = np.flatnonzero(earlier >= 0)
    items = np.asarray(data.image_item) if isinstance(data, CaptionedImages) else np.arange(len(data.images))
    return Shared(
        different=len(np.setdiff1d(earlier[rows], rows)),
        items=len(np.unique(items[np.concatenate([rows, earlier[rows]])])),
        examples=[list(pair) for pair in named_pairs(data, data, earlier[rows], rows, _EXAMPLES)],
    )
