"""How a search went: the hypervolume as trials ended, and at which rung trials were stopped."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.load import StudyData
from analysis.pareto import Directions, hypervolume, nondominated, reference_point

_ENDED = ("complete", "stopped", "infeasible", "failed")
HISTORY_COLUMNS = {
    "trial": "str",
    "trials": "int64",
    "steps": "int64",
    "hours": "float64",
    "hypervolume": "float64",
    "grew": "bool",
}


def study_reference(data: StudyData) -> dict[str, float] | None:
    """The point that the study's hypervolume is measured from, None as long as no teacher is scored.

    It is 0 where more is better, and twice the teacher's value where less is. Raises ValueError if the teacher lacks an
    objective that is minimised.
    """
    return reference_point(data.teacher.metrics["validation"], data.objectives) if data.teacher else None


def history(data: StudyData, reference: dict[str, float] | None = None) -> pd.DataFrame:
    """A row a trial that has ended, in the order in which they did: ``HISTORY_COLUMNS``.

    ``trials``: how many have ended; ``steps``: training steps of these in all; ``hours``: wall time since the first
    trial was proposed, breaks of the study included, NaN where the ledger has no times; ``hypervolume`` of the complete,
    feasible trials so far, in the product of the objectives' units, from ``reference``, by default the study's own;
    ``grew``: whether this trial made it grow. Without a reference point there are no rows.
    """
    corner = reference or study_reference(data)
    ended = data.trials[data.trials["state"].isin(_ENDED)]
    if corner is None or ended.empty:
        return pd.DataFrame(columns=[*HISTORY_COLUMNS]).astype(HISTORY_COLUMNS)
    # Those without a time go by number, behind those with one.
    ended = ended.sort_values(["finished", "number"], na_position="last")
    began = data.trials["created"].min()
    hours = (ended["finished"] - began).dt.total_seconds() / 3600.0
    counts = ended["state"].eq("complete") & ended["feasible"]
    values = ended[[*data.objectives]].to_numpy(dtype=float, na_value=np.nan)
    values[~counts.to_numpy(dtype=bool)] = np.nan
    volumes = running_hypervolume(values, data.objectives, corner)
    return pd.DataFrame(
        {
            "trial": ended["trial"].to_numpy(),
            "trials": np.arange(1, len(ended) + 1),
            "steps": ended["steps"].fillna(0).astype("int64").cumsum().to_numpy(),
            "hours": hours.to_numpy(dtype=float),
            "hypervolume": volumes,
            "grew": np.diff(volumes, prepend=0.0) > 0.0,
        }
    ).astype(HISTORY_COLUMNS)


def running_hypervolume(values: np.ndarray, directions: Directions, reference: dict[str, float]) -> np.ndarray:
    """The hypervolume of the first 1, 2, ..., N rows of ``values`` [N, M], as an array [N]; rows with NaN add nothing.

    Only a row that is not dominated when it comes is computed with, beside the front as it is then: N rows cost N
    comparisons with a front, and a hypervolume for each time that it grows.
    """
    volumes = np.zeros(len(values))
    front = np.empty((0, values.shape[1]))
    volume = 0.0
    for place, row in enumerate(values):
        if np.isfinite(row).all():
            candidate = np.vstack([front, row])
            mask = nondominated(candidate, directions)
            if mask[-1]:
                front = np.unique(candidate[mask], axis=0)
                volume = hypervolume(front, directions, reference)
        volumes[place] = volume
    return volumes


def endings(data: StudyData) -> pd.DataFrame:
    """How many trials of each strategy ended in which way: strategy, ending, step, trials.

    ``ending`` is ``stopped``, by the rung at ``step``; ``complete``; ``failed``; ``infeasible``, before it ran or while it
    did; or ``running``. ``step`` is NA but for trials that were stopped. Trials that cannot be read are left out.
    """
    trials = data.trials[data.trials["state"] != "unreadable"]
    table = pd.DataFrame(
        {
            "strategy": trials["strategy"],
            "ending": trials["state"],
            "step": trials["steps"].where(trials["state"] == "stopped"),
        }
    )
    counted = table.groupby(["strategy", "ending", "step"], dropna=False).size().reset_index(name="trials")
    return counted.astype({"strategy": "str", "ending": "str", "step": "Int64", "trials": "int64"})
