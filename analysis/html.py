"""What a notebook shows beside figures: text and tables whose every word from data is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

# Without these a notebook would read what stands between two dollars as a formula.
_NO_FORMULAS = "tex2jax_ignore mathjax_ignore"


@dataclass(frozen=True)
class Html:
    """A piece of a notebook's output: markup for a browser, and text for where there is none."""

    markup: str
    text: str

    def _repr_html_(self) -> str:
        return self.markup

    def __repr__(self) -> str:
        return self.text

    def __add__(self, other: Html) -> Html:
        return Html(self.markup + other.markup, f"{self.text}\n\n{other.text}")

    @classmethod
    def paragraph(cls, text: str) -> Html:
        return cls(f'<p class="{_NO_FORMULAS}">{html.escape(text)}</p>', text)

    @classmethod
    def points(cls, lines: Iterable[str]) -> Html:
        """A list of lines."""
        kept = list(lines)
        items = "".join(f"<li>{html.escape(line)}</li>" for line in kept)
        return cls(f'<ul class="{_NO_FORMULAS}">{items}</ul>', "\n".join(f"- {line}" for line in kept))


def table(frame: pd.DataFrame, caption: str = "", digits: int = 3, wide: Sequence[str] = ()) -> Html:
    """``frame``, without its index, with numbers of ``digits`` significant digits and nothing where one is missing.

    Args:
        wide: columns of text that take what room there is.
    """
    shown = pd.DataFrame({name: [_cell(value, digits) for value in frame[name]] for name in frame.columns})
    numbers = {name for name in frame.columns if pd.api.types.is_numeric_dtype(frame[name])}
    head = "".join(f"<th{_class(name, numbers, wide)}>{html.escape(str(name))}</th>" for name in shown.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td{_class(name, numbers, wide)}>{html.escape(row[name])}</td>" for name in shown) + "</tr>"
        for row in shown.to_dict("records")
    )
    above = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    markup = (
        f'<table class="pd-table {_NO_FORMULAS}">{above}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    )
    return Html(markup, "\n".join([*([caption] if caption else []), shown.to_string(index=False)]))


def _class(name: object, numbers: set[str], wide: Sequence[str]) -> str:
    return ' style="text-align:right"' if name in numbers else ' style="text-align:left"' if name in wide else ""


def _cell(value: object, digits: int) -> str:
    if isinstance(value, float):
        return "" if pd.isna(value) else f"{value:.{digits}g}"
    return "" if value is None or value is pd.NA or value is pd.NaT else str(value)
