"""Studies in a bucket, of a server on this machine that speaks S3's protocol."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from analysis.commands import open_study
from study.config import load_config
from study.remote_study import LOCK
from tests.object_store import BUCKET, SECRET
from tests.study.nodes import Nodes, cluster
from tests.study.test_dashboard import dashboard, get
from tests.study.tiny import (
    ROOT,
    UNCONFIRMED,
    Run,
    Study,
    check_that_optuna_and_ledger_agree,
    check_that_trials_are_those_of_a_fast_storage,
)
from trainables.export import main as export
from trainables.remote_folder import RemoteFolder

if TYPE_CHECKING:
    from tests.study.tiny import Outcome

PATIENCE = 600.0  # seconds: all that is stored goes through a server in this process


class Stored(Study):
    """A study in a bucket; what is read of it is a copy that `look` takes."""

    @property
    def folder(self) -> Path:
        return self.place / "seen"

    @property
    def remote(self) -> RemoteFolder:
        return RemoteFolder(f"{BUCKET}/{self.place.name}/tiny")

    @property
    def storage(self) -> str:
        return f"sqlite:///{self.place / 'optuna.db'}"

    @property
    def _where(self) -> tuple[str, ...]:
        return f"storage.path={self.remote.url.removesuffix('/tiny')}", "storage.optuna=env:STUDY_DATABASE"

    def command(self, *settings: str) -> list[str]:
        """What a command that takes a configuration is given."""
        return [str(self.place / "tiny.yaml"), *(w for key in (*self._where, *settings) for w in ("--set", key))]

    def begin(self, *settings: str, cache: str = "cache", address: str | None = None) -> Run:
        """`start` with a cache folder of this name."""
        self.environment = {
            **self.environment,
            "POLYDISTILL_CACHE": str(self.place / cache),
            "STUDY_DATABASE": self.storage,
        }
        run = self.start(*self._where, *settings, address=address)
        run.log = self.place / cache / "log"
        return run

    def look(self) -> list[str]:
        """The names of all objects, of which there is a copy now."""
        shutil.rmtree(self.folder, ignore_errors=True)
        names = self.remote.names()
        self.remote.pull(self.folder, names)
        return names

    def teachers(self) -> dict[str, bytes | None]:
        """Which fitted teachers the bucket has, and who built each."""
        mirror = RemoteFolder(f"{self.remote.url.removesuffix('/tiny')}/.cache")
        return {
            name: mirror.read(name)
            for name in mirror.names()
            if name.startswith("teacher/") and name.endswith("current.json")
        }

    def ended(self) -> set[str]:
        return {name for name in self.remote.names() if name.endswith("/result.json")}


@pytest.fixture
def stored(run_environment: dict[str, str], store: dict[str, str], tmp_path: Path) -> Iterator[Stored]:
    new = Stored(tmp_path, {**run_environment, **store})
    yield new
    new.end()


@pytest.mark.long
def test_a_study_in_a_bucket_goes_on_where_nothing_is_left_but_the_bucket(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["search.trials=4", "training.steps=60", UNCONFIRMED]
    run = stored.begin(*settings)
    run.until(lambda: LOCK in stored.remote.names(), PATIENCE)
    refused: Outcome = stored.begin(*settings, cache="elsewhere").wait(PATIENCE)
    assert refused.code == 2, stored.runs[-1].said()
    assert f"the study in {stored.remote.url} is already running (process {run.process.pid} on " in refused.errors
    assert len(refused.errors.splitlines()) == 1
    run.until(lambda: len(stored.ended()) >= 2, PATIENCE)
    run.process.send_signal(signal.SIGKILL)
    run.end()
    assert LOCK in stored.look()
    results, recipes = stored.results(), stored.recipes()
    teachers = stored.teachers()
    assert len(teachers) == 1
    for left in ("cache", "elsewhere"):
        shutil.rmtree(stored.place / left)

    again = stored.begin(*settings)
    outcome = again.wait(PATIENCE)
    assert outcome.code == 0, again.said()
    names = stored.look()
    assert results.items() <= stored.results().items()
    assert recipes.items() <= stored.recipes().items()
    assert set(stored.results()) == set(range(4))
    check_that_optuna_and_ledger_agree(stored, stored.storage)
    assert {"results/front.json", "results/trials.parquet", "report/pareto.png", "study.log"} <= set(names)
    assert LOCK not in names
    assert [name for name in names if name.startswith("ray") or name.endswith("state.pt")] == []
    for number, result in stored.results().items():
        folder = stored.folder / "trials" / f"{number:05d}"
        steps = [report["step"] for report in stored.reports(number)]
        assert steps == sorted(set(steps))
        assert (folder / "checkpoint" / "model.safetensors").exists() == (result["state"] == "complete")
    members = stored.read("results/front.json")["members"]
    assert members
    assert all(member["test"] for member in members)
    assert stored.teachers() == teachers
    assert all((stored.place / "cache" / "mirrored").glob("*/teacher/*/manifest.json"))
    assert [path for path in stored.folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()] == []

    shown = stored.begin(*settings, cache="elsewhere").wait(PATIENCE)
    assert (shown.code, shown.errors) == (0, ""), stored.runs[-1].said()
    assert f"The study in {stored.remote.url} is finished" in shown.output
    monkeypatch.setenv("POLYDISTILL_CACHE", str(stored.place / "reader"))
    assert len(open_study(stored.remote.url).trials) == 4
    target = stored.place / "student"
    assert export([stored.remote.url, members[0]["trial"], "--to", str(target)]) == 0
    assert (target / "README.md").exists()
    for named in (stored.command(*settings), [stored.remote.url]):
        with dashboard(*named, **stored.environment) as (_process, at):
            assert len(get(f"{at}/api/studies")["study_summaries"]) == 1


@contextmanager
def nodes_apart(stored: Stored, cpus: int) -> Iterator[tuple[Nodes, list[Path]]]:
    """A cluster of two nodes that share nothing but the bucket, as do its head and the study's driver; their caches."""
    caches = [stored.place / "first", stored.place / "second"]
    head = stored.environment | {"POLYDISTILL_CACHE": str(stored.place / "head")}
    with cluster(stored.place, head, drivers=1) as nodes:
        stored.environment = nodes.environment
        for cache in caches:
            nodes.add(cpus, POLYDISTILL_CACHE=str(cache))
        yield nodes, caches


def check_that_both_had_a_part(stored: Stored, trials: int, caches: list[Path]) -> None:
    stored.look()
    assert len(stored.results()) == trials
    check_that_optuna_and_ledger_agree(stored, stored.storage)
    for cache in caches:  # trials need it, and the stage that made it ran on one node
        assert len(list(cache.glob("mirrored/*/teacher-cache/*/manifest.json"))) == 1
        assert {path.name for path in cache.glob("trials/**/*") if path.is_file()} <= {"worker.lock"}
    for name in ("driver", "head"):
        assert list((stored.place / name).glob("mirrored/*/teacher-cache")) == []


@pytest.mark.long
def test_nodes_that_share_nothing_but_the_bucket_run_trials_of_one_study(stored: Stored) -> None:
    with nodes_apart(stored, cpus=2) as (nodes, caches):
        run = stored.begin("search.trials=4", "training.steps=60", UNCONFIRMED, cache="driver", address=nodes.address)
        outcome = run.wait(PATIENCE)
    assert outcome.code == 0, run.said()
    check_that_both_had_a_part(stored, 4, caches)


@pytest.mark.long
def test_nodes_that_share_nothing_but_the_bucket_share_each_trial(stored: Stored) -> None:
    settings = ["search.trials=2", "resources={workers_per_trial: 2, concurrent_trials: 1}", UNCONFIRMED]
    with nodes_apart(stored, cpus=1) as (nodes, caches):
        run = stored.begin(*settings, cache="driver", address=nodes.address)
        together = run.until(lambda: len(found := nodes.workers()) == 2 and found, PATIENCE)
        outcome = run.wait(PATIENCE)
        assert set(together.values()) == set(nodes.started[1:])
    assert outcome.code == 0, run.said()
    check_that_both_had_a_part(stored, 2, caches)
    assert {result["state"] for result in stored.results().values()} <= {"complete", "stopped"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["storage.path=s3://bucket/x"], ["storage.optuna: sqlite is a file", "s3://bucket/x", "env:NAME"]),
        (["storage.path=s3://me:hush@host/x"], ["user or a password", "AWS_ACCESS_KEY_ID"]),
        (["storage.path=https://host/x"], ["storage.path", "s3://bucket/studies"]),
        (["storage.path=s3://no-bucket/x", "storage.optuna=env:DATABASE"], ["storage.path: s3://no-bucket", "bucket"]),
        (["storage.path=nowhere://x/y", "storage.optuna=env:DATABASE"], ["nowhere://x", "Protocol not known"]),
    ],
    ids=lambda value: value[0] if value[0].startswith("storage.path") else None,
)
def test_a_place_that_cannot_hold_a_study_is_told_in_one_line(
    store: dict[str, str], tmp_path: Path, settings: list[str], words: list[str]
) -> None:
    arguments = [word for setting in settings for word in ("--set", setting)]
    ran = subprocess.run(
        [sys.executable, "-m", "study.run", *arguments],
        cwd=ROOT,
        env={**os.environ, "DATABASE": f"sqlite:///{tmp_path}/x.db", "POLYDISTILL_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert len(ran.stderr.splitlines()) == 1
    assert all(word in ran.stderr for word in words), ran.stderr
    assert "hush" not in ran.stderr


class Slow(socketserver.ThreadingTCPServer):
    """Hands on what it is sent to the server at ``port``, each piece later than it came."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int, seconds: float) -> None:
        self.port, self.seconds = port, seconds
        super().__init__(("127.0.0.1", 0), _Piece)

    def __enter__(self) -> Slow:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.shutdown()
        self.server_close()


class _Piece(socketserver.BaseRequestHandler):
    server: Slow

    def handle(self) -> None:
        with socket.create_connection(("127.0.0.1", self.server.port)) as there:
            threading.Thread(target=self._hand_on, args=(there, self.request, 0.0), daemon=True).start()
            self._hand_on(self.request, there, self.server.seconds)

    @staticmethod
    def _hand_on(source: socket.socket, target: socket.socket, seconds: float) -> None:
        with suppress(OSError):
            while piece := source.recv(2**20):
                time.sleep(seconds)
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)


@pytest.mark.long
def test_a_store_that_answers_slowly_costs_time_and_no_trial(stored: Stored, store: dict[str, str]) -> None:
    settings = ["search.trials=3", "search.sampler=random", "resources.concurrent_trials=1", UNCONFIRMED]
    with Slow(int(store["AWS_ENDPOINT_URL"].rpartition(":")[2]), seconds=0.3) as slow:
        stored.environment = {**stored.environment, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{slow.server_address[1]}"}
        run = stored.begin(*settings)
        outcome = run.wait(PATIENCE)
    assert outcome.code == 0, run.said()
    stored.look()
    check_that_optuna_and_ledger_agree(stored, stored.storage)
    config = load_config(*stored.command(*settings)[:1], stored.command(*settings)[2::2])
    check_that_trials_are_those_of_a_fast_storage(stored, config)
