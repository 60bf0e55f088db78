"""Retrieval scores against an oracle that ranks with plain sorting."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torchmetrics.retrieval import RetrievalMAP

from trainables.evaluation import retrieval
from trainables.evaluation.retrieval import ItemNoise, average_precision, retrieval_scores

# Small whole numbers: similarities are exact, and many of them tie.
embeddings = arrays.arrays(np.float32, st.tuples(st.integers(1, 12), st.just(2)), elements=st.integers(-2, 2))


@st.composite
def searches(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    queries, gallery = draw(embeddings), draw(embeddings)
    items = [draw(arrays.arrays(np.int64, len(rows), elements=st.integers(0, 3))) for rows in (queries, gallery)]
    return tuple(torch.from_numpy(values) for values in (queries, gallery, *items))


def oracle(queries: np.ndarray, gallery: np.ndarray, asked: np.ndarray, items: np.ndarray) -> list[tuple[float, int]]:
    """Average precision and first relevant rank of each query, ties to its disadvantage; (0, 0) with nothing to find."""
    found = []
    for query, item in zip(queries, asked, strict=True):
        ranking = sorted((-float(query @ row), bool(of == item)) for row, of in zip(gallery, items, strict=True))
        ranks = [rank for rank, (_, relevant) in enumerate(ranking, start=1) if relevant]
        precision = [place / rank for place, rank in enumerate(ranks, start=1)]
        found.append((sum(precision) / len(precision), ranks[0]) if ranks else (0.0, 0))
    return found


@pytest.fixture(params=[0, 16], ids=["hits are searched for", "hits are counted"])
def _way_to_rank(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "_FEW_HITS", request.param)


@pytest.mark.usefixtures("_way_to_rank")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # it is the same for all examples
@given(searches())
def test_scores_are_the_oracles(search: tuple[torch.Tensor, ...]) -> None:
    expected = oracle(*(values.numpy() for values in search))
    precision, first = average_precision(*search)
    assert precision.tolist() == pytest.approx([ap for ap, _ in expected], rel=1e-5)
    assert first.tolist() == [rank for _, rank in expected]
    asked = [(ap, rank) for ap, rank in expected if rank]
    if not asked:
        with pytest.raises(ValueError, match="no query has a relevant item"):
            retrieval_scores(*average_precision(*search))
        return
    scores = retrieval_scores(*average_precision(*search))
    assert scores.mean_average_precision == pytest.approx(np.mean([ap for ap, _ in asked]), rel=1e-5)
    assert scores.mean_reciprocal_rank == pytest.approx(np.mean([1 / rank for _, rank in asked]), rel=1e-5)
    for k in (1, 5, 10):
        assert scores.recall[k] == pytest.approx(np.mean([rank <= k for _, rank in asked]), rel=1e-5)


def test_block_by_block_is_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    queries, gallery = torch.randn(23, 8, generator=generator), torch.randn(10, 8, generator=generator)
    search = (queries, gallery, torch.arange(23) % 6, torch.arange(10) % 5)  # a block may have nothing to find
    whole = average_precision(*search)
    for elements in (1, 35):
        monkeypatch.setattr(retrieval, "_BLOCK_ELEMENTS", elements)
        for found, expected in zip(average_precision(*search), whole, strict=True):
            torch.testing.assert_close(found, expected)


def test_mean_average_precision_of_a_large_gallery_is_that_of_torchmetrics() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, gallery = torch.randn(64, 8, generator=generator), torch.randn(2101, 8, generator=generator)
    asked, items = torch.arange(64) % 60, torch.arange(2101) % 300
    metric = RetrievalMAP()  # which takes nothing for found whose score is not positive
    metric.update(
        (queries @ gallery.T).double().add(100).flatten(),
        (asked[:, None] == items[None, :]).flatten(),
        torch.arange(64)[:, None].expand(64, 2101).flatten(),
    )
    found = average_precision(queries, gallery, asked, items)[0].mean()
    assert float(found) == pytest.approx(float(metric.compute()), abs=1e-6)


def test_perfect_ranking_scores_one() -> None:
    eye = torch.eye(6)
    search = (eye, eye.repeat_interleave(3, dim=0), torch.arange(6), torch.arange(6).repeat_interleave(3))
    scores = retrieval_scores(*average_precision(*search))
    assert (scores.mean_average_precision, scores.mean_reciprocal_rank) == (1.0, 1.0)
    assert set(scores.recall.values()) == {1.0}


def test_two_positives_at_ranks_two_and_five_score_nine_twentieths() -> None:
    gallery = torch.tensor([[0.9], [0.8], [0.7], [0.6], [0.5]])
    precision, first = average_precision(
        torch.ones(1, 1), gallery, torch.tensor([1]), torch.tensor([0, 1, 0, 0, 1])
    )  # ½(1/2 + 2/5)
    assert precision.tolist() == pytest.approx([0.45])
    assert first.tolist() == [2]


def test_model_that_embeds_everything_alike_ranks_the_relevant_last() -> None:
    scores = retrieval_scores(*average_precision(torch.ones(4, 2), torch.ones(4, 2), torch.arange(4), torch.arange(4)))
    assert scores.mean_average_precision == pytest.approx(1 / 4)
    assert scores.recall == {1: 0.0, 5: 1.0, 10: 1.0}


def test_noise_of_the_mean_is_its_spread_over_draws_of_items() -> None:
    generator = torch.Generator().manual_seed(0)
    items = 60
    # Two directions, three queries an item in one of them; an item's queries have much in common.
    common = torch.rand(items, generator=generator)
    few = (common + 0.2 * torch.rand(items, generator=generator)) / 1.2
    many = (common[:, None] + 0.2 * torch.rand(items, 3, generator=generator)) / 1.2

    def mean(drawn: torch.Tensor) -> float:
        return float((few[drawn].mean() + many[drawn].mean()) / 2)

    noise = ItemNoise()
    noise.add(few, torch.ones(items), torch.arange(items))
    noise.add(many.flatten(), torch.ones(3 * items), torch.arange(items).repeat_interleave(3))
    draws = torch.randint(items, (4000, items), generator=generator)
    assert noise.standard_error() == pytest.approx(np.std([mean(drawn) for drawn in draws]), rel=0.05)
