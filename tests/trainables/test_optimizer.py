from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from tests.trainables.models.tiny import FAMILIES, WIDTH, tiny_spec
from trainables import device
from trainables.models.dual_encoder import DualEncoder
from trainables.models.factory import build_model
from trainables.optimizer import Muon, schedule

RATE, ADAMW_SHARE = 1e-3, 0.3


def test_wsd_warms_up_stays_and_decays_linearly() -> None:
    found = [schedule(step, 20, "wsd", warmup=0.2, decay=0.25) for step in range(20)]
    expected = [1 / 4, 2 / 4, 3 / 4, 1.0, *[1.0] * 11, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]
    assert found == pytest.approx(expected)


def test_cosine_falls_by_half_a_wave_after_the_warm_up() -> None:
    found = [schedule(step, 20, "cosine", warmup=0.2, decay=0.25) for step in range(20)]
    expected = [1 / 4, 2 / 4, 3 / 4, 1.0, *[(1 + math.cos(math.pi * k / 16)) / 2 for k in range(16)]]
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["wsd", "cosine"])
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
@pytest.mark.parametrize(("warmup", "decay"), [(0.0, 0.0), (0.1, 0.3), (0.9, 1.0), (0.0, 1.0)])
def test_share_of_the_learning_rate_is_positive_and_at_most_one(
    kind: str, steps: int, warmup: float, decay: float
) -> None:
    assert all(0 < schedule(step, steps, kind, warmup, decay) <= 1 for step in range(steps))


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> DualEncoder:
    return build_model(tiny_spec(request.param), seed=0)


def matrices(model: DualEncoder) -> list[nn.Parameter]:
    """Those of the transformer layers of both towers."""
    layers = [*model.layers("image"), *model.layers("text")]
    return [parameter for layer in layers for parameter in layer.parameters() if parameter.ndim == 2]


def set_gradients(parameters: list[nn.Parameter], seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def copies(parameters: list[nn.Parameter]) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in parameters]


def test_every_parameter_belongs_to_exactly_one_optimizer(model: DualEncoder) -> None:
    extra = nn.Linear(4, 3)
    parameters = [*model.parameters(), *extra.parameters()]
    optimizer = Muon(model, extra.parameters(), RATE, 0.1)
    before = copies(parameters)
    set_gradients(parameters)
    optimizer.step(1.0)
    assert all(not torch.equal(old, new) for old, new in zip(before, parameters, strict=True))
    held = [
        len(group["params"]) for state in optimizer.state_dict().values() for group in state["param_groups"]
    ]  # all moved, and none is counted twice
    assert sum(held) == len(parameters)


def test_muon_has_the_matrices_of_transformer_layers_and_adamw_all_else(model: DualEncoder) -> None:
    groups = Muon(model, [], RATE, 0.1).state_dict()["0"]["param_groups"]
    assert [len(group["params"]) for group in groups] == [len(matrices(model))]
    assert len(matrices(model)) >= 4 * (3 + 2)


def test_step_clears_gradients_and_scales_with_the_factor(model: DualEncoder) -> None:
    parameters = list(model.parameters())
    optimizer = Muon(model, [], RATE, 0.1)
    before = copies(parameters)
    set_gradients(parameters)
    optimizer.step(0.0)
    assert all(torch.equal(old, new) for old, new in zip(before, parameters, strict=True))
    assert all(parameter.grad is None for parameter in parameters)


@pytest.mark.parametrize("factor", [1.0, 0.25])
def test_first_step_has_its_closed_form(model: DualEncoder, factor: float) -> None:
    # AdamW moves by its rate against the sign; Muon by 0.2·√(larger side) times a nearly orthogonal matrix.
    optimizer = Muon(model, [], RATE, 0.0)
    scale = next(p for name, p in model.named_parameters() if name.endswith("logit_scale"))
    matrix = next(p for p in matrices(model) if p.shape == (WIDTH, WIDTH))
    before, matrix_before = float(scale.detach()), matrix.detach().clone()
    set_gradients([scale, matrix])
    sign = math.copysign(1.0, float(scale.grad))
    optimizer.step(factor)
    assert float(scale.detach()) == pytest.approx(before - sign * factor * RATE * ADAMW_SHARE, rel=1e-5)
    singular = torch.linalg.svdvals((matrix_before - matrix.detach()) / (factor * RATE * 0.2 * math.sqrt(WIDTH)))
    assert float(singular.min()) > 0.3
    assert float(singular.max()) < 1.3


@pytest.fixture(params=[True, False], ids=["bf16", "fp32"])
def is_fast_in_bf16(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """On a CPU that is faster in bf16, and on one that is not: there torch's own Muon took ten times as long and more."""
    monkeypatch.setattr(device, "_cpu_multiplies_faster_in_bf16", lambda: request.param)
    return bool(request.param)


def test_muon_is_torchs_in_the_type_that_the_cpu_is_fast_in(model: DualEncoder, is_fast_in_bf16: bool) -> None:
    other = copy.deepcopy(model)
    optimizer = Muon(model, [], RATE, 0.1)
    reference = torch.optim.Muon(matrices(other), lr=RATE, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    start = copies(matrices(model))
    for step in range(3):
        set_gradients(matrices(model)[1:], step)  # one has no gradient
        set_gradients(matrices(other)[1:], step)
        optimizer.step(1.0)
        reference.step()
    moved = [matrix.detach() - old for matrix, old in zip(matrices(model), start, strict=True)]
    expected = [matrix.detach() - old for matrix, old in zip(matrices(other), start, strict=True)]
    assert not moved[0].any()
    for own, torchs in zip(moved[1:], expected[1:], strict=True):
        error = float((own - torchs).norm() / torchs.norm())
        assert error < 1e-3 if is_fast_in_bf16 else 1e-3 < error < 0.03  # bf16 has 8 bits, and torch's is of no other


def test_weight_decay_spares_biases_norms_and_scales(model: DualEncoder) -> None:
    optimizer = Muon(model, [], RATE, 0.1)
    before = copies(list(model.parameters()))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(1.0)
    for (name, parameter), old in zip(model.named_parameters(), before, strict=True):
        share = 1.0 if any(parameter is matrix for matrix in matrices(model)) else ADAMW_SHARE
        decay = 0.1 * RATE * share if parameter.ndim >= 2 else 0.0
        torch.testing.assert_close(parameter.detach(), old * (1 - decay), rtol=1e-6, atol=1e-7, msg=name)


def test_restored_optimizer_goes_on_as_if_nothing_had_happened(model: DualEncoder) -> None:
    parameters = list(model.parameters())
    optimizer = Muon(model, [], RATE, 0.1)
    for step in range(2):
        set_gradients(parameters, step)
        optimizer.step(1.0)
    other = build_model(model.spec, seed=1)
    other.load_state_dict(model.state_dict())
    restored = Muon(other, [], RATE, 0.1)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # as a file would give it
    for chosen, trained in ((optimizer, model), (restored, other)):
        set_gradients(list(trained.parameters()), seed=2)
        chosen.step(0.5)
    assert all(torch.equal(a, b) for a, b in zip(parameters, other.parameters(), strict=True))
