"""Where pictures, captions and questions come from, as a study's configuration says it: typed, checked, nothing read."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from trainables.data.emoji import Split
from trainables.models.spec import Count, Typed, shaped_like
from trainables.recipe import Positive

PLACEHOLDER = "{language}"
_LANGUAGE = r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*"  # the form of a BCP 47 tag (RFC 5646, section 2.1)
_PROMPT = r"([^{}]|\{(question|answer)\})*\{answer\}([^{}]|\{(question|answer)\})*"
_HUB_ID = re.compile(r"[\w.{}-]+(/[\w.{}-]+)?", re.ASCII)

Language = Annotated[str, shaped_like(_LANGUAGE)]
Share = Annotated[float, Field(ge=0, le=1, strict=True)]


class Captions(Typed):
    """What training and retrieval take."""

    weight: Positive | None = None
    """Of a part of a mixture: its share of every batch, relative to the others'; null: as many as it has pictures."""


class EmojiCaptions(Captions):
    """The embedded pictures with their names."""

    source: Literal["emoji"] = "emoji"
    """The embedded pictures."""
    split: Split = "train"
    """Which of their parts, which have no picture in common."""


class EmojiQuestions(Typed):
    """Multiple-choice questions on the embedded pictures, drawn in a style that training does not show."""

    source: Literal["emoji_vqa"] = "emoji_vqa"
    """The embedded questions."""
    split: Literal["validation", "test"] = "validation"
    """Which of their parts, which have no question in common."""


class OwnData(Typed):
    """Data of the user's own, on the hub or in files, read by the `datasets` library."""

    revision: str | None = None
    """The commit of a hub data set, so that the data stays what it is; null for files."""
    source: str
    """A hub id; or a folder (of `save_to_disk`, of data files, or of pictures with a metadata file), a file or a glob of
    them, here or at an fsspec URL."""
    config: str | None = None
    """A hub data set's configuration."""
    split: str = "train"
    """The split of a hub data set, or of a folder that has several."""
    share: tuple[Share, Share] = (0.0, 1.0)
    """Items whose hash, a number from 0 to 1 that their id and `share_seed` alone decide, is at least the first and below
    the second."""
    languages: tuple[Language, ...] | None = None
    """Those of the study that it has; null: all."""
    share_seed: Annotated[int, Field(ge=0, lt=2**63, strict=True)] = 0
    """Another one splits the items anew."""
    image: str = "image"
    """The column of pictures."""
    max_bad: Share = 0.01
    """This share of the rows may be bad: they are skipped; more are refused."""
    min_items: Count = 10
    """A source with fewer in any language is refused."""

    @field_validator("source")
    @classmethod
    def _is_whole(cls, source: str, info: ValidationInfo) -> str:
        """A path is made absolute: the stages of a study may run elsewhere, and it may go on from another folder."""
        revision = info.data.get("revision")
        keeps_no_secret(source)
        if revision is not None and not _HUB_ID.fullmatch(source):
            raise ValueError(f"{source!r} with a revision, {revision}, should be a hub id such as owner/name")
        if revision is not None or "://" in source:
            return source
        return str(Path(source).expanduser().absolute())

    @field_validator("share")
    @classmethod
    def _rises(cls, share: tuple[float, float]) -> tuple[float, float]:
        if share[0] >= share[1]:
            raise ValueError(f"from {share[0]:g} to {share[1]:g} is no part of the items: the first must be smaller")
        return share

    @field_validator("languages")
    @classmethod
    def _lists_some(cls, languages: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if languages == ():
            raise ValueError("none is left: name those of data.languages that the source has, or null for all")
        return languages

    def content(self) -> dict[str, Any]:
        """What says which rows it has and how they are read, whatever use a study makes of them."""
        return self.model_dump(mode="json", exclude={"languages", "weight"})

    def places(self, languages: tuple[str, ...]) -> dict[str, tuple[str, str | None, str]]:
        """Source, configuration and split of each language: the same for all but in `PerLanguageCaptions`."""
        return dict.fromkeys(languages, (self.source, self.config, self.split))

    def needed(self, languages: tuple[str, ...]) -> dict[str, str]:
        """The columns that must be there, by the setting that names each."""
        return {"image": self.image}


class WideCaptions(OwnData, Captions):
    """A row an item: a picture, and a column a language, each a caption or a list of captions."""

    layout: Literal["wide"]
    """A row an item, a column a language."""
    id: str | None = None
    """The column of ids; without one every row is an item of its own."""
    columns: str | dict[str, str] = PLACEHOLDER
    """A pattern of column names that contains `{language}`, or the column of each language."""

    @field_validator("columns")
    @classmethod
    def _differ(cls, columns: str | dict[str, str]) -> str | dict[str, str]:
        if isinstance(columns, str) and PLACEHOLDER not in columns:
            raise ValueError(f"{columns!r} has no {PLACEHOLDER}: it would be the same column in every language")
        return columns

    def needed(self, languages: tuple[str, ...]) -> dict[str, str]:
        captions = {f"columns.{language}": self.column(language) for language in languages}
        return super().needed(languages) | captions | ({"id": self.id} if self.id else {})

    def column(self, language: str) -> str:
        """The column of a language.

        Raises:
            ValueError: if the languages are listed, and this one is not among them.
        """
        if isinstance(self.columns, str):
            return self.columns.replace(PLACEHOLDER, language)
        if language not in self.columns:
            raise ValueError(f"columns: none for language {language}: there are {', '.join(self.columns)}")
        return self.columns[language]


class PerLanguageCaptions(OwnData, Captions):
    """A split, a configuration or a file a language, whose rows are joined by their ids.

    What differs is said by `{language}` in `source`, `config` or `split`.
    """

    layout: Literal["per_language"]
    """A row an item in one language."""
    id: str
    """The column by which the languages are joined."""
    caption: str = "caption"
    """The column of captions, each one or a list."""
    names: dict[str, str] = Field(default={})
    """What the data calls a language, where that is not its code."""

    @model_validator(mode="after")
    def _languages_differ(self) -> Self:
        if not any(PLACEHOLDER in part for part in (self.source, self.config or "", self.split)):
            raise ValueError(
                f"a file, a configuration or a split a language: write {PLACEHOLDER} in source, config or split, for "
                f"example split: '{PLACEHOLDER}'"
            )
        return self

    def needed(self, languages: tuple[str, ...]) -> dict[str, str]:
        return {"id": self.id, "caption": self.caption}  # one language may have the pictures of all

    def places(self, languages: tuple[str, ...]) -> dict[str, tuple[str, str | None, str]]:
        found = {}
        for language in languages:
            name = self.names.get(language, language)
            source, config, split = (
                part and part.replace(PLACEHOLDER, name) for part in (self.source, self.config, self.split)
            )
            assert source
            assert split
            found[language] = (source, config, split)
        return found


class Translation(Typed):
    """The same questions in one more language, in columns of their own."""

    language: Language
    """The language of these columns."""
    question: str = "Translated Question"
    """The column of questions."""
    options: str = "Translated Options"
    """The column of answers."""


class OwnQuestions(OwnData):
    """Multiple-choice questions, a row a question and language, as CVQA has them (arXiv 2406.05967)."""

    layout: Literal["cvqa"]
    """A row a question in one language."""
    id: str | None = None
    """The column of ids. Rows of one id are one question in several languages; without a column of ids every row is a
    question of its own."""
    question: str = "Question"
    """The column of questions."""
    options: str = "Options"
    """The column of answers: a list of 2 to 26, or one string that lists them."""
    label: str = "Label"
    """The column of the right answer: its place counted from 0, its letter or its text."""
    language: str = "Subset"
    """The column of languages."""
    names: dict[str, str | tuple[str, ...]] = Field(default={})
    """What the language column calls a language, where that is not its code; of a pair such as ('Spanish', 'Mexico') the
    whole, or its first part."""
    translation: Translation | None = None
    """The same questions in one more language; null: none."""
    # A study fills it in where it is null.
    prompt: Annotated[str, shaped_like(_PROMPT), Field(json_schema_extra={"type": ["string", "null"]})] = (
        "{question} {answer}"
    )
    """What is compared with the picture: `{answer}`, with or without `{question}`. A study whose teacher is fitted on
    captions, which has never read a question, has `{answer}` alone by default."""

    @field_validator("prompt")
    @classmethod
    def _holds_the_answer(cls, prompt: str) -> str:
        fields = _fields(prompt)
        if "answer" not in fields or not fields <= {"question", "answer"}:
            raise ValueError(f"{prompt!r} should contain {{answer}}, may contain {{question}}, and no other braces")
        return prompt

    def needed(self, languages: tuple[str, ...]) -> dict[str, str]:
        columns = {name: getattr(self, name) for name in ("question", "options", "label", "language")}
        if self.translation:
            columns["translation.question"] = self.translation.question
            columns["translation.options"] = self.translation.options
        if not self.uses_question:
            columns = {name: column for name, column in columns.items() if not name.endswith("question")}
        return super().needed(languages) | columns | ({"id": self.id} if self.id else {})

    @property
    def uses_question(self) -> bool:
        """Whether the prompt holds the question."""
        return "question" in _fields(self.prompt)

    def language_names(self, language: str) -> tuple[str, ...]:
        """What the language column may call a language."""
        names = self.names.get(language, language)
        return (names,) if isinstance(names, str) else names


def keeps_no_secret(source: str) -> None:
    """Raises:
    ValueError: if a source is a URL that has, or may have, a password in it.
    """
    if "://" not in source:
        return
    parts = urlsplit(source)
    if "@" in parts.netloc:
        raise ValueError(
            f"{parts.scheme}://{parts.netloc.rpartition('@')[2]} has a user or a password before it, which would be "
            "written down: leave them to the environment, for example AWS_ACCESS_KEY_ID, or to ~/.netrc for HTTP"
        )
    if parts.scheme in ("http", "https") and (parts.query or parts.fragment):
        raise ValueError(
            f"{parts.scheme}://{parts.netloc}{parts.path} has more after it, a query, which may hold a password and "
            "would be written down: name a file without one"
        )


def _fields(template: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(template) if name is not None}


def check_language(language: str) -> None:
    """Raises:
    ValueError: if it does not have the form of a BCP 47 code.
    """
    if not re.fullmatch(_LANGUAGE, language):
        raise ValueError(f"'{language}' is no language code such as de, pt-BR or zh-Hant (BCP 47)")


def languages_of(source: Typed, languages: tuple[str, ...]) -> tuple[str, ...]:
    """Those of a study's ``languages`` that a source has, in the study's order."""
    own = source.languages if isinstance(source, OwnData) else None
    return languages if own is None else tuple(language for language in languages if language in own)


def share_items(first: Typed, second: Typed) -> bool:
    """Whether two sources name the same rows, as far as their configuration says."""
    if isinstance(first, EmojiCaptions) and isinstance(second, EmojiCaptions):
        return first.split == second.split
    if isinstance(first, OwnData) and isinstance(second, OwnData):
        same = all(getattr(first, name) == getattr(second, name) for name in ("source", "revision", "config", "split"))
        overlap = max(first.share[0], second.share[0]) < min(first.share[1], second.share[1])
        return same and (overlap or first.share_seed != second.share_seed)
    return first == second


def _kind(value: Any) -> str:
    layout = value.get("layout") if isinstance(value, dict) else getattr(value, "layout", None)
    return f"[{layout or 'embedded'}]"  # pydantic puts it into the key of a mistake: see `study.mistakes`


def _with_layout(embedded: str, layouts: tuple[str, ...]) -> Any:
    def check(value: Any) -> Any:
        if isinstance(value, Typed):
            return value
        if not isinstance(value, dict):
            shown = "empty" if value is None else repr(value)
            raise ValueError(f"should be a section of keys and values, not {shown}")
        source, layout = value.get("source", embedded), value.get("layout")
        keeps_no_secret(str(source))
        if layout is None:
            if source == embedded:
                return value
            near = difflib.get_close_matches(str(source), [embedded], 1)
            raise ValueError(
                f"layout: {source} needs one, {' or '.join(layouts)}"
                + (f"; or did you mean source: {near[0]}?" if near else "")
            )
        if layout not in layouts:
            near = difflib.get_close_matches(str(layout), layouts, 1)
            raise ValueError(
                f"layout: should be {' or '.join(layouts)}{f' (did you mean {near[0]}?)' if near else ''}, not {layout!r}"
            )
        return value

    return BeforeValidator(check)


CaptionSource = Annotated[
    Annotated[EmojiCaptions, Tag("[embedded]")]
    | Annotated[WideCaptions, Tag("[wide]")]
    | Annotated[PerLanguageCaptions, Tag("[per_language]")],
    Discriminator(_kind),
    _with_layout("emoji", ("wide", "per_language")),
]
QuestionSource = Annotated[
    Annotated[EmojiQuestions, Tag("[embedded]")] | Annotated[OwnQuestions, Tag("[cvqa]")],
    Discriminator(_kind),
    _with_layout("emoji_vqa", ("cvqa",)),
]
