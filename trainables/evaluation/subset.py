"""A fixed random part of the items of each set, for evaluation that is cheap enough to repeat."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from itertools import compress

import numpy as np

from trainables.data.prepared import Array, CaptionedImages, VisualQuestions


def subset(
    retrieval: Mapping[str, CaptionedImages], vqa: Mapping[str, VisualQuestions], share: float, seed: int
) -> tuple[dict[str, CaptionedImages], dict[str, VisualQuestions]]:
    """A share of the items of each set, by their names; every language has some."""
    rng = np.random.default_rng(seed)
    captions = {name: _captions(data, share, rng) for name, data in retrieval.items()}
    return captions, {name: _questions(data, share, rng) for name, data in vqa.items()}


def _captions(data: CaptionedImages, share: float, rng: np.random.Generator) -> CaptionedImages:
    items, place = np.unique(data.text_item, return_inverse=True)
    named = np.zeros((len(data.languages), len(items)), np.bool_)
    languages, rows = np.nonzero(data.present)
    named[languages, place[rows]] = True
    items = items[_part(named, share, rng)]
    texts = np.isin(data.text_item, items)
    images = np.flatnonzero(np.isin(data.image_item, items))
    return CaptionedImages(
        languages=data.languages,
        images=data.images[images],
        image_item=data.image_item[images],
        tokens=data.tokens[:, texts],
        present=data.present[:, texts],
        text_item=data.text_item[texts],
        texts=[list(compress(row, texts)) for row in data.texts],
    )


def _questions(data: VisualQuestions, share: float, rng: np.random.Generator) -> VisualQuestions:
    asked = _part(data.asked, share, rng)
    return dataclasses.replace(
        data, images=data.images[asked], options=data.options[:, asked], answer=data.answer[asked]
    )


def _part(has: Array, share: float, rng: np.random.Generator) -> Array:
    """Columns of ``has``, bool [L, N], drawn at random and in order: a share of all, and of those of each language."""
    drawn = rng.choice(has.shape[1], max(1, round(share * has.shape[1])), replace=False)
    for own in map(np.flatnonzero, has):
        missing = max(1, round(share * len(own))) - int(np.isin(own, drawn).sum())
        if missing > 0:  # never where all languages have the same items
            drawn = np.concatenate([drawn, rng.choice(np.setdiff1d(own, drawn), missing, replace=False)])
    return np.sort(drawn)
