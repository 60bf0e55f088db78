from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import pytest

from study.environment import describe_environment, quiet


def test_what_libraries_write_goes_to_the_log_and_the_terminal_stays_ours(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "study.log"

    def work() -> None:
        with quiet(log) as (output, errors):
            os.write(1, b"native output\n")
            os.write(2, b"native error\n")
            logging.getLogger("library").warning("logged")
            output.write("the front\n")
            errors.write("progress\n")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    os.write(1, b"after\n")
    os.write(2, b"after too\n")
    assert capfd.readouterr() == ("the front\nafter\n", "progress\nafter too\n")
    assert {"native output", "native error", "logged"} <= set(log.read_text(encoding="utf-8").splitlines())


def test_the_environment_names_versions_and_leaves_out_what_is_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "hush")
    found = describe_environment()
    assert found["packages"]["ray"]
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert "hush" not in str(found)
