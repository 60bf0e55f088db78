"""What it takes to prepare pictures: images a second against `datasets` and PIL alone, and memory as rows grow.

    python -m tests.benchmarks.data                 (nine minutes on two cores)
    python -m tests.benchmarks.data --rows 1000 10000 --pictures 256 --rounds 3

Throughput is that of one core, on the same JPEG files of 640 × 480 pixels (blurred noise, of a photograph's size) to 224
pixels a side, in rounds that alternate; what counts is the median of the rounds' ratios. Memory is the most that a fresh
process has beyond its imports, of tiny pictures with captions in two languages: anonymous memory, sampled, since what is
mapped from files can be given back at any time. A batch is read from decoded arrays and from encoded pictures.

Exit code 1 if throughput is below 0.9 of the others', or if the most rows take over twice the memory of the fewest.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from trainables.data.gallery import write_pictures
from trainables.data.images import open_shards
from trainables.data.pictures import Pixels
from trainables.data.report import DataReport
from trainables.data.sources import Rows, open_rows

ROOT = Path(__file__).parents[2]
SIZE, BATCH, TINY = 224, 256, 8
LEAST_RATIO, MOST_GROWTH = 0.9, 2.0
_DISTINCT, _CHUNK = 64, 10_000

# Peak of anonymous memory beyond the imports, and of all memory, in MB.
PREPARE = """
import re, sys, threading, time
from pathlib import Path
from trainables.data.captions import prepare_captions
from trainables.data.pictures import Pixels
from trainables.data.settings import WideCaptions
from trainables.models.tokenizer import Tokenizer, fit_bpe
import datasets

def megabytes(name):
    return int(re.search(rf"{name}:\\\\s+(\\\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1000

def watch():
    while True:
        peak[0] = max(peak[0], megabytes("RssAnon"))
        time.sleep(0.01)

source = WideCaptions(source=sys.argv[1], layout="wide", id="id", columns="caption_{language}")
tokenizer = Tokenizer(fit_bpe(["some words"], 300), 8)
start = megabytes("RssAnon")
peak = [start]
threading.Thread(target=watch, daemon=True).start()
since = time.monotonic()
prepare_captions("data.train", source, ("en", "de"), "en", Pixels(SIZE), tokenizer, lambda *_: None)
print(peak[0] - start, megabytes("VmHWM"), time.monotonic() - since)
""".replace("SIZE", str(TINY)).replace("\\\\", "\\")


def photo(rng: np.random.Generator) -> bytes:
    """A JPEG of 640 × 480 pixels: noise of every scale, the coarser the stronger, as photographs have it."""
    found = np.full((480, 640, 3), 128, np.float32)
    for scale in (1, 2, 4, 8, 16, 32, 64):
        noise = rng.normal(scale=3 + scale**0.6, size=(480 // scale + 1, 640 // scale + 1, 3)).astype(np.float32)
        layers = [Image.fromarray(noise[..., i]).resize((640, 480), Image.Resampling.BICUBIC) for i in range(3)]
        found += np.stack([np.asarray(layer) for layer in layers], axis=-1)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(found, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def save_photos(path: Path, count: int) -> Path:
    rng = np.random.default_rng(0)
    distinct = [photo(rng) for _ in range(min(_DISTINCT, count))]
    features = datasets.Features({"image": datasets.Image()})
    rows = [{"image": {"bytes": distinct[number % _DISTINCT], "path": None}} for number in range(count)]
    datasets.Dataset.from_list(rows, features=features).to_parquet(str(path))
    return path


def save_tiny(path: Path, count: int) -> Path:
    """Rows of tiny pictures, written as they come."""
    pictures = []
    for shade in range(256):
        buffer = io.BytesIO()
        Image.new("RGB", (TINY, TINY), (shade, 255 - shade, shade // 2)).save(buffer, "PNG")
        pictures.append(buffer.getvalue())
    texts = {name: pa.string() for name in ("id", "caption_en", "caption_de")}
    schema = pa.schema([("image", pa.binary()), *texts.items()])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, count, _CHUNK):
            rows = range(start, min(count, start + _CHUNK))
            columns = {
                "image": [pictures[row % 256] for row in rows],
                "id": [f"item-{row}" for row in rows],
                "caption_en": [f"picture number {row}" for row in rows],
                "caption_de": [f"Bild Nummer {row}" for row in rows],
            }
            writer.write_table(pa.table(columns, schema=schema))
    return path


def open_photos(path: Path) -> Rows:
    return open_rows("data.train", (str(path), None, "train"), None, {"image": "image"})


@contextmanager
def one_core() -> Iterator[None]:
    every = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(every)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, every)


def ours(rows: Rows, folder: Path, pixels: Pixels) -> Path:
    count = len(rows)
    write_pictures(
        folder,
        np.arange(count),
        lambda items: [(cell, rows.base) for cell in rows.take(["image"], items)["image"]],
        str,
        pixels,
        DataReport("data.train", count, 0.0),
        lambda *_: None,
    )
    return folder / "images"


def theirs(table: Any) -> np.ndarray:
    """What is left without bad pictures, turned ones, transparency, files and several cores."""
    found = np.empty((len(table), SIZE, SIZE, 3), np.uint8)
    for place, row in enumerate(table):
        found[place] = np.asarray(row["image"].convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC))
    return found


def timed(work: Callable[[], Any], count: int) -> tuple[float, float]:
    """Images a second, and images a second of CPU time."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return count / (time.perf_counter() - wall), count / (time.process_time() - cpu)


def throughput(folder: Path, pictures: int, rounds: int) -> float:
    """Our images a second as a share of theirs, on one core."""
    path = save_photos(folder / "photos.parquet", pictures)
    rows = open_photos(path)
    table = rows.table.cast_column("image", datasets.Image())
    place = iter(range(10**6))

    def prepare(pixels: Pixels) -> None:
        ours(rows, folder / str(next(place)), pixels)

    contenders: dict[str, Callable[[], Any]] = {
        "datasets and PIL alone": lambda: theirs(table),
        "decoded": lambda: prepare(Pixels(SIZE)),
        "encoded": lambda: prepare(Pixels(SIZE, encoded=True)),
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    with one_core():
        for work in contenders.values():
            work()  # what is done once: imports, files into the page cache
        for turn in range(rounds):
            for name in list(contenders)[:: 1 if turn % 2 else -1]:
                taken[name].append(timed(contenders[name], pictures))
    print(
        f"{pictures} JPEG pictures of {path.stat().st_size / pictures / 1000:.0f} kB, medians of {rounds} rounds on one core:"
    )
    alone = taken["datasets and PIL alone"]
    ratios = {}
    for name, found in taken.items():
        ratios[name] = median(own[0] / other[0] for own, other in zip(found, alone, strict=True))
        wall, cpu = (median(times) for times in zip(*found, strict=True))
        print(f"  {name:24} {wall:7.1f} images/s  {cpu:7.1f} a second of CPU  {ratios[name]:5.2f} of the first")
    every = len(os.sched_getaffinity(0))
    print(f"  decoded, on {every} cores      {timed(lambda: prepare(Pixels(SIZE)), pictures)[0]:7.1f} images/s")
    return ratios["decoded"]


def reading(folder: Path, rounds: int) -> None:
    """A batch of decoded and of encoded pictures, of the two kinds that were written last."""
    path = folder / "photos.parquet"
    rows = open_photos(path)
    rng = np.random.default_rng(0)
    print(f"A batch of {BATCH} pictures read in one thread:")
    for name, pixels in (("decoded", Pixels(SIZE)), ("encoded", Pixels(SIZE, encoded=True))):
        images = open_shards(ours(rows, folder / f"read-{name}", pixels))
        stored = sum(file.stat().st_size for file in (folder / f"read-{name}" / "images").iterdir()) / len(images)
        batches = [rng.integers(len(images), size=BATCH) for _ in range(rounds + 1)]
        taken = [timed(partial(images.__getitem__, rows), BATCH) for rows in batches][1:]
        wall, cpu = (1e3 / median(times) for times in zip(*taken, strict=True))
        print(f"  {name:24} {wall:6.2f} ms a picture, {cpu:.2f} of CPU; {stored / 1000:.0f} kB a picture on disk")


def memory(folder: Path, counts: list[int]) -> dict[int, float]:
    """The peak of anonymous memory, in MB, by the number of rows."""
    print(f"Memory of preparing rows of {TINY} × {TINY} pixels with captions in two languages:")
    found = {}
    for count in counts:
        path = save_tiny(folder / f"tiny-{count}.parquet", count)
        environment = {**os.environ, "POLYDISTILL_CACHE": str(folder / f"cache-{count}")}
        command = [sys.executable, "-c", PREPARE, str(path)]
        done = subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        found[count], whole, seconds = map(float, done.stdout.split())
        print(f"  {count:12,} rows  {found[count]:6.0f} MB anonymous ({whole:.0f} MB resident in all)  {seconds:.0f} s")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the preparation of pictures.")
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 1_000_000], help="of the runs that show memory")
    parser.add_argument("--pictures", type=int, default=768, help="of the runs that show throughput")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as name:
        os.environ["POLYDISTILL_CACHE"] = f"{name}/cache"
        ratio = throughput(Path(name), arguments.pictures, arguments.rounds)
        reading(Path(name), arguments.rounds)
        peaks = memory(Path(name), arguments.rows)
    growth = peaks[max(peaks)] / peaks[min(peaks)]
    goals = {
        f"throughput is {ratio:.2f} of datasets and PIL alone, at least {LEAST_RATIO}": ratio >= LEAST_RATIO,
        f"{max(peaks):,} rows take {growth:.1f} times the memory of {min(peaks):,}, at most {MOST_GROWTH:g}": growth
        <= MOST_GROWTH,
    }
    print("; ".join(f"{'met' if is_met else 'not met'}: {goal}" for goal, is_met in goals.items()))
    return 0 if all(goals.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
