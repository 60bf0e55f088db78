"""The sections of a study's notebook, in their order. A new one is one entry."""

from __future__ import annotations

from typing import NamedTuple


class Section(NamedTuple):
    """A heading, a sentence or two on how to read what follows, and the code of a cell.

    Neither says anything of a particular study: what does is computed by the code, and shown by functions that escape it.
    The code's last line is an expression: a figure, or an `Html`.
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
        "Recipes that no other one beats in every objective, on validation, on which they were chosen.",
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
    Section(
        "The front in numbers",
        "A score of the search is one training's, chosen for being good. Trainings with new seeds and the test split had no "
        "part in the choice.",
        """
from analysis.front_table import front_table

front_table(data)
""",
    ),
    Section(
        "Validation against test",
        "The front was chosen on validation, so its scores there flatter it; the teacher, which nothing selected, shows how "
        "the splits differ by themselves.",
        """
from analysis.figures.selection import selection

selection(data)
""",
    ),
    Section(
        "How the search went",
        "Hypervolume is what the front dominates, measured from the reference point. Where it is still rising, more trials "
        "would find more.",
        """
from analysis.figures.progress import progress

progress(data)
""",
    ),
    Section(
        "Where trials ended",
        "A trial that was stopped early was behind others that had trained as long.",
        """
from analysis.figures.progress import rungs

rungs(data)
""",
    ),
    Section(
        "Answers",
        "What the study says to the questions that it was run for, each with its uncertainty.",
        """
from analysis.answers import answers
from analysis.html import table

table(answers(data).drop(columns="method"))
""",
    ),
    Section(
        "What matters",
        "The share of an objective's variance that a choice explains by itself.",
        """
from analysis.figures.matters import importance

importance(data)
""",
    ),
    Section(
        "Strategies",
        "Left as found, which depends on what else was tried with a strategy; right what the strategy itself adds.",
        """
from analysis.figures.strategies import strategies

strategies(data)
""",
    ),
    Section(
        "Every other choice",
        "The effect of each mapping, weighting and number, all other choices held. `analysis.figures.matters.pairs` has pairs.",
        """
from analysis.figures.matters import effects

effects(data)
""",
    ),
    Section(
        "Languages",
        "What recipes change against the teacher, language by language. `analysis.figures.languages` has more: worst and best "
        "languages, scripts and families, consistency, weights.",
        """
from analysis.figures.languages import changes

changes(data)
""",
    ),
    Section(
        "Compression",
        "What is kept of the teacher, against what a student costs.",
        """
from analysis.figures.compression import compression

compression([data])
""",
    ),
    Section(
        "To go on",
        "`data` has the study as frames: trials, scores by language, reports. One recipe with its pictures: "
        "`python -m analysis.trial RUN TRIAL`.",
        """
columns = ["number", "strategy", "state", "steps", "seconds", *data.objectives]
table(data.trials[columns].head(), "The first trials, of data.trials")
""",
    ),
)
