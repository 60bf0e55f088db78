"""What a trial reports, so what a study may optimise or constrain."""

from __future__ import annotations

import difflib
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
