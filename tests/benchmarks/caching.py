"""The teacher cache: how fast it is built, and how much memory the workers of a node take for it together.

    python -m tests.benchmarks.caching

Building, with the decoding and the views of pictures, half precision and writing to disk, is held against the bare
forward passes of the same teacher on the same rows in memory. Memory is what processes that have read all of a cache hold
more than before, of their own and of its files, as proportional set size: what they share counts once.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

from tests.benchmarks.distillation import embedded_plan
from tests.benchmarks.figures import Figure, main_of, speed
from trainables.data.augment import apply_views
from trainables.data.mixture import load_training
from trainables.device import computing, set_up_process
from trainables.encoding import IMAGES, TEXTS, Encoding
from trainables.teacher_cache import TeacherCache, build_here

LEAST_OF_FORWARD, MOST_COPIES = 0.9, 1.1
WORKERS = 4
_ROUNDS = 3
_MAPPING = re.compile(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+ *(.*)")  # in /proc/PID/smaps


def figures() -> list[Figure]:
    set_up_process(1)
    with tempfile.TemporaryDirectory() as place:
        plan = embedded_plan("emoji_clip", place)
        cache = Path(plan.paths.cache)
        share = speed(
            _build(cache, plan.paths.teacher, plan.paths.train, Path(place)),
            _forward(cache, plan.paths.teacher, plan.paths.train),
            _ROUNDS,
        )
    copies = copies_in(cache, WORKERS)
    return [
        Figure(
            "build of the teacher cache: speed by the teacher's forward passes", share, "at least", LEAST_OF_FORWARD
        ),
        Figure(f"teacher cache in {WORKERS} workers of a node: copies in memory", copies, "at most", MOST_COPIES),
    ]


def _encoding(cache: Path, teacher: str, train: str) -> Encoding:
    found = TeacherCache.load(cache)
    layers = {"image": found.image_layer_numbers, "text": found.text_layer_numbers}
    return Encoding(Path(teacher), Path(train), found.views.shape[1], layers, 0, "auto")


def _build(cache: Path, teacher: str, train: str, place: Path) -> Callable[[], object]:
    encoding = _encoding(cache, teacher, train)
    return lambda: build_here(encoding, place / "built", lambda *_: None)


def _forward(cache: Path, teacher: str, train: str) -> Callable[[], object]:
    """The teacher on all views and texts, prepared as it takes them, in batches of the same size."""
    encoding = _encoding(cache, teacher, train)
    opened, data = encoding.open(), load_training(Path(train))
    model, views = opened.model, opened.views.flatten(0, 1)
    pictures = torch.from_numpy(data.images[np.arange(len(data.images)).repeat(encoding.views)])
    pixels = [
        model.preprocess(apply_views(*part))
        for part in zip(torch.split(pictures, IMAGES), torch.split(views, IMAGES), strict=True)
    ]
    tokens = torch.tensor(np.asarray(data.tokens).reshape(-1, data.tokens.shape[-1]), dtype=torch.long)

    def forward() -> None:
        with torch.inference_mode(), computing(tokens.device, encoding.precision):
            for batch in pixels:
                model.encode_image(batch)
            for batch in torch.split(tokens, TEXTS):
                model.encode_text(batch)

    return forward


def copies_in(cache: Path, workers: int) -> float:
    """How many times the bytes of a cache are in memory when so many processes have read all of it."""
    context = multiprocessing.get_context("spawn")
    ends: list[Connection] = []
    processes = []
    for _ in range(workers):
        here, there = context.Pipe()
        processes.append(context.Process(target=_read_all, args=(cache, there)))
        processes[-1].start()
        ends.append(here)
    before = sum(_held(end.recv(), cache) for end in ends)
    for end in ends:
        end.send("read")
    after = sum(_held(end.recv(), cache) for end in ends)
    for end, process in zip(ends, processes, strict=True):
        end.send("end")
        process.join()
    size = sum(path.stat().st_size for path in cache.glob("*.npy"))
    return (after - before) / size


def _read_all(cache: Path, pipe: Connection) -> None:
    found = TeacherCache.load(cache)
    pipe.send(os.getpid())
    pipe.recv()
    for array in (found.views, found.image, found.text, found.image_layers, found.text_layers):
        np.asarray(array).reshape(-1).view(np.uint8).max()
    pipe.send(os.getpid())
    pipe.recv()


def _held(pid: int, cache: Path) -> int:
    """The proportional set size, in bytes, of a process's own memory and of what it has mapped of the cache's files."""
    held, counts = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8", errors="replace").splitlines():
        if header := _MAPPING.match(line):
            path = header[1]
            counts = not path.startswith("/") or path.startswith(str(cache))
        elif counts and line.startswith("Pss:"):
            held += int(line.split()[1]) * 1024
    return held


if __name__ == "__main__":
    sys.exit(main_of(figures, __doc__))
