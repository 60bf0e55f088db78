"""The commands as one: what is the same is called the same, and each says how it is used and how it ends."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.commands import CommandParser

ROOT = Path(__file__).parents[1]
CONFIGURED = ("study.run", "study.describe", "study.dashboard", "trainables.data.__main__")
OF_STUDIES = ("analysis.notebook", "analysis.trial", "trainables.export")
COMMANDS = (*CONFIGURED, *OF_STUDIES, "analysis.compare", "study.config_reference")
every_command = pytest.mark.parametrize("module", COMMANDS)


def name_of(module: str) -> str:
    """What follows ``python -m``, of the module that has the command's `main`."""
    return module.removesuffix(".__main__").removesuffix("_reference")


def command(module: str) -> Callable[[list[str]], int]:
    main: Callable[[list[str]], int] = importlib.import_module(module).main
    return main


def options(module: str) -> dict[str, str]:
    """The help of each option and argument."""
    parser: CommandParser = importlib.import_module(module)._parser()
    return {"/".join(one.option_strings) or one.dest: one.help or "" for one in parser._actions}


@every_command
def test_help_has_an_example_and_the_exit_codes(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command(module)(["--help"])
    said = capsys.readouterr()
    assert (ended.value.code, said.err) == (0, "")
    assert f"\n    python -m {name_of(module)}" in said.out
    (line,) = [line for line in said.out.splitlines() if line.startswith("Exit codes: 0 done; ")]
    assert line.endswith("2 a mistake in the input; 130 interrupted by Ctrl-C.")


@every_command
def test_version_is_that_of_the_package(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command(module)(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, "polydistill 0.1.0\n")


def test_what_is_the_same_is_called_and_explained_the_same() -> None:
    help_of: dict[str, set[str]] = {}
    for module in COMMANDS:
        for name, text in options(module).items():
            help_of.setdefault(name, set()).add(text)
    different = {name for name, texts in help_of.items() if len(texts) > 1}
    # The dashboard takes a study's folder too; a trial need be complete for its student; places differ in what they hold.
    assert different == {"config", "trial", "--to"}
    for module in CONFIGURED:
        assert {"config", "--set", "--name"} <= options(module).keys()
    for module in OF_STUDIES:
        assert "run" in options(module)
    with_json = {module for module in COMMANDS if "--json" in options(module)}
    assert with_json == {*COMMANDS} - {"study.dashboard", "analysis.notebook", "study.config_reference"}


def test_what_a_terminal_cannot_show_is_a_question_mark(tmp_path: Path) -> None:
    quiet = (
        "from pathlib import Path\n"
        "from study.environment import quiet\n"
        f"with quiet(Path({str(tmp_path / 'study.log')!r})) as (output, errors):\n"
        "    print('17 ± 2', file=output)"
    )
    shown = []
    for words in (["-m", "study.describe"], ["-c", quiet]):
        command = [sys.executable, *words]
        environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
        ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=120)
        assert (ran.returncode, ran.stderr) == (0, b"")
        shown.append(ran.stdout.decode("ascii"))
    described, quietly = shown
    assert "emoji-clip: sizes" in described
    assert quietly == "17 ? 2\n"


def test_ctrl_c_ends_a_command_with_130_and_one_line(tmp_path: Path) -> None:
    code = (
        "import sys, study.describe\n"
        "def interrupted(*_): raise KeyboardInterrupt\n"
        "study.describe.load_config = interrupted\n"
        "sys.exit(study.describe.main([]))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "study.describe: interrupted\n")


def test_a_reader_that_has_read_enough_is_no_mistake() -> None:
    reader, writer = os.pipe()
    os.close(reader)  # as `| head` does, once it has its lines
    with os.fdopen(writer, "wb") as pipe:
        arguments = [sys.executable, "-m", "study.describe", "--json"]
        ran = subprocess.run(arguments, cwd=ROOT, stdout=pipe, stderr=subprocess.PIPE, text=True, timeout=120)
    assert (ran.returncode, ran.stderr) == (0, "")
