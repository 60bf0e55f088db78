"""What is wrong with a data set's rows: counted, listed, and refused where it is too much."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainables.artifacts import write_json

REPORT = "data_report.json"
_LISTED = 1000
_SHOWN = 3


class DataError(ValueError):
    """Data that a study cannot use: one line that names the key of its configuration and what would be right."""


class DataReport:
    """The bad rows of one data set, of which at most the share ``max_bad`` may be bad.

    ``rows``: all that were looked at; the rows of one item in several files count as one.
    """

    def __init__(self, key: str, rows: int, max_bad: float) -> None:
        self._key, self._rows, self._max_bad = key, rows, max_bad
        self._bad: set[str] = set()
        self._kinds: Counter[str] = Counter()
        self._listed: list[dict[str, str]] = []

    def add(self, row: str, kind: str, detail: str = "") -> None:
        """A row, as its user would find it, and what is wrong with it."""
        self._bad.add(row)
        self._kinds[kind] += 1
        if len(self._listed) < _LISTED:
            self._listed.append({"row": row, "reason": f"{kind}: {detail}" if detail else kind})

    def check(self) -> None:
        """Raises:
        DataError: if more rows are bad than may be.
        """
        if len(self._bad) > self._max_bad * self._rows:
            kinds = ", ".join(f"{count} × {kind}" for kind, count in self._kinds.most_common(_SHOWN))
            rows = "; ".join(f"{row['row']}: {row['reason']}" for row in self._listed[:_SHOWN])
            raise DataError(
                f"{self._key}: {len(self._bad)} of {self._rows} rows are bad ({kinds}), more than max_bad, "
                f"{self._max_bad:g}, lets a study skip: {rows}; mend them, or raise max_bad"
            )

    def check_languages(self, items: Mapping[str, int], fewest: int) -> None:
        """Raises:
        DataError: naming the languages with fewer than ``fewest`` items.
        """
        few = [f"{language} ({count})" for language, count in items.items() if count < fewest]
        if few:
            raise DataError(
                f"{self._key}: fewer than min_items, {fewest}, usable items in {', '.join(few)}: leave the language out "
                "of data.languages, or lower min_items"
            )

    def save(self, folder: Path, **kept: Any) -> None:
        """Write it as ``data_report.json``, with what was ``kept`` beside."""
        content: dict[str, Any] = {
            "rows": self._rows,
            "bad_rows": len(self._bad),
            "reasons": dict(self._kinds),
            **kept,
            "listed": self._listed,
        }
        write_json(folder / REPORT, content)


def hint(word: str, known: Sequence[str]) -> str:
    """The nearest of the ``known`` words, and all of them, to go after what is wrong with ``word``."""
    import difflib

    near = difflib.get_close_matches(word, known, 1)
    return f"{f'did you mean {near[0]}? ' if near else ''}there are {', '.join(known) or 'none'}"
