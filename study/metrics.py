"""What a trial reports, so what a study may optimise or constrain."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Mapping
from typing import Annotated

from pydantic import AfterValidator

from analysis.metric_names import of_set, split_metric
from trainables.data.sets import SET_NAME
from trainables.models.spec import shaped_like

# By the kind of set that each is of.
METRICS = {
    "retrieval_map": "retrieval",
    "vqa_variance": "vqa",
    "vqa_std": "vqa",
    "vqa_accuracy": "vqa",
    "vqa_lift_kept": "vqa",
}

_POINTS = 100.0  # percentage points between the worst accuracy and the best
# Between which values each lies, whatever a student does. That more than twice the teacher's lift is kept was never seen,
# and is a number of per cent.
REACH = {
    "retrieval_map": (0.0, 1.0),
    "vqa_variance": (0.0, (_POINTS / 2) ** 2),
    "vqa_std": (0.0, _POINTS / 2),
    "vqa_accuracy": (0.0, 1.0),
    "vqa_lift_kept": (-math.inf, 2.0),
}


def _known(metric: str) -> str:
    name, of = split_metric(metric)
    if name not in METRICS:
        near = difflib.get_close_matches(name, METRICS, 1)
        hint = f" (did you mean {of_set(near[0], of)}?)" if near else ""
        raise ValueError(f"should be one of {', '.join(METRICS)}, or @ and the name of a set after it{hint}")
    return metric


# The mean over all sets, or METRIC@SET, that of one.
Metric = Annotated[str, AfterValidator(_known), shaped_like(rf"({'|'.join(METRICS)})(@{SET_NAME})?")]


def place_of(metric: str) -> tuple[int, str]:
    """What metrics are sorted by."""
    name, of = split_metric(metric)
    return list(METRICS).index(name), of


def out_of_reach(metric: str, least: float | None, most: float | None) -> str | None:
    """Why no trial can have a metric of at least ``least`` and at most ``most``, None if one can."""
    low, high = REACH[split_metric(metric)[0]]
    if least is not None and least > high:
        share = f": as a share, {least:g} % is {least / 100:g}" if high <= 2 else ""
        return f"min: no trial reaches {least:g}, since {metric} is at most {high:g}{share}"
    if most is not None and most < low:
        return f"max: no trial goes down to {most:g}, since {metric} is at least {low:g}"
    return None


def mistaken_set(metric: str, sets: Mapping[str, Collection[str]]) -> str | None:
    """What is wrong with the set that a metric names, None if nothing is; ``sets``: the names of each kind."""
    name, of = split_metric(metric)
    kind = METRICS[name]
    names = [known for known in sets[kind] if known]
    if metric == name or of in names:
        return None
    if not names:
        return f"data.{kind} is one set without a name: write {name}"
    near = difflib.get_close_matches(of, names, 1)
    hint = f"did you mean {of_set(name, near[0])}? " if near else ""
    return f"'{of}' is no {kind} set: {hint}there are {', '.join(names)}"
