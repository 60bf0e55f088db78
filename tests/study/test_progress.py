from __future__ import annotations

import io
import re
import time
from dataclasses import replace

import pytest

from study.progress import Progress, SearchState


def test_without_a_terminal_progress_is_a_plain_line_a_stage_and_a_finished_trial() -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    with progress.shown():
        progress.note("Study tiny in /data/[old]/a/rather/long/path/that/does/not/fit/on/a/line/of/eighty/columns/tiny")
        with progress.stage("fit teacher") as advance:
            advance(1, 2)
        with progress.stage("search"):
            progress.search(SearchState(total=9, running=2))
            ended = SearchState(9, 1, {"complete": 3, "stopped": 2, "failed": 1}, front=2)
            ended.best.update(map=0.12345, std=4.0)
            progress.search(ended)
            progress.search(replace(ended, running=2))
    assert stream.getvalue().splitlines() == [
        "Study tiny in /data/[old]/a/rather/long/path/that/does/not/fit/on/a/line/of/eighty/columns/tiny",
        "fit teacher: 0 s",
        "trials 6/9: 3 complete, 2 stopped, 1 failed; front 2; best map 0.123, best std 4",
        "search: 0 s",
    ]


def test_without_a_terminal_a_long_stage_says_now_and_then_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, now = io.StringIO(), 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    progress = Progress(stream)
    with progress.stage("fit teacher") as advance:
        for step in range(1, 201):
            now += 1.0
            advance(step, 400)
    assert stream.getvalue().splitlines() == [
        "fit teacher: 15 %, 60 s, about 5.7 min left",
        "fit teacher: 30 %, 2.0 min, about 4.7 min left",
        "fit teacher: 45 %, 3.0 min, about 3.7 min left",
        "fit teacher: 200 s",
    ]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("no_color", "colours"), [("", True), ("1", False)])
def test_a_terminal_has_colours_unless_the_user_wants_none(
    monkeypatch: pytest.MonkeyPatch, no_color: str, colours: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", no_color)
    stream = Terminal()
    progress = Progress(stream)
    with progress.shown(), progress.stage("search") as advance:
        advance(1, 2)
        assert progress._live is not None
        progress._live.refresh()
    shown = stream.getvalue()
    assert "━" * 15 in re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert "━" * 16 not in re.sub(r"\x1b\[[0-9;]*m", "", shown)  # what is done can be told without colours
    assert ("\x1b[32m" in shown) == colours


def test_seconds_of_a_stage_add_up_over_its_parts() -> None:
    progress = Progress(io.StringIO())
    for _ in range(2):
        with progress.stage("search"):
            time.sleep(0.05)
    assert list(progress.seconds) == ["search"]
    assert progress.seconds["search"] >= 0.1
