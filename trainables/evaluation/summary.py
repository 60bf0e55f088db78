"""Scores of several sets as one, and of a student beside its teacher."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

Row = dict[str, float]


def over_sets(summaries: Mapping[str, Mapping[str, float]]) -> Row:
    """The means of what sets of one kind score, then each named set's own as ``NAME@SET``.

    The standard error of a mean of K independent scores is √(Σ e²) / K; ``vqa_std`` stays the root of ``vqa_variance``.
    """
    names = dict.fromkeys(name for scores in summaries.values() for name in scores)
    whole = {name: _joined(name, [scores[name] for scores in summaries.values() if name in scores]) for name in names}
    if "vqa_std" in whole:
        whole["vqa_std"] = whole["vqa_variance"] ** 0.5
    for of, scores in summaries.items():
        whole |= {own_name(name, of): value for name, value in scores.items() if of}
    return whole


def _joined(name: str, values: list[float]) -> float:
    if len(values) == 1:
        return values[0]
    return math.hypot(*values) / len(values) if name.endswith("_noise") else math.fsum(values) / len(values)


def languages_over_sets(sets: Mapping[str, Mapping[str, Row]]) -> dict[str, Row]:
    """Each language's scores, means over the sets that have it; ``vqa_items`` is their sum."""
    found: dict[str, dict[str, list[float]]] = {}
    for rows in sets.values():
        for language, row in rows.items():
            for name, value in row.items():
                found.setdefault(language, {}).setdefault(name, []).append(value)
    return {
        language: {name: sum(values) if name == "vqa_items" else _joined(name, values) for name, values in row.items()}
        for language, row in found.items()
    }


def own_name(metric: str, name: str) -> str:
    """What a metric of one set is called; of a set without a name it is the metric itself."""
    return f"{metric}@{name}" if name else metric


def accuracies_of(summary: Mapping[str, float], sets: Iterable[str]) -> dict[str, float]:
    """The VQA accuracy of each set."""
    return {name: summary[own_name("vqa_accuracy", name)] for name in sets}


def with_lift(
    summary: Mapping[str, float], teacher: Mapping[str, float], chance: Mapping[str, float]
) -> dict[str, float | None]:
    """A student's summary with ``vqa_lift_kept`` of each set and their mean.

    ``teacher``, ``chance``: VQA accuracies by set. None for a set on which the teacher does not beat chance, so that
    nothing is there to keep, and then for the mean too.
    """
    kept = {
        name: lift_kept(accuracy, teacher[name], chance[name]) if teacher[name] > chance[name] else None
        for name, accuracy in accuracies_of(summary, teacher).items()
    }
    known = [value for value in kept.values() if value is not None]
    whole = _joined("vqa_lift_kept", known) if len(known) == len(kept) else None
    own = {own_name("vqa_lift_kept", name): value for name, value in kept.items() if name}
    return {**summary, "vqa_lift_kept": whole, **own}


def lift_kept(accuracy: float, teacher_accuracy: float, chance: float) -> float:
    """The share of the teacher's VQA accuracy above chance that a student keeps.

    Raises:
        ValueError: if the teacher itself does not beat chance, so that there is nothing to keep.
    """
    if teacher_accuracy <= chance:
        raise ValueError(f"the teacher's VQA accuracy {teacher_accuracy:.3f} does not beat chance {chance:.3f}")
    return (accuracy - chance) / (teacher_accuracy - chance)
