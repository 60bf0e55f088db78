"""The stages around the search, each in a Ray process that streams its progress back: data, teacher, cache, test.

The driver itself stays light: it imports neither torch nor transformers.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from search_spaces.space import SearchSpace
from study.config import StudyConfig
from study.data_config import CONTROL_LANGUAGE, Purpose
from study.errors import UserError
from study.models import TOWERS, student_layers, teacher_towers
from trainables.artifact_mirror import at_hand
from trainables.artifacts import artifact, write_json
from trainables.data.report import DataError
from trainables.data.sets import key_of
from trainables.layer_mapping import mapped_layers
from trainables.recipe import LayerMapping

if TYPE_CHECKING:
    from trainables.models.spec import ModelSpec

_SCORES_VERSION = 4  # raise it when the same model gets other scores


@dataclass(frozen=True)
class Prepared:
    """Where the prepared data lies, and what the next stages need to know of it."""

    tokenizer: Path
    train: Path  # of all sources together
    pictures: int  # for training
    folders: Mapping[Purpose, Mapping[str, Path]]  # of each source, by its name
    vocabulary: Path | None  # the folder of the student's, if it is trimmed

    @property
    def by_key(self) -> dict[str, Path]:
        """The folders of all sources by their keys below `data`."""
        return {
            key_of(purpose, name): folder
            for purpose, folders in self.folders.items()
            for name, folder in folders.items()
        }


def mapped_teacher_layers(config: StudyConfig, space: SearchSpace) -> dict[str, list[int]]:
    """The teacher layers of each tower, counted from 0, that a recipe of the space may map a student layer to."""
    wanted: dict[str, list[int]] = {}
    for tower in TOWERS:
        student, teacher = student_layers(config)[tower], teacher_towers(config)[tower].layers
        kinds = space.values(f"{tower}_mapping.kind") or [LayerMapping().kind]
        found: set[int] = set()
        for kind in kinds:
            reached = range(teacher) if kind == "monotone" else mapped_layers(LayerMapping(kind=kind), student, teacher)
            found.update(reached)
        wanted[tower] = sorted(found)
    return wanted


class Stages:
    """Runs in a Ray actor; every method is a generator of (done, total) pairs that ends with its result."""

    def __init__(self, config: StudyConfig, threads: int) -> None:
        from trainables.device import set_up_process

        set_up_process(threads)
        self._config, self._threads = config, threads

    def run(self, stage: str, *arguments: Any) -> Iterator[Any]:
        """The stage of this name, with artifacts as they are called on this machine."""
        yield from getattr(self, stage)(*map(_at_hand, arguments))

    def prepare(self) -> Iterator[Any]:
        """The data as arrays, and the tokenizer: `Prepared`."""
        yield from _streamed(self._prepare)

    def _prepare(self, progress: Callable[[int, int], None]) -> Prepared:
        from trainables.data.mixture import load_training
        from trainables.data.prepare import prepare_sources

        config, data = self._config, self._config.data
        found = prepare_sources(
            data.sources,
            data.languages,
            CONTROL_LANGUAGE,
            config.teacher,
            config.student.vocabulary == "trimmed",
            round(data.pictures_gb * 1e9),
            progress,
        )
        folders: dict[Purpose, dict[str, Path]] = {
            purpose: {name: found.folders[key_of(purpose, name)] for name in sources}
            for purpose, sources in data.purposes.items()
        }
        train = self._joined(folders["train"])
        return Prepared(found.tokenizer.folder, train, len(load_training(train).images), folders, found.vocabulary)

    def overlaps(self, prepared: Prepared) -> Iterator[Any]:
        """What the sources of the study share: a list of `Overlap`."""
        from trainables.data.leakage import find_overlaps

        yield find_overlaps(self._config.data.sources, prepared.by_key)

    def _joined(self, parts: Mapping[str, Path]) -> Path:
        """The training data of all sources, held against their weights.

        Raises:
            DataError: if a source has fewer pictures than its share of a batch.
        """
        from trainables.data.mixture import load_training, prepare_mixture
        from trainables.sampling import check_weights

        data, fit = self._config.data, self._config.teacher.fit
        if list(parts) == [""]:
            return parts[""]
        if data.weights is not None:
            sizes = {name: len(load_training(folder).images) for name, folder in parts.items()}
            batches = {"training.batch_size": self._config.training.batch_size}
            batches |= {} if fit is None else {"teacher.fit.batch_size": fit.batch_size}
            for key, size in batches.items():
                check_weights(sizes, data.weights, key, size)
        return prepare_mixture(list(parts.values()), data.languages)

    def teacher(self, prepared: Prepared) -> Iterator[Any]:
        """The folder of the teacher."""
        from trainables.models.tokenizer import Tokenizer
        from trainables.teacher import TeacherSource, fit_teacher, load_teacher

        config = self._config
        if config.teacher.pretrained is not None:
            yield load_teacher(config.teacher)
            return
        assert config.teacher.tokenizer is not None
        tokenizer = Tokenizer(prepared.tokenizer, config.teacher.tokenizer.context_length)
        source = TeacherSource(
            config.teacher, prepared.train, tokenizer, config.seed, config.training.precision, config.data.weights
        )
        yield from _streamed(lambda progress: fit_teacher(source, progress))

    def score_teacher(self, teacher: Path, prepared: Prepared) -> Iterator[Any]:
        """The teacher's scores on validation, the chance level of each set of questions, and the student's sizes."""
        from trainables.models.factory import read_spec, read_vocabulary
        from trainables.student import student_spec

        scores = self._score_once(teacher, prepared, "retrieval", "vqa")
        chance = _chance(prepared.folders["vqa"])
        student = student_spec(self._config.student, read_spec(teacher), read_vocabulary(prepared.vocabulary))
        yield scores, chance, student

    def landmarks(self, teacher: Path, prepared: Prepared, student: ModelSpec) -> Iterator[Any]:
        """What recipes are held against beside the teacher's scores, for teacher.json."""
        from trainables.landmarks import landmarks

        data = (prepared.folders["retrieval"], prepared.folders["vqa"], prepared.vocabulary)
        yield landmarks(teacher, student, *data, self._config.seed, self._config.training.precision)

    def memory(self, teacher: Path, student: ModelSpec) -> Iterator[Any]:
        """The bytes that a worker of a trial is expected to take on a CPU."""
        from trainables.memory import worker_memory
        from trainables.models.factory import read_spec

        workers = max(1, self._config.resources.workers_per_trial)
        yield worker_memory(student, read_spec(teacher), self._config.training, workers)

    def cache(self, teacher: Path, prepared: Prepared, layers: dict[str, list[int]]) -> Iterator[Any]:
        """The folder of the teacher cache."""
        from trainables.teacher_cache import build_cache

        config = self._config
        yield from _streamed(
            lambda progress: build_cache(
                teacher, prepared.train, config.cache, layers, config.seed, config.training.precision, progress
            )
        )

    def test(self, teacher: Path, students: list[str], prepared: Prepared) -> Iterator[Any]:
        """The scores of the teacher, and of students saved in these folders or at these URLs, in their order, on test.

        A student that a disk has damaged has ``unreadable``, the reason, instead of scores.
        """
        import torch

        from trainables.evaluation.summary import accuracies_of, with_lift

        total = len(students) + 1
        chance = _chance(prepared.folders["test.vqa"])
        of_teacher = self._score_once(teacher, prepared, "test.retrieval", "test.vqa")
        knows = accuracies_of(of_teacher["summary"], chance)
        yield 1, total
        # Small models use several cores better side by side than within one operation.
        torch.set_num_threads(1)
        found = []
        with ThreadPoolExecutor(max(1, self._threads)) as pool:
            for scores in pool.map(lambda folder: self._score_if_readable(folder, prepared), students):
                if "unreadable" in scores:
                    found.append(scores)
                    continue
                found.append({**scores, "summary": with_lift(scores["summary"], knows, chance)})
                yield 1 + len(found), total
        yield of_teacher, found

    def _score_if_readable(self, student: str, prepared: Prepared) -> dict[str, Any]:
        from safetensors import SafetensorError

        from trainables.trial_folder import student_at

        try:
            with student_at(student) as folder:
                return self._score(folder, prepared, "test.retrieval", "test.vqa")
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            return {"unreadable": " ".join(f"{type(error).__name__}: {error}".split())[:200]}

    def _score(self, model: Path, prepared: Prepared, captions: Purpose, questions: Purpose) -> dict[str, Any]:
        from trainables.data.prepared import CaptionedImages, VisualQuestions
        from trainables.device import default_device
        from trainables.evaluation.evaluate import evaluate
        from trainables.models.factory import load_model

        encoder = load_model(model).to(default_device())
        found = evaluate(
            encoder,
            {name: CaptionedImages.load(folder) for name, folder in prepared.folders[captions].items()},
            {name: VisualQuestions.load(folder) for name, folder in prepared.folders[questions].items()},
            self._config.training.precision,
        )
        return {**found.scores(), "parameters": encoder.parameter_count()}

    def _score_once(self, teacher: Path, prepared: Prepared, captions: Purpose, questions: Purpose) -> dict[str, Any]:
        """A teacher's scores, kept in the cache beside the teacher: studies share them."""
        captioned, asked = (
            {name: folder.name for name, folder in prepared.folders[purpose].items()}
            for purpose in (captions, questions)
        )
        fields = {"model": teacher.name, "captions": captioned, "questions": asked, "stage": _SCORES_VERSION}

        def build(folder: Path) -> None:
            write_json(folder / "scores.json", self._score(teacher, prepared, captions, questions))

        found = artifact("teacher-scores", fields, build) / "scores.json"
        scores: dict[str, Any] = json.loads(found.read_text(encoding="utf-8"))
        return scores


def _at_hand(argument: Any) -> Any:
    if isinstance(argument, Prepared):
        return Prepared(
            at_hand(argument.tokenizer),
            at_hand(argument.train),
            argument.pictures,
            {of: {name: at_hand(folder) for name, folder in named.items()} for of, named in argument.folders.items()},
            at_hand(argument.vocabulary) if argument.vocabulary else None,
        )
    return at_hand(argument) if isinstance(argument, Path) else argument


def _chance(folders: Mapping[str, Path]) -> dict[str, float]:
    """The VQA accuracy of guessing on each set."""
    from trainables.data.prepared import VisualQuestions

    return {name: VisualQuestions.load(folder).chance for name, folder in folders.items()}


def _streamed(work: Callable[[Callable[[int, int], None]], Any]) -> Iterator[Any]:
    """Run ``work(progress)`` in a thread; its progress, and then its result, as a generator."""
    events: queue.Queue[tuple[str, Any]] = queue.Queue()

    def run() -> None:
        try:
            result = work(lambda done, total: events.put(("progress", (done, total))))
            events.put(("result", result))
        except BaseException as error:
            events.put(("error", error))

    threading.Thread(target=run, daemon=True).start()
    while True:
        kind, value = events.get()
        if kind == "error":
            raise value
        yield value
        if kind == "result":
            return


class StageRunner:
    """The driver's side: an actor with `Stages` in it, for as long as the ``with`` block lasts.

    If its node goes, another one takes over: what a stage has finished is in the cache, and is not repeated.
    """

    def __init__(self, config: StudyConfig, room: Callable[[], tuple[float, float]]) -> None:
        """``room``: CPUs and GPUs for the actor."""
        self._config, self._room = config, room

    def __enter__(self) -> StageRunner:
        cpus, gpus = self._room()
        options = ray.remote(Stages).options(num_cpus=cpus, num_gpus=gpus)
        self._actor = options.remote(self._config, int(cpus))
        self._nodes = _nodes()
        return self

    def __exit__(self, *_error: object) -> None:
        ray.kill(self._actor)

    def run(self, stage: str, *arguments: Any, progress: Callable[[int, int], None]) -> Any:
        """Run one stage to its result, handing on its progress.

        Raises:
            UserError: if the study's data cannot be used.
            Exception: what the stage itself raised.
        """
        while True:
            try:
                return self._run(stage, *arguments, progress=progress)
            except ray.exceptions.RayActorError:
                if self._nodes <= _nodes():
                    raise  # its process alone has died, and would again
                self.__enter__()

    def _run(self, stage: str, *arguments: Any, progress: Callable[[int, int], None]) -> Any:
        method = self._actor.run.options(num_returns="streaming", name=f"Stages.{stage}")
        value: Any = None
        try:
            for reference in method.remote(stage, *arguments):
                value = ray.get(reference)
                if isinstance(value, tuple) and len(value) == 2 and all(isinstance(part, int) for part in value):
                    progress(*value)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, DataError):
                raise UserError(str(error.cause)) from None
            raise error.cause from error  # the actor's own traceback goes into the log
        return value


def _nodes() -> set[str]:
    """The nodes that are up."""
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}
