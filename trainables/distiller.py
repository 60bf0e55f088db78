"""One student under distillation: its state, and a training step that turns a batch into named losses and an update."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import record_function

from trainables.accumulation import Outputs, backward_in_parts
from trainables.batches import Batch, Batches, Targets
from trainables.config import TrialPlan
from trainables.data.augment import apply_views
from trainables.device import attention_with_gradients, computing
from trainables.distributed import data_parallel, gather
from trainables.layer_mapping import layer_distances, layer_loss, mapped_layers
from trainables.models.dual_encoder import DualEncoder, TowerName
from trainables.models.factory import load_model, read_vocabulary
from trainables.optimizer import Muon, schedule
from trainables.strategies import STRATEGIES, DistillationBatch
from trainables.student import make_student


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


class Distiller:
    """A student, what it learns from, and how: built from a plan, advanced by `step`, saved and restored whole."""

    def __init__(self, plan: TrialPlan, device: torch.device) -> None:
        self._plan, self._device = plan, device
        recipe = plan.recipe
        teacher = load_model(Path(plan.paths.teacher))
        vocabulary = read_vocabulary(Path(plan.paths.vocabulary)) if plan.paths.vocabulary else None
        self.student = make_student(plan.student, teacher, recipe, plan.seed, plan.inherit, vocabulary).to(device)
        if plan.compile:
            _compile(self.student)
        matches = recipe.layer_weight > 0
        spec, source = plan.student, teacher.spec
        image_map = mapped_layers(recipe.image_mapping, spec.image.layers, source.image.layers) if matches else ()
        text_map = mapped_layers(recipe.text_mapping, spec.text.layers, source.text.layers) if matches else ()
        self._batches = Batches(plan, image_map, text_map, device)
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
        # Full before the first step.
        size = recipe.replication.queue_size if "dr" in recipe.weights else 0
        self._queue = self._batches.random_targets(size, (plan.seed, 2))
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
            batch = self._batches.at(self.steps_done)
            targets = self._targets(batch)
        losses: dict[str, Tensor] = {}

        def loss(outputs: Outputs) -> Tensor:
            with record_function("losses"):
                losses.update(self._losses(outputs, targets))
            return losses["total"]

        if parts == 1:
            torch.autograd.backward(loss(self._encoded(batch)))
        else:
            backward_in_parts(
                lambda part: self._encoded(batch.part(part, parts)),
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

    def _encoded(self, batch: Batch) -> Outputs:
        """What the student makes of a batch, or of a part of one."""
        with record_function("views"):
            pixels = self._pixels(batch)
        with record_function("towers"), computing(self._device, self._plan.training.precision):
            return Outputs(*self._towers(pixels, self.student.read(batch.tokens.flatten(0, 1))))

    def _pixels(self, batch: Batch) -> Tensor:
        """The views of a batch's pictures, preprocessed: [B, 3, S, S]."""
        return self.student.preprocess(apply_views(batch.images, batch.views))

    def _targets(self, batch: Batch) -> Targets:
        """What the teacher makes of the batch of all workers; all must ask together."""
        return batch.targets.gathered()

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
            teacher_logit_scale=scale.new_tensor(self._batches.cache.logit_scale),
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

    def _push(self, targets: Targets) -> None:
        """The newest teacher embeddings in, the oldest out."""
        if len(self._queue):
            newest = torch.cat([targets.image, targets.text[targets.weight > 0]])
            self._queue = torch.cat([self._queue, newest])[-len(self._queue) :]


def _compile(student: DualEncoder) -> None:
    """Have each transformer layer run as compiled code, one for all layers of a kind and all lengths of texts.

    The layers' forward passes alone, not `nn.Module.compile`: that would compile the hooks that collect hidden states too,
    anew for every student of a process.
    """
    towers: tuple[TowerName, ...] = ("image", "text")
    for layer in (layer for tower in towers for layer in student.layers(tower)):
        layer.forward = torch.compile(layer.forward, dynamic=True)


def _projection(width: int, target: int) -> nn.Module:
    """A_s: the identity where widths agree, else linear."""
    return nn.Identity() if width == target else nn.Linear(width, target)
