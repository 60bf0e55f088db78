"""What a real bash completes, with argcomplete's function active as the README has it activated."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_command_lines import COMMANDS, ROOT, name_of

# bash sets these, and calls the function that `complete -D` names, when Tab is pressed.
_TAB = """
eval "$(activate-global-python-argcomplete --dest=-)"
COMP_WORDS=({words} {last}) COMP_CWORD={at} COMP_LINE={line} COMP_POINT=${{#COMP_LINE}} COMP_TYPE=9
_python_argcomplete_global python 2>/dev/null
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def completed(line: str, folder: Path) -> set[str]:
    """What bash is offered when Tab is pressed at the end of this line, in this folder."""
    *words, last = line.split(" ")
    script = _TAB.format(words=shlex.join(words), last=shlex.quote(last), at=len(words), line=shlex.quote(line))
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    return set(ran.stdout.split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a user stands: a study of two trials in ``runs``, a configuration beside it."""
    folder = tmp_path_factory.mktemp("desk")
    study = folder / "runs" / "mine"
    for name in ("00000", "00012", "00012.old"):
        (study / "trials" / name).mkdir(parents=True)
    (study / "config.yaml").write_text("name: mine\n")
    (folder / "my_study.yaml").write_text("name: mine\n")
    (folder / "notes.txt").write_text("")
    return folder


@pytest.mark.parametrize("module", COMMANDS)
def test_every_command_completes_its_options(module: str, folder: Path) -> None:
    assert "--version" in completed(f"python -m {name_of(module)} --v", folder)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("python -m study.run ", {"emoji_clip", "emoji_siglip2", "my_study.yaml", "runs/"}),
        ("python -m study.run --set search.sa", {"search.sampler="}),
        ("python -m study.describe --set search.sampler=", {"tpe", "nsga2", "gp", "random"}),
        ("python -m study.run --set tracking.tensorboard=", {"true", "false"}),
        ("python -m study.run --set student.image.la", {"student.image.layers="}),
        ("python -m analysis.notebook ", {"runs/mine"}),
        ("python -m analysis.compare runs/mine ", {"runs/mine"}),
        ("python -m trainables.export runs/mine ", {"0", "12"}),
        ("python -m study.config ", {"schema", "reference"}),
    ],
)
def test_the_shell_offers_what_may_stand_there(line: str, offered: set[str], folder: Path) -> None:
    found = completed(line, folder)
    assert offered <= found
    assert "notes.txt" not in found
