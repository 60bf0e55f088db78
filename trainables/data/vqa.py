"""Multiple-choice questions of the user's own, in the layout `cvqa`, as prepared arrays."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainables.artifacts import artifact_in_parts
from trainables.data.choices import Question, QuestionError, parse_question, spoken
from trainables.data.gallery import Progress, batches, write_pictures
from trainables.data.pictures import Pixels
from trainables.data.prepared import IDENTITIES, Array, ArrayWriter, TextWriter, save_array
from trainables.data.report import DataError, DataReport, hint
from trainables.data.settings import OwnQuestions
from trainables.data.sources import Rows, identities, in_share, open_rows

if TYPE_CHECKING:
    from trainables.models.tokenizer import Tokenizer

_STAGE_VERSION = 2  # raise it when the same data gives other arrays
_BATCH = 1024


@dataclass(frozen=True)
class _Asked:
    """Opened questions: K items in L languages."""

    source: OwnQuestions
    rows: Rows
    places: Array  # int32 [L, K], the row of an item in a language, -1 for none
    languages: Sequence[str]
    identities: Array | None  # uint64 [K], the hashes of the items' ids; None where they have none

    @property
    def items(self) -> Array:
        return np.arange(self.places.shape[1])

    def first(self, items: Array) -> Array:
        """The row from which each item has its picture."""
        places = self.places[:, items]
        chosen: Array = places[(places >= 0).argmax(axis=0), np.arange(len(items))]
        return chosen

    def pictures(self, items: Array) -> list[tuple[Any, str | None]]:
        cells = self.rows.take([self.source.image], self.first(items))[self.source.image]
        return [(cell, self.rows.base) for cell in cells]

    def name(self, item: int) -> str:
        return f"row {self.first(np.asarray([item]))[0]}"

    def questions(self, items: Array) -> Iterator[tuple[int, int, int, Question | QuestionError]]:
        """Language, place among ``items``, row, and the question or what is wrong with it."""
        source = self.source
        for language, code in enumerate(self.languages):
            rows = self.places[language, items]
            there = np.flatnonzero(rows >= 0)
            text, options = source.question, source.options
            if source.translation and source.translation.language == code:
                text, options = source.translation.question, source.translation.options
            found = self.rows.take([options, source.label, *([text] if source.uses_question else [])], rows[there])
            texts = found[text] if source.uses_question else [None] * len(there)
            cells = zip(there, texts, found[options], found[source.label], strict=True)
            for place, words, listed, label in cells:
                question: Question | QuestionError
                try:
                    question = parse_question(words, listed, label, source.uses_question)
                except QuestionError as error:
                    question = error
                yield language, int(place), int(rows[place]), question


def open_questions(key: str, source: OwnQuestions, languages: tuple[str, ...]) -> tuple[_Asked, DataReport]:
    """The questions of a source in these languages, and a report of the ids that cannot be used.

    Raises:
        DataError: if something of it is not there.
    """
    translation = source.translation
    rows = open_rows(key, source.places(languages)[languages[0]], source.revision, source.needed(languages))
    by_name = {
        name: place
        for place, language in enumerate(languages)
        if not (translation and translation.language == language)
        for name in source.language_names(language)
    }
    spoken_in = np.full(len(rows), -1, np.int64)
    seen: dict[str, None] = {}
    place = 0
    for batch in rows.column(source.language):
        for cell in batch:
            names = spoken(cell)
            seen.setdefault(names[-1])
            spoken_in[place] = next((by_name[name] for name in names if name in by_name), -1)
            place += 1
    for place, language in enumerate(languages):
        if translation and translation.language == language:
            continue
        if not (spoken_in == place).any():
            wanted = " or ".join(source.language_names(language))
            raise DataError(
                f"{key}.names: no row of column {source.language} is {wanted}, for language {language}: "
                f"{hint(wanted, sorted(seen)[:60])}"
            )
    hashes, known = identities(rows, source.id, source.share_seed)
    part = (spoken_in >= 0) & (in_share(hashes, source.share) | ~known)
    report = DataReport(key, int(part.sum()), source.max_bad)
    for row in np.flatnonzero(part & ~known):
        report.add(f"row {row}", "no id")
    wanted_rows = np.flatnonzero(part & known)
    ids, first, item = np.unique(hashes[wanted_rows], return_index=True, return_inverse=True)
    item = np.argsort(np.argsort(first))[item]  # in the order of rows
    places = np.full((len(languages), len(first)), -1, np.int32)
    for number, row in zip(item, wanted_rows, strict=True):
        if places[spoken_in[row], number] >= 0:
            report.add(f"row {row}", "duplicate id")
        else:
            places[spoken_in[row], number] = row
    if translation:
        places[languages.index(translation.language)] = places.max(axis=0)
    report.check()
    return _Asked(source, rows, places, languages, ids[np.argsort(first)] if source.id else None), report


def prepare_questions(
    key: str, source: OwnQuestions, languages: tuple[str, ...], pixels: Pixels, tokenizer: Tokenizer, progress: Progress
) -> Path:
    """The folder of `VisualQuestions` of a source, with a ``data_report.json``.

    Raises:
        DataError: if the data cannot be used, saying why.
    """
    asked, report = open_questions(key, source, languages)
    pixels = pixels.of_so_many(len(asked.items))

    def build(folder: Path) -> None:
        places = asked.places.copy()
        widest = 0
        for items in batches(asked.items, _BATCH):
            for language, place, row, question in asked.questions(items):
                if isinstance(question, QuestionError):
                    report.add(f"row {row}", "question", f"{languages[language]}: {question}")
                    places[language, items[place]] = -1
                else:
                    widest = max(widest, len(question.options))
        usable = np.flatnonzero((places >= 0).any(axis=0))
        _check(key, asked, report, places[:, usable])
        kept = write_pictures(folder, usable, asked.pictures, asked.name, pixels, report, progress)
        _check(key, asked, report, places[:, kept])
        sound = replace(asked, places=places)
        chance = _write_texts(folder, sound, kept, widest, tokenizer)
        if asked.identities is not None:
            save_array(folder / IDENTITIES, asked.identities[kept])
        of_language = (places[:, kept] >= 0).sum(axis=1)
        report.save(
            folder,
            items=len(kept),
            languages={
                language: {"questions": int(count), "chance": guess}
                for language, count, guess in zip(languages, of_language, chance, strict=True)
            },
        )

    fields = {
        "source": source.content(),
        "data": asked.rows.content(source.image),
        "languages": list(languages),
        "pixels": pixels.form,
        "tokenizer": tokenizer.fingerprint,
        "stage": _STAGE_VERSION,
    }
    return artifact_in_parts("questions", fields, build, hopeless=DataError)


def _check(key: str, asked: _Asked, report: DataReport, places: Array) -> None:
    report.check()
    if not places.shape[1]:
        raise DataError(f"{key}: not one usable row is left of {len(asked.rows)}")
    counts = (places >= 0).sum(axis=1)
    report.check_languages(dict(zip(asked.languages, map(int, counts), strict=True)), asked.source.min_items)


def _write_texts(folder: Path, asked: _Asked, kept: Array, widest: int, tokenizer: Tokenizer) -> list[float]:
    """Everything of `VisualQuestions` but the images. Returns the chance level of each language."""
    shape = (len(asked.languages), len(kept), widest)
    options = np.lib.format.open_memmap(folder / "options.npy", "w+", np.int32, shape)
    guesses: list[list[float]] = [[] for _ in asked.languages]
    with (
        ArrayWriter(folder / "tokens.npy", (tokenizer.context_length,), np.int32) as tokens,
        TextWriter(folder, "texts", 1) as texts,
    ):
        for places in batches(np.arange(len(kept)), _BATCH):
            options[:, places] = -1
            written: list[str] = []
            for language, place, _, question in asked.questions(kept[places]):
                assert isinstance(question, Question)
                first, count = tokens.rows + len(written), len(question.options)
                options[language, places[place], :count] = np.arange(first, first + count)
                guesses[language].append(1 / count)
                written += [
                    asked.source.prompt.format(question=question.text, answer=option) for option in question.options
                ]
            tokens.write(tokenizer.encode(written))
            texts.write([written])
    options.flush()
    save_array(folder / "answer.npy", np.zeros(len(kept), np.int64))
    (folder / "languages.json").write_text(json.dumps(list(asked.languages)), encoding="utf-8")
    return [float(np.mean(values)) for values in guesses]
