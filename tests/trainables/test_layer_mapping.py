from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainables.layer_mapping import layer_distances, layer_loss, mapped_layers
from trainables.recipe import LayerMapping

sizes = st.integers(1, 40).flatmap(lambda teacher: st.tuples(st.integers(1, teacher), st.just(teacher)))


def nearest(ratio: Fraction) -> int:
    """The nearest integer, the larger of two."""
    return min(range(math.ceil(ratio) + 1), key=lambda layer: (abs(layer - ratio), -layer))


@given(sizes)
def test_formulas_hold_for_all_sizes(size: tuple[int, int]) -> None:
    student, teacher = size
    layers = range(1, student + 1)
    expected = {
        "uniform": [nearest(Fraction(s * teacher, student)) - 1 for s in layers],
        "last": [teacher - student + s - 1 for s in layers],
        "first": [s - 1 for s in layers],
        "none": [],
    }
    for kind, wanted in expected.items():
        assert list(mapped_layers(LayerMapping(kind=kind), student, teacher)) == wanted


@given(sizes, st.sampled_from(["uniform", "last", "first"]))
def test_mapped_layers_rise_strictly_within_the_teacher(size: tuple[int, int], kind: str) -> None:
    student, teacher = size
    found = mapped_layers(LayerMapping(kind=kind), student, teacher)
    assert len(found) == student
    assert list(found) == sorted(set(found))
    assert found[0] >= 0
    assert found[-1] < teacher


def test_uniform_and_last_end_at_the_teachers_last_layer() -> None:
    assert mapped_layers(LayerMapping(kind="uniform"), 4, 6) == (1, 2, 4, 5)  # 1.5 → 2 and 4.5 → 5, halves up
    assert mapped_layers(LayerMapping(kind="last"), 4, 6) == (2, 3, 4, 5)


def test_monotone_is_taken_as_given() -> None:
    assert mapped_layers(LayerMapping(kind="monotone", layers=(1, 4, 6)), 3, 6) == (0, 3, 5)


@pytest.mark.parametrize("kind", ["uniform", "last", "first"])
def test_student_deeper_than_its_teacher_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="at most the teacher's 3 layers, not 4"):
        mapped_layers(LayerMapping(kind=kind), 4, 3)


@pytest.mark.parametrize("layers", [(1, 2), (1, 2, 3, 4), (1, 2, 7)])
def test_monotone_map_that_does_not_fit_the_towers_is_refused(layers: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        mapped_layers(LayerMapping(kind="monotone", layers=layers), 3, 6)


def test_layer_loss_and_its_gradient_are_the_formulas() -> None:
    rng = np.random.default_rng(0)
    states, targets = rng.normal(size=(2, 5, 3)), rng.normal(size=(2, 5, 3)) * 10
    weight = np.asarray([0.5, 1.0, 0.0, 1.5, 1.0])  # the third caption is missing

    def reference(student: np.ndarray) -> float:
        terms = []
        for pair in range(2):
            for row in np.flatnonzero(weight):
                h, target = student[pair, row], targets[pair, row]
                difference = h / np.linalg.norm(h) - target / np.linalg.norm(target)
                terms.append(weight[row] * (difference**2).sum())
        return float(np.mean(terms))

    student = torch.tensor(states, requires_grad=True)
    loss = layer_loss(layer_distances(list(student), list(torch.tensor(targets))), torch.tensor(weight))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(reference(states), rel=1e-12)
    slope, step = np.zeros_like(states), 1e-6
    for place in np.ndindex(slope.shape):
        up, down = states.copy(), states.copy()
        up[place] += step
        down[place] -= step
        slope[place] = (reference(up) - reference(down)) / (2 * step)
    np.testing.assert_allclose(student.grad.numpy(), slope, atol=1e-8)


def test_layer_loss_vanishes_where_only_lengths_differ() -> None:
    states = torch.randn(1, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    loss = layer_loss(layer_distances(list(states), list(3 * states)), torch.ones(4))
    assert float(loss) == pytest.approx(0, abs=1e-12)
