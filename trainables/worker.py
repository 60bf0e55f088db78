"""What each Ray Train worker of a trial runs: train, report at rungs and at the end, go on from a checkpoint."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from trainables.config import TrialPlan
from trainables.data.prepared import CaptionedImages, VisualQuestions
from trainables.device import set_up_process
from trainables.distiller import Distiller
from trainables.distributed import worker
from trainables.evaluation.evaluate import evaluate, lift_kept, subset
from trainables.evaluation.examples import write_examples

Report = Callable[[dict[str, Any]], None]

CHECKPOINT = "checkpoint"  # the student, as `load_model` reads it
_STATE = "state.pt"
_SUBSET_SEED = 0


def train(plan: TrialPlan, report: Report) -> None:
    """Run the trial of ``plan`` and hand each result to ``report``; a failure of the recipe is a result too.

    Every worker calls ``report`` equally often, since Ray Train waits for all; the first worker's results count. A
    result at a rung or at the end has ``step``, ``final``, ``seconds``, ``timing`` and ``metrics``, the last one
    ``scores`` too. A recipe that diverges gives ``failure``, the reason, instead of metrics.
    """
    started = time.perf_counter()
    device = set_up_process(plan.threads)
    is_first = worker()[0] == 0
    folder = Path(plan.folder)
    timing = {"setup": 0.0, "train": 0.0, "evaluate": 0.0}

    distiller = Distiller(plan, device)
    state_file = folder / CHECKPOINT / _STATE
    if state_file.exists():
        state = torch.load(state_file, map_location=device, weights_only=True)
        distiller.restore(state["distiller"])
        timing = state["timing"]
        report(state["reported"])  # the run that wrote it may have ended before anybody heard
        started -= sum(timing.values())
    captions = CaptionedImages.load(Path(plan.paths.retrieval))
    questions = VisualQuestions.load(Path(plan.paths.vqa))
    small = subset(captions, questions, plan.rung_share, _SUBSET_SEED) if plan.rungs else None
    timing["setup"] = time.perf_counter() - started - timing["train"] - timing["evaluate"]

    def result(**values: Any) -> dict[str, Any]:
        elapsed = {"step": distiller.steps_done, "seconds": time.perf_counter() - started, "timing": dict(timing)}
        return {**elapsed, "parameters": distiller.student.parameter_count(), **values}

    def with_lift(summary: dict[str, float]) -> dict[str, float]:
        kept = lift_kept(summary["vqa_accuracy"], plan.teacher_vqa_accuracy, plan.chance)
        return {**summary, "vqa_lift_kept": kept}

    def run() -> None:
        losses: dict[str, float] = {}
        while distiller.steps_done < plan.training.steps:
            before = time.perf_counter()
            losses = distiller.step()
            timing["train"] += time.perf_counter() - before
            if distiller.steps_done not in plan.rungs or distiller.steps_done == plan.training.steps:
                continue
            distiller.check_finite()
            metrics: dict[str, float] = {}
            if is_first:
                assert small is not None
                before = time.perf_counter()
                metrics = with_lift(evaluate(distiller.student, *small, plan.training.precision).summary)
                timing["evaluate"] += time.perf_counter() - before
            reported = result(final=False, metrics=metrics, losses=losses)
            if is_first:
                state = {"distiller": distiller.state(), "timing": dict(timing), "reported": reported}
                _save_state(state_file, state)
            report(reported)
        distiller.check_finite()
        scores: dict[str, Any] = {}
        if is_first:
            before = time.perf_counter()
            evaluation = evaluate(distiller.student, captions, questions, plan.training.precision)
            scores = {"languages": evaluation.languages, "summary": with_lift(evaluation.summary)}
            write_examples(folder / "examples.parquet", captions, questions, evaluation.similarities)
            timing["evaluate"] += time.perf_counter() - before
            distiller.student.save(folder / CHECKPOINT)
        report(result(final=True, metrics=scores.get("summary", {}), scores=scores, losses=losses))
        if is_first:
            state_file.unlink(missing_ok=True)  # the trial is finished: only the student is needed from here

    try:
        run()
    except FloatingPointError as error:
        report(result(final=True, failure=f"diverged: {error}", metrics={}, scores={}))


def _save_state(path: Path, state: dict[str, Any]) -> None:
    """Replace the file whole: a reader sees the old state or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
