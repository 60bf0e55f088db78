"""What each step of a trial sees: a worker's share of pictures and captions, and what the teacher makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainables.config import TrialPlan
from trainables.data.mixture import load_training
from trainables.distributed import gather, worker
from trainables.sampling import BatchSampler, Draw
from trainables.teacher_cache import TeacherCache


@dataclass(frozen=True)
class Targets:
    """What the teacher makes of B images with G captions each, and how much a caption counts."""

    image: Tensor  # [B, D]
    text: Tensor  # [G, B, D]
    control: Tensor  # [B, D]: captions in the control language
    weight: Tensor  # [G, B]: of the caption's language, 0 where it is missing
    image_states: tuple[Tensor, ...]  # [B, H] a matched layer
    text_states: tuple[Tensor, ...]  # [G, B, H] a matched layer

    def gathered(self) -> Targets:
        """Those of the batch of all workers, but for hidden states, whose distances are gathered instead; all workers
        must ask together."""
        return replace(
            self,
            image=gather(self.image),
            text=gather(self.text, dim=1),
            control=gather(self.control),
            weight=gather(self.weight, dim=1),
        )

    def changed(self, change: Callable[[Tensor], Tensor]) -> Targets:
        """``change`` done to every tensor."""
        image_states, text_states = (tuple(map(change, states)) for states in (self.image_states, self.text_states))
        image, text, control, weight = map(change, (self.image, self.text, self.control, self.weight))
        return Targets(image, text, control, weight, image_states, text_states)


@dataclass(frozen=True)
class Batch:
    """A worker's share of a step."""

    draw: Draw
    images: Tensor  # uint8 [B, H, W, 3]
    views: Tensor  # [B, 2, 3]: the parameters of each view, for `apply_views`
    tokens: Tensor  # [G, B, T]
    targets: Targets

    def changed(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """``change`` done to every tensor."""
        images, views, tokens = map(change, (self.images, self.views, self.tokens))
        return Batch(self.draw, images, views, tokens, self.targets.changed(change))

    def on(self, device: torch.device) -> Batch:
        """The same on a device, in the types that are computed with there."""
        there = self.changed(lambda tensor: tensor.to(device, non_blocking=True))
        return replace(there, tokens=there.tokens.long(), targets=there.targets.changed(Tensor.float))

    def part(self, number: int, parts: int) -> Batch:
        """One of several equal parts, as a student sees it: the targets stay those of all."""
        images, views = (torch.tensor_split(rows, parts)[number] for rows in (self.images, self.views))
        tokens = torch.tensor_split(self.tokens, parts, dim=1)[number]
        return replace(self, draw=self.draw.part(number, parts), images=images, views=views, tokens=tokens)


class Batches:
    """The batches of a trial by their steps, each a function of the plan and its step alone.

    With ``plan.prefetch`` a thread reads that many ahead while the present one is trained on, for a GPU into pinned
    memory, from which a copy waits for nothing.
    """

    def __init__(
        self, plan: TrialPlan, image_layers: Sequence[int], text_layers: Sequence[int], device: torch.device
    ) -> None:
        """The layers are the teacher's that are matched, counted from 0.

        Raises:
            ValueError: if an image has no caption in the control language, a layer is not in the cache, or the batch
                cannot be drawn.
        """
        training, (rank, workers) = plan.training, worker()
        self._device, self._rank, self._workers = device, rank, workers
        self._steps, self._ahead = training.steps, plan.prefetch
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="batches") if plan.prefetch else None
        self._read_ahead: dict[int, Future[Batch]] = {}
        self.data = load_training(Path(plan.paths.train))
        self.cache = TeacherCache.load(Path(plan.paths.cache))
        languages = list(self.data.languages)
        self._sampler = BatchSampler(
            self.data,
            training.batch_size,
            training.captions_per_image,
            self.cache.views.shape[1],
            plan.seed,
            weights=plan.part_weights,
            parts=workers * training.accumulation,
        )
        self.control = languages.index(plan.control_language)
        controlled = np.asarray(self.data.text_item)[np.asarray(self.data.present[self.control])]
        missing = int((~np.isin(self.data.image_item, controlled)).sum())
        if missing:
            raise ValueError(f"{missing} images have no caption in the control language {plan.control_language}")
        self._weights = np.asarray([plan.language_weights[language] for language in languages], np.float32)
        self.image_rows = [list(self.cache.image_layer_numbers).index(layer) for layer in image_layers]
        self.text_rows = [list(self.cache.text_layer_numbers).index(layer) for layer in text_layers]

    def at(self, step: int) -> Batch:
        """This worker's share of a step, counted from 0, on the device."""
        if self._reader is None:
            return self._read(step).on(self._device)
        wanted = (step, *range(step + 1, min(step + self._ahead + 1, self._steps)))
        self._read_ahead = {
            number: self._read_ahead.get(number) or self._reader.submit(self._read, number) for number in wanted
        }
        return self._read_ahead.pop(step).result().on(self._device)

    def _read(self, step: int) -> Batch:
        draw, cached = self._sampler.draw(step).part(self._rank, self._workers), self.cache
        of_image, of_text = (draw.images, draw.views), (draw.languages, draw.texts)
        batch = Batch(
            draw=draw,
            images=torch.from_numpy(self.data.images[draw.images]),
            views=torch.from_numpy(cached.views[of_image]),
            tokens=torch.from_numpy(self.data.tokens[of_text]),
            targets=Targets(
                image=torch.from_numpy(cached.image[of_image]),
                text=torch.from_numpy(cached.text[of_text]),
                control=torch.from_numpy(cached.text[self.control, draw.captions[self.control]]),
                weight=torch.from_numpy(self._weights[draw.languages] * draw.present),
                image_states=tuple(torch.from_numpy(cached.image_layers[row][of_image]) for row in self.image_rows),
                text_states=tuple(torch.from_numpy(cached.text_layers[row][of_text]) for row in self.text_rows),
            ),
        )
        return batch.changed(Tensor.pin_memory) if self._ahead and self._device.type == "cuda" else batch

    def random_targets(self, count: int, seed: Sequence[int]) -> Tensor:
        """So many random embeddings of the teacher's, half of images and half of captions, [count, D]."""
        rng, cached = np.random.default_rng(seed), self.cache
        images, captions = count // 2, count - count // 2
        there, views = cached.image.shape[:2]
        languages, texts = np.nonzero(self.data.present)
        chosen = rng.integers(len(languages), size=captions)
        return torch.cat(
            [
                torch.from_numpy(cached.image[rng.integers(there, size=images), rng.integers(views, size=images)]),
                torch.from_numpy(cached.text[languages[chosen], texts[chosen]]),
            ]
        ).to(self._device, torch.float32)
