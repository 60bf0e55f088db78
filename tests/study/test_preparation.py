"""Data prepared on a Ray cluster of two nodes, as by a study on one machine."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import Dataset, Features, Value
from PIL import Image

from tests.study.tiny import ROOT

ITEMS = 9000  # three shards

ON_A_CLUSTER = """
import collections, json, sys
from pathlib import Path
import numpy as np
import ray
from ray.cluster_utils import Cluster
from study.config import load_config
from study.environment import TRIAL_RESOURCE
from study.stages import StageRunner
from trainables.data import cluster
from trainables.data.gallery import Gallery
from trainables.data.captions import open_captions
from trainables.data.pictures import Pixels

folder, settings = Path(sys.argv[1]), [f"data={sys.argv[2]}"]
config = load_config("emoji_clip", settings)
nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "resources": {TRIAL_RESOURCE: 2}})
for _ in range(2):
    nodes.add_node(num_cpus=2)
ray.init(address=nodes.address, log_to_driver=False)
try:
    assert cluster.has_several_nodes()
    table, _ = open_captions("data.train", config.data.train, config.data.languages)
    (folder / "images").mkdir()
    gallery = Gallery(folder / "images", table.items, 500, table.pictures, Pixels(8))
    written = list(cluster.write(gallery, range(len(gallery.shards))))
    assert sorted(one.number for one in written) == list(range(len(gallery.shards)))
    with StageRunner(config, 1.0, 0.0) as stages:
        prepared = stages.run("prepare", progress=lambda done, total: None)
    print(json.dumps([dict(collections.Counter(one.node for one in written)), str(prepared.train)]))
finally:
    ray.shutdown()
    nodes.shutdown()
"""

HERE = """
import sys
from study.config import load_config
from study.stages import Stages

*_, prepared = Stages(load_config("emoji_clip", [f"data={sys.argv[1]}"]), 1).prepare()
print(prepared.train)
"""


def run(code: str, environment: dict[str, str], cache: Path, *arguments: str) -> str:
    environment = {**environment, "POLYDISTILL_CACHE": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()[-1]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.long
def test_both_nodes_of_a_cluster_write_what_one_machine_writes(run_environment: dict[str, str], tmp_path: Path) -> None:
    rows = []
    for number in range(ITEMS):
        buffer = io.BytesIO()
        Image.new("RGB", (6, 6), (number % 256, number // 256, 7)).save(buffer, "PNG")
        rows.append({"image": buffer.getvalue(), "en": f"number {number}", "tr": f"sayı {number}"})
    features = Features({"image": Value("binary"), "en": Value("string"), "tr": Value("string")})
    Dataset.from_list(rows, features=features).to_parquet(str(tmp_path / "rows.parquet"))
    train = {"source": str(tmp_path / "rows.parquet"), "layout": "wide"}
    data = json.dumps({"languages": ["en", "tr"], "train": train})
    (tmp_path / "apart").mkdir()
    nodes, there = json.loads(run(ON_A_CLUSTER, run_environment, tmp_path / "cluster", str(tmp_path / "apart"), data))
    assert len(nodes) == 2
    assert sum(nodes.values()) == ITEMS // 500
    here = run(HERE, run_environment, tmp_path / "here", data)
    assert sorted(path.name for path in Path(here, "images").glob("*.npy")) == ["00000.npy", "00001.npy", "00002.npy"]
    assert contents(Path(there)) == contents(Path(here))
