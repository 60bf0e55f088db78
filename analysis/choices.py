"""The choices that a study's recipes make: a column each, missing where a choice has no effect."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

_LOGITS = "language_weighting.logits."
# Choices whose scale is logarithmic: factors count, not differences.
_RATIOS = ("task_weight", "layer_weight", "learning_rate", "weight_decay", "temperature", "strategy_weights")
_LABELS = {
    "strategy": "strategy",
    "task_weight": "weight of the task loss",
    "layer_weight": "weight of the layer loss",
    "initialise": "student's start",
    "image_mapping.kind": "image layer mapping",
    "text_mapping.kind": "text layer mapping",
    "language_weighting.kind": "language weighting",
    "language_weighting.gamma": "γ of difficulty weighting",
    "replication.teacher_temperature": "DR, teacher temperature",
    "replication.student_temperature": "DR, student temperature",
    "replication.queue_size": "DR, length of the queue",
    "learning_rate": "learning rate",
    "weight_decay": "weight decay",
}


def choices_of(trials: pd.DataFrame) -> pd.DataFrame:
    """A row a trial of ``trials``, whose column ``recipe`` is JSON; a column a choice in which they differ.

    Categories are strings, numbers floats. A choice is missing in trials in which it has no effect: temperatures
    without DR, γ without difficulty weighting, the weight of layers that are not matched, and so on. Logits of
    languages that always go together are one choice.
    """
    rows = [active(json.loads(recipe)) for recipe in trials["recipe"]]
    frame = pd.DataFrame(rows, index=trials["trial"].to_numpy())
    frame = _joined(frame)
    differ = [name for name in frame.columns if frame[name].dropna().nunique() > 1]
    return frame[differ]


def active(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a recipe that have an effect, flat, under dotted names; layers count from 1."""
    found = dict(_flat(recipe))
    has_dr = found.get("strategy") == "dr" or bool(found.get("strategy_weights.dr"))
    has_layers = any(found.get(f"{tower}_mapping.kind", "none") != "none" for tower in ("image", "text"))
    weighting = found.get("language_weighting.kind")
    shut = {
        "replication.": not has_dr and "strategy" in found,
        "layer_weight": not has_layers and "image_mapping.kind" in found,
        "language_weighting.gamma": weighting != "difficulty",
        _LOGITS: weighting != "free",
    }
    closed = tuple(prefix for prefix, is_shut in shut.items() if is_shut)
    return {name: value for name, value in found.items() if not name.startswith(closed)}


def is_number(choice: pd.Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(choice)) and not pd.api.types.is_bool_dtype(choice)


def scaled(name: str, choice: pd.Series) -> pd.Series:
    """Numbers of a choice on the scale on which it is searched: log₁₀ where factors count and none is 0."""
    is_ratio = any(part in name for part in _RATIOS) and bool((choice.dropna() > 0).all())
    return np.log10(choice) if is_ratio else choice


def halves(choice: pd.Series) -> pd.Series:
    """A choice as categories: numbers become ``low`` or ``high``, at their median or below and above it."""
    if not is_number(choice):
        return choice
    return pd.Series(np.where(choice > choice.median(), "high", "low"), index=choice.index).where(choice.notna())


def label(name: str) -> str:
    """A choice in words."""
    if name.startswith("strategy_weights."):
        return f"weight of {name.rpartition('.')[2].upper()} in the mix"
    if name.startswith(_LOGITS):
        return f"logit of {name.removeprefix(_LOGITS).replace('+', ', ')}"
    if ".layers." in name:
        return f"{name.split('_')[0]} layer {name.rpartition('.')[2]} learns from"
    return _LABELS.get(name, name.replace("_", " ").replace(".", ", "))


def condition(name: str) -> str:
    """Where a choice has an effect, empty if everywhere."""
    conditions = {
        "strategy_weights.": "strategy is mix",
        "replication.": "DR takes part",
        "layer_weight": "layers are matched",
        "image_mapping.layers": "image mapping is monotone",
        "text_mapping.layers": "text mapping is monotone",
        "language_weighting.gamma": "weighting is difficulty",
        _LOGITS: "weighting is free",
    }
    return next((words for prefix, words in conditions.items() if name.startswith(prefix)), "")


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list):
        for place, item in enumerate(value, start=1):
            yield from _flat(item, f"{prefix}.{place}")
    elif isinstance(value, str):
        yield prefix, value
    elif isinstance(value, bool):
        yield prefix, str(value).lower()
    elif value is not None:
        yield prefix, float(value)


def _joined(frame: pd.DataFrame) -> pd.DataFrame:
    """Logits that are equal in every trial as one column, named after all of their languages."""
    groups: dict[tuple[float, ...], list[str]] = {}
    names = [name for name in frame.columns if name.startswith(_LOGITS)]
    for name in names:
        groups.setdefault(tuple(frame[name].fillna(np.inf)), []).append(name)
    together = {
        _LOGITS + "+".join(name.removeprefix(_LOGITS) for name in group): frame[group[0]] for group in groups.values()
    }
    return pd.concat([frame.drop(columns=names), pd.DataFrame(together, index=frame.index)], axis=1)
