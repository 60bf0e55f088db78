"""The teacher: fitted on the study's own training data or pretrained, once, and kept in the cache by its content."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainables.artifacts import artifact
from trainables.config import FitConfig, Precision, TeacherConfig
from trainables.data.augment import apply_views, draw_views
from trainables.data.mixture import load_training
from trainables.data.prepared import Array, CaptionedImages
from trainables.device import attention_with_gradients, computing, default_device, resolve_precision
from trainables.models.dual_encoder import DualEncoder
from trainables.models.factory import build_model
from trainables.models.spec import ImageTower, ModelSpec, TextTower
from trainables.models.tokenizer import Tokenizer
from trainables.optimizer import Muon, schedule
from trainables.sampling import BatchSampler
from trainables.strategies import contrastive_task

_STAGE_VERSION = 2  # raise it when a fit of the same configuration gives another teacher
_LOADING_VERSION = 1  # raise it when the same files give another teacher
_WARMUP, _DECAY = 0.1, 0.35

Progress = Callable[[int, int], None]  # steps done, steps in all


@dataclass(frozen=True)
class TeacherSource:
    """What a fitted teacher depends on."""

    config: TeacherConfig
    train: Path  # a folder of training data
    tokenizer: Tokenizer
    seed: int
    precision: Precision
    weights: tuple[float, ...] | None = None  # of the parts of a mixture

    def fields(self) -> dict[str, Any]:
        return {
            # Without what its family has no setting for, so that a further family leaves the others' teachers valid.
            "config": self.config.model_dump(mode="json", exclude_none=True),
            "train": self.train.name,  # the content key of the data, tokenizer included
            "seed": self.seed,
            "precision": str(resolve_precision(self.precision, default_device())),
            "stage": _STAGE_VERSION,
            **({} if self.weights is None else {"weights": list(self.weights)}),
        }


def teacher_spec(config: TeacherConfig, vocab_size: int) -> ModelSpec:
    """The sizes of a fitted teacher; the vocabulary is what its tokenizer really has."""
    assert config.model is not None
    assert config.tokenizer is not None
    text = {"context_length": config.tokenizer.context_length, "vocab_size": vocab_size}
    return ModelSpec(
        family=config.family,
        embed_dim=config.model.embed_dim,
        image=ImageTower(**config.model.image.model_dump()),
        text=TextTower(**config.model.text.model_dump(), **text),
    )


def language_exposure(kind: str, languages: int) -> Array:
    """How often the teacher sees each language, relative to the others, [L].

    ``zipf``: 1/rank in the configuration's order of languages, as uneven as languages are on the web.
    """
    return 1.0 / np.arange(1, languages + 1) if kind == "zipf" else np.ones(languages)


def fit_teacher(source: TeacherSource, progress: Progress) -> Path:
    """The folder of the fitted teacher and its tokenizer, from the cache if it is there."""

    fit = source.config.fit
    assert fit is not None

    def build(folder: Path) -> None:
        data = load_training(source.train)
        model = build_model(teacher_spec(source.config, source.tokenizer.vocab_size), source.seed).to(default_device())
        _fit(model, data, fit, source.seed, source.precision, progress, source.weights)
        model.save(folder)
        source.tokenizer.save(folder)

    return artifact("teacher", source.fields(), build)


def load_teacher(config: TeacherConfig) -> Path:
    """The folder of the pretrained teacher, from the cache if it is there.

    Raises:
        CheckpointError: if it cannot be had, or its weights do not fit.
    """
    from trainables.models.pretrained import load_pretrained, open_checkpoint, pretrained_tokenizer

    assert config.pretrained is not None
    checkpoint = open_checkpoint(config.pretrained, config.revision)
    fields = {"pretrained": checkpoint.identity(), "image_size": config.image_size, "stage": _LOADING_VERSION}

    def build(folder: Path) -> None:
        load_pretrained(checkpoint, config.image_size).save(folder)
        pretrained_tokenizer(checkpoint).save(folder)

    return artifact("teacher", fields, build)


def _fit(
    model: DualEncoder,
    data: CaptionedImages,
    config: FitConfig,
    seed: int,
    precision: Precision,
    progress: Progress,
    weights: Sequence[float] | None = None,
) -> None:
    """Train one caption an image, in languages drawn by exposure: with CLIP's softmax for as long as the configuration
    says, then with the family's own loss.
    """
    device = next(model.parameters()).device
    sampler = BatchSampler(
        data,
        config.batch_size,
        captions=1,
        views=1,
        seed=seed,
        exposure=language_exposure(config.language_exposure, len(data.languages)),
        weights=weights,
    )
    weight = torch.ones(1, min(config.batch_size, len(data.images)), device=device)
    optimizer = Muon(model, [], config.learning_rate, config.weight_decay)
    softmax_steps = round((config.softmax_share or 0.0) * config.steps)
    for step in range(config.steps):
        draw = sampler.draw(step)
        views = draw_views((len(draw.images),), torch.Generator().manual_seed(seed * config.steps + step))
        pixels = apply_views(torch.from_numpy(data.images[draw.images]).to(device), views.to(device))
        text = torch.from_numpy(data.tokens[draw.languages[0], draw.texts[0]]).long().to(device)
        with computing(device, precision):
            with attention_with_gradients(device, model.spec.image.patches):
                image = model.encode_image(model.preprocess(pixels)).embedding
            with attention_with_gradients(device, text.shape[1]):
                captions = model.encode_text(text).embedding[None]
        if step < softmax_steps:
            loss = contrastive_task(image, captions, weight, model.logit_scale)
        else:
            if step == softmax_steps:
                model.turn_to_task(image, captions, weight)
            loss = model.task_loss(image, captions, weight, model.logit_scale, model.logit_bias)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(schedule(step, config.steps, "wsd", _WARMUP, _DECAY))
        model.clamp_logit_scale()
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the teacher's loss is {loss.item()} at step {step}: lower its learning rate")
        progress(step + 1, config.steps)
