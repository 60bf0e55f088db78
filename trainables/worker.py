"""What each Ray Train worker of a trial runs: train, report at rungs and at the end, go on from a checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from trainables.artifact_mirror import at_hand
from trainables.artifacts import remove_half_written
from trainables.checkpoint import load_state, save_state, set_aside
from trainables.config import PROFILE, STATE, Paths, TrialPlan
from trainables.data.prepared import CaptionedImages, VisualQuestions
from trainables.device import set_up_process
from trainables.distiller import Distiller
from trainables.distributed import by_the_first, maximum, worker
from trainables.evaluation.evaluate import Evaluation, evaluate
from trainables.evaluation.examples import write_examples
from trainables.evaluation.subset import subset
from trainables.evaluation.summary import with_lift
from trainables.fencing import held
from trainables.models.tokenizer import Tokenizer
from trainables.profiling import Profile
from trainables.resources import is_out_of_memory, limited_memory, measure_peak
from trainables.trial_folder import TrialFolder

Report = Callable[[dict[str, Any]], None]

_EXAMPLES = "examples.parquet"
_SUBSET_SEED = 0
_NOTHING, _RESTORED, _UNFIT = range(3)  # what became of an earlier run's state
_LONGEST_REASON = 300  # characters


def train(plan: TrialPlan, report: Report) -> None:
    """Run the trial of ``plan`` and hand each result to ``report``; a failure of the recipe is a result too.

    Every worker calls ``report`` equally often, since Ray Train waits for all; the first worker's results count. A
    result at a rung or at the end has ``step``, ``final``, ``seconds``, ``timing``, ``parameters`` (the student's),
    ``trained_parameters`` (with the projections of layer matching), ``memory_gb`` (the peak so far of the worker that
    took most) and ``metrics``, the last one ``scores`` too. A recipe that diverges, or needs more memory than there is
    or than it may take, gives ``failure``, the reason, and ``cause``, ``diverged`` or ``out_of_memory``, instead of
    metrics.

    Raises:
        OSError: if the trial's folder cannot be written, naming the file; its last state is then still whole.
        TrialInUseError: if another process still trains this trial after a minute.
        Exception: if memory ran out on one of several workers: the others wait for it until Ray Train ends them all.
    """
    # The other workers of the trial meet the first one before they read or write anything in its folder.
    rank = worker()[0]
    folder, is_first = TrialFolder(plan.folder, rank), rank == 0
    with held(folder.path) if is_first else nullcontext():
        if is_first:
            remove_half_written(folder.path)  # by a process that was killed: it may have outlived its driver
            folder.pull_state()
        try:
            _train(plan, folder, report)
        finally:
            folder.close()


def _train(plan: TrialPlan, folder: TrialFolder, report: Report) -> None:
    training = _Training(plan, folder, report)
    failed: dict[str, str] = {}
    try:
        training.run()
    except FloatingPointError as error:
        failed = {"failure": f"diverged: {error}", "cause": "diverged"}
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        if worker()[1] > 1 or not is_out_of_memory(text):
            raise
        failed = {"failure": f"out of memory: {' '.join(text.split())[:_LONGEST_REASON]}", "cause": "out_of_memory"}
    if failed:
        report(training.result(final=True, **failed, metrics={}, scores={}))


class _Training:
    """One run of a trial, from its start or from where an earlier run left it."""

    def __init__(self, plan: TrialPlan, folder: TrialFolder, report: Report) -> None:
        self._plan, self._report = plan.model_copy(update={"paths": _at_hand(plan.paths)}), report
        self._started = time.perf_counter()
        self._timing = {"setup": 0.0, "train": 0.0, "evaluate": 0.0}
        self._device = set_up_process(plan.threads)
        self._peak_memory = measure_peak(self._device)
        self._is_first = worker()[0] == 0
        # Kept apart from the distiller: memory may run out before there is one.
        self._reached: dict[str, int | None] = {"step": 0, "parameters": None, "trained_parameters": None}
        self._profile: Profile | None = None
        self._folder = folder
        self._state_file = folder.path / STATE

    def run(self) -> None:
        """All steps that are left, and all reports."""
        try:
            with limited_memory(self._plan.memory_gb, self._device):
                self._run()
        finally:
            if self._profile is not None:
                self._profile.close()

    def _run(self) -> None:
        self._set_up()
        losses: dict[str, float] = {}
        distiller, steps = self._distiller, self._plan.training.steps
        while distiller.steps_done < steps:
            if self._profile is not None:
                self._profile.before_step(distiller.steps_done)
            with self._timed("train"):
                losses = distiller.step()
            self._reached["step"] = distiller.steps_done
            if distiller.steps_done in self._plan.rungs and distiller.steps_done < steps:
                self._reach_rung(losses)
        self._finish(losses)

    def result(self, **values: Any) -> dict[str, Any]:
        """A result of the present step; all workers must ask for it together."""
        return {
            **self._reached,
            "seconds": time.perf_counter() - self._started,
            "timing": dict(self._timing),
            "memory_gb": maximum(self._peak_memory(), self._device),
            **values,
        }

    def _set_up(self) -> None:
        plan, timing = self._plan, self._timing
        self._distiller = Distiller(plan, self._device)
        self._reached["parameters"] = self._distiller.student.parameter_count()
        self._reached["trained_parameters"] = self._distiller.trained_parameters
        state = self._resumed()
        if state is not None:
            self._reached["step"] = self._distiller.steps_done
            timing.update(state["timing"])
            self._report(state["reported"])  # the run that wrote it may have ended before anybody heard
            self._started -= sum(timing.values())
        self._captions = {name: CaptionedImages.load(Path(path)) for name, path in plan.paths.retrieval.items()}
        self._questions = {name: VisualQuestions.load(Path(path)) for name, path in plan.paths.vqa.items()}
        self._few = subset(self._captions, self._questions, plan.rung_share, _SUBSET_SEED) if plan.rungs else None
        if plan.profile and self._is_first:
            reached = self._distiller.steps_done
            first = next((rung for rung in plan.rungs if rung > reached), plan.training.steps)
            self._profile = Profile(self._folder.path / PROFILE, first)
        timing["setup"] = time.perf_counter() - self._started - timing["train"] - timing["evaluate"]

    def _resumed(self) -> dict[str, Any] | None:
        """The state that the distiller goes on from, None if it starts at step 0; all workers find the same.

        Raises:
            RuntimeError: if the first worker goes on from a state that this one cannot read.
        """
        state, verdict = None, _NOTHING
        if self._is_first:
            state = load_state(self._state_file, self._device)
            if state is not None:
                verdict = self._restore(state)
            self._folder.drop_state()
        verdict = int(maximum(verdict, self._device))
        if verdict == _UNFIT:
            self._distiller = Distiller(self._plan, self._device)  # the present one may have taken a part of the state
        if verdict != _RESTORED:
            return None
        if not self._is_first:
            self._folder.pull_state()
            state = load_state(self._state_file, self._device)
            if state is None or self._restore(state) != _RESTORED:
                raise RuntimeError(f"{self._state_file} can be read by the trial's first worker, but not by this one")
            self._folder.drop_state()
        return state

    def _restore(self, state: dict[str, Any]) -> int:
        """Give the distiller a state, or set one aside that does not fit it."""
        try:
            self._distiller.restore(state["distiller"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            text = f"{type(error).__name__}: {' '.join(str(error).split())[:_LONGEST_REASON]}"
            if is_out_of_memory(text):
                raise
            set_aside(self._state_file, f"it does not fit the student: {text}")
            return _UNFIT
        return _RESTORED

    def _reach_rung(self, losses: dict[str, float]) -> None:
        """Score a part of the validation items of each set, keep everything that is needed to go on from here, report."""
        assert self._few is not None
        evaluation = self._evaluated(*self._few)
        metrics = self._with_lift(evaluation.summary) if evaluation else {}
        reported = self.result(final=False, metrics=metrics, losses=losses)
        if self._is_first:
            state = {"distiller": self._distiller.state(), "timing": dict(self._timing), "reported": reported}
            save_state(self._state_file, state)
            self._folder.push(str(STATE))
        self._report(reported)

    def _finish(self, losses: dict[str, float]) -> None:
        """Score all validation items, keep the student and its examples, report."""
        scores: dict[str, Any] = {}
        captions, questions = self._captions, self._questions
        if evaluation := self._evaluated(captions, questions):
            scores = {**evaluation.scores(), "summary": self._with_lift(evaluation.summary)}
            with self._timed("evaluate"):
                write_examples(self._folder.path / _EXAMPLES, captions, questions, evaluation)
            saved = self._state_file.parent
            self._distiller.student.save(saved)
            paths, length = self._plan.paths, self._plan.student.text.context_length
            Tokenizer(Path(paths.vocabulary or paths.teacher), length).save(saved)
            self._folder.push_all()
        self._report(self.result(final=True, metrics=scores.get("summary", {}), scores=scores, losses=losses))

    def _evaluated(
        self, captions: Mapping[str, CaptionedImages], questions: Mapping[str, VisualQuestions]
    ) -> Evaluation | None:
        """The first worker's evaluation of the student, None on the others.

        Raises:
            FloatingPointError: on all workers together, if the student has diverged.
        """
        student, precision = self._distiller.student, self._plan.training.precision
        with self._timed("evaluate"):
            found = by_the_first(lambda: evaluate(student, captions, questions, precision), self._device)
        if self._profile is not None and self._profile.written():
            self._folder.push(PROFILE)
        return found

    def _with_lift(self, summary: dict[str, float]) -> dict[str, float | None]:
        return with_lift(summary, self._plan.teacher_vqa_accuracy, self._plan.chance)

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        before = time.perf_counter()
        yield
        self._timing[part] += time.perf_counter() - before


def _at_hand(paths: Paths) -> Paths:
    """The same artifacts as they are called on this machine."""

    def here(path: str) -> str:
        return str(at_hand(Path(path)))

    return Paths(
        train=here(paths.train),
        retrieval={name: here(path) for name, path in paths.retrieval.items()},
        vqa={name: here(path) for name, path in paths.vqa.items()},
        teacher=here(paths.teacher),
        cache=here(paths.cache),
        vocabulary=here(paths.vocabulary) if paths.vocabulary else None,
    )
