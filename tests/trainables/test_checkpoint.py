from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.checkpoint import load_state, save_state

CPU = torch.device("cpu")


def a_state(steps: int = 4) -> dict[str, Any]:
    distiller = {"steps_done": steps, "towers": {"w": torch.arange(50.0)}, "optimizer": {}, "queue": torch.ones(3, 2)}
    return {
        "distiller": distiller,
        "timing": {"train": 1.5},
        "reported": {"step": steps, "final": False, "metrics": {}},
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint" / "state.pt"
    save_state(path, a_state())
    return path


def test_state_is_read_as_it_was_written(path: Path) -> None:
    save_state(path, a_state(steps=9))
    state = load_state(path, CPU)
    assert state is not None
    assert state["distiller"]["steps_done"] == 9
    assert torch.equal(state["distiller"]["towers"]["w"], torch.arange(50.0))
    assert list(path.parent.iterdir()) == [path]


def test_there_may_be_no_state(tmp_path: Path) -> None:
    assert load_state(tmp_path / "none" / "state.pt", CPU) is None


def rewritten(path: Path, value: Any) -> None:
    """A file whose hash is right, whatever it holds."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    magic = path.read_bytes().split(b"\n")[0] + b"\n"
    path.write_bytes(magic + hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue())


def damage(path: Path, kind: str) -> None:
    content = path.read_bytes()
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "cut in its head":
        path.write_bytes(content[:30])
    elif kind == "cut in its body":
        path.write_bytes(content[:-1])
    elif kind == "a bit flipped":
        path.write_bytes(content[:900] + bytes([content[900] ^ 4]) + content[901:])
    elif kind == "of an earlier version":
        torch.save(a_state(), path)
    elif kind == "keys missing":
        rewritten(path, {key: value for key, value in a_state().items() if key != "timing"})
    elif kind == "inner keys missing":
        rewritten(path, {**a_state(), "distiller": {"steps_done": 4}})
    elif kind == "not a mapping":
        rewritten(path, [1, 2])
    else:
        rewritten(path, {**a_state(), "more": Path("code")})


@pytest.mark.parametrize(
    "kind",
    [
        "empty",
        "cut in its head",
        "cut in its body",
        "a bit flipped",
        "of an earlier version",
        "keys missing",
        "inner keys missing",
        "not a mapping",
        "more than plain values",
    ],
)
def test_state_that_is_not_whole_is_set_aside(kind: str, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    damage(path, kind)
    content = path.read_bytes()
    assert load_state(path, CPU) is None
    assert not path.exists()
    assert path.with_name("state.pt.unreadable").read_bytes() == content
    assert f"{path} cannot be read" in caplog.text
    assert load_state(path, CPU) is None
    save_state(path, a_state())
    assert load_state(path, CPU) is not None
