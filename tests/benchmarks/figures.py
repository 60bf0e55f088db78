"""What the benchmarks of `python -m tests.benchmarks` have in common: a measured figure with its goal, and pairs of timings."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal


@dataclass(frozen=True)
class Figure:
    """A measured figure and the bound that it is held against."""

    what: str
    value: float
    kind: Literal["at least", "at most"]
    bound: float
    unit: str = ""  # none: a ratio

    @property
    def is_met(self) -> bool:
        return self.value >= self.bound if self.kind == "at least" else self.value <= self.bound


def speed(one: Callable[[], object], other: Callable[[], object], rounds: int, repeats: int = 1) -> float:
    """How many times as fast ``one`` is as ``other``: the median over rounds in which both take turns at going first.

    Each runs once before it is timed, and so many times in a row each time that it is.
    """
    one(), other()
    ratios = []
    for number in range(rounds):
        first, second = (one, other) if number % 2 else (other, one)
        took = {id(work): _seconds(work, repeats) for work in (first, second)}
        ratios.append(took[id(other)] / took[id(one)])
    return median(ratios)


def _seconds(work: Callable[[], object], repeats: int) -> float:
    before = time.perf_counter()
    for _ in range(repeats):
        work()
    return time.perf_counter() - before


def main_of(figures: Callable[[], Sequence[Figure]], doc: str | None) -> int:
    """The command of one benchmark: prints its figures. Returns 1 if a goal is not met."""
    description, _, rest = (doc or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=description, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    found = figures()
    for figure in found:
        print(line(figure))
    return 0 if all(figure.is_met for figure in found) else 1


def line(figure: Figure) -> str:
    """What was measured, and whether that is enough."""
    unit = f" {figure.unit}" if figure.unit else ""
    verdict = "met" if figure.is_met else "NOT MET"
    return f"{figure.value:9.3g}{unit}  ({figure.kind} {figure.bound:g}: {verdict})  {figure.what}"
