"""Which images, views and captions a training step sees: a pure function of data, seed and step.

Nothing is carried from step to step, so a trial that goes on from a checkpoint sees what it would have seen, and every
worker of a trial draws the whole batch and takes its own part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate, pairwise
from math import lcm

import numpy as np

from trainables.data.images import Images, JoinedImages
from trainables.data.prepared import Array, CaptionedImages
from trainables.data.report import DataError


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
    """Epochs of shuffled images; for each image a random view and captions in random languages that it has.

    The parts of a mixture with weights have epochs of their own, and each its share of every batch.
    """

    def __init__(
        self,
        data: CaptionedImages,
        batch_size: int,
        captions: int,
        views: int,
        seed: int,
        exposure: Array | None = None,
        weights: Sequence[float] | None = None,
        parts: int = 1,
    ) -> None:
        """``exposure``: relative frequency of each language, [L]; uniform if None. ``weights``: of the parts of a mixture,
        relative to each other; None: all images alike. ``parts``: equal ones that a batch must fall into; where there are
        fewer images than a batch wants, a few are left out for it.

        Raises:
            ValueError: if an image has no caption, or there are fewer images than parts.
        """
        self._seed = seed
        self._views = views
        self._captions = captions
        self._count = len(data.image_item)
        self._batch_size = min(batch_size, self._count) // parts * parts
        if not self._batch_size:
            raise ValueError(f"{self._count} training images cannot be shared by {parts} parts of a batch")
        self._epochs = _epochs(self._count, seed, 0)
        self._mixture = None if weights is None else _Mixture(data.images, weights, self._batch_size, seed)
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
        images = self._epoch_batch(step) if self._mixture is None else self._mixture.draw(step)
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

    def _epoch_batch(self, step: int) -> Array:
        """The images of a step, all of the data alike; what is left of an epoch, less than a batch, is not shown."""
        epoch, place = divmod(step, self._count // self._batch_size)
        return self._epochs(epoch)[place * self._batch_size : (place + 1) * self._batch_size]


class _Mixture:
    """Draws from parts by their weights.

    Each part is a stream of shuffled epochs, whole ones, of which a step takes the next few. How many were taken before
    a step is known without looking back: the parts up to the j-th together have, of S steps of B images, the share
    W_j = (w_1 + … + w_j) / (w_1 + … + w_K) rounded down, ⌊S·B·W_j⌋. So all batches up to a step differ from a part's
    share by less than one image, and a single batch by less than two; a share is at least one image a batch, or else
    ⌊·⌋ of neighbours could differ by −1. A batch may lie across the end of an epoch, and
    then have an image twice.
    """

    def __init__(self, images: Images, weights: Sequence[float], batch_size: int, seed: int) -> None:
        assert isinstance(images, JoinedImages)
        self._sizes, self._batch_size, self._seed = images.sizes, batch_size, seed
        self._epochs = [_epochs(size, seed, 3, part) for part, size in enumerate(images.sizes)]
        shares = _whole_numbers(weights)
        self._up_to, self._whole = [0, *accumulate(shares)], sum(shares)

    def draw(self, step: int) -> Array:
        """The images of a step, counted from 0, parts in a random order, so that each worker's share has all."""
        before, after = self._taken(step), self._taken(step + 1)
        starts = np.cumsum([0, *self._sizes])
        images = np.concatenate(
            [starts[part] + self._of_part(part, before[part], after[part]) for part in range(len(self._sizes))]
        )
        return np.random.default_rng((self._seed, 4, step)).permutation(images)

    def _taken(self, steps: int) -> list[int]:
        """How many images of each part so many steps take."""
        return [
            upper - lower
            for lower, upper in pairwise(steps * self._batch_size * share // self._whole for share in self._up_to)
        ]

    def _of_part(self, part: int, start: int, stop: int) -> Array:
        """The images from ``start`` to ``stop`` of a part's stream, counted from the part's first."""
        places = np.arange(start, stop)
        found = np.empty(len(places), np.int64)
        epochs = places // self._sizes[part]
        for epoch in np.unique(epochs):
            here = epochs == epoch
            found[here] = self._epochs[part](int(epoch))[places[here] % self._sizes[part]]
        return found


def _epochs(count: int, *seed: int) -> Callable[[int], Array]:
    """Shuffled epochs of so many images by their numbers. The last two are kept: a step takes a few images of one, or of
    two neighbours, and to shuffle three million takes a tenth of a second."""

    @lru_cache(maxsize=2)
    def shuffled(epoch: int) -> Array:
        return np.random.default_rng((*seed, epoch)).permutation(count)

    return shuffled


def check_weights(sizes: Mapping[str, int], weights: Sequence[float], key: str, batch_size: int) -> None:
    """Hold the weights of a mixture's parts against their images; ``key``: what sets the size of a batch.

    Raises:
        DataError: if a part's share of a batch is less than one image, or more than the part has.
    """
    shares = dict(zip(sizes, _whole_numbers(weights), strict=True))
    batch_size = min(batch_size, sum(sizes.values()))
    for name, share in shares.items():
        if batch_size * share < sum(shares.values()):
            raise DataError(
                f"data.train.{name}.weight: its share of a batch of {batch_size} ({key}) is less than one picture: raise "
                "one of the two"
            )
        most = -(-batch_size * share // sum(shares.values()))
        if most > sizes[name]:
            raise DataError(
                f"data.train.{name}.weight: its share of a batch of {batch_size} ({key}) is {most} pictures, but it has "
                f"{sizes[name]}: lower one of the two"
            )


def _whole_numbers(weights: Sequence[float]) -> list[int]:
    """Whole numbers in the same proportions as decimal ones."""
    exact = [Fraction(str(weight)) for weight in weights]
    common = lcm(*(weight.denominator for weight in exact))
    return [int(weight * common) for weight in exact]
