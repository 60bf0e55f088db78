from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np

from tests.benchmarks.data import ROOT, SIZE, open_photos, ours, save_photos, theirs
from trainables.data.images import open_shards
from trainables.data.pictures import Pixels


def test_both_sides_of_the_comparison_make_the_same_pictures(tmp_path: Path) -> None:
    rows = open_photos(save_photos(tmp_path / "photos.parquet", 3))
    prepared = open_shards(ours(rows, tmp_path / "ours", Pixels(SIZE)))
    alone = theirs(rows.table.cast_column("image", datasets.Image()))
    assert np.abs(np.stack(prepared[np.arange(3)]).astype(int) - alone).max() <= 1


def test_the_command_measures_and_judges_each_goal() -> None:
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.data",
        "--rows",
        "100",
        "300",
        "--pictures",
        "4",
        "--rounds",
        "1",
    ]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    last = ran.stdout.splitlines()[-1]
    assert last.count("met: ") == 2, ran.stdout + ran.stderr
    assert ran.returncode == ("not met" in last)
