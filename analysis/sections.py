"""The sections of a study's notebook, in their order. A new one is one entry."""

from __future__ import annotations

from typing import NamedTuple


class Section(NamedTuple):
    """A heading, a sentence or two on how to read what follows, and the code of a cell.

    Neither says anything of a particular study: what does is computed by the code, and shown by functions that escape it.
    """

    title: str
    text: str
    code: str


SECTIONS = (
    Section(
        "The study",
        "What was searched, with which teacher, how far it is and what went wrong.",
        """
from analysis.load import load_study
from analysis.overview import overview

%matplotlib inline
%config InlineBackend.figure_formats = ["retina"]
data = load_study("..")
overview(data)
""",
    ),
    Section(
        "The front",
        "The recipes that no other one beats in both objectives.",
        """
from analysis.figures.front import pareto

pareto(data)
""",
    ),
    Section(
        "The front to explore",
        "Hover over a trial, or step through them with the arrow keys; a click or Enter shows its languages.",
        """
from analysis.explorer import explorer

explorer(data)
""",
    ),
)
