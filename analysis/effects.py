"""What strategies, mappings, weightings and their pairs do to the objectives: tables with intervals.

Values and effects are in the units of `analysis.units` (mAP in per cent, spread of VQA accuracy in percentage points).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped, unused-ignore]

from analysis.additive import Fitted, Floats, fit, interval, terms_of, together
from analysis.choices import choices_of, condition, label
from analysis.load import StudyData
from analysis.units import shown

FEWEST = 12  # complete trials; with fewer, adjusted effects are not computed
_DRAWS = 2000
_SEED = 0
_CLEAR = 0.2  # of the unexplained deviation: a standard deviation is never estimated as 0
_PAIRED = 4  # choices that move an objective most, whose pairs are looked at

_STRATEGY = ("objective", "strategy", "trials", "best", "median", "low", "high", "effect", "effect_low", "effect_high")
_CHOICE = (
    "objective",
    "choice",
    "label",
    "condition",
    "level",
    "trials",
    "median",
    "effect",
    "low",
    "high",
    "is_clear",
)
_PAIR = ("objective", "first", "second", "label", "trials", "size", "low", "high", "noise", "is_clear")


def seed_noise(data: StudyData) -> pd.DataFrame:
    """A row an objective: ``deviation`` of a recipe's scores over seeds, ``low`` and ``high`` of it, ``trainings``.

    From further trainings of recipes that were confirmed, with a variance pooled over recipes and its χ² interval of
    95 %; missing (NaN) where no recipe has two. A difference of two single trainings has √2 times this deviation by
    seeds alone.
    """
    rows = []
    for objective in data.objectives:
        runs = [shown(objective).of([run.get(objective, np.nan) for run in of]) for of in data.confirmations.values()]
        runs = [run[np.isfinite(run)] for run in runs]
        freedom = sum(max(len(run) - 1, 0) for run in runs)
        square = sum(float(((run - run.mean()) ** 2).sum()) for run in runs if len(run) > 1)
        bounds = [np.nan] * 3
        if freedom:
            quantiles = stats.chi2.ppf([0.975, 0.025], freedom)
            bounds = [np.sqrt(square / freedom), *np.sqrt(square / quantiles)]
        rows.append((objective, *bounds, sum(map(len, runs))))
    return pd.DataFrame(rows, columns=["objective", "deviation", "low", "high", "trainings"])


def strategy_effects(data: StudyData) -> pd.DataFrame:
    """A row an objective and strategy, over complete trials: what was found, and what the strategy itself adds.

    ``best`` and ``median`` of its trials, ``low`` and ``high`` of the median (bootstrap, 95 %; missing for fewer than
    three trials). These are confounded: the search does not try all strategies with the same other choices.
    ``effect``, with its interval, is against the average strategy in an additive model of all choices
    (`analysis.additive`): missing with fewer than `FEWEST` trials. Best and median go by objectives as they are,
    whether trials keep the constraints or not.
    """
    trials = complete(data)
    rng = np.random.default_rng(_SEED)
    rows: list[tuple[Any, ...]] = []
    for objective, direction in data.objectives.items():
        values, fitted = model(trials, objective)
        for strategy in sorted(trials["strategy"].unique()):
            own = values[(trials["strategy"] == strategy).to_numpy() & np.isfinite(values)]
            if not len(own):
                continue
            best = own.max() if direction == "maximise" else own.min()
            effect = _effect(fitted, "strategy", strategy)
            rows.append((objective, strategy, len(own), best, np.median(own), *median_interval(own, rng), *effect))
    return pd.DataFrame(rows, columns=list(_STRATEGY))


def choice_effects(data: StudyData) -> pd.DataFrame:
    """A row an objective, choice and level: every mapping, weighting, start and number, over complete trials.

    ``effect`` and its 95 % interval come from an additive model of all choices together: of a category's level against
    its average level; of a number, of going from the lowest tenth of the trials that make the choice to the highest
    (``level``: from → to). ``median`` is that of the trials at the level, confounded with all else. ``is_clear`` if the
    interval leaves out 0. Effects are missing with fewer than `FEWEST` trials.
    """
    trials = complete(data)
    choices = choices_of(trials)
    rows: list[tuple[Any, ...]] = []
    for objective in data.objectives:
        values, fitted = model(trials, objective)
        for name in choices.columns:
            for level, here, draws in _levels(name, choices[name], fitted):
                own = values[here & np.isfinite(values)]
                middle = float(np.median(own)) if len(own) else np.nan
                mean, low, high = interval(draws) if draws is not None else (np.nan,) * 3
                words = (objective, name, label(name), condition(name), level)
                rows.append((*words, len(own), middle, mean, low, high, low > 0 or high < 0))
    return pd.DataFrame(rows, columns=list(_CHOICE)).astype({"is_clear": "bool"})


def interactions(data: StudyData) -> pd.DataFrame:
    """A row an objective and pair of choices, largest first: how much the pair moves it beyond both choices alone.

    The pairs are those of the four unconditional choices that move the objective most; numbers are halved at their
    median. ``size`` is the standard deviation over trials of what the combination adds in an additive model with all
    choices and these pairs; ``low`` and ``high`` are its 95 % interval, which comes close to 0 where nothing is there,
    and ``noise`` is the standard deviation that the model leaves unexplained; ``is_clear`` if ``low`` is more than a fifth
    of that. No rows with fewer than `FEWEST` trials.
    """
    trials = complete(data)
    choices = choices_of(trials)
    rows: list[tuple[Any, ...]] = []
    for objective in data.objectives:
        values, fitted = model(trials, objective)
        if fitted is None:
            continue
        everywhere = [name for name in choices.columns if choices[name].notna().all()]
        top = sorted(everywhere, key=lambda name: -fitted.spread(name).mean())[:_PAIRED]
        pairs = {pair: together(choices[pair[0]], choices[pair[1]]) for pair in combinations(top, 2)}
        measured = np.isfinite(values)
        _, with_pairs = model(trials, objective, {" × ".join(pair): term for pair, term in pairs.items()})
        assert with_pairs is not None
        for pair in pairs:
            size = interval(with_pairs.spread(" × ".join(pair)))
            words = f"{label(pair[0])} × {label(pair[1])}"
            noise = float(with_pairs.noise.mean())
            is_clear = size[1] > _CLEAR * noise
            rows.append((objective, *pair, words, int(measured.sum()), *size, noise, is_clear))
    frame = pd.DataFrame(rows, columns=list(_PAIR)).astype({"is_clear": "bool"})
    order = frame["objective"].map({name: place for place, name in enumerate(data.objectives)})
    frame = frame.assign(order=order).sort_values(["order", "size"], ascending=[True, False])
    return frame.drop(columns="order").reset_index(drop=True)


def complete(data: StudyData) -> pd.DataFrame:
    """The trials that were trained and measured to the end: others do not compare."""
    return data.trials[data.trials["state"] == "complete"]


def model(
    trials: pd.DataFrame, objective: str, more: dict[str, Any] | None = None
) -> tuple[NDArray[np.float64], Fitted | None]:
    """The values of ``objective`` in its unit, and the additive model of all choices and ``more`` terms of ``trials``.

    The model is None with fewer than `FEWEST` measured trials, or if they do not differ in choices or outcome.
    """
    values = shown(objective).of(trials[objective])
    here = np.isfinite(values)
    terms = {**terms_of(choices_of(trials)), **(more or {})}
    if here.sum() < FEWEST or not terms or np.ptp(values[here]) == 0:
        return values, None
    kept = {name: type(term)(term.columns[here], term.levels, term.is_number) for name, term in terms.items()}
    return values, fit(kept, values[here])


def median_interval(values: Floats, rng: np.random.Generator) -> tuple[float, float]:
    """The central 95 % of medians of bootstrap draws (Efron & Tibshirani 1993), NaN for fewer than three values."""
    if len(values) < 3:
        return np.nan, np.nan
    medians = np.median(values[rng.integers(len(values), size=(_DRAWS, len(values)))], axis=1)
    return float(np.quantile(medians, 0.025)), float(np.quantile(medians, 0.975))


def _effect(fitted: Fitted | None, name: str, level: str) -> Sequence[float]:
    if fitted is None or name not in fitted.terms:
        return (np.nan,) * 3
    return interval(fitted.level(name, level))


def _levels(
    name: str, choice: pd.Series, fitted: Fitted | None
) -> Iterator[tuple[str, NDArray[np.bool_], Floats | None]]:
    """Each level of a choice, which trials are at it, and draws of its effect; None if there is no model."""
    term = fitted.terms[name] if fitted else None
    if pd.api.types.is_numeric_dtype(choice):
        made = choice.dropna()
        low, high = float(made.quantile(0.1)), float(made.quantile(0.9))
        draws = None
        if fitted and term:
            inside = term.columns[:, 0][term.columns[:, 0] != 0]
            draws = fitted.effects[name][:, 0] * float(np.ptp(np.quantile(inside, [0.1, 0.9]))) if len(inside) else None
        yield f"{low:.3g} → {high:.3g}", choice.notna().to_numpy(), draws
        return
    for level in sorted(choice.dropna().unique()):
        draws = fitted.level(name, str(level)) if fitted else None
        yield str(level), (choice == level).to_numpy(dtype=bool, na_value=False), draws
