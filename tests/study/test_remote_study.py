"""The lock of a study at a URL, and the driver's copy of it."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from study.errors import UserError
from study.remote_study import RemoteStudy
from tests.object_store import BUCKET
from trainables.remote_folder import RemoteFolder


def held(url: str, folder: Path) -> RemoteStudy:
    study = RemoteStudy(url, folder)
    study.open()
    return study


def test_a_dead_drivers_study_is_taken_over_and_a_driver_that_comes_back_writes_nothing(
    store: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("study.remote_study.BEAT", 0.2)
    monkeypatch.setattr("study.remote_study.LEASE", 3.0)
    url = f"{BUCKET}/{tmp_path.name}/lock"
    first = held(url, tmp_path / "a")
    (tmp_path / "a" / "mine.json").write_text("1", encoding="utf-8")
    first.keep_all()
    with pytest.raises(UserError, match=rf"already running \(process {os.getpid()} on .*\); wait for it or stop it"):
        held(url, tmp_path / "b")
    first._ended.set()  # as if its process were stopped for a while
    second = held(url, tmp_path / "b")
    assert (tmp_path / "b" / "mine.json").read_text(encoding="utf-8") == "1"
    first._ended.clear()
    first._live_once()
    with pytest.raises(UserError, match="was taken over by another process"):
        first.keep(tmp_path / "a" / "mine.json")
    shutil.rmtree(second.folder)
    with pytest.raises(UserError, match="was deleted while it ran; the same command goes on from there"):
        second.keep_all()
    second.close()
    assert RemoteFolder(url).names() == ["mine.json"]


def test_a_sign_of_life_that_is_under_way_does_not_leave_a_lock_behind(
    store: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = held(f"{BUCKET}/{tmp_path.name}/lock", tmp_path / "a")
    under_way, write = threading.Event(), RemoteFolder.write

    def slow(self: RemoteFolder, name: str, content: bytes) -> None:
        under_way.set()
        time.sleep(1.0)  # a store may be slow
        write(self, name, content)

    monkeypatch.setattr(RemoteFolder, "write", slow)
    beat = threading.Thread(target=study._live_once)
    beat.start()
    under_way.wait()
    study.close()
    beat.join()
    assert study.remote.names() == []


def test_a_study_that_is_set_aside_keeps_all_that_it_had_and_its_neighbours_are_left_alone(
    store: dict[str, str], tmp_path: Path
) -> None:
    bucket = RemoteFolder(f"{BUCKET}/{tmp_path.name}")
    student = "tiny/trials/00000/checkpoint/model.safetensors"
    for name in ("tiny/config.yaml", "tiny/trials/00000/recipe.json", student, "tiny-too/config.yaml"):
        bucket.write(name, b"{}")
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "of-another-study.json").write_text("{}", encoding="utf-8")
    study = held(f"{bucket.url}/tiny", tmp_path / "copy")
    found = sorted(str(path.relative_to(study.folder)) for path in study.folder.rglob("*") if path.is_file())
    assert found == [".copy", "config.yaml", "trials/00000/recipe.json"]  # students stay where they are
    assert study.set_aside() == f"{bucket.url}/tiny.1"
    assert study.set_aside() is None
    study.close()
    assert bucket.names() == [
        "tiny-too/config.yaml",
        "tiny.1/config.yaml",
        "tiny.1/trials/00000/checkpoint/model.safetensors",
        "tiny.1/trials/00000/recipe.json",
    ]
    assert [path.name for path in study.folder.rglob("*") if path.is_file()] == [".copy"]
