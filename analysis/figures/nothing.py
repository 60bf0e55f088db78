"""Figures that say that a study has nothing to show yet."""

from __future__ import annotations

from matplotlib.figure import Figure

from analysis.load import StudyData
from analysis.style import PAIR, explain, headline, styled


def nothing_yet(data: StudyData, what: str, needed: int = 1) -> Figure:
    """A figure that says how many complete trials there are, and that ``needed`` are for ``what``."""
    complete = int((data.trials["state"] == "complete").sum())
    with styled():
        figure = Figure(figsize=(PAIR[0] / 2, 3.0), layout="constrained")
        found = f"{complete} complete trials of {len(data.trials)}"
        enough = "." if complete >= needed else f"; at least {needed}, which differ, are needed."
        explain(figure.subplots(), found + enough)
        headline(figure, f"{data.name}: nothing to say about {what} yet")
    return figure
