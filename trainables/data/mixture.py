"""Training data of several sources as one: what is small is joined, pictures stay where each source has them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from trainables.artifact_mirror import at_hand
from trainables.artifacts import artifact
from trainables.data.images import JoinedImages
from trainables.data.prepared import CaptionedImages, TextWriter, save_array

_STAGE_VERSION = 1  # raise it when the same parts give other arrays
_PARTS = "images.json"  # in a mixture's folder: those of its parts, relative to it
_TEXTS = 4096  # written at once


def load_training(folder: Path) -> CaptionedImages:
    """The training data in a folder, be it of one source or a mixture, whose ``images`` are then `JoinedImages`.

    Raises:
        FileNotFoundError: if a field's file, or a part, is missing.
    """
    data = CaptionedImages.load(folder)
    if not (folder / _PARTS).exists():
        return data
    parts = json.loads((folder / _PARTS).read_text(encoding="utf-8"))
    found = [at_hand(Path(os.path.normpath(folder / part))) for part in parts]
    return replace(data, images=JoinedImages([CaptionedImages.load(part).images for part in found]))


def prepare_mixture(parts: Sequence[Path], languages: Sequence[str]) -> Path:
    """The folder of a mixture of prepared parts, each of some of the ``languages``; `load_training` opens it.

    What a part lacks a language of is missing there, as a caption may be. Items of different parts are different ones.
    """

    def build(folder: Path) -> None:
        opened = [CaptionedImages.load(part) for part in parts]
        texts = sum(len(part.text_item) for part in opened)
        shape = (len(languages), texts, opened[0].tokens.shape[-1])
        tokens = np.lib.format.open_memmap(folder / "tokens.npy", "w+", np.int32, shape)
        present = np.zeros(shape[:2], np.bool_)
        image_item, text_item = [], []
        first, item = 0, 0
        with TextWriter(folder, "texts", len(languages)) as writer:
            for part in opened:
                rows = slice(first, first + len(part.text_item))
                places = {language: place for place, language in enumerate(part.languages)}
                for number, language in enumerate(languages):
                    if language in places:
                        tokens[number, rows] = part.tokens[places[language]]
                        present[number, rows] = part.present[places[language]]
                _write_texts(writer, part, [places.get(language) for language in languages])
                image_item.append(np.asarray(part.image_item) + item)
                text_item.append(np.asarray(part.text_item) + item)
                first, item = rows.stop, 1 + int(max(image_item[-1].max(), text_item[-1].max()))
        tokens.flush()
        save_array(folder / "present.npy", present)
        save_array(folder / "image_item.npy", np.concatenate(image_item))
        save_array(folder / "text_item.npy", np.concatenate(text_item))
        (folder / "languages.json").write_text(json.dumps(list(languages)), encoding="utf-8")
        # From where the mixture will lie, beside the folder that it is built in; the cache may be moved as a whole.
        places_of = [os.path.relpath(part, folder) for part in parts]
        (folder / _PARTS).write_text(json.dumps(places_of), encoding="utf-8")

    fields = {"parts": [part.name for part in parts], "languages": list(languages), "stage": _STAGE_VERSION}
    return artifact("mixture", fields, build)


def _write_texts(writer: TextWriter, part: CaptionedImages, places: Sequence[int | None]) -> None:
    """The texts of a part as columns; ``places``: of each column's language in the part, None where it has none."""
    for start in range(0, len(part.text_item), _TEXTS):
        stop = min(start + _TEXTS, len(part.text_item))
        writer.write([[""] * (stop - start) if place is None else part.texts[place][start:stop] for place in places])
