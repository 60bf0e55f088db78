"""The `data` section of a study's configuration: its languages, and where the data of each purpose comes from."""

from __future__ import annotations

from itertools import combinations
from typing import Self

from pydantic import field_validator, model_validator

from trainables.data.emoji import LANGUAGES
from trainables.data.settings import (
    CaptionSource,
    EmojiCaptions,
    EmojiQuestions,
    OwnQuestions,
    QuestionSource,
    WideCaptions,
    check_language,
    share_items,
)
from trainables.models.spec import Typed
from trainables.recipe import Positive

CONTROL_LANGUAGE = "en"


class HeldOutConfig(Typed):
    """Scored once, for the front alone."""

    retrieval: CaptionSource = EmojiCaptions(split="test")
    vqa: QuestionSource = EmojiQuestions(split="test")


class DataConfig(Typed):
    """The languages, as frequent as the teacher sees them, most frequent first, and the source of each purpose."""

    languages: tuple[str, ...] = LANGUAGES
    train: CaptionSource = EmojiCaptions()
    retrieval: CaptionSource = EmojiCaptions(split="validation")
    vqa: QuestionSource = EmojiQuestions()
    test: HeldOutConfig = HeldOutConfig()
    # What the decoded pictures of one source of the user's own may take on disk, and so in memory as they are read; those of a
    # larger one are kept encoded, and decoded in training. The pixels are the same.
    pictures_gb: Positive = 20.0

    @property
    def sources(self) -> dict[str, CaptionSource | QuestionSource]:
        """The source of each purpose by its key."""
        return {
            "train": self.train,
            "retrieval": self.retrieval,
            "test.retrieval": self.test.retrieval,
            "vqa": self.vqa,
            "test.vqa": self.test.vqa,
        }

    @field_validator("languages")
    @classmethod
    def _distinct(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        for language in languages:
            check_language(language)
            if languages.count(language) > 1:
                raise ValueError(f"'{language}' is listed twice")
        if len(languages) < 2:
            raise ValueError("a variance over languages needs at least two of them")
        if CONTROL_LANGUAGE not in languages:
            raise ValueError(f"English ({CONTROL_LANGUAGE}) is the control language of strategy ed and must be listed")
        return languages

    @model_validator(mode="after")
    def _sources_have_the_languages(self) -> Self:
        for key, source in self.sources.items():
            for language in self.languages:
                if isinstance(source, EmojiCaptions | EmojiQuestions) and language not in LANGUAGES:
                    raise ValueError(
                        f"languages: the emoji data of {key} has no language '{language}': it has {' '.join(LANGUAGES)}"
                    )
                if isinstance(source, WideCaptions):
                    try:
                        source.column(language)
                    except ValueError as error:
                        raise ValueError(f"{key}.{error}") from None
            translation = source.translation if isinstance(source, OwnQuestions) else None
            if translation and translation.language not in self.languages:
                raise ValueError(
                    f"{key}.translation.language: '{translation.language}' is not among data.languages, "
                    f"{' '.join(self.languages)}"
                )
        return self

    @model_validator(mode="after")
    def _splits_are_apart(self) -> Self:
        if isinstance(self.train, EmojiCaptions) and self.train.split != "train":
            raise ValueError(f"train.split: only the split train has training pictures, not {self.train.split}")
        captions, questions = ("train", "retrieval", "test.retrieval"), ("vqa", "test.vqa")
        for keys in (captions, questions):
            for first, second in combinations(keys, 2):
                if share_items(self.sources[first], self.sources[second]):
                    raise ValueError(
                        f"{first} and {second} use the same items, so that scores mean nothing: train, retrieval, vqa and "
                        "test must use different splits, or shares of one that do not overlap, for example share: [0, 0.9] "
                        "and share: [0.9, 1]"
                    )
        return self
