"""One student under distillation: its state, and a training step that turns a batch into named losses and an update."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import record_function

from trainables.accumulation import Outputs, backward_in_parts
from trainables.config import TrialPlan
from trainables.data.augment import apply_views
from trainables.data.mixture import load_training
from trainables.data.prepared import Array
from trainables.device import attention_with_gradients, computing
from trainables.distributed import data_parallel, gather, worker
from trainables.layer_mapping import layer_distances, layer_loss, mapped_layers
from trainables.models.dual_encoder import DualEncoder
from trainables.models.factory import load_model, read_vocabulary
from trainables.optimizer import Muon, schedule
from trainables.sampling import BatchSampler, Draw
from trainables.strategies import STRATEGIES, DistillationBatch
from trainables.student import make_student
from trainables.teacher_cache import TeacherCache


class _Towers(nn.Module):
    """Both towers and the projections of matched layers in one forward pass, as data-parallel training needs it."""

    def __init__(self, student: DualEncoder, image_maps: list[nn.Module], text_maps: list[nn.Module]) -> None:
        super().__init__()
        self.student = student
        self.image_maps = nn.ModuleList(image_maps)
        self.text_maps = nn.ModuleList(text_maps)

    def forward(self, pixels: Tensor, tokens: Tensor) -> Outputs:
        """Pixels [B, 3, H, W] and tokens [G·B, T], a caption of all images after another."""
        with attention_with_gradients(pixels.device, self.student.spec.image.patches):
            image = self.student.encode_image(pixels)
        with attention_with_gradients(pixels.device, tokens.shape[1]):
            text = self.student.encode_text(tokens)
        shape = (len(tokens) // len(pixels), len(pixels), -1)
        return Outputs(
            image.embedding,
            text.embedding.reshape(shape),
            tuple(project(h) for project, h in zip(self.image_maps, image.layers, strict=False)),
            tuple(project(h).reshape(shape) for project, h in zip(self.text_maps, text.layers, strict=False)),
            self.student.logit_scale,
            self.student.logit_bias,
        )


@dataclass(frozen=True)
class Targets:
    """What the teacher makes of a batch of all workers, as `DistillationBatch` has it, and of this worker's layers."""

    image: Tensor
    text: Tensor
    control: Tensor
    weight: Tensor
    image_states: list[Tensor]  # [B, H] a matched layer
    text_states: list[Tensor]  # [G, B, H] a matched layer


class Distiller:
    """A student, what it learns from, and how: built from a plan, advanced by `step`, saved and restored whole."""

    def __init__(self, plan: TrialPlan, device: torch.device) -> None:
        self._plan, self._device = plan, device
        recipe, training = plan.recipe, plan.training
        self._data = load_training(Path(plan.paths.train))
        self._cache = TeacherCache.load(Path(plan.paths.cache))
        teacher = load_model(Path(plan.paths.teacher))
        vocabulary = read_vocabulary(Path(plan.paths.vocabulary)) if plan.paths.vocabulary else None
        self.student = make_student(plan.student, teacher, recipe, plan.seed, plan.inherit, vocabulary).to(device)
        languages = list(self._data.languages)
        self._sampler = BatchSampler(
            self._data,
            training.batch_size,
            training.captions_per_image,
            self._cache.views.shape[1],
            plan.seed,
            weights=plan.part_weights,
            parts=worker()[1] * training.accumulation,
        )
        self._control = languages.index(plan.control_language)
        controlled = np.asarray(self._data.text_item)[np.asarray(self._data.present[self._control])]
        missing = int((~np.isin(self._data.image_item, controlled)).sum())
        if missing:
            raise ValueError(f"{missing} images have no caption in the control language {plan.control_language}")
        self._weights = np.asarray([plan.language_weights[language] for language in languages], np.float32)

        matches = recipe.layer_weight > 0
        spec, source = plan.student, teacher.spec
        image_map = mapped_layers(recipe.image_mapping, spec.image.layers, source.image.layers) if matches else ()
        text_map = mapped_layers(recipe.text_mapping, spec.text.layers, source.text.layers) if matches else ()
        self._image_rows = [list(self._cache.image_layer_numbers).index(layer) for layer in image_map]
        self._text_rows = [list(self._cache.text_layer_numbers).index(layer) for layer in text_map]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(plan.seed)
            towers = _Towers(
                self.student,
                [_projection(spec.image.width, source.image.width) for _ in image_map],
                [_projection(spec.text.width, source.text.width) for _ in text_map],
            ).to(device)
        self._bare = towers
        self._towers = data_parallel(towers, device)
        projections = [*towers.image_maps.parameters(), *towers.text_maps.parameters()]
        self._optimizer = Muon(self.student, projections, recipe.learning_rate, recipe.weight_decay)
        self._parameters = list(towers.parameters())
        self._queue = self._first_queue() if "dr" in recipe.weights else torch.empty(0, plan.student.embed_dim)
        self._queue = self._queue.to(device)
        self.steps_done = 0

    @property
    def trained_parameters(self) -> int:
        """All that the optimizer moves: the student, and the projections that layer matching adds to it."""
        return sum(parameter.numel() for parameter in self._parameters)

    def step(self) -> dict[str, float]:
        """One update. Returns the named losses and their weighted sum, ``total``.

        Raises:
            FloatingPointError: if the gradient is not finite; all workers raise it together.
        """
        plan, parts = self._plan, self._plan.training.accumulation
        with record_function("data"):
            draw = self._sampler.draw(self.steps_done).part(*worker())
            images, targets = self._data.images[draw.images], self._targets(draw)
        losses: dict[str, Tensor] = {}

        def loss(outputs: Outputs) -> Tensor:
            with record_function("losses"):
                losses.update(self._losses(outputs, targets))
            return losses["total"]

        if parts == 1:
            torch.autograd.backward(loss(self._encoded(images, draw)))
        else:
            shares = np.array_split(images, parts)
            backward_in_parts(
                lambda part: self._encoded(shares[part], draw.part(part, parts)),
                parts,
                loss,
                self._towers.no_sync if isinstance(self._towers, DistributedDataParallel) else nullcontext,
            )
        training = plan.training
        with record_function("update"):
            norm = torch.nn.utils.clip_grad_norm_(self._parameters, training.max_gradient_norm)
            if not torch.isfinite(norm):
                raise FloatingPointError(f"the gradient is {norm.item()} at step {self.steps_done + 1}")
            self._optimizer.step(
                schedule(self.steps_done, training.steps, training.schedule, training.warmup, training.decay)
            )
        self.student.clamp_logit_scale()
        self._push(targets)
        self.steps_done += 1
        return {name: float(value.detach()) for name, value in losses.items()}

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs to go on as if nothing had happened: tensors and plain values."""
        return {
            "steps_done": self.steps_done,
            "towers": self._bare.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "queue": self._queue,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.steps_done = int(state["steps_done"])
        self._bare.load_state_dict(state["towers"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._queue = state["queue"].to(self._device)

    def _encoded(self, images: Array, draw: Draw) -> Outputs:
        """What the student makes of a draw; ``images``: its pictures, uint8 [B, H, W, 3]."""
        with record_function("views"):
            tokens = torch.from_numpy(self._data.tokens[draw.languages, draw.texts]).long().to(self._device)
            pixels = self._pixels(images, draw)
        with record_function("towers"), computing(self._device, self._plan.training.precision):
            return Outputs(*self._towers(pixels, self.student.read(tokens.flatten(0, 1))))

    def _pixels(self, images: Array, draw: Draw) -> Tensor:
        """The views of a draw's pictures, preprocessed: [B, 3, S, S]."""
        views = torch.from_numpy(self._cache.views[draw.images, draw.views]).to(self._device)
        return self.student.preprocess(apply_views(torch.from_numpy(images).to(self._device), views))

    def _targets(self, draw: Draw) -> Targets:
        """The teacher's part in a draw; all workers must ask together."""
        cached, of_image, of_text = self._cache, (draw.images, draw.views), (draw.languages, draw.texts)
        weight = torch.from_numpy(self._weights[draw.languages] * draw.present).to(self._device)
        return Targets(
            image=gather(self._of_teacher(cached.image[of_image])),
            text=gather(self._of_teacher(cached.text[of_text]), dim=1),
            control=gather(self._of_teacher(cached.text[self._control, draw.captions[self._control]])),
            weight=gather(weight, dim=1),
            image_states=[self._of_teacher(cached.image_layers[row][of_image]) for row in self._image_rows],
            text_states=[self._of_teacher(cached.text_layers[row][of_text]) for row in self._text_rows],
        )

    def _of_teacher(self, rows: Any) -> Tensor:
        return torch.from_numpy(rows).float().to(self._device)

    def _losses(self, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
        """The named losses of the batch of all workers, and their weighted sum, ``total``; all must ask together."""
        recipe, scale, bias = self._plan.recipe, outputs.logit_scale, outputs.logit_bias
        batch = DistillationBatch(
            image=gather(outputs.image),
            text=gather(outputs.text, dim=1),
            teacher_image=targets.image,
            teacher_text=targets.text,
            teacher_control=targets.control,
            weight=targets.weight,
            logit_scale=scale,
            teacher_logit_scale=scale.new_tensor(self._cache.logit_scale),
            queue=self._queue,
            replication=recipe.replication,
        )
        losses: dict[str, Tensor] = {name: STRATEGIES[name](batch) for name in recipe.weights}
        total = torch.stack([recipe.weights[name] * losses[name] for name in recipe.weights]).sum()
        if recipe.task_weight > 0:
            losses["task"] = self.student.task_loss(batch.image, batch.text, batch.weight, scale, bias)
            total = total + recipe.task_weight * losses["task"]
        if targets.image_states or targets.text_states:
            losses["layers"] = self._layer_loss(outputs, targets)
            total = total + recipe.layer_weight * losses["layers"]
        return {**losses, "total": total}

    def _layer_loss(self, outputs: Outputs, targets: Targets) -> Tensor:
        """The mean over the matched pairs of both towers."""
        image, text, weight = outputs.image_states, outputs.text_states, targets.weight
        loss = weight.new_zeros(())
        if image:
            distances = layer_distances([h.float() for h in image], targets.image_states)
            loss = loss + len(image) * layer_loss(gather(distances, dim=1), weight.new_ones(weight.shape[1]))
        if text:
            distances = layer_distances([h.float() for h in text], targets.text_states)  # [pairs, G, B]
            loss = loss + len(text) * layer_loss(gather(distances, dim=2).flatten(1), weight.flatten())
        return loss / (len(image) + len(text))

    def _first_queue(self) -> Tensor:
        """A full queue before the first step: random training images and captions as the teacher embeds them."""
        rng = np.random.default_rng((self._plan.seed, 2))
        cached, size = self._cache, self._plan.recipe.replication.queue_size
        images, captions = size // 2, size - size // 2
        count, views = cached.image.shape[:2]
        languages, texts = np.nonzero(self._data.present)
        chosen = rng.integers(len(languages), size=captions)
        return torch.cat(
            [
                torch.from_numpy(cached.image[rng.integers(count, size=images), rng.integers(views, size=images)]),
                torch.from_numpy(cached.text[languages[chosen], texts[chosen]]),
            ]
        ).float()

    def _push(self, targets: Targets) -> None:
        """The newest teacher embeddings in, the oldest out."""
        if len(self._queue):
            newest = torch.cat([targets.image, targets.text[targets.weight > 0]])
            self._queue = torch.cat([self._queue, newest])[-len(self._queue) :]


def _projection(width: int, target: int) -> nn.Module:
    """A_s: the identity where widths agree, else linear."""
    return nn.Identity() if width == target else nn.Linear(width, target)
