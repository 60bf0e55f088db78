"""Studies at URLs, of a store in this process's memory."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from analysis import trial
from analysis.commands import open_study
from analysis.overview import state
from tests.analysis.conftest import StudyFolder
from trainables.export import main as export


def stored(folder: Path, name: str) -> str:
    """The URL of a copy of a study's folder."""
    files = fsspec.filesystem("memory")
    for path in folder.rglob("*"):
        if path.is_file():
            files.pipe_file(f"/{name}/{path.relative_to(folder)}", path.read_bytes())
    files.pipe_file(f"/{name}/trials/00000/checkpoint/model.safetensors", b"a student")
    return f"memory://{name}"


def test_a_study_at_a_url_is_read_from_a_copy_in_which_what_commands_wrote_stays(
    study_folder: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POLYDISTILL_CACHE", str(tmp_path / "cache"))
    study_folder.teacher()
    study_folder.trial(0)
    study_folder.trial(1)
    url = stored(study_folder.path, f"{tmp_path.name}/kept")
    assert trial.main([url, "1"]) == 0
    (report,) = (tmp_path / "cache").rglob("trial-00001.html")
    assert str(report) in capsys.readouterr().out.replace("\n", "")
    assert list((tmp_path / "cache").rglob("*.safetensors")) == []
    fsspec.filesystem("memory").rm(f"/{tmp_path.name}/kept/trials/00001", recursive=True)
    assert list(open_study(url).trials["trial"]) == ["00000"]
    assert report.exists()


def test_a_copy_keeps_nothing_of_an_earlier_study_at_its_url(
    study_folder: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLYDISTILL_CACHE", str(tmp_path / "cache"))
    study_folder.teacher().trial(0)
    url = stored(study_folder.path, f"{tmp_path.name}/anew")
    files = fsspec.filesystem("memory")
    files.pipe_file(f"/{tmp_path.name}/anew/results/front.json", b"{}")
    assert not any("not ended" in line for line in state(open_study(url)))
    files.rm(f"/{tmp_path.name}/anew/results", recursive=True)
    files.rm(f"/{tmp_path.name}/anew/trials", recursive=True)
    begun = open_study(url)
    assert begun.trials.empty
    assert any("not ended" in line for line in state(begun))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("memory://nothing/here", "no study in memory://nothing/here"),
        ("nowhere://bucket/study", "nowhere://bucket/study cannot be read: ValueError: Protocol not known: nowhere"),
    ],
)
def test_a_url_without_a_study_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str, words: str
) -> None:
    monkeypatch.setenv("POLYDISTILL_CACHE", str(tmp_path))
    assert trial.main([url, "1"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"analysis.trial: {words}")
    assert len(said.splitlines()) == 1
    assert export([url, "1", "--to", str(tmp_path / "to")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("trainables.export: ")
    assert len(said.splitlines()) == 1
    assert export([url, "1"]) == 2
    assert "name a folder to write to with --to" in capsys.readouterr().err
