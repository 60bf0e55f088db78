"""What each choice adds to an outcome when the others are held: an additive model with shrunken effects.

A search does not try every choice with every other equally often, so that a plain difference of means also has the
effects of what happened to go along. Here all choices stand in one regression. With tens of trials and as many
coefficients, least squares would say anything: so effects of one choice come from a normal distribution around 0, whose
width is learned (Gelman 2005, "Analysis of variance: why it is more important than ever"; half-Cauchy priors of widths as
Gelman 2006, sampled by Gibbs as Makalic & Schmidt 2016). Few trials give wide intervals around small effects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.choices import halves, is_number, scaled

Floats = NDArray[np.float64]
_DRAWS, _BURN_IN = 1500, 300
_SEED = 0
# The inverse gamma prior of the noise's variance, of shape 1 and this scale, beside an outcome of variance 1: where there
# are more coefficients than trials, nothing else keeps the model from explaining everything.
_NOISE = 0.02
LOW, HIGH = 0.025, 0.975


@dataclass(frozen=True)
class Term:
    """A choice, or two together, in the model: ``columns`` [N, K] of it, and what each stands for.

    A category has a column a level, 0 or 1. A number has one column of mean 0 and variance 1 over the trials that make
    the choice, 0 in the others.
    """

    columns: Floats
    levels: list[str]
    is_number: bool = False


@dataclass(frozen=True)
class Fitted:
    """Draws from the posterior: ``effects`` of a term [draws, K], and ``noise``, the standard deviation that is left.

    Effects of a category's levels have mean 0 in every draw: they are differences from the average level.
    """

    terms: dict[str, Term]
    effects: dict[str, Floats]
    noise: Floats

    def spread(self, name: str) -> Floats:
        """The standard deviation over trials of what the term adds, [draws]: how much it moves the outcome."""
        moved: Floats = (self.terms[name].columns @ self.effects[name].T).std(axis=0)
        return moved

    def level(self, name: str, level: str) -> Floats:
        """Draws [draws] of one level's effect."""
        draws: Floats = self.effects[name][:, self.terms[name].levels.index(level)]
        return draws


def terms_of(choices: pd.DataFrame) -> dict[str, Term]:
    """A term for each column of ``choices``, as `analysis.choices.choices_of` returns them."""
    return {
        name: _number(name, choices[name]) if is_number(choices[name]) else _category(choices[name])
        for name in map(str, choices.columns)
    }


def together(one: pd.Series, other: pd.Series) -> Term:
    """The combinations of two choices that occur; numbers count as lower or higher than their median."""
    return _category(halves(one) + " × " + halves(other))


def fit(terms: Mapping[str, Term], values: Floats) -> Fitted:
    """The model of ``values`` [N], finite, by ``terms``; the same numbers give the same draws.

    Raises ValueError if there are fewer than three values, or all are equal: nothing can be learned then.
    """
    scale = float(np.std(values)) if len(values) else 0.0
    if len(values) < 3 or scale == 0:
        raise ValueError("an additive model needs three values or more that differ")
    target = (values - values.mean()) / scale
    design = np.column_stack([np.ones(len(values)), *(term.columns for term in terms.values())])
    group = np.concatenate(
        [[-1], *(np.full(term.columns.shape[1], place) for place, term in enumerate(terms.values()))]
    )
    coefficients, noise = _sample(design, group.astype(int), target)
    effects = {}
    for place, (name, term) in enumerate(terms.items()):
        drawn = scale * coefficients[:, group == place]
        effects[name] = drawn if term.is_number else drawn - drawn.mean(axis=1, keepdims=True)
    return Fitted(dict(terms), effects, scale * noise)


def interval(draws: Floats) -> tuple[float, float, float]:
    """The mean of draws and the bounds of their central 95 %."""
    return float(draws.mean()), float(np.quantile(draws, LOW)), float(np.quantile(draws, HIGH))


def _category(choice: pd.Series) -> Term:
    levels = sorted(choice.dropna().unique())
    columns = np.column_stack([(choice == level).to_numpy(dtype=float, na_value=0.0) for level in levels])
    return Term(columns, [str(level) for level in levels])


def _number(name: str, choice: pd.Series) -> Term:
    values = scaled(name, choice).to_numpy(dtype=float, na_value=np.nan)
    made = np.isfinite(values)
    spread = values[made].std()
    column = np.where(made, (values - values[made].mean()) / (spread or 1.0), 0.0)
    return Term(column[:, None], [name], is_number=True)


def _sample(design: Floats, group: NDArray[np.int64], target: Floats) -> tuple[Floats, Floats]:
    """Draws of the coefficients [draws, P] and of the noise [draws]; the group −1, the intercept, is not shrunken."""
    gram, moment = design.T @ design, design.T @ target
    return _drawn(gram.tobytes(), moment.tobytes(), float(target @ target), len(target), tuple(group.tolist()))


@lru_cache(maxsize=64)  # several tables and figures look at one model
def _drawn(gram_: bytes, moment_: bytes, square: float, rows: int, group_: tuple[int, ...]) -> tuple[Floats, Floats]:
    """As `_sample`, from what is sufficient: XᵀX [P, P], Xᵀy [P], yᵀy and the number of rows."""
    group, moment = np.array(group_), np.frombuffer(moment_)
    gram = np.frombuffer(gram_).reshape(len(group), len(group))
    rng = np.random.default_rng(_SEED)
    size, groups = len(group), int(group.max()) + 1
    shape = (np.bincount(group[group >= 0], minlength=groups) + 1) / 2
    width, mixing, noise = np.ones(groups), np.ones(groups), 1.0
    kept = np.empty((_DRAWS, size)), np.empty(_DRAWS)
    for draw in range(-_BURN_IN, _DRAWS):
        shrink = np.append(1 / width, 1e-6)[group]  # −1 takes the last
        root = np.linalg.cholesky(gram / noise + np.diag(shrink))
        mean = np.linalg.solve(root.T, np.linalg.solve(root, moment / noise) + rng.standard_normal(size))
        rest = max(square - 2 * mean @ moment + mean @ gram @ mean, 0.0)
        noise = (rest / 2 + _NOISE) / rng.gamma(rows / 2 + 1)
        sums = np.bincount(group[1:], mean[1:] ** 2, minlength=groups)
        width = np.maximum((sums / 2 + 1 / mixing) / rng.gamma(shape), 1e-8)
        mixing = (1 + 1 / width) / rng.gamma(1.0, size=groups)  # a half-Cauchy of the outcome's own spread
        if draw >= 0:
            kept[0][draw], kept[1][draw] = mean, np.sqrt(noise)
    for drawn in kept:
        drawn.flags.writeable = False
    return kept
