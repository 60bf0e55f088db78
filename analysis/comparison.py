"""Several studies beside each other: hypervolume from one reference point, attainment, and whether groups of runs differ.

A group is a way to search, and its studies are runs of it that differ in their seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import comb
from pathlib import Path
from typing import Any

import moocore  # type: ignore[import-untyped, unused-ignore]
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analysis.load import StudyData
from analysis.pareto import Directions, as_costs, hypervolume
from analysis.progress import study_reference

Groups = Mapping[str, Sequence[StudyData]]
PERCENTS = (25, 50, 75)
_RESAMPLES = 9999  # two-sided p-values below 2 in 10,000 are not told apart
_SEED = 0
_DIFFERENCES = {
    **dict.fromkeys(("group", "other"), "str"),
    **dict.fromkeys(("runs", "other_runs"), "int64"),
    **dict.fromkeys(("difference", "better", "p", "p_holm", "smallest_p"), "float64"),
    "test": "str",
}


def check_comparable(groups: Groups) -> Directions:
    """The objectives that all studies share.

    Raises ValueError, naming two studies, if their objectives differ.
    """
    first, *rest = [study for studies in groups.values() for study in studies]
    for study in rest:
        if study.objectives != first.objectives:
            said = [", ".join(f"{way} {name}" for name, way in each.objectives.items()) for each in (first, study)]
            raise ValueError(f"objectives differ: {first.path} has {said[0]}; {study.path} has {said[1]}")
    return first.objectives


def common_reference(groups: Groups) -> dict[str, float]:
    """The worst of the studies' own reference points in each objective; empty if no study has a scored teacher."""
    directions = check_comparable(groups)
    corners = [corner for studies in groups.values() for study in studies if (corner := study_reference(study))]
    return {
        name: (min if way == "maximise" else max)(corner[name] for corner in corners)
        for name, way in directions.items()
        if corners
    }


def runs(groups: Groups) -> pd.DataFrame:
    """A row a study: group, study (its folder), trials, complete, front, hypervolume, and the best of each objective.

    ``hypervolume`` is of validation scores, from ``common_reference``, in the product of the objectives' stored units;
    the best of an objective M is in the column M, in its stored unit. NaN is what there is none of.
    """
    directions, reference = check_comparable(groups), common_reference(groups)
    rows = []
    for group, studies in groups.items():
        for study in studies:
            front = front_values(study)
            best = as_costs(front, directions).min(axis=0) if len(front) else np.full(len(directions), np.nan)
            signs = [-1.0 if way == "maximise" else 1.0 for way in directions.values()]
            row: dict[str, Any] = {"group": group, "study": str(study.path), "trials": len(study.trials)}
            row |= {"complete": int((study.trials["state"] == "complete").sum()), "front": len(front)}
            row["hypervolume"] = hypervolume(front, directions, reference) if reference else np.nan
            rows.append(row | dict(zip(directions, best * signs, strict=True)))
    return pd.DataFrame(rows)


def differences(hypervolumes: Mapping[str, Sequence[float]]) -> pd.DataFrame:
    """Whether groups of runs differ in hypervolume: a row for each two groups.

    ``difference`` of the means, group minus other; ``better``, the chance that a run of the group is better than one of
    the other, ties counting half (Mann-Whitney's U over the number of pairs; Vargha & Delaney 2000); ``p`` of a two-sided
    permutation test of the difference of means (Fisher 1935), exact where there are up to 9,999 ways to deal the runs
    to the groups, else of so many random ones; ``p_holm``, corrected for the number of pairs (Holm 1979);
    ``smallest_p``, the least p that so few runs can give; ``test`` says which it was, or why there is none: a group of one
    run does not tell how runs of it differ.
    """
    rows = []
    for one, other in combinations(hypervolumes, 2):
        first, second = (np.asarray(hypervolumes[name], dtype=float) for name in (one, other))
        row: dict[str, Any] = {"group": one, "other": other, "runs": len(first), "other_runs": len(second)}
        row |= {"difference": first.mean() - second.mean(), "better": _better(first, second)}
        row |= {"p": np.nan, "p_holm": np.nan, "smallest_p": np.nan}
        if min(len(first), len(second)) < 2:
            rows.append({**row, "test": "none: each group needs two runs or more"})
        elif not np.isfinite(np.r_[first, second]).all():
            rows.append({**row, "test": "none: a run has no hypervolume"})
        else:
            ways = comb(len(first) + len(second), len(first))
            kind = "exact permutation" if ways <= _RESAMPLES else f"permutation, {_RESAMPLES} random"
            least = min(1.0, 2.0 / min(ways, _RESAMPLES + 1))
            rows.append({**row, "p": _permutation(first, second), "smallest_p": least, "test": kind})
    table = pd.DataFrame(rows, columns=[*_DIFFERENCES]).astype(_DIFFERENCES)
    tested = table["p"].notna()
    table.loc[tested, "p_holm"] = _holm(table.loc[tested, "p"].to_numpy())
    return table


def attainment(studies: Sequence[StudyData], directions: Directions) -> dict[int, NDArray[np.float64]]:
    """By per cent of the studies, the points [K, M] of what so many of them attain, best in the first objective first.

    A study attains all that its front dominates or equals. The empirical attainment function at 50 % is the edge of what
    half of the studies attain (Fonseca & Fleming 1996; computed by moocore as in Fonseca et al. 2011). Values are in
    their stored units; there are no points where too few studies have a front.
    """
    fronts = [as_costs(front_values(study, directions), directions) for study in studies]
    has_points = [front for front in fronts if len(front)]
    if not has_points:
        return {percent: np.empty((0, len(directions))) for percent in PERCENTS}
    # Sets without points do not reach moocore: so many of those that do make the same share of all.
    sets = np.repeat(np.arange(len(has_points)), [len(front) for front in has_points])
    signs = np.array([-1.0 if way == "maximise" else 1.0 for way in directions.values()])
    found = {}
    for percent in PERCENTS:
        wanted = int(np.ceil(percent * len(fronts) / 100))
        surface = np.empty((0, len(directions)))
        if wanted <= len(has_points):
            surface = _eaf(np.vstack(has_points), sets, wanted, len(has_points))
        found[percent] = surface[np.lexsort(surface.T[::-1])] * signs
    return found


def front_values(study: StudyData, directions: Directions | None = None) -> NDArray[np.float64]:
    """The members' stored values [N, M], in the study's objectives or in some of them."""
    members = study.trials.loc[study.trials["on_front"], [*(directions or study.objectives)]]
    return members.to_numpy(dtype=float, na_value=np.nan)


def labels(studies: Sequence[StudyData]) -> list[str]:
    """A name for each study: its folder's, or its path where folders of one name are several."""
    names = [Path(study.path).resolve().name for study in studies]
    return [name if names.count(name) == 1 else str(study.path) for name, study in zip(names, studies, strict=True)]


def _eaf(points: NDArray[np.float64], sets: NDArray[np.int64], wanted: int, count: int) -> NDArray[np.float64]:
    """The points of the surface that ``wanted`` of ``count`` sets attain, as costs."""
    if count == 1:
        return np.unique(points[moocore.is_nondominated(points)], axis=0)
    surface: NDArray[np.float64] = moocore.eaf(points, sets, percentiles=[100.0 * wanted / count])[:, :-1]
    return np.unique(surface, axis=0)


def _better(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    pairs = np.sign(first[:, None] - second[None, :])
    return float((pairs + 1.0).mean() / 2.0)


def _permutation(first: ArrayLike, second: ArrayLike) -> float:
    from scipy import stats  # type: ignore[import-untyped, unused-ignore]  # slow, and needed here alone

    def difference(a: NDArray[np.float64], b: NDArray[np.float64], axis: int) -> Any:
        return a.mean(axis=axis) - b.mean(axis=axis)

    found = stats.permutation_test((first, second), difference, n_resamples=_RESAMPLES, vectorized=True, rng=_SEED)
    return float(found.pvalue)


def _holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected
