from __future__ import annotations

from analysis.figures.edges import front_edge


def test_the_edge_turns_at_every_point_on_its_dominated_side() -> None:
    edge = front_edge([[3.0, 5.0], [1.0, 2.0]], {"map": "maximise", "variance": "minimise"}, (0.0, 9.0))
    assert edge.tolist() == [[0, 2], [1, 2], [1, 5], [3, 5], [3, 9]]


def test_the_edge_is_on_the_dominated_side_whichever_way_objectives_improve() -> None:
    edge = front_edge([[3.0, 5.0], [1.0, 2.0]], {"variance": "minimise", "accuracy": "maximise"}, (9.0, 0.0))
    assert edge.tolist() == [[9, 5], [3, 5], [3, 2], [1, 2], [1, 0]]
    edge = front_edge([[3.0, 2.0], [1.0, 5.0]], {"map": "maximise", "accuracy": "maximise"}, (0.0, 0.0))
    assert edge.tolist() == [[0, 5], [1, 5], [1, 2], [3, 2], [3, 0]]
