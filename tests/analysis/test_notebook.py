from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest

from analysis import notebook
from analysis.sections import SECTIONS, Section

if TYPE_CHECKING:
    from conftest import StudyFolder


def test_the_notebook_as_written_holds_nothing_of_the_machine_or_the_study(
    hostile_study: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert notebook.main([str(hostile_study.path), "--no-execute", "--overwrite"]) == 0
    path = hostile_study.path / "report" / "study.ipynb"
    assert str(path) in capsys.readouterr().out
    written = nbformat.read(path, as_version=4)
    nbformat.validate(written)
    text = path.read_text(encoding="utf-8")
    assert "alert" not in text
    assert str(hostile_study.path) not in text
    assert str(Path.home()) not in text
    code = [cell for cell in written.cells if cell.cell_type == "code"]
    assert 'load_study("..")' in code[0].source
    assert len(code) == len(SECTIONS)
    assert not any(cell.outputs for cell in code)
    assert notebook.build(SECTIONS) == written  # the same each time


def test_an_edited_notebook_is_not_overwritten(study_folder: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    study, path = str(study_folder.path), study_folder.path / "report" / "study.ipynb"
    assert notebook.main([study, "--no-execute"]) == 0
    assert notebook.main([study, "--no-execute"]) == 0  # over one that is as it was written
    edited = nbformat.read(path, as_version=4)
    edited.cells[-1].source += "\n1 + 1"
    nbformat.write(edited, path)
    capsys.readouterr()
    for content in (path.read_bytes(), b"{", b"[]", b"\xff"):
        path.write_bytes(content)
        assert notebook.main([study, "--no-execute"]) == 2
        assert "study.ipynb was edited since it was written: rename it, or give --overwrite" in capsys.readouterr().err
        assert path.read_bytes() == content
    assert notebook.main([study, "--no-execute", "--overwrite"]) == 0


def test_a_section_that_fails_is_named_and_the_rest_is_kept(
    study_folder: StudyFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sections = (Section("A", "", "1 + 1"), Section("B", "", "raise ValueError('too\\nfew')"), Section("C", "", "3"))
    monkeypatch.setattr(notebook, "SECTIONS", sections)
    assert notebook.main([str(study_folder.path)]) == 1
    assert "the section 'B' failed: ValueError: too few; the notebook has" in capsys.readouterr().err
    report = study_folder.path / "report"
    outputs = [cell.get("outputs") for cell in nbformat.read(report / "study.ipynb", as_version=4).cells[2::2]]
    assert [len(output) for output in outputs] == [1, 1, 0]
    assert not (report / "study.html").exists()


def test_a_module_that_lies_in_a_study_is_not_imported(
    study_folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = study_folder.path / "report"
    report.mkdir(exist_ok=True)
    for module in ("pandas.py", "analysis.py"):
        (report / module).write_text("open('ran', 'w')", encoding="utf-8")
    code = "import pandas\nfrom analysis.load import load_study\nassert pandas.DataFrame"
    monkeypatch.setattr(notebook, "SECTIONS", (Section("A", "", code),))
    assert notebook.main([str(study_folder.path)]) == 0
    assert not (report / "ran").exists()


def test_mistakes_are_told_in_one_line(study_folder: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    near = study_folder.path.with_name("studio")
    assert notebook.main([str(near)]) == 2
    assert capsys.readouterr().err == (
        f"analysis.notebook: no study in {near}: did you mean {study_folder.path}? a study's folder holds config.yaml\n"
    )
    (study_folder.path / "teacher.json").write_text("{", encoding="utf-8")
    assert notebook.main([str(study_folder.path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "teacher.json: Invalid JSON" in error


def test_data_for_a_script_does_not_end_it_and_comes_back_as_it_was() -> None:
    from analysis.page import json_for_script

    value = {"</script>": ["<!--", "]]>", "&amp;", "\u2028", "ж"]}
    text = json_for_script(value)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == value
