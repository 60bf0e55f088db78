from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.bad_input.refusing import SLOW, NothingSlow, Refused
from trainables.artifact_mirror import MIRROR


@pytest.fixture
def refused(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Refused:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POLYDISTILL_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv(MIRROR, "")  # a study at a URL sets it for its process
    for name in SLOW & set(sys.modules):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [NothingSlow(), *sys.meta_path])
    return Refused(tmp_path, capsys)
