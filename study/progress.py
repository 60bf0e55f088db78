"""The live view of a study in the terminal; plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

_ALWAYS_SHOWN = ("complete", "stopped", "failed")
_EVERY = 60.0  # seconds between two lines on one stage, where there is no terminal


@dataclass
class SearchState:
    """What the search has come to."""

    total: int = 0
    running: int = 0
    ended: dict[str, int] = field(default_factory=dict)  # how many, by how they ended
    front: int = 0
    best: dict[str, float] = field(default_factory=dict)  # by objective, among feasible complete trials
    hypervolume: float = 0.0

    @property
    def done(self) -> int:
        return sum(self.ended.values())


class Progress:
    """Shows which stage runs, how far it is, and what the search has found; measures each stage."""

    def __init__(self, stream: IO[str]) -> None:
        self.console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self.seconds: dict[str, float] = {}  # by stage, in order
        self._state = SearchState()
        self._stage, self._fraction, self._since = "", 0.0, time.monotonic()
        self._said = self._since
        self._live: Live | None = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """While inside, a terminal shows the live view."""
        if self.console.is_terminal:
            with Live(get_renderable=self._render, console=self.console, refresh_per_second=2, transient=True) as live:
                self._live = live
                yield
            self._live = None
        else:
            yield

    def close(self) -> None:
        """Give the terminal back, from whichever thread."""
        if self._live is not None:
            self._live.stop()

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[int, int], None]]:
        """A stage of the study; gives the function that takes its progress."""
        self._stage, self._fraction, self._since = name, 0.0, time.monotonic()
        self._said = self._since
        yield self._advance
        took = time.monotonic() - self._since
        self.seconds[name] = self.seconds.get(name, 0.0) + took
        self.console.print(f"{name}: {took:.0f} s")

    def note(self, text: str) -> None:
        self.console.print(text, soft_wrap=True)

    def search(self, state: SearchState) -> None:
        """The search has moved on."""
        has_ended = state.done > self._state.done
        self._state = state
        self._fraction = state.done / state.total if state.total else 0.0
        if has_ended and not self.console.is_terminal:
            self.console.print(self._summary({}), soft_wrap=True)  # the next trial is about to start

    def _advance(self, done: int, total: int) -> None:
        self._fraction = done / total if total else 0.0
        if not self.console.is_terminal and time.monotonic() - self._said >= _EVERY:
            self._said = time.monotonic()
            self.console.print(f"{self._stage}: {self._so_far()}", soft_wrap=True)

    def _so_far(self) -> str:
        elapsed = time.monotonic() - self._since
        left = f", about {_minutes(elapsed * (1 / self._fraction - 1))} left" if self._fraction > 0.02 else ""
        return f"{100 * self._fraction:.0f} %, {_minutes(elapsed)}{left}"

    def _summary(self, running: Mapping[str, int]) -> str:
        state = self._state
        best = ", ".join(f"best {name} {value:.3g}" for name, value in state.best.items())
        named = {name: state.ended.get(name, 0) for name in _ALWAYS_SHOWN} | state.ended
        counts = ", ".join(f"{count} {name}" for name, count in {**running, **named}.items())
        return f"trials {state.done}/{state.total}: {counts}; front {state.front}" + (f"; {best}" if best else "")

    def _render(self) -> Group:
        bar = Table.grid(padding=(0, 1))
        done = round(30 * self._fraction)
        bar.add_row(
            Text(self._stage, style="bold"),
            Text("━" * done, style="green") + Text("─" * (30 - done), style="bright_black"),
            Text(self._so_far()),
        )
        return Group(bar, Text(self._summary({"running": self._state.running}))) if self._state.total else Group(bar)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
