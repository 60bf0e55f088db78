"""How every figure looks: colours, shapes, fonts, sizes, what a title and a caption are, and how a figure is saved.

A figure is drawn inside ``styled()``, says what it found in its ``headline`` and what is drawn in its ``caption``::

    with styled():
        figure = Figure(figsize=ONE, layout="constrained")
        axes = figure.subplots()
        ...
        headline(figure, "Feature distillation retrieves best")
        caption(figure, "Validation; bars are one standard error.")
"""

from __future__ import annotations

import dataclasses
import io
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import seaborn as sns  # type: ignore[import-untyped, unused-ignore]
from matplotlib import font_manager
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.files import write_atomically


class Look(NamedTuple):
    """How one strategy, study or group is told from the others: by colour, by shape, and by its line."""

    label: str
    colour: str
    marker: str
    line: Any = "-"


# The colours are those of Okabe & Ito (2008), which stay apart in every kind of colour vision; in grey, shapes and
# lines tell things apart. A strategy looks the same in every figure.
STRATEGIES = {
    "fd": Look("FD", "#0072B2", "o"),
    "ed": Look("ED", "#D55E00", "s"),
    "sd": Look("SD", "#009E73", "^"),
    "mcl": Look("MCL", "#CC79A7", "D"),
    "dr": Look("DR", "#E69F00", "v"),
    "mix": Look("mix", "#56B4E9", "P"),
}
# Studies, groups of studies and whatever else has no look of its own, in their order.
_SERIES = (
    ("#0072B2", "o", "-"),
    ("#D55E00", "s", (0, (5, 2))),
    ("#009E73", "^", (0, (1, 1.5))),
    ("#CC79A7", "D", (0, (5, 1.5, 1, 1.5))),
    ("#E69F00", "v", (0, (8, 2))),
    ("#56B4E9", "P", (0, (3, 1, 1, 1, 1, 1))),
    ("#222222", "X", (0, (2, 2))),
)
INK = "#222222"  # text, axes, the teacher
FAINT = "#8C8C8C"  # what stands behind: edges, captions
GRID = "#EBEBEB"
SEQUENTIAL = "cividis"  # a colour map for amounts: even in brightness, the same in most kinds of colour vision
DIVERGING = "PuOr"  # for amounts with a middle: its ends differ in hue for every eye; in grey, write the numbers in

# Sizes of figures in inches: one axes, one with a legend beside it, and two or three in a row.
ONE = (5.2, 3.9)
WITH_LEGEND = (6.6, 4.4)
PAIR = (9.6, 4.2)
ROW = (9.6, 3.6)

_FONTS = ("DejaVu Sans", "Noto Sans CJK JP")  # the first has Latin, Cyrillic and Arabic script
_CJK = ("noto_cjk_sans_jp_regular", "NotoSansCJKjp-Regular.otf")
_TITLE, _CAPTION = 10.0, 7.5  # points
_LETTER, _BOLD_LETTER = 0.53, 0.62  # mean width of a letter, as a share of the font's size


def look(strategy: str) -> Look:
    """That of a strategy; one that is not known here is a grey cross under its own name."""
    return STRATEGIES.get(strategy, Look(strategy, "#666666", "X"))


def in_order(strategies: Iterable[str]) -> list[str]:
    """Distinct strategies in the order of ``STRATEGIES``, then others by name."""
    found = set(strategies)
    return [*(name for name in STRATEGIES if name in found), *sorted(found - set(STRATEGIES))]


def series(labels: Iterable[str]) -> dict[str, Look]:
    """A look for each of the ``labels``; from the eighth on, looks come again."""
    return {label: Look(label, *_SERIES[place % len(_SERIES)]) for place, label in enumerate(labels)}


@contextmanager
def styled() -> Iterator[None]:
    """The look of every figure while it is drawn; the process's own settings stay as they were."""
    ink = dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color"), INK)
    rest = {"axes.grid": True, "grid.color": GRID, "font.family": _fonts(), "legend.frameon": False}
    style = sns.axes_style("ticks", rc={**ink, **rest})
    # Seaborn gives styles back by its own list, which lacks the legend's frame.
    # Names come from data: what stands between two dollars is no formula.
    with mpl.rc_context(), style, sns.plotting_context("paper"):
        mpl.rcParams.update(
            {"legend.frameon": False, "axes.spines.top": False, "axes.spines.right": False, "text.parse_math": False}
        )
        yield


def headline(figure: Figure, finding: str) -> None:
    """The title: a sentence that says what the figure shows, as the data has it."""
    text = _wrapped(figure, finding, _TITLE * _BOLD_LETTER)
    figure.suptitle(text, x=0.01, ha="left", fontsize=_TITLE, fontweight="bold")


def caption(figure: Figure, text: str) -> None:
    """Below the axes: which study and split, and what bars, lines and marks mean."""
    text = _wrapped(figure, text, _CAPTION * _LETTER)
    figure.supxlabel(text, x=0.01, ha="left", fontsize=_CAPTION, color="#5A5A5A")


def explain(axes: Axes, sentence: str) -> None:
    """Empty axes, with a sentence that says why there is nothing."""
    axes.text(0.5, 0.5, textwrap.fill(sentence, 44), transform=axes.transAxes, ha="center", va="center", color=FAINT)
    axes.set(xticks=[], yticks=[])


def empty_figure(sentence: str) -> Figure:
    """A figure that says why it shows nothing."""
    with styled():
        figure = Figure(figsize=ONE, layout="constrained")
        explain(figure.subplots(), sentence)
    return figure


def key(label: str, **style: Any) -> Line2D:
    """An entry of a legend: a mark without a line unless ``style`` says otherwise."""
    return Line2D([], [], label=label, **{"ls": "", "marker": "o", **style})


def strategy_keys(strategies: Iterable[str]) -> list[Line2D]:
    """Entries of a legend for strategies, in their order."""
    looks = map(look, in_order(strategies))
    return [key(each.label, marker=each.marker, color=each.colour, mec="white", mew=0.5, ms=7) for each in looks]


def legend_beside(figure: Figure, handles: Sequence[Artist], title: str | None = None) -> None:
    """A legend to the right of all axes, which make room for it; none without ``handles``."""
    if handles:
        figure.legend(handles=list(handles), title=title, loc="outside right center", alignment="left")


def save(figure: Figure, path: str | Path) -> None:
    """Write ``figure`` to ``path``.png (200 dots an inch) and ``path``.svg (whose text stays text)."""
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "polydistill", "text.parse_math": False}):
        for suffix, metadata in ((".png", None), (".svg", {"Date": None})):
            content = io.BytesIO()
            figure.savefig(content, format=suffix[1:], dpi=200, metadata=metadata)
            write_atomically(Path(f"{path}{suffix}"), content.getvalue())


@lru_cache(maxsize=1)
def _fonts() -> list[str]:
    """Fonts that have the scripts of all languages, the later ones for what the earlier lack."""
    package, name = _CJK
    with as_file(files(package) / name) as path:
        font_manager.fontManager.addfont(path)
    # The regular one stands in for the bold one too, which would be as large again.
    regular = font_manager.fontManager.ttflist[-1]
    font_manager.fontManager.ttflist.append(dataclasses.replace(regular, weight=700))
    return list(_FONTS)


def _wrapped(figure: Figure, text: str, points: float) -> str:
    """``text`` in lines of letters of so many ``points`` that fit the figure's width."""
    letters = int(figure.get_figwidth() * 72 / points)
    return "\n".join(textwrap.fill(line, letters) for line in text.splitlines())
