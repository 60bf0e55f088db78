from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.artifacts import (
    MANIFEST,
    artifact,
    artifact_in_parts,
    artifact_path,
    cache_root,
    content_key,
    is_complete,
    remove_half_written,
    write_json,
)

ROOT = Path(__file__).parents[2]
FIELDS = {"size": 24, "languages": ["en", "ja"]}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "cache"
    monkeypatch.setenv("POLYDISTILL_CACHE", str(root))
    return root


class Builder:
    """Writes two files and counts how often it was asked to."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, folder: Path) -> None:
        self.calls += 1
        (folder / "arrays").mkdir()
        (folder / "arrays" / "images.bin").write_bytes(b"0123456789")
        (folder / "texts.json").write_text("[]", encoding="utf-8")


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=3)))
def test_key_does_not_depend_on_the_order_of_fields(fields: dict[str, object]) -> None:
    backwards = dict(reversed(list(fields.items())))
    assert content_key(fields) == content_key(backwards)
    assert content_key({**fields, "longer than five": 1}) != content_key(fields)


def test_key_sees_nested_values_and_their_order() -> None:
    keys = {content_key({"a": value}) for value in ([1, 2], [2, 1], {"b": 1}, {"b": 2}, "1", 1)}
    assert len(keys) == 6
    assert all(len(key) == 16 for key in keys)


def test_artifact_is_built_once_where_it_belongs(own_cache: Path) -> None:
    build = Builder()
    first, again = artifact("data", FIELDS, build), artifact("data", dict(reversed(FIELDS.items())), build)
    assert first == again == artifact_path("data", FIELDS)
    assert first.parent == own_cache / "data"
    assert build.calls == 1
    assert is_complete(first)
    assert stat.S_IMODE(first.stat().st_mode) == 0o755
    assert artifact("data", {**FIELDS, "size": 48}, build) != first
    manifest = json.loads((first / MANIFEST).read_text(encoding="utf-8"))
    assert manifest == {"kind": "data", "fields": FIELDS, "files": {"arrays/images.bin": 10, "texts.json": 2}}


def test_builder_that_fails_leaves_nothing_behind() -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("x", encoding="utf-8")
        raise RuntimeError("out of disk")

    with pytest.raises(RuntimeError, match="out of disk"):
        artifact("data", FIELDS, fail)
    assert list(artifact_path("data", FIELDS).parent.iterdir()) == []
    build = Builder()
    assert is_complete(artifact("data", FIELDS, build))
    assert build.calls == 1


def test_artifact_is_not_seen_before_it_is_complete() -> None:
    final = artifact_path("data", FIELDS)

    def build(folder: Path) -> None:
        Builder()(folder)
        assert folder != final
        assert not final.exists()
        assert not is_complete(folder)

    assert artifact("data", FIELDS, build) == final


@pytest.mark.parametrize("damage", ["missing", "truncated", "no manifest", "cut manifest", "empty"])
def test_damaged_artifact_is_built_again(damage: str) -> None:
    build = Builder()
    folder = artifact("data", FIELDS, build)
    if damage == "missing":
        (folder / "texts.json").unlink()
    elif damage == "truncated":
        (folder / "arrays" / "images.bin").write_bytes(b"01234")
    elif damage == "no manifest":
        (folder / MANIFEST).unlink()
    elif damage == "cut manifest":
        text = (folder / MANIFEST).read_text(encoding="utf-8")
        (folder / MANIFEST).write_text(text[: len(text) // 2], encoding="utf-8")
    else:
        for path in (folder / "arrays" / "images.bin", folder / "texts.json", folder / MANIFEST):
            path.unlink()
        (folder / "arrays").rmdir()
    assert not is_complete(folder)
    assert artifact("data", FIELDS, build) == folder
    assert build.calls == 2
    assert (folder / "arrays" / "images.bin").read_bytes() == b"0123456789"


def test_concurrent_builders_both_get_the_whole() -> None:
    build, together = Builder(), threading.Barrier(2, timeout=20)

    def slow(folder: Path) -> None:
        together.wait()  # both have found nothing there
        build(folder)
        together.wait()  # and both have written everything

    with ThreadPoolExecutor(2) as pool:
        folders = [future.result() for future in [pool.submit(artifact, "data", FIELDS, slow) for _ in range(2)]]
    assert folders[0] == folders[1]
    assert build.calls == 2
    assert is_complete(folders[0])
    assert list(folders[0].parent.iterdir()) == [folders[0]]


def test_what_a_killed_builder_left_goes_when_its_artifact_is_asked_for_and_a_living_ones_stays(
    own_cache: Path,
) -> None:
    code = "import sys, time; from pathlib import Path; from trainables.artifacts import artifact\n"
    code += "def build(folder):\n    (folder / 'half').write_text('x'); print(folder, flush=True); time.sleep(60)\n"
    code += "artifact('data', {'made by': sys.argv[1]}, build)"
    with ExitStack() as stack:
        builders, folders = [], []
        for name in ("killed", "living"):
            command = [sys.executable, "-c", code, name]
            builder = stack.enter_context(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True))
            stack.callback(builder.kill)
            assert builder.stdout is not None
            builders.append(builder)
            folders.append(Path(builder.stdout.readline().strip()))
        builders[0].kill()
        builders[0].wait()
        assert [folder.exists() for folder in folders] == [True, True]
        made = artifact("data", FIELDS, Builder())
        assert set(made.parent.iterdir()) == {made, folders[1], folders[1].with_name(f"{folders[1].name}.lock")}
    assert artifact("data", FIELDS, Builder()) == made  # was complete, and clears up all the same
    assert list(made.parent.iterdir()) == [made]


def test_a_lock_that_is_taken_for_an_abandoned_one_before_it_is_locked_is_made_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[str] = []

    def made_and_at_first_removed(**options: Any) -> tuple[int, str]:
        handle, name = mkstemp(**options)
        made.append(name)
        if len(made) == 1:
            Path(name).unlink()  # as another process does that finds it without a lock
        return handle, name

    mkstemp = tempfile.mkstemp
    locks: list[Path] = []
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "mkstemp", made_and_at_first_removed)
        folder = artifact("data", FIELDS, lambda folder: locks.extend(folder.parent.glob(".*.lock")))
    assert list(map(str, locks)) == made[1:2]
    assert list(folder.parent.iterdir()) == [folder]


def test_half_written_files_are_removed_and_nothing_else(tmp_path: Path) -> None:
    write_json(tmp_path / "deep" / "value.json", 1)
    (tmp_path / ".hidden").write_text("", encoding="utf-8")
    code = "import os, signal, sys; from pathlib import Path; from trainables.artifacts import atomically\n"
    code += "with atomically(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "deep" / "value.json")], cwd=ROOT, check=False)
    files = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert len(files) == 3
    remove_half_written(tmp_path)
    kept = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert kept == {tmp_path / "deep" / "value.json", tmp_path / ".hidden"}
    assert kept < files


def test_json_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "value.json"
    write_json(path, {"name": "зелёный"})
    write_json(path, {"name": "緑"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"name": "緑"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    with pytest.raises(TypeError):
        write_json(path, {"name": object()})
    assert json.loads(path.read_text(encoding="utf-8")) == {"name": "緑"}
    assert list(path.parent.iterdir()) == [path]


def test_full_disk_keeps_the_old_file_and_names_it(small_disks: Callable[[str], Path]) -> None:
    path = small_disks("256k") / "value.json"
    write_json(path, "old")
    with pytest.raises(OSError, match="No space left on device") as full:
        write_json(path, "x" * 400_000)
    assert (full.value.errno, full.value.filename) == (errno.ENOSPC, str(path))
    assert json.loads(path.read_text(encoding="utf-8")) == "old"
    assert list(path.parent.iterdir()) == [path]


def test_cache_is_the_users_own_unless_configured(monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    assert cache_root() == own_cache
    monkeypatch.setenv("POLYDISTILL_CACHE", "~/models")
    assert cache_root() == Path.home() / "models"
    monkeypatch.delenv("POLYDISTILL_CACHE")
    assert cache_root().name == "polydistill"


class Parts:
    """Writes parts one by one, and fails before the last."""

    def __init__(self, failure: Exception | None) -> None:
        self._failure, self.written = failure, []

    def __call__(self, folder: Path) -> None:
        for name in ("a", "b"):
            if not (folder / name).exists():
                (folder / name).write_text(name, encoding="utf-8")
                self.written.append(name)
            if self._failure is not None:
                raise self._failure


def test_parts_outlive_a_failure_unless_it_is_hopeless() -> None:
    for failure, left in ((OSError("full"), ["b"]), (ValueError("bad data"), ["a", "b"])):
        fields = {**FIELDS, "failure": str(failure)}
        with pytest.raises(type(failure)):
            artifact_in_parts("data", fields, Parts(failure), hopeless=ValueError)
        again = Parts(None)
        made = artifact_in_parts("data", fields, again, hopeless=ValueError)
        assert again.written == left
        assert is_complete(made)
        assert {path.name for path in made.iterdir()} == {"a", "b", MANIFEST}
        assert not list(made.parent.glob(".*"))


def test_parts_that_nobody_has_gone_on_with_for_two_weeks_are_removed_by_the_next_of_their_kind() -> None:
    for place, days in enumerate((13, 15, 15)):
        with pytest.raises(OSError, match="full"):
            artifact_in_parts("data", {"place": place}, Parts(OSError("full")), hopeless=ValueError)
        folder = artifact_path("data", {"place": place})
        unfinished = folder.with_name(f".{folder.name}.unfinished")
        for path in (unfinished, unfinished / "a"):
            os.utime(path, (time.time() - days * 24 * 3600,) * 2)
        again = Parts(None)
        if place == 1:  # somebody comes back after all
            artifact_in_parts("data", {"place": place}, again, hopeless=ValueError)
            assert again.written == ["b"]
    artifact("data", FIELDS, Builder())
    kept = artifact_path("data", {"place": 0})
    assert [path.name for path in kept.parent.glob(".*")] == [f".{kept.name}.unfinished"]
