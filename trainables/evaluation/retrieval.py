"""Retrieval scores from embeddings: mean average precision, recall at k, mean reciprocal rank."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

RECALL_AT = (1, 5, 10)
_FEW_HITS = 32  # of a query: up to here counting was found to take less than half as long as sorting
_MOST_IN_A_BYTE = 255
_BLOCK_ELEMENTS = 2**24  # similarities held at once: memory stays bounded however large the gallery


@dataclass(frozen=True)
class RetrievalScores:
    """Scores of one direction, means over queries that have at least one relevant item."""

    mean_average_precision: float
    recall: dict[int, float]  # by k: share of queries with a relevant item among the first k
    mean_reciprocal_rank: float


def average_precision(
    queries: Tensor, gallery: Tensor, query_item: Tensor, gallery_item: Tensor
) -> tuple[Tensor, Tensor]:
    """Average precision and first relevant rank of each query.

    AP = mean over the relevant items, sorted by rank r_1 < r_2 < …, of j / r_j (Manning, Raghavan & Schütze 2008,
    section 8.4). An irrelevant item that ties with a relevant one counts as ranked before it, so that a model
    which embeds everything alike scores no better than chance.

    Args:
        queries: unit vectors [Q, D].
        gallery: unit vectors [G, D].
        query_item: which item a query shows, int [Q].
        gallery_item: which item a gallery row shows, int [G].

    Returns:
        float [Q], 0 where nothing is relevant; int [Q] counted from 1, 0 where nothing is relevant.
    """
    # What is relevant to a query is a run of the gallery in the order of items.
    order = gallery_item.argsort(stable=True)
    items = gallery_item[order]
    start = torch.searchsorted(items, query_item.contiguous())
    count = torch.searchsorted(items, query_item.contiguous(), right=True) - start
    most = int(count.max()) if len(count) else 0
    position = torch.arange(1, most + 1, device=queries.device)
    rows = max(1, _BLOCK_ELEMENTS // max(1, len(gallery)))
    precisions, firsts = [], []
    for block in torch.split(torch.arange(len(queries), device=queries.device), rows):
        similarity, found = queries[block] @ gallery.T, count[block, None]
        relevant = order[(start[block, None] + position - 1).clamp(max=len(order) - 1)]
        # The similarities of the relevant items, best first, padded with -inf: [Q, most].
        hits = similarity.gather(1, relevant).masked_fill(position > found, -torch.inf).sort(descending=True).values
        if most <= _FEW_HITS:
            reach = _count_at_least(similarity, hits)
        else:
            reach = len(gallery) - torch.searchsorted(similarity.sort(dim=1).values, hits, side="left")
        # Irrelevant items at or above each hit, and the relevant ones up to it.
        rank = reach - (hits[:, None, :] >= hits[:, :, None]).sum(dim=2) + position
        precision = torch.where(position <= found, position / rank, 0.0).sum(dim=1) / count[block].clamp(min=1)
        precisions.append(precision)
        firsts.append(torch.where(count[block] > 0, rank[:, 0] if most else 0, 0))
    return torch.cat(precisions), torch.cat(firsts)


def _count_at_least(values: Tensor, bounds: Tensor) -> Tensor:
    """How many of a row's ``values`` [Q, G] are at least each of its ``bounds`` [Q, K]: int [Q, K].

    Summing booleans takes ten times as long as comparing does. As the bytes of integers, eight are summed at once.
    """
    width = values.shape[1]
    reached = torch.zeros(len(values), -(-width // 8) * 8, dtype=torch.bool, device=values.device)
    counts = torch.zeros_like(bounds, dtype=torch.long)
    for place in range(bounds.shape[1]):
        torch.ge(values, bounds[:, [place]], out=reached[:, :width])
        for words in torch.split(reached.view(torch.int64), _MOST_IN_A_BYTE, dim=1):
            counts[:, place] += words.sum(dim=1, keepdim=True).view(torch.uint8).sum(dim=1)
    return counts


def retrieval_scores(precision: Tensor, first: Tensor) -> RetrievalScores:
    """Scores of one direction from what `average_precision` returns.

    Raises:
        ValueError: if no query has a relevant item.
    """
    asked = first > 0
    if not bool(asked.any()):
        raise ValueError("no query has a relevant item in the gallery")
    precision, first = precision[asked], first[asked]
    return RetrievalScores(
        mean_average_precision=float(precision.mean()),
        recall={k: float((first <= k).float().mean()) for k in RECALL_AT},
        mean_reciprocal_rank=float((1.0 / first).mean()),
    )


class ItemNoise:
    """Standard error, over items, of a mean over languages and directions of mean average precision.

    The queries of one item, its pictures and its names in all languages, are alike, so that items are what is drawn.
    This is the linearised estimate for a sum of means of clusters (Cochran 1977, section 11.8; with K/(K − 1)).
    """

    def __init__(self) -> None:
        self._items: list[Tensor] = []
        self._deviations: list[Tensor] = []

    def add(self, precision: Tensor, first: Tensor, item: Tensor) -> None:
        """One language and direction: as `average_precision` returns it, and which item each query shows, int [Q]."""
        asked = first > 0
        found = precision[asked].double()
        self._items.append(item[asked])
        self._deviations.append((found - found.mean()) / len(found))

    def standard_error(self) -> float:
        """0 if there is only one item."""
        _, cluster = torch.unique(torch.cat(self._items), return_inverse=True)
        clusters = int(cluster.max()) + 1
        if clusters < 2:
            return 0.0
        sums = torch.zeros(clusters, dtype=torch.float64, device=cluster.device)
        sums.index_add_(0, cluster, torch.cat(self._deviations) / len(self._deviations))
        return float((sums.square().sum() * clusters / (clusters - 1)).sqrt())
