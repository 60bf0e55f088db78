"""Which images, views and captions a training step sees: a pure function of data, seed and step.

Nothing is carried from step to step, so a trial that goes on from a checkpoint sees what it would have seen, and every
worker of a trial draws the whole batch and takes its own part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainables.data.prepared import Array, CaptionedImages


@dataclass(frozen=True)
class Draw:
    """Indices of one batch: B images, G captions each."""

    images: Array  # [B] rows of images
    views: Array  # [B]
    languages: Array  # [G, B]
    texts: Array  # [G, B] rows of tokens
    captions: Array  # [L, B] the row that each language would show; of one that lacks them all, the image's first
    present: Array  # bool [G, B]

    def part(self, worker: int, workers: int) -> Draw:
        """The columns of one of several workers."""
        columns = np.array_split(np.arange(len(self.images)), workers)[worker]
        return Draw(
            self.images[columns],
            self.views[columns],
            self.languages[:, columns],
            self.texts[:, columns],
            self.captions[:, columns],
            self.present[:, columns],
        )


class BatchSampler:
    """Epochs of shuffled images; for each image a random view and captions in random languages that it has."""

    def __init__(
        self,
        data: CaptionedImages,
        batch_size: int,
        captions: int,
        views: int,
        seed: int,
        exposure: Array | None = None,
    ) -> None:
        """``exposure``: relative frequency of each language, [L]; uniform if None.

        Raises:
            ValueError: if an image has no caption.
        """
        self._seed = seed
        self._views = views
        self._captions = captions
        self._count = len(data.image_item)
        self._batch_size = min(batch_size, self._count)
        count = len(data.languages)
        self._exposure = np.ones(count) if exposure is None else np.asarray(exposure, float)
        # The caption rows of each image in each language: a run in the order of items.
        order = np.argsort(data.text_item, kind="stable")
        self._rows: list[Array] = []
        self._first = np.empty((count, self._count), np.int64)
        self._many = np.empty((count, self._count), np.int64)
        for language, present in enumerate(np.asarray(data.present)):
            rows = order[present[order]]
            items = np.asarray(data.text_item)[rows]
            self._first[language] = np.searchsorted(items, data.image_item, side="left")
            self._many[language] = np.searchsorted(items, data.image_item, side="right") - self._first[language]
            self._rows.append(np.append(rows, 0))  # one more, for images after the last that has a caption
        every = np.asarray(data.text_item)[order]
        self._own = np.append(order, 0)[np.searchsorted(every, data.image_item, side="left")]
        lonely = int((self._many.sum(axis=0) == 0).sum())
        if lonely:
            raise ValueError(f"{lonely} training images have no caption")

    def draw(self, step: int) -> Draw:
        """The batch of a step, counted from 0."""
        per_epoch = self._count // self._batch_size
        epoch, place = divmod(step, per_epoch)
        shuffled = np.random.default_rng((self._seed, 0, epoch)).permutation(self._count)
        images = shuffled[place * self._batch_size : (place + 1) * self._batch_size]
        rng = np.random.default_rng((self._seed, 1, step))
        # One place for all languages: captions that are translations of each other stay together.
        turn = rng.random(len(images))
        many = self._many[:, images]
        offset = self._first[:, images] + (turn * many).astype(np.int64)
        captions = np.stack([rows[offset[language]] for language, rows in enumerate(self._rows)])
        captions = np.where(many > 0, captions, self._own[images])
        # Languages without replacement in proportion to their exposure, among those present: the G smallest of
        # exponential variables with these rates (Efraimidis & Spirakis 2006).
        rate = self._exposure[:, None] * (many > 0)
        with np.errstate(divide="ignore"):
            arrival = rng.exponential(size=rate.shape) / rate
        languages = np.argsort(arrival, axis=0)[: self._captions]
        return Draw(
            images=images,
            views=rng.integers(self._views, size=len(images)),
            languages=languages,
            texts=np.take_along_axis(captions, languages, axis=0),
            captions=captions,
            present=np.take_along_axis(np.isfinite(arrival), languages, axis=0),
        )
