"""How numbers of a study are shown: what a metric is called, in which unit, and how it is computed from what is stored."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.metric_names import split_metric
from analysis.pareto import Direction, Directions


@dataclass(frozen=True)
class Shown:
    """A metric as people read it: the stored value times ``scale``, or its square root."""

    label: str
    unit: str
    scale: float = 1.0
    is_root: bool = False

    def of(self, stored: ArrayLike) -> NDArray[np.float64]:
        """Stored values in the unit that is shown; the order of any two values stays."""
        values = np.asarray(stored, dtype=float)
        return np.sqrt(np.clip(values, 0.0, None)) if self.is_root else self.scale * values

    def axis(self, direction: Direction | None = None) -> str:
        """The label of an axis, which says the unit, and which way is better if that is given."""
        better = {"maximise": ", higher is better", "minimise": ", lower is better", None: ""}[direction]
        return f"{self.label}{f' ({self.unit})' if self.unit else ''}{better}"


_SPREAD = "VQA spread over languages"
# A variance is drawn as its root, the standard deviation: easier to read, with the same front.
_SHOWN = {
    "retrieval_map": Shown("Retrieval mAP", "%", 100.0),
    "vqa_variance": Shown(_SPREAD, "s.d.\u00a0in\u00a0points", is_root=True),
    "vqa_std": Shown(_SPREAD, "s.d.\u00a0in\u00a0points"),
    "vqa_accuracy": Shown("VQA accuracy", "%", 100.0),
    "vqa_lift_kept": Shown("VQA lift over chance kept", "%\u00a0of\u00a0the\u00a0teacher's", 100.0),
}
_BETTER: Directions = {
    "retrieval_map": "maximise",
    "vqa_variance": "minimise",
    "vqa_std": "minimise",
    "vqa_accuracy": "maximise",
    "vqa_lift_kept": "maximise",
}


def shown(metric: str) -> Shown:
    """How ``metric`` is shown: that of one set as the metric itself, with the set's name behind its label; one that is not
    known here keeps its name and its numbers.
    """
    name, of = split_metric(metric)
    found = _SHOWN.get(name, Shown(name.replace("_", " "), ""))
    return replace(found, label=f"{found.label}, {of}") if of else found


def better(metric: str, objectives: Directions) -> Direction:
    """Which way ``metric`` improves: as the study's ``objectives`` have it, else as is usual.

    Raises ValueError if neither says.
    """
    direction = objectives.get(metric, _BETTER.get(split_metric(metric)[0]))
    if direction is None:
        raise ValueError(
            f"{metric!r} is no metric of which it is known whether more is better; take one of {[*_BETTER]}"
        )
    return direction


def signed(value: float, digits: int) -> str:
    """``value`` with so many digits behind the point, and its sign, which is a minus and no hyphen."""
    return f"{value:+.{digits}f}".replace("-", "−")
