"""Every purpose's data as prepared arrays, whether it is embedded or of the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.data import captions, embedded, vqa
from trainables.data.gallery import Progress
from trainables.data.pictures import Pixels
from trainables.data.settings import CaptionSource, EmojiCaptions, EmojiQuestions, QuestionSource

if TYPE_CHECKING:
    from trainables.models.tokenizer import Tokenizer

_TEXTS = 1_000_000  # more would teach a vocabulary of some thousand pieces nothing


def training_texts(sources: Mapping[str, tuple[CaptionSource, tuple[str, ...]]]) -> list[str]:
    """The captions of the training data, for fitting a tokenizer: all, or the first million, of each part as many.

    ``sources``: by their keys, each with the languages that it has.

    Raises:
        DataError: if the data cannot be used.
    """
    texts: list[str] = []
    for key, (source, languages) in sources.items():
        if isinstance(source, EmojiCaptions):
            texts += embedded.training_texts(languages)
        else:
            texts += islice(captions.training_texts(key, source, languages), _TEXTS // len(sources))
    return texts


def prepare_captions(
    key: str,
    source: CaptionSource,
    languages: tuple[str, ...],
    control: str | None,
    pixels: Pixels,
    tokenizer: Tokenizer,
    progress: Progress,
) -> Path:
    """The folder of `CaptionedImages`; see `trainables.data.captions`."""
    if isinstance(source, EmojiCaptions):
        return embedded.prepare_captions(source.split, languages, pixels.size, tokenizer)
    return captions.prepare_captions(key, source, languages, control, pixels, tokenizer, progress)


def prepare_questions(
    key: str,
    source: QuestionSource,
    languages: tuple[str, ...],
    pixels: Pixels,
    tokenizer: Tokenizer,
    progress: Progress,
) -> Path:
    """The folder of `VisualQuestions`; see `trainables.data.vqa`."""
    if isinstance(source, EmojiQuestions):
        return embedded.prepare_questions(source.split, languages, pixels.size, tokenizer)
    return vqa.prepare_questions(key, source, languages, pixels, tokenizer, progress)
