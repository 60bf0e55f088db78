from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest
import yaml

from analysis.compare import main

if TYPE_CHECKING:
    from conftest import StudyFolder

FILES = ["attainment", "compression", "differences", "hypervolumes", "runs"]


Study = Callable[..., Path]


@pytest.fixture
def study(new_study: Callable[[str], StudyFolder]) -> Study:
    def made(name: str, shift: float = 0.0) -> Path:
        folder = new_study(name).teacher()
        folder.trial(0, 0.2 + shift, 4.0)
        folder.trial(1, 0.4 + shift, 15.0, strategy="ed")
        return folder.path

    return made


def test_groups_are_compared_in_tables_and_figures(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    groups = {"tpe": [str(study(f"t{n}", 0.1 + 0.01 * n)) for n in range(2)]}
    groups["random"] = [str(study(f"r{n}", 0.01 * n)) for n in range(2)]
    to = tmp_path / "out"
    arguments = [part for name, paths in groups.items() for part in ("--group", name, *paths)]
    assert main([*arguments, "--to", str(to), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["reference_point"] == {"retrieval_map": 0.0, "vqa_variance": 20.0}
    assert [row["group"] for row in found["runs"]] == ["tpe", "tpe", "random", "random"]
    assert found["runs"][0]["hypervolume"] == pytest.approx(0.3 * 16 + 0.2 * 5)
    (difference,) = found["differences"]
    assert (difference["p"], difference["smallest_p"], difference["better"]) == (
        pytest.approx(1 / 3),
        pytest.approx(1 / 3),
        1.0,
    )
    assert sorted({path.stem for path in to.iterdir()}) == FILES
    assert sorted(path.suffix for path in to.glob("runs.*")) == [".csv", ".parquet", ".tex"]
    assert sorted(path.suffix for path in to.glob("attainment.*")) == [".png", ".svg"]
    assert len(pd.read_parquet(to / "runs.parquet")) == 4


def test_single_runs_say_that_no_test_is_possible(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(study("one")), str(study("two", 0.1))]
    (tmp_path / "two" / "trials" / "00001" / "result.json").write_text("{", encoding="utf-8")
    assert main([*paths, "--to", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "none: each group needs two runs or more" in shown
    assert "Trial 00001 cannot be read: " in shown
    svg = (tmp_path / "out" / "hypervolumes.svg").read_text(encoding="utf-8")
    assert "Groups of one run: whether they differ cannot be tested" in svg


def test_a_study_that_has_just_begun_can_be_compared(
    new_study: Callable[[str], StudyFolder], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new_study("new")
    assert main([str(tmp_path / "new"), "--to", str(tmp_path / "out")]) == 0
    assert "its teacher is not scored yet" in capsys.readouterr().out
    assert "no study has a front yet" in (tmp_path / "out" / "attainment.svg").read_text(encoding="utf-8")


def test_a_trial_without_a_result_is_not_said_to_be_running(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a copy of a study, or after a crash, nothing runs."""
    path = study("one")
    (path / "trials" / "00001" / "result.json").unlink()
    assert main([str(path), "--to", str(tmp_path / "out")]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "trials that have not ended, running or interrupted: 1." in shown


def test_studies_that_do_not_compare_are_told_in_one_line(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = study("one"), study("other")
    config = yaml.safe_load((other / "config.yaml").read_text(encoding="utf-8"))
    config["search"]["objectives"] = {"retrieval_map": "maximise", "vqa_accuracy": "maximise"}
    (other / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    assert main([str(one), str(other), "--to", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("analysis.compare: ")
    assert "objectives differ: " in line
    assert not (tmp_path / "out").exists()


def test_help_is_fast_and_imports_nothing_heavy() -> None:
    code = (
        "import sys, analysis.compare\n"
        "try: analysis.compare.main(['--help'])\n"
        "except SystemExit: print({'pandas', 'matplotlib', 'scipy', 'torch', 'ray'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "set()"
    assert "--group NAME RUN" in ran.stdout
