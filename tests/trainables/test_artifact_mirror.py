from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.object_store import BUCKET
from trainables.artifact_mirror import share
from trainables.artifacts import artifact
from trainables.remote_folder import RemoteFolder


def test_an_artifact_is_built_on_one_machine_and_one_of_two_that_build_at_once_is_kept(
    store: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLYDISTILL_MIRROR", f"{BUCKET}/{tmp_path.name}/.cache")
    built: list[str] = []

    def on(machine: str, meanwhile: Any = None) -> str:
        with monkeypatch.context() as patch:
            patch.setenv("POLYDISTILL_CACHE", str(tmp_path / machine))

            def build(folder: Path) -> None:
                if meanwhile:
                    meanwhile()
                built.append(machine)
                (folder / "content").write_text(machine, encoding="utf-8")

            return (artifact("kind", {"a": bool(meanwhile)}, build) / "content").read_text(encoding="utf-8")

    assert [on("one"), on("two")] == ["one", "one"]
    assert built == ["one"]

    def third() -> None:
        with monkeypatch.context() as patch:
            patch.setenv("POLYDISTILL_CACHE", str(tmp_path / "three"))
            artifact("kind", {"a": True}, lambda folder: (folder / "content").write_text("three", encoding="utf-8"))  # type: ignore[arg-type,return-value]

    assert on("four", third) == "three"
    assert on("five", lambda: None) == "three"
    mirror = RemoteFolder(os.environ["POLYDISTILL_MIRROR"])
    mirror.remove(name for name in mirror.names() if name.endswith("content"))
    assert (on("six", lambda: None), on("six")) == ("six", "six")
    assert on("seven", lambda: None) == "six"


def test_an_artifact_stays_here_if_another_that_is_to_take_its_place_cannot_be_fetched(
    store: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(folder: Path) -> None:
        (folder / "content").write_text("own", encoding="utf-8")

    monkeypatch.setenv("POLYDISTILL_CACHE", str(tmp_path))
    monkeypatch.setenv("POLYDISTILL_MIRROR", f"{BUCKET}/{tmp_path.name}/.cache")
    folder = artifact("kind", {}, write)
    (folder / ".copy-of").write_text("another", encoding="utf-8")
    folder.with_name(f".{folder.name}.fetch").mkdir()  # where a file is to be locked
    with pytest.raises(IsADirectoryError):
        share(folder)
    assert (folder / "content").read_text(encoding="utf-8") == "own"
