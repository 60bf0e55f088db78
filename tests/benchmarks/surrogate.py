"""What a training would have given: a model of the recorded trials, fast enough to search on thousands of times.

Of all metrics at all levels at once, from a recipe's encoding: a linear trend, so that recipes beyond the recorded ones
may be better than any of them, and extremely randomised trees (Geurts et al. 2006, "Extremely randomized trees") for what
the trend leaves, which go through the recorded scores. The noise of a training is drawn: the residuals of one recorded trial, all its metrics and
levels together, so that noise is correlated as it was in the recording; and of a trial that was predicted to go
about as the new one, so that noise is as large as it is for such recipes. Residuals are those of trials that the model
had not seen, so they hold its own error too: each metric's are scaled down to the noise between trainings of one recipe
with different seeds, which the recording holds some of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.model_selection import KFold

from search_spaces.space import SearchSpace, Surroundings, language_groups
from tests.benchmarks.record import METRICS, Recording
from trainables.layer_mapping import mapped_layers
from trainables.recipe import STRATEGY_NAMES, LayerMapping, Recipe

Floats = NDArray[np.float64]

_TREES, _FEATURES = 300, 0.5
_FOLDS = 10
_ALIKE = 20  # recorded trials from which the residuals of a new one are drawn
# Predicted as logarithms: what is positive by nature stays so, and errors are in proportion.
_POSITIVE = np.asarray([name in {"retrieval_map", "vqa_variance", "vqa_variance_noise"} for name in METRICS])


class Answers:
    """Answers a space's questions with given parameters, by name."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._parameters = parameters

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._parameters[name]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return float(self._parameters[name])

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return int(self._parameters[name])


def recipe_of(parameters: Mapping[str, Any], space: SearchSpace, around: Surroundings) -> Recipe:
    """The recipe that a space makes of parameters by its names; those that its conditions shut do not count."""
    return Recipe.model_validate(space.suggest(Answers(parameters), around))


def encoded(recipe: Recipe, around: Surroundings) -> Floats:
    """A recipe as numbers [F], about −1 to 1 each; a setting that has no effect has the value of none."""
    weights = {name: recipe.weights.get(name, 0.0) for name in STRATEGY_NAMES}
    replicates = weights["dr"] > 0
    logits = recipe.language_weighting.logits
    groups = [logits.get(group[0], 0.0) for group in language_groups(around.languages, 4)]
    return np.asarray(
        [
            float(recipe.strategy == "mix"),
            *weights.values(),
            np.log10(recipe.task_weight / sum(weights.values())) / 2,
            *_tower(recipe, recipe.image_mapping, around.student_layers["image"], around.teacher_layers["image"]),
            *_tower(recipe, recipe.text_mapping, around.student_layers["text"], around.teacher_layers["text"]),
            recipe.language_weighting.gamma / 2,
            *(np.asarray(groups) - np.mean(groups)),
            np.log10(recipe.replication.teacher_temperature / 0.05) if replicates else 0.0,
            np.log10(recipe.replication.student_temperature / 0.05) if replicates else 0.0,
            2 * np.log10(recipe.learning_rate / 0.003),
            np.log10(recipe.weight_decay / 0.05),
        ]
    )


def _tower(recipe: Recipe, mapping: LayerMapping, student: int, teacher: int) -> list[float]:
    """Where a tower's layers come from, whether they are copied, and how much they are matched."""
    layers = mapped_layers(mapping, student, teacher) or (teacher / 2,) * student
    is_mapped = mapping.kind != "none"
    matched = np.log10(recipe.layer_weight / 0.01) if is_mapped else 0.0
    return [
        *(layer / teacher for layer in layers),
        float(is_mapped),
        float(is_mapped and recipe.initialise == "mapped"),
        float(matched),
    ]


@dataclass(frozen=True)
class Forest:
    """Fitted trees as arrays: one recipe goes through all of them at once, without scikit-learn's cost a call."""

    feature: NDArray[np.intp]  # [nodes of all trees], −1 at a leaf
    threshold: Floats
    children: NDArray[np.intp]  # [nodes, 2]: where a value is at most the threshold, where it is above
    values: Floats  # [nodes, outputs]
    roots: NDArray[np.intp]  # [trees]

    @classmethod
    def fit(cls, inputs: Floats, outputs: Floats, seed: int) -> Forest:
        """Fit to ``inputs`` [N, F] and ``outputs`` [N, outputs]; outputs weigh equally, whatever their scale."""
        mean, scale = outputs.mean(axis=0), outputs.std(axis=0)
        model = ExtraTreesRegressor(_TREES, max_features=_FEATURES, random_state=seed)
        trees = [one.tree_ for one in model.fit(inputs, (outputs - mean) / scale).estimators_]
        roots = np.cumsum([0, *(tree.node_count for tree in trees[:-1])])
        children = [
            np.stack([tree.children_left, tree.children_right], axis=1) + root
            for tree, root in zip(trees, roots, strict=True)
        ]
        return cls(
            np.concatenate([np.where(tree.children_left < 0, -1, tree.feature) for tree in trees]),
            np.concatenate([tree.threshold for tree in trees]),
            np.concatenate(children),
            np.concatenate([tree.value[:, :, 0] for tree in trees]) * scale + mean,
            roots,
        )

    def predict(self, row: Floats) -> Floats:
        """The outputs [outputs] of one input [F]."""
        row = row.astype(np.float32)  # as scikit-learn compares
        at = self.roots
        while (inner := self.feature[at] >= 0).any():
            below = self.children[at, (row[self.feature[at]] > self.threshold[at]).astype(np.intp)]
            at = np.where(inner, below, at)
        return np.asarray(self.values[at].mean(axis=0))


@dataclass(frozen=True)
class Model:
    """A linear trend, and trees for the rest."""

    mean: Floats  # [F]
    scale: Floats  # [F]
    slopes: Floats  # [F, outputs]
    rest: Forest

    @classmethod
    def fit(cls, inputs: Floats, outputs: Floats, seed: int) -> Model:
        """Ridge regression with a penalty of N, which halves the slopes of independent features, then the trees."""
        mean, scale = inputs.mean(axis=0), np.maximum(inputs.std(axis=0), 1e-9)
        rows = (inputs - mean) / scale
        penalty = len(rows) * np.eye(rows.shape[1])
        slopes = np.linalg.solve(rows.T @ rows + penalty, rows.T @ (outputs - outputs.mean(axis=0)))
        return cls(mean, scale, slopes, Forest.fit(inputs, outputs - rows @ slopes, seed))

    def predict(self, row: Floats) -> Floats:
        """The outputs [outputs] of one input [F]."""
        return np.asarray((row - self.mean) / self.scale @ self.slopes + self.rest.predict(row))


class Surrogate:
    """Metrics [levels, METRICS] of recipes that were never trained."""

    def __init__(self, recording: Recording, space: SearchSpace, around: Surroundings, seed: int = 0) -> None:
        self.levels = recording.levels
        self._around = around
        inputs, outputs = _data(recording, space, around)
        self._model = Model.fit(inputs, outputs, seed)
        residuals = outputs - _unseen(inputs, outputs, seed)
        residuals -= residuals.mean(axis=0)
        self._noise = residuals * np.minimum(1.0, noise(recording) / residuals.std(axis=0))
        self._scale = outputs.std(axis=0)
        self._predicted = np.stack([self._model.predict(row) for row in inputs]) / self._scale

    def expected(self, recipe: Recipe) -> Floats:
        """What a recipe gives on average, by this model."""
        return self._metrics(self._model.predict(encoded(recipe, self._around)))

    def training(self, recipe: Recipe, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """What a recipe gives on average, and what one training of it reports."""
        output = self._model.predict(encoded(recipe, self._around))
        distance = np.square(self._predicted - output / self._scale).sum(axis=1)
        alike = np.argpartition(distance, _ALIKE)[:_ALIKE]
        return self._metrics(output), self._metrics(output + self._noise[rng.choice(alike)])

    def _metrics(self, output: Floats) -> Floats:
        table = output.reshape(len(self.levels), len(METRICS))
        return np.where(_POSITIVE, np.exp(np.where(_POSITIVE, table, 0.0)), table)


def held_out_errors(recording: Recording, space: SearchSpace, around: Surroundings, seed: int = 0) -> pd.DataFrame:
    """How far predictions are off for recipes that the model has not seen, ten folds: a row a metric and level.

    ``r2`` and ``mae`` are in the metric's own unit; ``spearman`` is the correlation of ranks.
    """
    inputs, outputs = _data(recording, space, around)
    unseen = _unseen(inputs, outputs, seed)
    columns = pd.MultiIndex.from_product([recording.levels, METRICS])
    rows = []
    for place, (level, metric) in enumerate(columns):
        positive = _POSITIVE[METRICS.index(metric)]
        true, guess = (np.exp(column) if positive else column for column in (outputs[:, place], unseen[:, place]))
        rows.append(
            {
                "metric": metric,
                "step": level,
                "r2": 1 - np.square(true - guess).sum() / np.square(true - true.mean()).sum(),
                "spearman": spearmanr(true, guess).statistic,
                "mae": np.abs(true - guess).mean(),
                "spread": true.std(),
            }
        )
    return pd.DataFrame(rows)


def noise(recording: Recording) -> Floats:
    """The standard deviation of each output [outputs] between trainings of one recipe, over recipes that have several."""
    outputs = _outputs(recording)
    groups = pd.DataFrame(outputs).groupby(recording.scores.index.to_numpy())
    freedom = len(outputs) - groups.ngroups
    if not freedom:
        raise ValueError("the recording has no recipe that was trained twice: its noise is not known")
    return np.asarray(np.sqrt(np.square(outputs - groups.transform("mean").to_numpy()).sum(axis=0) / freedom))


def _data(recording: Recording, space: SearchSpace, around: Surroundings) -> tuple[Floats, Floats]:
    """What the model learns from: inputs [N, F] and outputs [N, outputs], a row a recipe, its trainings averaged."""
    rows = recording.recipes[~recording.recipes.index.duplicated()].sort_index().to_dict("records")
    inputs = np.stack([encoded(recipe_of(row, space, around), around) for row in rows])
    outputs = pd.DataFrame(_outputs(recording)).groupby(recording.scores.index.to_numpy()).mean()
    return inputs, outputs.to_numpy()


def _outputs(recording: Recording) -> Floats:
    """What the model predicts, a row a training [N, levels · METRICS]."""
    columns = [f"{name}@{level}" for level in recording.levels for name in METRICS]
    table = recording.scores[columns].to_numpy(dtype=float)
    positive = np.tile(_POSITIVE, len(recording.levels))
    return np.where(positive, np.log(np.where(positive, table, 1.0)), table)


def _unseen(inputs: Floats, outputs: Floats, seed: int) -> Floats:
    """Every recipe's outputs as predicted by a model that was fitted without it."""
    predicted = np.empty_like(outputs)
    for fitted, held_out in KFold(_FOLDS, shuffle=True, random_state=seed).split(inputs):
        model = Model.fit(inputs[fitted], outputs[fitted], seed)
        predicted[held_out] = np.stack([model.predict(row) for row in inputs[held_out]])
    return predicted
