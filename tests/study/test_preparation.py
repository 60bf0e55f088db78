"""Data prepared on a Ray cluster of two nodes, as by a study on one machine."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, Features, Value
from PIL import Image

from tests.study.nodes import said_on_two_nodes

ITEMS, SHARD = 9000, 500

PREPARE = """
import collections, dataclasses, json, os, sys
from pathlib import Path
import pytest
import ray
from study.config import load_config
from study.stages import StageRunner
from trainables.data import cluster
from trainables.data.captions import open_captions, prepare_captions
from trainables.data.gallery import Gallery
from trainables.data.pictures import Pixels
from trainables.data.prepare import tokenizer_and_pixels

folder = Path(sys.argv[1])
config = load_config("emoji_clip", [f"data={sys.argv[2]}"])
data = config.data
ray.init(log_to_driver=False)
try:
    assert cluster.has_several_nodes()
    table, _ = open_captions("data.train", data.train[""], data.languages)
    gallery = Gallery(folder / "images", table.items, SHARD, table.pictures, Pixels(8))
    gallery.folder.mkdir()
    written = list(cluster.write(gallery, range(len(gallery.shards))))
    assert sorted(one.number for one in written) == list(range(len(gallery.shards)))
    with pytest.raises(OSError, match="No such file or directory: .*nowhere"):
        list(cluster.write(dataclasses.replace(gallery, folder=Path("/proc/nowhere")), [0, 1]))
    with StageRunner(config, lambda: (1.0, 0.0)) as stages:
        there = stages.run("prepare", progress=lambda done, total: None).train
finally:
    ray.shutdown()

os.environ["POLYDISTILL_CACHE"] = str(folder / "here")
most = round(data.pictures_gb * 1e9)
tokenizer, pixels = tokenizer_and_pixels(data.sources, data.languages, config.teacher, most)
here = prepare_captions("data.train", data.train[""], data.languages, "en", pixels, tokenizer, lambda *_: None)
print(json.dumps([collections.Counter(one.node for one in written), str(there), str(here)]))
""".replace("SHARD", str(SHARD))


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
    own = {"source": str(tmp_path / "rows.parquet"), "layout": "wide"}
    shares = {"train": [0.0, 0.9], "retrieval": [0.9, 0.95], "test": [0.95, 1.0]}
    data = {"languages": ["en", "tr"]} | {name: own | {"share": share} for name, share in shares.items()}
    data["test"] = {"retrieval": data["test"]}
    environment = run_environment | {"POLYDISTILL_CACHE": str(tmp_path / "cluster")}
    said = said_on_two_nodes(PREPARE, [str(tmp_path), json.dumps(data)], environment, 2, tmp_path)
    nodes, *folders = json.loads(said)
    there, here = map(Path, folders)
    shards = -(-len(np.load(here / "text_item.npy")) // SHARD)
    assert (len(nodes), sum(nodes.values())) == (2, shards)
    assert sorted(path.name for path in (here / "images").glob("*.npy")) == ["00000.npy", "00001.npy"]
    assert contents(there) == contents(here)
