from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest

from study.config import StudyConfig, dump_config, load_config
from study.dashboard import main
from study.ledger import Ledger
from trainables.artifacts import write_text

ROOT = Path(__file__).parents[2]


class Shown:
    """A study with one trial that is complete; its storage is written as the study itself writes it."""

    def __init__(self, place: Path, name: str = "emoji-clip") -> None:
        self.config: StudyConfig = load_config("emoji_clip", [f"storage.path={place}"], name)
        self.folder = place / name
        write_text(self.folder / "config.yaml", dump_config(self.config))
        self.optuna = optuna.create_study(
            storage=f"sqlite:///{self.folder / 'study.db'}",
            study_name=Ledger(self.folder).study_name,
            directions=["maximize", "minimize"],
        )
        self.optuna.set_metric_names(["retrieval_map", "vqa_variance"])
        self.finish("dr")

    def finish(self, strategy: str) -> None:
        trial = self.optuna.ask()
        trial.suggest_float("learning_rate", 0.001, 0.01)
        trial.set_user_attr("strategy", strategy)
        trial.set_constraint("vqa_lift_kept", 0.0)
        self.optuna.tell(trial, [0.25, 8.0])


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    return Shown(tmp_path_factory.mktemp("runs"))


@contextmanager
def dashboard(*arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command, and the address that it prints."""
    command = [sys.executable, "-m", "study.dashboard", *arguments, "--port", "0"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background ignore it
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.fullmatch(r"Study \S+: (http://\S+)/dashboard/studies/(\d+)   \(Ctrl-C ends\)\n", line)
            assert found, line + (process.stderr.read() if process.stderr and process.poll() is not None else "")
            yield process, found[1]
        finally:
            process.kill()


@pytest.fixture(scope="module")
def address(shown: Shown) -> Iterator[str]:
    """Of a dashboard that runs on the study."""
    with dashboard(str(shown.folder)) as (_process, found):
        yield found


def get(url: str, method: str = "GET", **headers: str) -> Any:
    request = urllib.request.Request(url, method=method, headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        content = answer.read()
    return json.loads(content) if answer.headers["Content-Type"] == "application/json" else content.decode()


def test_it_shows_what_the_study_has_told_optuna_and_what_it_tells_meanwhile(shown: Shown, address: str) -> None:
    [summary] = get(f"{address}/api/studies")["study_summaries"]
    assert summary["study_name"] == Ledger(shown.folder).study_name
    detail = get(f"{address}/api/studies/{summary['study_id']}")
    assert detail["objective_names"] == ["retrieval_map", "vqa_variance"]
    [trial] = detail["trials"]
    assert (trial["state"], trial["values"]) == ("Complete", [0.25, 8.0])
    assert {"key": "strategy", "value": "dr"} in trial["user_attrs"]
    assert [best["number"] for best in detail["best_trials"]] == [0]
    assert "<html" in get(f"{address}/dashboard/studies/{summary['study_id']}")
    shown.finish("ed")
    deadline = time.monotonic() + 20
    while len(found := get(f"{address}/api/studies/{summary['study_id']}")["trials"]) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert {"key": "strategy", "value": "ed"} in found[1]["user_attrs"]


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [("DELETE", {}, 405), ("POST", {}, 405), ("PUT", {}, 405), ("GET", {"Host": "evil.example:8080"}, 403)],
    ids=["delete", "post", "put", "another host"],
)
def test_it_changes_nothing_and_answers_no_other_name(
    address: str, method: str, headers: dict[str, str], status: int
) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(f"{address}/api/studies/1", method, **headers)
    assert refused.value.code == status
    assert json.loads(refused.value.read())["reason"]
    assert len(get(f"{address}/api/studies", Host="localhost:1234")["study_summaries"]) == 1


@pytest.mark.parametrize(("host", "shows"), [("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1"), ("::1", "[::1]")])
def test_it_listens_on_the_loopback_alone_and_ctrl_c_ends_it_with_0(shown: Shown, host: str, shows: str) -> None:
    if host == "::1" and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    with dashboard(str(shown.folder), "--host", host) as (process, address):
        assert address.startswith(f"http://{shows}:")
        assert listening(process.pid) == {{"127.0.0.1": "0100007F", "[::1]": "0" * 24 + "01000000"}[shows]}
        assert get(f"{address}/api/studies")["study_summaries"]
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=20)
        assert (process.returncode, output, errors) == (0, "", "")


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def listening(pid: int) -> set[str]:
    """The addresses on which a process listens, as the kernel writes them."""
    inodes = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()}
    rows = [
        line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    return {row[1].split(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes}


def test_a_study_is_found_by_its_configuration_and_in_a_database_of_the_environment(shown: Shown) -> None:
    arguments = ["emoji_clip", "--set", f"storage.path={shown.folder.parent}"]
    with dashboard(*arguments) as (_process, address):
        assert len(get(f"{address}/api/studies")["study_summaries"]) == 1
    elsewhere = [*arguments, "--set", "storage.optuna=env:STUDY_DATABASE"]
    with dashboard(*elsewhere, STUDY_DATABASE=f"sqlite:///{shown.folder / 'study.db'}") as (_process, address):
        assert len(get(f"{address}/api/studies")["study_summaries"]) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["EMPTY"], ["no study in EMPTY", "config.yaml"]),
        (["--set", "storage.path=EMPTY"], ["no study in EMPTY/emoji-clip", "study.json", "study.run"]),
        (["SHOWN", "--set", "storage.optuna=env:ELSEWHERE"], ["env:ELSEWHERE holds no study emoji-clip"]),
        (["SHOWN", "--set", "storage.optuna=env:NO_SUCH"], ["storage.optuna", "NO_SUCH is not set"]),
        (["SHOWN", "--set", "storage.optuna=env:SECRET"], ["env:SECRET cannot be opened: nothing answers there"]),
        (["SHOWN", "--port", "TAKEN"], ["--port", "already in use", "0 for one that is free"]),
        (["SHOWN", "--port", "70000"], ["--port 70000", "no such port"]),
        (["SHOWN", "--host", "::"], ["--host ::", "no password"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_mistake_is_one_line_and_exit_code_2(
    shown: Shown,
    tmp_path: Path,
    arguments: list[str],
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SECRET", "postgresql://me:hush@127.0.0.1:9/db")
    monkeypatch.delenv("NO_SUCH", raising=False)
    other = shown.folder.parent / "other.db"
    optuna.create_study(storage=f"sqlite:///{other}", study_name="other", load_if_exists=True)
    monkeypatch.setenv("ELSEWHERE", f"sqlite:///{other}")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        places = {"EMPTY": str(tmp_path), "SHOWN": str(shown.folder), "TAKEN": str(taken.getsockname()[1])}

        def placed(word: str) -> str:
            for name, place in places.items():
                word = word.replace(name, place)
            return word

        assert main([placed(word) for word in arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert said.err.startswith("study.dashboard: ")
    assert all(placed(word) in said.err for word in words), said.err
    assert "hush" not in said.err
    assert list(tmp_path.iterdir()) == []  # looking for a study makes none


def test_a_missing_extra_is_named(
    shown: Shown, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    assert main([str(shown.folder)]) == 2
    assert "pip install 'polydistill[dashboard]'" in capsys.readouterr().err


def test_help_loads_nothing_slow() -> None:
    program = """
import atexit, sys
atexit.register(lambda: print("imported:", *sorted({"optuna", "optuna_dashboard", "ray", "torch"} & set(sys.modules))))
from study.dashboard import main
from study.ledger import Ledger
main(["--help"])
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")
    *text, imported = ran.stdout.splitlines()
    assert imported == "imported:"
    assert "    python -m study.dashboard runs/emoji-clip          a study by its folder, or its URL" in text
