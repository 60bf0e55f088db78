"""Every purpose's data as prepared arrays, whether it is embedded or of the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trainables.data import captions, embedded, vqa
from trainables.data.gallery import Progress
from trainables.data.pictures import Pixels
from trainables.data.report import DataError
from trainables.data.settings import (
    CaptionSource,
    EmojiCaptions,
    EmojiQuestions,
    OwnQuestions,
    QuestionSource,
    languages_of,
)

if TYPE_CHECKING:
    from trainables.config import TeacherConfig
    from trainables.models.tokenizer import Tokenizer

_TEXTS = 1_000_000  # more would teach a vocabulary of some thousand pieces nothing

Sources = Mapping[str, CaptionSource | QuestionSource]  # by their keys below `data`


@dataclass(frozen=True)
class PreparedSources:
    """All the data of a study, in the cache."""

    tokenizer: Tokenizer
    folders: dict[str, Path]  # by the keys of the sources
    vocabulary: Path | None  # the folder of the student's, if it is trimmed


def role(key: str) -> Literal["train", "validation", "test"]:
    """What a study does with the source of a key."""
    first = key.partition(".")[0]
    return "train" if first == "train" else "test" if first == "test" else "validation"


def prepare_sources(
    sources: Sources,
    languages: tuple[str, ...],
    control: str,
    teacher: TeacherConfig,
    is_trimmed: bool,
    most_bytes: int,
    progress: Progress,
) -> PreparedSources:
    """The data of all ``sources``, and what reads their texts: the teacher's tokenizer and the student's vocabulary.

    ``control``: the language in which every training item must have a caption. ``is_trimmed``: whether the student keeps
    the tokens alone that the data uses. ``most_bytes``: of decoded pictures; of a source that would have more they are
    kept encoded.

    Raises:
        DataError: if the data cannot be used, or the vocabulary not be trimmed.
        CheckpointError: if a pretrained teacher cannot be had.
    """
    tokenizer, pixels = tokenizer_and_pixels(sources, languages, teacher, most_bytes)
    steps = 1 + len(sources) + is_trimmed
    folders: dict[str, Path] = {}
    progress(1, steps)

    def within(done: int, total: int) -> None:
        """A part of the next step."""
        progress((1 + len(folders)) * total + done, steps * total)

    for key, source in sources.items():
        name, own = f"data.{key}", languages_of(source, languages)
        if isinstance(source, EmojiQuestions | OwnQuestions):
            folders[key] = prepare_questions(name, source, own, pixels, tokenizer, within)
        else:
            needed = control if role(key) == "train" else None
            folders[key] = prepare_captions(name, source, own, needed, pixels, tokenizer, within)
        progress(1 + len(folders), steps)
    return PreparedSources(tokenizer, folders, _trimmed(sources, folders, tokenizer) if is_trimmed else None)


def _trimmed(sources: Sources, folders: Mapping[str, Path], tokenizer: Tokenizer) -> Path:
    from trainables.vocabulary import trimmed_vocabulary

    asked = [key for key, source in sources.items() if isinstance(source, EmojiQuestions | OwnQuestions)]
    try:
        return trimmed_vocabulary(
            tokenizer, [folders[key] for key in sources if key not in asked], [folders[key] for key in asked]
        )
    except ValueError as error:
        raise DataError(f"student.vocabulary: {error}; take full") from None


def tokenizer_and_pixels(
    sources: Sources, languages: tuple[str, ...], teacher: TeacherConfig, most_bytes: int
) -> tuple[Tokenizer, Pixels]:
    """The teacher's tokenizer, fitted on the training captions or as published, and what pictures are to the teacher."""
    from trainables.models.pretrained import open_checkpoint, pretrained_tokenizer
    from trainables.models.spec import PREPROCESS
    from trainables.models.tokenizer import Tokenizer, fit_bpe

    if teacher.pretrained is not None:
        checkpoint = open_checkpoint(teacher.pretrained, teacher.revision)
        spec = checkpoint.spec(teacher.image_size)
        size, standard, tokenizer = spec.image.image_size, spec.preprocess, pretrained_tokenizer(checkpoint)
    else:
        assert teacher.model is not None
        assert teacher.tokenizer is not None
        training = {
            f"data.{key}": (source, languages_of(source, languages))
            for key, source in sources.items()
            if role(key) == "train" and not isinstance(source, EmojiQuestions | OwnQuestions)
        }
        folder = fit_bpe(training_texts(training), teacher.tokenizer.vocab_size)
        size, standard = teacher.model.image.image_size, PREPROCESS[teacher.family]
        tokenizer = Tokenizer(folder, teacher.tokenizer.context_length)
    return tokenizer, Pixels(size, standard.mode, standard.interpolation, most_bytes)


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
