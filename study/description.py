"""What a configuration makes, computed before anything is prepared, fitted or trained."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from search_spaces.space import SearchSpace
from study.config import StudyConfig
from study.models import TOWERS, published_spec
from trainables.cost import BatchShape, EncodingCost, StepCost, encoding_cost, on_meta, parameters_by_part, step_cost
from trainables.data.emoji import splits
from trainables.data.settings import EmojiCaptions
from trainables.encoding import IMAGES, TEXTS
from trainables.layer_mapping import mapped_layers
from trainables.memory import of_process
from trainables.models.spec import ModelSpec
from trainables.recipe import LayerMapping
from trainables.student import student_spec
from trainables.teacher import teacher_spec
from trainables.teacher_cache import cache_bytes

_UNREAD = 1000  # images that a cache is counted for where the data was not read


@dataclass(frozen=True)
class Model:
    """Teacher or student."""

    spec: ModelSpec
    parameters: dict[str, int]  # by part
    encoding: EncodingCost

    @property
    def total(self) -> int:
        return sum(self.parameters.values())


@dataclass(frozen=True)
class Mappings:
    """What the layers of a student's tower may be mapped to: teacher layers, counted from 1."""

    student_layers: int
    teacher_layers: int
    uniform: tuple[int, ...]
    last: tuple[int, ...]
    first: tuple[int, ...]
    monotone: int  # how many such maps there are


@dataclass(frozen=True)
class Work:
    """What is trained at most: early stopping makes it less."""

    steps: int
    images: int
    flops: int


@dataclass(frozen=True)
class Description:
    """A configuration, described."""

    name: str
    teacher: Model
    student: Model
    mappings: dict[str, Mappings]
    step: StepCost
    workers: int
    accumulation: int
    training_images: int | None  # None: of the user's own data, which was not read
    cached_images: int  # with a caption in each language
    cache_bytes: int  # of so many
    trial: Work
    study: Work

    @property
    def worker_memory(self) -> int:
        """The bytes that a worker of a trial is expected to take on a CPU."""
        return of_process(self.step, self.student.encoding)

    def as_json(self) -> dict[str, Any]:
        """Plain values, with the totals."""
        plain = asdict(self)
        for model in (self.teacher, self.student):
            name = "teacher" if model is self.teacher else "student"
            plain[name] |= {"spec": model.spec.model_dump(mode="json"), "total": model.total}
        plain["step"] |= {"flops": self.step.flops, "memory": self.step.memory}
        plain["worker_memory"] = self.worker_memory
        return plain


def describe(config: StudyConfig, space: SearchSpace) -> Description:
    """Everything that can be known of a study before it runs; of a fitted tokenizer, the size that it is to have."""
    from study.stages import mapped_teacher_layers

    fitted = config.teacher.tokenizer
    teacher = teacher_spec(config.teacher, fitted.vocab_size) if fitted else published_spec(config.teacher)
    student = student_spec(config.student, teacher)
    training, confirm, workers = config.training, config.search.confirm, max(1, config.resources.workers_per_trial)
    step = step_cost(student, teacher, BatchShape.of(training, workers))
    counts = [len(splits()[s.split]) if isinstance(s, EmojiCaptions) else None for s in config.data.train.values()]
    images = None if None in counts else sum(count for count in counts if count is not None)
    cached = images or _UNREAD
    layers = mapped_teacher_layers(config, space)
    trial = Work(training.steps, training.steps * training.batch_size, training.steps * step.flops * workers)
    trainings = config.search.trials + confirm.seeds * confirm.most
    return Description(
        name=config.name,
        teacher=_model(teacher),
        student=_model(student),
        mappings={tower: _mappings(getattr(student, tower).layers, getattr(teacher, tower).layers) for tower in TOWERS},
        step=step,
        workers=workers,
        accumulation=training.accumulation,
        training_images=images,
        cached_images=cached,
        cache_bytes=cache_bytes(teacher, cached, cached * len(config.data.languages), config.cache.views, layers),
        trial=trial,
        study=Work(trainings * trial.steps, trainings * trial.images, trainings * trial.flops),
    )


def _model(spec: ModelSpec) -> Model:
    parameters = {str(part): count for part, count in parameters_by_part(on_meta(spec)).items()}
    return Model(spec, parameters, encoding_cost(spec, IMAGES, TEXTS))


def _mappings(student: int, teacher: int) -> Mappings:
    def counted_from_1(kind: Any) -> tuple[int, ...]:
        return tuple(layer + 1 for layer in mapped_layers(LayerMapping(kind=kind), student, teacher))

    return Mappings(
        student_layers=student,
        teacher_layers=teacher,
        uniform=counted_from_1("uniform"),
        last=counted_from_1("last"),
        first=counted_from_1("first"),
        monotone=math.comb(teacher, student),
    )
