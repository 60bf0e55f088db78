"""The questions that a study is run for, answered in one table, each answer with its uncertainty."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.additive import Fitted, Floats, interval
from analysis.effects import FEWEST, complete, model, seed_noise
from analysis.load import StudyData
from analysis.style import look
from analysis.units import better, shown, signed

COLUMNS = ("question", "answer", "estimate", "low", "high", "unit", "trials", "method")
_ADDITIVE = "additive model of all choices, posterior mean and 95 % interval"
_UNIT = "points"  # of per cent, or of a standard deviation of percentages
_NONE = ("", np.nan, np.nan, np.nan)


def answers(data: StudyData) -> pd.DataFrame:
    """A row a question: which strategy keeps retrieval, which keeps VQA even, what layers and language weights add.

    ``answer`` is a sentence, ``estimate`` with ``low`` and ``high`` the effect that it is about, in ``unit``, against
    the average strategy or against going without. All of it comes from one additive model an outcome, over complete
    trials (`analysis.additive`); for the spread of VQA over languages, over those that keep the constraints, since a
    student that guesses is even too. With fewer than 12 such trials an answer says so and has no estimate.
    """
    rows = []
    for metric, question in (
        ("retrieval_map", "Which strategy keeps retrieval?"),
        ("vqa_variance", "Which strategy keeps VQA even over languages?"),
        ("vqa_accuracy", "Which strategy keeps VQA accuracy?"),
    ):
        rows.append(_row(data, question, metric, "best strategy"))
    for metric in ("retrieval_map", "vqa_variance"):
        of = "retrieval" if metric == "retrieval_map" else "evenness of VQA"
        rows += [
            _row(data, f"What does matching image layers add to {of}?", metric, "image_mapping.kind"),
            _row(data, f"What does matching text layers add to {of}?", metric, "text_mapping.kind"),
            _row(data, f"What do language weights add to {of}?", metric, "language_weighting.kind"),
        ]
    rows += [_noise_row(data, metric) for metric in ("retrieval_map", "vqa_variance")]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(data: StudyData, question: str, metric: str, about: str) -> tuple[object, ...]:
    trials = complete(data)
    method = _ADDITIVE
    if metric in ("vqa_variance", "vqa_std") and data.constraints:
        trials, method = trials[trials["feasible"]], f"{_ADDITIVE}; trials that keep the constraints"
    values = shown(metric).of(trials[metric])
    measured = int(np.isfinite(values).sum())
    _, fitted = model(trials, metric)
    if fitted is None:
        answer = f"Too few trials to say: {measured}, and {FEWEST} are needed."
        if measured >= FEWEST:
            answer = "Its trials do not differ, so there is nothing to compare."
        return (question, answer, *_NONE[1:], _UNIT, measured, "")
    sign = 1 if better(metric, data.objectives) == "maximise" else -1
    if about == "best strategy":
        answer, *effect = _best(fitted, sign)
    else:
        answer, *effect = _added(fitted, about, sign)
    return (question, answer, *effect, _UNIT, measured, method)


def _best(fitted: Fitted, sign: int) -> tuple[str, float, float, float]:
    if "strategy" not in fitted.terms:
        return ("All trials are of one strategy.", *_NONE[1:])
    term, draws = fitted.terms["strategy"], fitted.effects["strategy"]
    first = np.bincount((sign * draws).argmax(axis=1), minlength=len(term.levels)) / len(draws)
    best = int((sign * draws).mean(axis=0).argmax())
    effect = interval(draws[:, best])
    name, share = look(term.levels[best]).label, first[best]
    if share >= 0.95:
        answer = f"{name}: {_signed(effect[0])} against the average strategy."
    else:
        rivals = [
            look(term.levels[place]).label for place in np.argsort(-first) if place != best and first[place] >= 0.1
        ]
        beside = f", but {', '.join(rivals)} may be" if rivals else ""
        answer = f"Not settled: {name} is best with a probability of {100 * share:.0f} %{beside}."
    return (answer, *effect)


def _added(fitted: Fitted, choice: str, sign: int) -> tuple[str, float, float, float]:
    """The best of a choice's levels against going without (mapping none, uniform weights)."""
    without = "uniform" if choice.startswith("language") else "none"
    term = fitted.terms.get(choice)
    if term is None or without not in term.levels:
        return (f"The trials do not compare it with {without}.", *_NONE[1:])
    others = [level for level in term.levels if level != without]
    base = fitted.level(choice, without)
    gains = {level: fitted.level(choice, level) - base for level in others}
    mean: Floats = np.mean(list(gains.values()), axis=0)
    effect = interval(mean)
    best = max(others, key=lambda level: sign * gains[level].mean())
    detail = f"most with {best}: {_signed(gains[best].mean())}"
    if effect[1] <= 0 <= effect[2]:
        answer = f"Nothing that can be told from 0: {_signed(effect[0])} ({detail})."
    else:
        word = "It helps" if sign * effect[0] > 0 else "It harms"
        answer = f"{word}: {_signed(effect[0])} ({detail})."
    return (answer, *effect)


def _noise_row(data: StudyData, metric: str) -> tuple[object, ...]:
    question = f"How much do seeds alone move {'retrieval' if metric == 'retrieval_map' else 'the spread of VQA'}?"
    noise = {row["objective"]: row for row in seed_noise(data).to_dict("records")}
    if metric not in noise or not np.isfinite(noise[metric]["deviation"]):
        return (question, "Not known: no recipe was trained again with two seeds.", *_NONE[1:], _UNIT, 0, "")
    found = noise[metric]
    answer = f"A standard deviation of {found['deviation']:.2g} {_UNIT}."
    method = "further trainings of confirmed recipes, pooled variance, χ² interval"
    return (question, answer, found["deviation"], found["low"], found["high"], _UNIT, int(found["trainings"]), method)


def _signed(value: float) -> str:
    return f"{signed(value, 2)} {_UNIT}"
