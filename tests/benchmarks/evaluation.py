"""Retrieval scores against torchmetrics' `RetrievalMAP`, and the memory that a large gallery takes.

    python -m tests.benchmarks.evaluation

Both score the same embeddings, similarities included, on one thread: 5,000 queries, 5,000 gallery rows and five relevant
rows a query. Of 100,000 queries on 100,000 rows, in a process of its own, what counts is the most memory that it ever had.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics.retrieval import RetrievalMAP

from tests.benchmarks.figures import Figure, main_of
from trainables.evaluation.retrieval import average_precision

ROOT = Path(__file__).parents[2]
ITEMS, ROWS_AN_ITEM, WIDTH = 1000, 5, 192
LARGE_ITEMS = 20_000
LEAST_GAIN, MOST_DIFFERENCE, MOST_GIGABYTES = 20.0, 1e-6, 4.0
_ROUNDS = 3
_LARGE = """
import resource, sys
from tests.benchmarks.evaluation import gallery, scored
scored(*gallery(int(sys.argv[1])))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""


def gallery(items: int) -> tuple[Tensor, Tensor, Tensor]:
    """Unit vectors of queries and of a gallery [rows, D], noisy about their items' own, and their items [rows]."""
    generator = torch.Generator().manual_seed(0)
    item = torch.arange(items).repeat_interleave(ROWS_AN_ITEM)
    centres = torch.randn(items, WIDTH, generator=generator)
    queries, rows = (
        functional.normalize(centres[item] + 2 * torch.randn(len(item), WIDTH, generator=generator), dim=1)
        for _ in range(2)
    )
    return queries, rows, item


def scored(queries: Tensor, rows: Tensor, item: Tensor) -> float:
    """Mean average precision by our own code."""
    return float(average_precision(queries, rows, item, item)[0].mean())


def scored_by_torchmetrics(queries: Tensor, rows: Tensor, item: Tensor) -> float:
    metric = RetrievalMAP()  # which takes nothing for found whose score is not positive
    query = torch.arange(len(queries))[:, None].expand(len(queries), len(rows))
    metric.update((queries @ rows.T).add_(1).flatten(), (item[:, None] == item[None, :]).flatten(), query.flatten())
    return float(metric.compute())


def figures() -> list[Figure]:
    torch.set_num_threads(1)
    data = gallery(ITEMS)
    gains, ours, theirs = [], 0.0, 0.0
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        ours = scored(*data)
        between = time.perf_counter()
        theirs = scored_by_torchmetrics(*data)
        gains.append((time.perf_counter() - between) / (between - begun))
    command = [sys.executable, "-c", _LARGE, str(LARGE_ITEMS)]
    peak = float(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout)
    size = ITEMS * ROWS_AN_ITEM
    return [
        Figure(
            f"mAP of {size:,} × {size:,}: speed by torchmetrics' RetrievalMAP", median(gains), "at least", LEAST_GAIN
        ),
        Figure("mAP: difference from torchmetrics' RetrievalMAP", abs(ours - theirs), "at most", MOST_DIFFERENCE),
        Figure("mAP of 100,000 × 100,000: the most memory of the process", peak, "at most", MOST_GIGABYTES, "GB"),
    ]


if __name__ == "__main__":
    sys.exit(main_of(figures, __doc__))
