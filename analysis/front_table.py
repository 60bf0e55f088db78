"""The front as a table: what its recipes scored in the search, over new seeds and on test, beside the teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.fronts import members
from analysis.html import Html, table
from analysis.load import StudyData
from analysis.units import shown


def front_table(data: StudyData) -> Html:
    """A row a member of the front, best in the first objective first, and the teacher's; what is not known is left out."""
    found = members(data)
    if found.empty:
        return Html.paragraph("The front is empty: no trial is complete and meets the constraints.")
    rows = []
    if data.teacher:
        rows.append({"trial": "teacher", **_teacher(data)})
    for row in found.to_dict("records"):
        cells = {"trial": str(row["number"]), "strategy": row["strategy"], "": row["pick"]}
        for metric in data.objectives:
            name = shown(metric).axis()
            cells[f"{name}, search"] = _interval(row, metric)
            cells[f"{name}, new seeds"] = _interval(row, f"{metric}_confirmed")
            cells[f"{name}, test"] = _number(row[f"{metric}_test"])
        cells["support"] = "" if np.isnan(row["support"]) else f"{100 * row['support']:.0f} %"
        rows.append(cells)
    frame = pd.DataFrame(rows).fillna("")
    frame = frame.loc[:, (frame != "").any()]
    frame = frame[[name for name in ("trial", "strategy", "", *frame.columns) if name in frame.columns]]
    frame = frame.loc[:, ~frame.columns.duplicated()]
    said = "In brackets: 95 % intervals, in the search over evaluation items, with new seeds over seeds."
    if "support" in frame:
        said += (
            " Support: the chance that a recipe is on the front of the new means; a place under 50 % is not supported."
        )
    return table(frame) + Html.paragraph(said)


def _teacher(data: StudyData) -> dict[str, str]:
    assert data.teacher is not None
    splits = {"search": data.teacher.metrics["validation"], "test": data.teacher.metrics.get("test", {})}
    return {
        f"{shown(metric).axis()}, {name}": _number(shown(metric).of(scored.get(metric, np.nan)).item())
        for metric in data.objectives
        for name, scored in splits.items()
    }


def _interval(row: Mapping[Any, Any], name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return _number(row[name]) + ("" if np.isnan(low) or np.isnan(high) else f" ({_number(low)} to {_number(high)})")


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.3g}"
