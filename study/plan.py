"""A study as it was asked for, checked at the door."""

from __future__ import annotations

from dataclasses import dataclass

from search_spaces.space import SearchSpace
from study.config import StudyConfig
from study.warm_start import StartingPoint


@dataclass(frozen=True)
class Plan:
    """What to run, and where."""

    config: StudyConfig
    space: SearchSpace
    starting_points: list[StartingPoint]
    storage_url: str
    address: str | None
    profile: bool = False  # whether the first training of this run writes a trace
