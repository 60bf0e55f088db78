"""Confirmation: recipes on the front, or behind it by less than the noise, trained again with seeds of their own.

A front picks the luckiest of many scores. What it says of its members is therefore measured anew, by trainings that had
no part in choosing them; `analysis.confirmation` says what they amount to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from study.config import StudyConfig
from study.ledger import Ledger, State, TrialRecord
from study.selection import Finished, front, near_front


def chosen(finished: Finished, config: StudyConfig) -> list[TrialRecord]:
    """The trials whose recipes are to be confirmed: the front by number, then its neighbours, nearest first."""
    search = config.search
    if search.confirm.seeds == 0:
        return []
    members = front(finished, search)
    return [*members, *near_front(finished, search)][: search.confirm.most]


def due(ledger: Ledger, finished: Finished, config: StudyConfig) -> list[TrialRecord]:
    """The confirmations that have not ended, begun where they had not; recipe by recipe, so that each is soon whole."""
    waiting = []
    for record in chosen(finished, config):
        begun = ledger.confirmations(record)
        for place in range(1, config.search.confirm.seeds + 1):
            if place <= len(begun):
                confirmation = begun[place - 1]
            else:
                confirmation = ledger.begin_confirmation(record, place, _seed(config.seed, record.number, place))
            if confirmation.result is None:
                waiting.append(confirmation)
    return waiting


def is_complete(ledger: Ledger, finished: Finished, config: StudyConfig) -> bool:
    """Whether every confirmation has ended; begins none."""
    wanted = config.search.confirm.seeds
    return all(
        sum(confirmation.result is not None for confirmation in ledger.confirmations(record)) >= wanted
        for record in chosen(finished, config)
    )


class Confirmations:
    """The source of the trainings that are due. They are no trials: neither Optuna nor the scheduler hears of them."""

    def __init__(self, ledger: Ledger, waiting: list[TrialRecord], advance: Callable[[int, int], None]) -> None:
        self._ledger = ledger
        self._waiting = list(waiting)
        self._total, self._done = len(waiting), 0
        self._advance = advance

    def next(self) -> TrialRecord | None:
        return self._waiting.pop(0) if self._waiting else None

    def reported(self, record: TrialRecord, report: Mapping[str, Any]) -> None:
        """Nothing: the ledger has it."""

    def ended(self, record: TrialRecord, state: State, reason: str | None, last: Mapping[str, Any]) -> None:
        self._ledger.finish(record, state, reason, last)
        self._done += 1

    def changed(self, running: int) -> None:
        self._advance(self._done, self._total)

    def place(self, record: TrialRecord) -> str | None:
        return None


def _seed(study: int, number: int, place: int) -> int:
    """A seed that no trial of the search has but by chance."""
    return int(np.random.SeedSequence((study, number, place)).generate_state(1)[0] % 2**31)
