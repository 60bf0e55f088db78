from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import os, signal, sys
from study.last_words import last_words
with last_words("what was kept", sys.stdout) as said:
    {does}
print("left")
"""


@pytest.mark.parametrize(
    ("does", "output"),
    [
        ("os._exit(1)", "what was kept\n"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "what was kept\n"),
        ("said(); os._exit(1)", ""),
        ("pass", "left\n"),
    ],
)
def test_a_process_has_its_last_words_only_if_it_ends_where_it_did_not_mean_to(does: str, output: str) -> None:
    ran = subprocess.run([sys.executable, "-c", CODE.format(does=does)], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == (output, "")
