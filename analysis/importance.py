"""How much each choice of a recipe matters for each objective: Optuna's fANOVA, on the trials of the ledger.

The only module of this package that knows Optuna, and it imports it only when it is asked. Of Optuna's evaluators:

- fANOVA (Hutter, Hoos & Leyton-Brown 2014) gives the share of the variance over the whole space that a choice explains
  by itself, by a forest's predictions: so where the search sampled most does not count twice. It is used here.
- PED-ANOVA, Optuna's default, asks what distinguishes the best trials. It compares densities of the few best with those
  of all, and of choices that only some of them make: on the recorded random trials of this project the choice that
  differed most between halves of the data came first again and again. With studies of tens of trials it is noise.
- mean decrease of impurity reads the forest where trials are, so what the search concentrated on counts more.

fANOVA can only take choices that all of its trials make; Optuna drops the others silently. Here a conditional choice is
measured among the trials in which it has an effect, beside the unconditional ones, and its share is of their variance.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.choices import choices_of, condition, is_number, label, scaled
from analysis.load import StudyData
from analysis.units import shown

FEWEST = 12  # trials; with fewer, a forest says nothing
_MOST = 100  # trials that a forest is fitted on: more cost much and say little more
_TREES, _DEPTH = 8, 5
_SEED = 0
_PROBE = "made up"
COLUMNS = ("objective", "choice", "label", "condition", "trials", "importance", "low", "high", "chance", "is_clear")


def importance(data: StudyData, draws: int = 16) -> pd.DataFrame:
    """A row an objective and choice, most important first: ``COLUMNS``.

    ``importance`` is the share of the variance of the objective, in the unit in which it is shown, that the choice
    explains by itself; ``condition`` says among which trials, ``trials`` how many those are. Only complete trials
    count: the others were trained or measured on less. ``low`` and ``high`` are the central 95 % of forests on so many
    bootstrap ``draws`` of the trials, the importance is their median. In each draw a made-up number takes part too:
    ``chance`` is the share that it stays below in 19 of 20 draws, and a choice ``is_clear`` if its ``low`` lies above
    that.

    A choice with fewer than ``FEWEST`` trials has no importance (NaN). Of more than 100 trials a random 100 are used.
    """
    trials = data.trials[data.trials["state"] == "complete"]
    if len(trials) > _MOST:
        trials = trials.sample(_MOST, random_state=_SEED).sort_values("number")
    choices = choices_of(trials)
    rows = [row for objective in data.objectives for row in _rows(objective, trials, choices, draws)]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    order = frame["objective"].map({name: place for place, name in enumerate(data.objectives)})
    frame = frame.assign(order=order, conditional=frame["condition"] != "", less=-frame["importance"].fillna(-1))
    keys = ["order", "conditional", "less"]
    frame = frame.sort_values(keys, kind="stable").drop(columns=keys)
    return frame.reset_index(drop=True).astype({"is_clear": "bool", "trials": "int64"})


@dataclass(frozen=True)
class _Group:
    condition: str
    trials: NDArray[np.bool_]  # those in which all of its choices have an effect
    names: list[str]


def _groups(choices: pd.DataFrame) -> Iterator[_Group]:
    """The choices that all trials make, then those that share their trials."""
    together: dict[tuple[str, bytes], list[str]] = {}
    for name in choices.columns:
        here = choices[name].notna().to_numpy()
        together.setdefault(("" if here.all() else condition(name), here.tobytes()), []).append(name)
    for (words, _), names in sorted(together.items(), key=lambda item: item[0][0]):
        here = choices[names[0]].notna().to_numpy()
        yield _Group(words if words or here.all() else "where it is made", here, names)


def _rows(objective: str, trials: pd.DataFrame, choices: pd.DataFrame, count: int) -> Iterator[dict[str, Any]]:
    values = shown(objective).of(trials[objective])
    always = [name for name in choices.columns if choices[name].notna().all()]
    for group in _groups(choices):
        here = group.trials & np.isfinite(values)
        beside = [name for name in always if name not in group.names]
        taking = choices.loc[here, [*group.names, *beside]]
        varied = taking.loc[:, taking.nunique() > 1]
        enough = here.sum() >= FEWEST and np.ptp(values[here]) > 0
        draws = _draws(_frozen(varied), tuple(values[here]), count) if enough else pd.DataFrame()
        chance = float(draws[_PROBE].quantile(0.95)) if enough else np.nan
        for name in group.names:
            of_name = draws[name] if name in draws else pd.Series([np.nan])
            low, middle, high = (float(of_name.quantile(share)) for share in (0.025, 0.5, 0.975))
            row = (objective, name, label(name), group.condition, int(here.sum()), middle, low, high, chance)
            yield dict(zip(COLUMNS, (*row, low > chance), strict=True))


_Frozen = tuple[tuple[str, tuple[Any, ...]], ...]


def _frozen(choices: pd.DataFrame) -> _Frozen:
    return tuple((str(name), tuple(choices[name])) for name in choices.columns)


@lru_cache(maxsize=64)  # a table and a figure ask for the same, and it takes seconds
def _draws(choices_: _Frozen, values_: tuple[float, ...], count: int) -> pd.DataFrame:
    """Importances [draws, choices and a made-up one] on bootstrap draws of the trials; a share of 1 over all choices."""
    choices, values = pd.DataFrame(dict(choices_)), np.array(values_)
    rng = np.random.default_rng(_SEED)
    found = []
    for draw in range(count):
        rows = rng.integers(len(values), size=len(values))
        probed = choices.iloc[rows].assign(**{_PROBE: rng.random(len(values))})
        if np.ptp(values[rows]) > 0:
            found.append(fanova(probed, values[rows], seed=draw))
    return pd.DataFrame(found, columns=[*choices.columns, _PROBE]).fillna(0.0)


def fanova(choices: pd.DataFrame, values: NDArray[np.float64], seed: int) -> dict[str, float]:
    """Optuna's fANOVA of ``values`` [N] over ``choices`` [N, C], none of them missing: shares with sum 1."""
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    columns = {
        name: scaled(name, choices[name]) if is_number(choices[name]) else choices[name]
        for name in map(str, choices.columns)
    }
    space = {name: _distribution(column) for name, column in columns.items()}
    rows = pd.DataFrame(columns).to_dict("records")
    with _quiet():
        study = optuna.create_study()
        study.add_trials(
            [
                optuna.trial.create_trial(params=row, distributions=space, value=float(value))
                for row, value in zip(rows, values, strict=True)
            ]
        )
        evaluator = FanovaImportanceEvaluator(n_trees=_TREES, max_depth=_DEPTH, seed=seed)
        shares = get_param_importances(study, evaluator=evaluator)
    return {name: float(share) for name, share in shares.items()}


def _distribution(choice: pd.Series) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if is_number(choice):
        return FloatDistribution(float(choice.min()), float(choice.max()))
    return CategoricalDistribution(sorted(choice.unique()))


@contextmanager
def _quiet() -> Iterator[None]:
    """No word from Optuna about a study that is only there to be measured."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(level)
