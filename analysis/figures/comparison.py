"""Several studies beside each other: what groups of runs attain, and their hypervolumes."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from analysis.comparison import PERCENTS, Groups, attainment, check_comparable, common_reference, front_values
from analysis.figures.edges import front_edge, worst_corner
from analysis.pareto import Directions
from analysis.style import (
    ONE,
    WITH_LEGEND,
    Look,
    caption,
    empty_figure,
    explain,
    headline,
    key,
    legend_beside,
    series,
    styled,
)
from analysis.units import shown

_LABEL = 46  # letters in a line of an axis's label


def attained(groups: Groups, metrics: tuple[str, str] | None = None) -> Figure:
    """What a quarter, half and three quarters of each group's runs attain, on validation, in two of the objectives.

    Thick lines are what half of the runs attain, bands reach from what a quarter to what three quarters attain, and
    marks are the members of all fronts. Axes are in the units of ``analysis.units``. By default ``metrics`` are the first
    two objectives; of more, fronts are seen in these two alone.

    Raises ValueError if the studies' objectives differ, or a metric is none of them.
    """
    objectives = check_comparable(groups)
    chosen = metrics or tuple(objectives)[:2]
    if missing := [name for name in chosen if name not in objectives]:
        raise ValueError(f"{missing[0]!r} is no objective of the studies: they have {', '.join(objectives)}")
    directions = {name: objectives[name] for name in chosen}
    if not any(len(front_values(study)) for studies in groups.values() for study in studies):
        return empty_figure("no study has a front yet")
    looks = series(groups)
    with styled():
        figure = Figure(figsize=WITH_LEGEND, layout="constrained")
        axes = figure.subplots()
        for group, studies in groups.items():
            points = _shown(np.vstack([front_values(study, directions) for study in studies]), directions)
            style = looks[group]
            axes.scatter(
                points[:, 0], points[:, 1], s=18, color=style.colour, marker=style.marker, alpha=0.5, linewidth=0
            )
        axes.margins(0.1)
        limits = {"xlim": axes.get_xlim(), "ylim": axes.get_ylim()}
        surfaces = {
            group: {percent: _shown(found, directions) for percent, found in attainment(studies, directions).items()}
            for group, studies in groups.items()
        }
        for group, of_group in surfaces.items():
            _draw_surfaces(axes, of_group, directions, looks[group])
        axes.set(**limits)
        if not any(len(points) for of_group in surfaces.values() for points in of_group.values()):
            explain(axes, "too few runs have a front")
        x, y = directions
        axes.set_xlabel(textwrap.fill(shown(x).axis(directions[x]), _LABEL))
        axes.set_ylabel(textwrap.fill(shown(y).axis(directions[y]), _LABEL))
        legend_beside(
            figure, [_key(looks[group], len(studies)) for group, studies in groups.items()], "Half of the runs attain"
        )
        headline(figure, _ahead(groups, directions))
        several = any(len(studies) > 1 for studies in groups.values())
        band = "Bands: from what 25 % to what 75 % of the runs attain. " if several else "Of one run, its front. "
        caption(figure, f"Validation. {band}Marks: members of the runs' fronts.")
    return figure


def hypervolumes(groups: Groups, table: pd.DataFrame, tests: pd.DataFrame) -> Figure:
    """The hypervolume of each run, by group, from one reference point, and the groups' means.

    ``table`` and ``tests`` are those of ``analysis.comparison``: ``runs`` and ``differences``. The unit is the product of
    the objectives' stored units.
    """
    if table["hypervolume"].isna().all():
        return empty_figure("no study has a scored teacher, to measure hypervolume from")
    looks = series(groups)
    with styled():
        figure = Figure(figsize=ONE, layout="constrained")
        axes = figure.subplots()
        rng = np.random.default_rng(0)
        for place, group in enumerate(groups):
            values = table.loc[table["group"] == group, "hypervolume"].to_numpy(dtype=float)
            style = looks[group]
            spread = rng.uniform(-0.12, 0.12, len(values)) if len(values) > 1 else np.zeros(len(values))
            axes.scatter(
                place + spread, values, s=36, color=style.colour, marker=style.marker, alpha=0.8, linewidth=0, zorder=3
            )
            axes.hlines(
                np.nanmean(values) if np.isfinite(values).any() else np.nan,
                place - 0.25,
                place + 0.25,
                color=style.colour,
                linewidth=2.0,
            )
        counts = [len(studies) for studies in groups.values()]
        named = [
            f"{textwrap.fill(group, 18)}\n{count} run{'s' if count != 1 else ''}"
            for group, count in zip(groups, counts, strict=True)
        ]
        axes.set_xticks(range(len(groups)), named)
        axes.set_xlim(-0.6, len(groups) - 0.4)
        axes.grid(visible=False, axis="x")
        axes.set_ylabel("Hypervolume of the front")
        if len(table) == 1:
            axes.set_ylim(bottom=0.0)
        headline(figure, _difference(tests))
        corner = ", ".join(f"{name} {value:.4g}" for name, value in common_reference(groups).items())
        caption(figure, f"Validation. Reference point of all: {corner}. Bars: means.")
    return figure


def _shown(values: NDArray[np.float64], directions: Directions) -> NDArray[np.float64]:
    return np.column_stack([shown(name).of(values[:, place]) for place, name in enumerate(directions)])


def _draw_surfaces(axes: Axes, surfaces: dict[int, NDArray[np.float64]], directions: Directions, style: Look) -> None:
    corner = worst_corner(axes, directions)
    edges = {percent: front_edge(points, directions, corner) for percent, points in surfaces.items() if len(points)}
    low, middle, high = PERCENTS
    if low in edges and high in edges:
        band = np.vstack([edges[low], edges[high][::-1]])
        axes.fill(band[:, 0], band[:, 1], color=style.colour, alpha=0.15, linewidth=0, gid="band")
    if middle in edges:
        axes.plot(*edges[middle].T, color=style.colour, linestyle=style.line, linewidth=1.8, gid="half")


def _key(style: Look, count: int) -> Line2D:
    label = f"{textwrap.fill(style.label, 24)}\n({count} run{'s' if count != 1 else ''})"
    return key(label, color=style.colour, marker=style.marker, ls=style.line, lw=1.8, ms=5)


def _ahead(groups: Groups, directions: Directions) -> str:
    """Which group's median surface no other one's dominates anywhere, if there is one."""
    if len(groups) == 1:
        ((group, studies),) = groups.items()
        return f"What {len(studies)} run{'s' if len(studies) != 1 else ''} of {group} attain"
    signs = np.array([-1.0 if way == "maximise" else 1.0 for way in directions.values()])
    half = {group: attainment(studies, directions)[50] * signs for group, studies in groups.items()}

    def covers(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
        """Whether each point of ``other`` is attained by ``one`` too."""
        return len(one) > 0 and all((one <= point).all(axis=1).any() for point in other)

    for group, points in half.items():
        others = [other for name, other in half.items() if name != group]
        if all(covers(points, other) and not covers(other, points) for other in others):
            return f"Half of the runs of {group} attain more than half of any other group's, everywhere"
    return "No group attains more than the others everywhere: their surfaces cross or touch"


def _difference(tests: pd.DataFrame) -> str:
    if tests.empty:
        return "Hypervolume, run by run"
    tested = tests[tests["p"].notna()]
    if tested.empty:
        return "Groups of one run: whether they differ cannot be tested"
    found = tested.sort_values("p_holm").iloc[0]
    ahead, behind = (found["group"], found["other"]) if found["difference"] >= 0 else (found["other"], found["group"])
    if found["p_holm"] < 0.05:
        return f"{ahead} reaches a larger hypervolume than {behind} (p = {found['p_holm']:.2g})"
    least = f"; so few runs cannot give less than {found['smallest_p']:.2g}" if found["smallest_p"] >= 0.05 else ""
    return f"No difference between groups is shown (smallest p = {found['p_holm']:.2g}{least})"
