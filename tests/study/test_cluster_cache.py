"""The teacher's outputs computed on a Ray cluster of two nodes, as by one machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.study.nodes import said_on_two_nodes
from tests.study.tiny import TINY

CACHE = """
import collections, json, os, sys
from pathlib import Path
import numpy as np
import ray
from study.config import load_config
from study.stages import StageRunner
from trainables.data import cluster
from trainables.encoding import Encoding, Shards
from trainables.teacher_cache import _build_there, build_cache

folder, config = Path(sys.argv[1]), load_config(sys.argv[2])
write, written = cluster.write, []


def watched(*arguments):
    for one in write(*arguments):
        written.append(one)
        yield one


def progress(done, total):
    assert 0 < done <= total


cluster.write = watched
ray.init(log_to_driver=False)
try:
    with StageRunner(config, lambda: (1.0, 0.0)) as stages:
        train = stages.run("prepare", progress=progress).train
    with StageRunner(config, lambda: (1.0, 0.0)) as stages:
        teacher = stages.run("teacher", stages.run("prepare", progress=progress), progress=progress)
    made = (config.cache, {"image": [1], "text": []}, 5, "fp32", progress)
    there, written_there = build_cache(teacher, train, *made), list(written)
    # As if whoever built it had been killed after the first shard.
    encoding = Encoding(teacher, train, config.cache.views, made[1], 5, "fp32")
    (folder / "again" / "shards").mkdir(parents=True)
    shards = Shards.of(encoding, folder / "again" / "shards")
    shards.write(0, 1, lambda _: None)
    written.clear()
    _build_there(encoding, folder / "again", 0.0, progress)
finally:
    ray.shutdown()
assert sorted(one.number for one in written_there) == list(range(len(shards.all)))
assert sorted(one.number for one in written) == list(range(1, len(shards.all)))

os.environ["POLYDISTILL_CACHE"] = str(folder / "here")
here = build_cache(teacher, train, *made)
assert here.name == there.name
names = sorted(path.name for path in here.iterdir() if path.name != "manifest.json")
for other in (there, folder / "again"):
    assert sorted(path.name for path in other.iterdir() if path.name != "manifest.json") == names
    for name in names:
        if name.endswith(".npy"):
            np.testing.assert_allclose(np.load(other / name), np.load(here / name), rtol=1e-3, atol=1e-4)
        else:
            assert (other / name).read_bytes() == (here / name).read_bytes()
print(json.dumps([len(shards.all), collections.Counter(one.node for one in written_there)]))
"""


@pytest.mark.long
def test_both_nodes_of_a_cluster_make_the_cache_that_one_machine_makes(
    run_environment: dict[str, str], tmp_path: Path
) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(TINY), encoding="utf-8")
    said = said_on_two_nodes(CACHE, [str(tmp_path), str(config)], run_environment, 1, tmp_path)
    shards, nodes = json.loads(said)
    assert (len(nodes), sum(nodes.values())) == (2, shards)
