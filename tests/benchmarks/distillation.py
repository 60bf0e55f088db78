"""Steps of distillation against what they cannot be faster than, and against what they replace.

    python -m tests.benchmarks.distillation

The whole step of a trial, with its data, augmentation, language sampling, queue and layer matching, is held against the
student's forward pass, backward pass and update on the same batches already in memory; and against the same step with
the teacher's forward pass in it, as distillation without a cache has it. One process, one thread a core that it gets.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from study.config import load_config
from study.ledger import TrialRecord
from study.trial_plan import trial_plan
from tests.benchmarks.figures import Figure, main_of, speed
from tests.study.prepared import inputs_of
from trainables.batches import Batch, Targets
from trainables.config import (
    CacheConfig,
    StudentConfig,
    StudentImageTower,
    StudentTextTower,
    TeacherConfig,
    TeacherImageTower,
    TeacherModel,
    TeacherTower,
    TokenizerConfig,
    TrainingConfig,
    TrialPlan,
)
from trainables.data.augment import apply_views
from trainables.data.mixture import load_training
from trainables.data.prepared import CaptionedImages
from trainables.device import attention_with_gradients, computing, set_up_process
from trainables.distiller import Distiller
from trainables.models.factory import build_model, load_model
from trainables.models.spec import END_ID, START_ID
from trainables.optimizer import Muon
from trainables.recipe import STRATEGY_NAMES, LanguageWeighting, Recipe, StrategyName
from trainables.sampling import BatchSampler, Draw
from trainables.student import make_student, student_spec
from trainables.teacher import teacher_spec
from trainables.teacher_cache import TeacherCache, build_cache

PRESETS = ("emoji_clip", "emoji_siglip2")
LEAST_OF_BARE, LEAST_OF_ONLINE, LEAST_OF_ONLINE_LARGE = 0.95, 1.5, 2.0
ROUNDS, STEPS = 9, 4
_IN_MEMORY = 16  # batches
_LARGE_IMAGES, _LARGE_BATCH = 64, 32  # of the teacher of ViT-B/16's size
_LARGE_ROUNDS = 2
_WITH_CONTROL: tuple[StrategyName, ...] = ("ed", "mcl")  # they learn from the English caption too


def recipe(strategy: StrategyName) -> Recipe:
    """A strategy with everything beside it that a step can have."""
    weighting = LanguageWeighting(kind="difficulty", gamma=1.0)
    return Recipe(strategy=strategy, task_weight=0.5, layer_weight=0.5, language_weighting=weighting)


class BareStudent:
    """The student of a plan on batches that are in memory: forward, backward, update, and nothing else."""

    def __init__(self, plan: TrialPlan, device: torch.device) -> None:
        self._precision, self._device = plan.training.precision, device
        data, cache = load_training(Path(plan.paths.train)), TeacherCache.load(Path(plan.paths.cache))
        self.student = make_student(plan.student, load_model(Path(plan.paths.teacher)), plan.recipe, plan.seed)
        self.student.to(device)
        self._optimizer = Muon(self.student, [], plan.recipe.learning_rate, plan.recipe.weight_decay)
        training, views = plan.training, cache.views.shape[1]
        sampler = BatchSampler(data, training.batch_size, training.captions_per_image, views, plan.seed)
        draws = [sampler.draw(step) for step in range(_IN_MEMORY)]
        self._batches = itertools.cycle([self._in_memory(data, cache, draw) for draw in draws])

    def _in_memory(self, data: CaptionedImages, cache: TeacherCache, draw: Draw) -> tuple[Tensor, ...]:
        views = torch.from_numpy(cache.views[draw.images, draw.views])
        pixels = apply_views(torch.from_numpy(data.images[draw.images]), views).to(self._device)
        tokens = torch.from_numpy(data.tokens[draw.languages, draw.texts]).long().flatten(0, 1).to(self._device)
        image = torch.from_numpy(cache.image[draw.images, draw.views]).float().to(self._device)
        text = torch.from_numpy(cache.text[draw.languages, draw.texts]).float().flatten(0, 1).to(self._device)
        return self.student.preprocess(pixels), self.student.read(tokens), image, text

    def step(self) -> None:
        pixels, tokens, image, text = next(self._batches)
        with computing(self._device, self._precision):
            with attention_with_gradients(self._device, self.student.spec.image.patches):
                images = self.student.encode_image(pixels)
            with attention_with_gradients(self._device, tokens.shape[1]):
                texts = self.student.encode_text(tokens)
        # The least that gives every embedding a gradient.
        torch.autograd.backward(-(images.embedding * image).sum() - (texts.embedding * text).sum())
        self._optimizer.step(1.0)


class OnlineDistiller(Distiller):
    """A distiller whose teacher looks at every batch itself, as in open_clip's `--distill-model`: no cache."""

    def __init__(self, plan: TrialPlan, device: torch.device) -> None:
        super().__init__(plan, device)
        self._teacher = load_model(Path(plan.paths.teacher)).to(device).eval()

    def _pixels(self, batch: Batch) -> Tensor:
        return self._seen  # what the teacher has looked at

    def _targets(self, batch: Batch) -> Targets:
        cached, teacher, read = batch.targets, self._teacher, self._batches
        self._seen = super()._pixels(batch)
        with torch.no_grad(), computing(self._device, self._plan.training.precision):
            image, text = teacher.encode_image(self._seen), teacher.encode_text(batch.tokens.flatten(0, 1))
            control = cached.control
            if any(name in _WITH_CONTROL for name in self._plan.recipe.weights):
                english = torch.from_numpy(read.data.tokens[read.control, batch.draw.captions[read.control]]).long()
                control = teacher.encode_text(english.to(self._device)).embedding
        image_states = (image.layers[read.cache.image_layer_numbers[row]].float() for row in read.image_rows)
        text_states = (text.layers[read.cache.text_layer_numbers[row]].float() for row in read.text_rows)
        return Targets(
            image=image.embedding,
            text=text.embedding.reshape(cached.text.shape),
            control=control,
            weight=cached.weight,
            image_states=tuple(image_states),
            text_states=tuple(
                state.reshape(known.shape) for state, known in zip(text_states, cached.text_states, strict=True)
            ),
        )


def embedded_plan(preset: str, place: str) -> TrialPlan:
    """A trial of an embedded preset, from what its stages have put into the cache, or now put there."""
    config = load_config(preset)
    record = TrialRecord(number=0, recipe=recipe("fd"), seed=0, folder=Path(place))
    return trial_plan(config, inputs_of(config, torch.get_num_threads()), record, place)


def large_plan(plan: TrialPlan, place: Path, layers: float, width: float) -> TrialPlan:
    """The same trial with a teacher of ViT-B/16's sizes and a student of shares of its layers and width; weights and data
    are random."""
    sizes = TeacherModel(
        embed_dim=512,
        image=TeacherImageTower(layers=12, width=768, image_size=224),
        text=TeacherTower(layers=12, width=512),
    )
    tokenizer = TokenizerConfig(vocab_size=49408, context_length=77)
    teacher = build_model(teacher_spec(TeacherConfig(model=sizes, tokenizer=tokenizer), tokenizer.vocab_size), 0)
    teacher.save(place / "teacher")
    train = place / f"noise-{_LARGE_IMAGES}"  # the cache knows the data by this name
    _random_captions(tokenizer).save(train)
    shares = StudentConfig(
        image=StudentImageTower(layers=layers, width=width), text=StudentTextTower(layers=layers, width=width)
    )
    student = student_spec(shares, teacher.spec)
    every = {"image": range(12), "text": range(12)}
    cache = build_cache(place / "teacher", train, CacheConfig(views=1), every, 0, "auto", lambda *_: None)
    paths = {"train": train, "teacher": place / "teacher", "cache": cache}
    return plan.model_copy(
        update={
            "student": student,
            "training": TrainingConfig(batch_size=_LARGE_BATCH),
            "language_weights": {"en": 1.0, "de": 1.0},
            "paths": plan.paths.model_copy(update={name: str(path) for name, path in paths.items()}),
        }
    )


def _random_captions(tokenizer: TokenizerConfig) -> CaptionedImages:
    """Noise with captions of 8 to 24 tokens in two languages."""
    rng = np.random.default_rng(0)
    count, length = _LARGE_IMAGES, tokenizer.context_length
    tokens = rng.integers(END_ID + 1, tokenizer.vocab_size, size=(2, count, length), dtype=np.int32)
    ends = rng.integers(8, 25, size=(2, count))
    place = np.arange(length)
    tokens[..., 0] = START_ID
    tokens[place == ends[..., None]] = END_ID
    tokens[place > ends[..., None]] = 0
    return CaptionedImages(
        languages=["en", "de"],
        images=rng.integers(0, 256, size=(count, 224, 224, 3), dtype=np.uint8),
        image_item=np.arange(count),
        tokens=tokens,
        present=np.ones((2, count), bool),
        text_item=np.arange(count),
        texts=[[""] * count] * 2,
    )


def figures() -> list[Figure]:
    """All of them; the teachers are fitted first if they are not in the cache."""
    device, found = set_up_process(1), []
    with tempfile.TemporaryDirectory() as place:
        for preset in PRESETS:
            plan = embedded_plan(preset, place)
            bare = BareStudent(plan, device).step
            for strategy in STRATEGY_NAMES:
                own = plan.model_copy(update={"recipe": recipe(strategy)})
                step = Distiller(own, device).step
                share = speed(step, bare, ROUNDS, STEPS)
                found.append(
                    Figure(
                        f"step of {strategy}, {preset}: speed by the bare student's", share, "at least", LEAST_OF_BARE
                    )
                )
                gain = speed(step, OnlineDistiller(own, device).step, ROUNDS, STEPS)
                found.append(
                    Figure(
                        f"step of {strategy}, {preset}: speed by the online teacher's",
                        gain,
                        "at least",
                        LEAST_OF_ONLINE,
                    )
                )
        for half, layers, width in (("layers", 0.5, 1.0), ("width", 1.0, 0.5)):
            large = large_plan(embedded_plan(PRESETS[0], place), Path(place), layers, width)
            gain = speed(Distiller(large, device).step, OnlineDistiller(large, device).step, _LARGE_ROUNDS)
            what = f"step of fd, ViT-B/16 and half its {half}: speed by the online teacher's"
            found.append(Figure(what, gain, "at least", LEAST_OF_ONLINE_LARGE))
    return found


if __name__ == "__main__":
    sys.exit(main_of(figures, __doc__))
