"""What a recipe will need, foreseen from the trials that were measured, so that one that cannot fit is never run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study.errors import UserError
from study.search_config import LimitsConfig
from trainables.models.spec import SPEC_FILE, ModelSpec
from trainables.recipe import STRATEGY_NAMES, LayerMapping, Recipe

ENOUGH = 8  # measured trials, before anything but parameters is foreseen
_PENALTIES = (1e-3, 1e-1, 1e1, 1e3)  # of the ridge, on standardised features: from free slopes to almost none
_ROUNDS = 20  # of filling in what is known from below alone
_DEVIATIONS = 2.0  # of the margin: about one in forty trials is cheaper than its optimistic end

Features = NDArray[np.float64]


class Foresight:
    """Learns what recipes cost and refuses those that are above a limit.

    Parameters are counted, exactly and from the start. Memory and minutes are a linear function of what drives them,
    fitted to the trials so far: see `Foreseen`. With no limits set nothing is learned.
    """

    def __init__(self, limits: LimitsConfig, student: ModelSpec, parameters: int, teacher: Path, steps: int) -> None:
        """``parameters``: the student's; ``teacher``: the folder of the saved teacher; ``steps``: those of a whole trial.

        Raises:
            UserError: if no recipe at all can keep to the limits.
        """
        self._limits = limits
        self._student = student
        self._steps = steps
        self._teacher: ModelSpec | None = None
        if limits.parameters is not None:
            self._teacher = ModelSpec.model_validate_json((teacher / SPEC_FILE).read_text(encoding="utf-8"))
        self._student_parameters = parameters
        if limits.parameters is not None and limits.parameters < self._student_parameters:
            raise UserError(
                f"search.limits.parameters: {limits.parameters} is less than the {self._student_parameters} that the "
                "student of every recipe has (student.image, student.text)"
            )
        self._memory = Foreseen()
        self._training = Foreseen()  # seconds
        self._evaluations: list[float] = []  # seconds, of complete trials

    def learn(self, recipe: Recipe, result: Mapping[str, Any]) -> None:
        """Take in what a trial needed; ``result`` as in ``result.json``.

        Memory is that of complete trials, since the last evaluation may need most; one that ran out of memory is known
        to need more than the limit. Training is scaled to all steps, so that stopped trials count too.
        """
        if result.get("parameters"):
            self._student_parameters = result["parameters"]
        if self._limits.memory_gb is not None:
            if result.get("cause") == "out_of_memory":
                self._memory.add(self._features(recipe), self._limits.memory_gb, at_least=True)
            elif result["state"] == "complete" and result.get("memory_gb"):
                self._memory.add(self._features(recipe), result["memory_gb"], at_least=False)
        if self._limits.minutes is not None:
            timing = result.get("timing") or {}
            if result["steps"] and timing.get("train"):
                scaled = timing["train"] * self._steps / result["steps"]
                self._training.add(self._features(recipe), scaled, at_least=False)
            if result["state"] == "complete" and timing.get("evaluate"):
                self._evaluations.append(timing["evaluate"])

    def refusal(self, recipe: Recipe) -> str | None:
        """Why a recipe is not worth running, None if it may fit.

        Memory and minutes refuse a recipe only if even the optimistic end of what is foreseen is above the limit.
        """
        limits = self._limits
        if limits.parameters is not None:
            needed = self._parameters(recipe)
            if needed > limits.parameters:
                return f"trains {needed} parameters, more than search.limits.parameters, {limits.parameters}"
        if limits.memory_gb is not None:
            memory = self._memory.predict(self._features(recipe))
            if memory is not None and memory[1] > limits.memory_gb:
                return (
                    f"foreseen to need {_shown(memory[0])} GB a worker, more than search.limits.memory_gb, "
                    f"{limits.memory_gb:g}"
                )
        if limits.minutes is not None and self._evaluations:
            training = self._training.predict(self._features(recipe))
            if training is not None and (training[1] + min(self._evaluations)) / 60 > limits.minutes:
                minutes = (training[0] + float(np.mean(self._evaluations))) / 60
                return (
                    f"foreseen to take {_shown(minutes)} minutes, more than search.limits.minutes, {limits.minutes:g}"
                )
        return None

    def _parameters(self, recipe: Recipe) -> int:
        """All that is trained: the student, and a linear projection a matched layer where widths differ."""
        assert self._teacher is not None
        total = self._student_parameters
        for mapping, own, source in (
            (recipe.image_mapping, self._student.image, self._teacher.image),
            (recipe.text_mapping, self._student.text, self._teacher.text),
        ):
            if own.width != source.width:
                total += _matched(recipe, mapping, own.layers) * (own.width * source.width + source.width)
        return total

    def _features(self, recipe: Recipe) -> Features:
        """What drives the cost; each costs something or nothing, so that a larger value is never cheaper."""
        replicates = "dr" in recipe.weights
        return np.asarray(
            [
                *(float(name in recipe.weights) for name in STRATEGY_NAMES),
                float(recipe.task_weight > 0),
                float(recipe.replication.queue_size if replicates else 0),
                float(_matched(recipe, recipe.image_mapping, self._student.image.layers)),
                float(_matched(recipe, recipe.text_mapping, self._student.text.layers)),
            ]
        )


@dataclass
class Foreseen:
    """One cost as a linear function of features, by ridge regression, with a margin from its own mistakes.

    The margin is twice the root mean square of what each trial's cost was missed by when it was foreseen from all the
    others (leave-one-out), widened as usual for a recipe that is unlike the measured ones.
    """

    _features: list[Features] = field(default_factory=list)
    _costs: list[float] = field(default_factory=list)
    _at_least: list[bool] = field(default_factory=list)
    _fit: _Fit | None = None

    def add(self, features: Features, cost: float, *, at_least: bool) -> None:
        """A measured cost, or, with ``at_least``, one that is known to be no smaller."""
        self._features.append(features)
        self._costs.append(cost)
        self._at_least.append(at_least)
        self._fit = None

    def predict(self, features: Features) -> tuple[float, float] | None:
        """The cost that is foreseen and its optimistic end; None if what was measured does not tell.

        It tells from `ENOUGH` trials on, at least half of them measured as a whole, about recipes whose every part was
        seen in one of them: not of a recipe with a part that is new, or without one that all of them had.
        """
        measured = len(self._costs) - sum(self._at_least)
        if len(self._costs) < ENOUGH or measured < ENOUGH / 2:
            return None
        seen = np.stack(self._features)
        if bool(((features > 0) & (seen.max(axis=0) == 0)).any() or (features < seen.min(axis=0)).any()):
            return None
        if self._fit is None:
            self._fit = _fitted(seen, np.asarray(self._costs), np.asarray(self._at_least))
        return self._fit.predict(features)


@dataclass(frozen=True)
class _Fit:
    mean: Features
    scale: Features
    intercept: float
    slopes: Features
    inverse: Features  # of XᵀX + λI, for leverages
    trials: int
    deviation: float  # root mean square of the leave-one-out residuals

    def predict(self, features: Features) -> tuple[float, float]:
        centred = (features - self.mean) / self.scale
        expected = self.intercept + float(centred @ self.slopes)
        leverage = 1 / self.trials + float(centred @ self.inverse @ centred)
        return expected, expected - _DEVIATIONS * self.deviation * (1 + leverage) ** 0.5


def _fitted(features: Features, costs: Features, at_least: NDArray[np.bool_]) -> _Fit:
    """The fit with the penalty that foresees best.

    A cost that is known from below alone counts as what the fit makes of it, or as its bound if that is more.
    """
    fits = []
    for penalty in _PENALTIES:
        filled = costs
        for _ in range(_ROUNDS):
            fit, fitted = _ridge(features, filled, penalty, ~at_least)
            filled = np.where(at_least, np.maximum(costs, fitted), costs)
        fits.append(fit)
    return min(fits, key=lambda fit: fit.deviation)


def _ridge(features: Features, costs: Features, penalty: float, judged: NDArray[np.bool_]) -> tuple[_Fit, Features]:
    """A ridge with a free intercept, and its values; its deviation is over the ``judged`` trials.

    The residual of a trial that the fit has not seen is e / (1 − h), h its leverage: exact for linear smoothers
    (Hastie, Tibshirani and Friedman, *The Elements of Statistical Learning*, equation 7.64).
    """
    mean, spread = features.mean(axis=0), features.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    centred = (features - mean) / scale
    inverse = np.linalg.inv(centred.T @ centred + penalty * np.eye(centred.shape[1]))
    slopes = inverse @ centred.T @ (costs - costs.mean())
    values = costs.mean() + centred @ slopes
    leverages = 1 / len(costs) + np.einsum("ij,jk,ik->i", centred, inverse, centred)
    missed = ((costs - values) / (1 - leverages))[judged]
    deviation = float(np.sqrt(np.mean(missed**2)))
    return _Fit(mean, scale, float(costs.mean()), slopes, inverse, len(costs), deviation), values


def _matched(recipe: Recipe, mapping: LayerMapping, layers: int) -> int:
    """How many of a student tower's layers learn from a teacher's layer."""
    return layers if recipe.layer_weight > 0 and mapping.kind != "none" else 0


def _shown(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"
