"""Optuna's storage on a real PostgreSQL server, which these tests start, stop and start again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from search_spaces.space import Choice, SearchSpace
from study.checks import surroundings
from study.config import load_config
from study.errors import UserError
from study.ledger import Ledger
from study.samplers import open_storage
from study.trials import Trials
from tests.study.test_dashboard import dashboard, get
from tests.study.tiny import UNCONFIRMED, check_that_nothing_is_left, check_that_optuna_and_ledger_agree

if TYPE_CHECKING:
    from tests.study.tiny import Study

_PLACES = ":".join([*map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"))), os.environ.get("PATH", "")])
pytestmark = pytest.mark.skipif(
    shutil.which("postgres", path=_PLACES) is None, reason="PostgreSQL's server is not installed"
)

USER, PASSWORD = "studies", "hush/{it}@is:a%secret"
SETTING = "storage.optuna=env:STUDY_DATABASE"


def _program(name: str) -> str:
    return str(shutil.which(name, path=_PLACES))


class Server:
    """A server with one database, in a folder of its own, that asks for a password."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="pg-"))
        # It refuses to run as root; root alone may choose who runs it.
        self._as: dict[str, Any] = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}
        if self._as:
            shutil.chown(self._folder, **self._as)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        (self._folder / "password").write_text(PASSWORD, encoding="utf-8")
        self._run("initdb", "--username", USER, "--auth=scram-sha-256", "--pwfile", str(self._folder / "password"))
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/postgres"

    def _run(self, program: str, *arguments: str) -> None:
        command = [_program(program), "-D", str(self._folder / "data"), *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd=self._folder, timeout=180, **self._as)

    def start(self) -> None:
        command = [_program("postgres"), "-D", str(self._folder / "data"), "-h", "127.0.0.1", "-p", str(self.port)]
        command += ["-k", str(self._folder), "-c", "fsync=off"]
        with open(self._folder / "log", "ab") as log:
            self.process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log, **self._as)
        deadline = time.monotonic() + 120
        ready = [_program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ready).returncode:
            assert self.process.poll() is None, (self._folder / "log").read_text(encoding="utf-8")
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def stop(self) -> None:
        """End it as a crash of its machine would."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(60)

    def end(self) -> None:
        if self.process.poll() is None:
            self.stop()
        shutil.rmtree(self._folder)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.end()


def test_studies_of_one_name_share_a_database_and_stay_apart(server: Server, tmp_path: Path) -> None:
    config = load_config("emoji_clip", [SETTING])
    space = SearchSpace("small", {"strategy": Choice(choice=["fd", "ed"])})
    metrics = {"retrieval_map": 0.3, "vqa_variance": 9.0, "vqa_lift_kept": 0.75}
    last = {"step": 12, "final": True, "seconds": 1.0, "metrics": metrics}

    def opened(place: str) -> Trials:
        ledger = Ledger(tmp_path / place / config.name)
        study = open_storage(config, server.url, ledger.study_name)
        trials = Trials(study, ledger, config.search, 0, space, surroundings(config))
        trials.reconcile()
        return trials

    one, other = opened("a"), opened("b")
    one.finish(one.ask(), "complete", None, last)
    unfinished = one.ask()
    assert other.ask().number == 0
    again = opened("a")
    assert [record.number for record in again.unfinished] == [unfinished.number]
    assert [trial.values for trial in again.study.get_trials()] == [[0.3, 9.0], None]
    assert [trial.values for trial in opened("b").study.get_trials()] == [None]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ((quote(PASSWORD, safe=""), "hush"), "it refuses the user or the password"),
        ((f":{quote(PASSWORD, safe='')}", ""), "it asks for a password, and the URL has none"),
        ((quote(PASSWORD, safe=""), PASSWORD), "holds no database URL, such as postgresql://USER:PASSWORD@HOST"),
        (("/postgres", "/hushed"), "it has no such database or user"),
        (("127.0.0.1", "hush.invalid"), "there is no such host"),
        (("PORT", "1"), "nothing answers there; is the server up?"),
        (
            ("postgresql://", "postgres://"),
            "knows no database of this URL's kind; PostgreSQL's begin with postgresql://",
        ),
        (("postgresql://", "postgresql+pg8000://"), "driver is not installed: pip install pg8000"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_database_that_cannot_be_opened_says_why_and_no_word_of_its_url(
    server: Server, change: tuple[str, str], words: str
) -> None:
    change = (str(server.port), change[1]) if change[0] == "PORT" else change
    with pytest.raises(UserError) as raised:
        open_storage(load_config("emoji_clip", [SETTING]), server.url.replace(*change), "a")
    said = str(raised.value)
    assert said.startswith("storage.optuna: env:STUDY_DATABASE")
    assert words in said
    assert "\n" not in said
    assert "hush" not in said


def test_a_missing_driver_is_named_with_its_extra(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UserError, match=r"driver is not installed: pip install 'polydistill\[postgresql\]'"):
        open_storage(load_config("emoji_clip", [SETTING]), server.url, "a")


def hold_the_secret(*places: Path) -> list[Path]:
    """Files at and below these places that have the password in them, as it is or as the URL has it."""
    forms = (PASSWORD.encode(), quote(PASSWORD, safe="").encode())
    files = [path for place in places for path in place.rglob("*") if path.is_file() and not path.is_symlink()]
    assert files
    return [path for path in files if any(form in path.read_bytes() for form in forms)]


@pytest.mark.long
def test_a_study_outlives_a_crash_of_its_database_and_writes_its_password_nowhere(study: Study, server: Server) -> None:
    settings = [SETTING, "search.trials=4", "training.steps=60", UNCONFIRMED]
    wrong = server.url.replace(quote(PASSWORD, safe=""), "hush")
    study.environment = {**study.environment, "STUDY_DATABASE": wrong}
    refused = study.run(*settings)
    assert (refused.code, len(refused.errors.splitlines())) == (2, 1), study.runs[-1].said()
    assert "storage.optuna: env:STUDY_DATABASE cannot be opened: it refuses the user" in refused.errors
    assert "hush" not in refused.errors

    study.environment["STUDY_DATABASE"] = server.url
    run = study.start(*settings)
    run.until(study.results, 480)
    server.stop()
    run.until(lambda: "the storage does not answer" in run.log.read_text(encoding="utf-8"))
    server.start()
    outcome = run.wait(480)
    assert outcome.code == 0, run.said()
    assert len(study.results()) == 4
    check_that_optuna_and_ledger_agree(study, server.url)
    check_that_nothing_is_left(run)
    assert not (study.folder / "study.db").exists()
    assert hold_the_secret(study.place, Path(study.environment["RAY_TMPDIR"])) == []

    with dashboard(str(study.folder), STUDY_DATABASE=server.url) as (_process, address):
        names = [one["study_name"] for one in get(f"{address}/api/studies")["study_summaries"]]
        assert study.read("study.json")["optuna_study"] in names
