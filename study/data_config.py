"""The `data` section of a study's configuration: its languages, and where the data of each purpose comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations, product
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from trainables.data.emoji import LANGUAGES
from trainables.data.sets import CaptionSets, QuestionSets, key_of
from trainables.data.settings import (
    Captions,
    CaptionSource,
    EmojiCaptions,
    EmojiQuestions,
    Language,
    OwnData,
    OwnQuestions,
    QuestionSource,
    WideCaptions,
    check_language,
    languages_of,
    share_items,
)
from trainables.models.spec import Typed
from trainables.recipe import Positive

CONTROL_LANGUAGE = "en"

Purpose = Literal["train", "retrieval", "test.retrieval", "vqa", "test.vqa"]
CAPTIONS: tuple[Purpose, ...] = ("train", "retrieval", "test.retrieval")
QUESTIONS: tuple[Purpose, ...] = ("vqa", "test.vqa")
# What must have no item in common.
_APART = [pair for purposes in (CAPTIONS, QUESTIONS) for pair in combinations(purposes, 2)]


class HeldOutConfig(Typed):
    """Scored once, for the front alone."""

    retrieval: CaptionSets = Field(default={"": EmojiCaptions(split="test")})
    """Captioned pictures of test: sets of the same names as those of `data.retrieval`."""
    vqa: QuestionSets = Field(default={"": EmojiQuestions(split="test")})
    """Questions of test: sets of the same names as those of `data.vqa`."""


class DataConfig(Typed):
    """The languages, as frequent as the teacher sees them, most frequent first, and the sources of each purpose: one, or
    several by their names, which are the same for validation and test.
    """

    languages: tuple[Language, ...] = LANGUAGES
    """BCP 47 codes, most frequent first; `en` is the control language and must be among them."""
    train: CaptionSets = Field(default={"": EmojiCaptions()})
    """Training data: one source, or the parts of a mixture by their names."""
    retrieval: CaptionSets = Field(default={"": EmojiCaptions(split="validation")})
    """Captioned pictures of validation, which the search sees: one source, or sets by their names."""
    vqa: QuestionSets = Field(default={"": EmojiQuestions()})
    """Questions of validation, which the search sees: one source, or sets by their names."""
    test: HeldOutConfig = HeldOutConfig()
    pictures_gb: Positive = 20.0
    """What the decoded pictures of one source of your own may take on disk, and so in memory as they are read; those of a
    larger one are kept encoded, and decoded in training. The pixels are the same."""

    @property
    def purposes(self) -> dict[Purpose, Mapping[str, CaptionSource | QuestionSource]]:
        """The sources of each purpose by their names."""
        return {
            "train": self.train,
            "retrieval": self.retrieval,
            "test.retrieval": self.test.retrieval,
            "vqa": self.vqa,
            "test.vqa": self.test.vqa,
        }

    @property
    def sources(self) -> dict[str, CaptionSource | QuestionSource]:
        """All sources by their keys."""
        return {key: source for purpose in self.purposes for key, source in self._of(purpose)}

    @property
    def weights(self) -> tuple[float, ...] | None:
        """Of the parts of the training data, None where they are drawn by their sizes."""
        found = [source.weight for source in self.train.values()]
        return None if None in found else tuple(weight for weight in found if weight is not None)

    def languages_of(self, source: CaptionSource | QuestionSource) -> tuple[str, ...]:
        """The study's languages that a source has, in their order."""
        return languages_of(source, self.languages)

    def _of(self, purpose: Purpose) -> Iterator[tuple[str, CaptionSource | QuestionSource]]:
        for name, source in self.purposes[purpose].items():
            yield key_of(purpose, name), source

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
        study = " ".join(self.languages)
        for key, source in self.sources.items():
            for language in (source.languages or ()) if isinstance(source, OwnData) else ():
                if language not in self.languages:
                    raise ValueError(f"{key}.languages: '{language}' is not among data.languages, {study}")
            for language in self.languages_of(source):
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
            if translation and translation.language not in self.languages_of(source):
                raise ValueError(
                    f"{key}.translation.language: '{translation.language}' is not among its languages, "
                    f"{' '.join(self.languages_of(source))}"
                )
        return self

    @model_validator(mode="after")
    def _languages_have_sources(self) -> Self:
        for purpose, sources in self.purposes.items():
            for language in self.languages:
                if not any(language in self.languages_of(source) for source in sources.values()):
                    raise ValueError(
                        f"{purpose}: no source has language {language}: add it to the languages of one that does, or "
                        "leave it out of data.languages"
                    )
        for key, source in self._of("train"):
            if CONTROL_LANGUAGE not in self.languages_of(source):
                raise ValueError(
                    f"{key}.languages: English ({CONTROL_LANGUAGE}), the control language, must be in every source of "
                    "training data"
                )
        for key, source in (pair for purpose in QUESTIONS for pair in self._of(purpose)):
            if len(self.languages_of(source)) < 2:
                raise ValueError(
                    f"{key}.languages: {self.languages_of(source)[0]} alone: a variance over languages needs two of them"
                )
        return self

    @model_validator(mode="after")
    def _parts_have_weights(self) -> Self:
        for key, source in self.sources.items():
            if isinstance(source, Captions) and source.weight is not None and not key.startswith("train."):
                raise ValueError(
                    f"{key}.weight: {source.weight:g} is for the parts of a mixture, named sources of train"
                )
        without = [key for key, part in self._of("train") if isinstance(part, Captions) and part.weight is None]
        if 0 < len(without) < len(self.train):
            raise ValueError(
                f"{without[0]}.weight: is missing: either all parts of a mixture have a weight or none has"
            )
        return self

    @model_validator(mode="after")
    def _tests_are_of_the_same_sets(self) -> Self:
        for purpose, sources in (("retrieval", self.retrieval), ("vqa", self.vqa)):
            tested = getattr(self.test, purpose)
            if sources.keys() != tested.keys():
                names, own = (
                    " ".join(found) if "" not in found else "one without a name" for found in (sources, tested)
                )
                raise ValueError(
                    f"test.{purpose}: its sets ({own}) must have the names of those of {purpose} ({names}), so that a "
                    "score on test can stand beside that on validation"
                )
        return self

    @model_validator(mode="after")
    def _splits_are_apart(self) -> Self:
        for key, source in self._of("train"):
            if isinstance(source, EmojiCaptions) and source.split != "train":
                raise ValueError(f"{key}.split: only the split train has training pictures, not {source.split}")
        for first, second in _APART:
            for (key, source), (other_key, other) in product(self._of(first), self._of(second)):
                if share_items(source, other):
                    raise ValueError(
                        f"{key}: it and data.{other_key} use the same items, so that scores mean nothing: train, retrieval, vqa and "
                        "test must use different splits, or shares of one (with one share_seed) that do not overlap, for example share: [0, 0.9] "
                        "and share: [0.9, 1]"
                    )
        return self
