"""A batch shared by workers, taken in parts, or both, against the whole of it in one process and one pass."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from tests.trainables.models.tiny import every_family
from trainables.config import TrialPlan
from trainables.device import set_up_process
from trainables.distiller import Distiller
from trainables.recipe import Recipe
from trainables.resources import measure_peak
from trainables.sampling import Draw
from trainables.strategies import STRATEGIES

CPU = torch.device("cpu")
WORKERS, PARTS, STEPS = 2, 3, 2
RECIPES = {
    **{name: Recipe(strategy=name, initialise="random") for name in STRATEGIES},
    # Language by language present or missing, on each worker as it comes; DR's queue takes in what all workers saw.
    "mix": Recipe(
        strategy="mix",
        strategy_weights=dict.fromkeys(STRATEGIES, 0.5),
        task_weight=0.3,
        layer_weight=0.7,
        replication={"queue_size": 60},
    ),
    "layers": Recipe(strategy="fd", layer_weight=1.0),
}

Found = dict[str, list[dict[str, Tensor]]]  # by recipe: of each step, losses and gradients


class Recorded:
    """Takes the place of the optimizer: keeps the gradients, and leaves the student as it is."""

    def __init__(self, distiller: Distiller) -> None:
        self._module, self.gradients = distiller._bare, []

    def step(self, _: float) -> None:
        found = {}
        for name, parameter in self._module.named_parameters():
            found[name] = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
            parameter.grad = None
        self.gradients.append(found)


def steps_of(plan: TrialPlan, recipe: Recipe, **training: Any) -> list[dict[str, Tensor]]:
    changed = plan.training.model_copy(update=training)
    distiller = Distiller(plan.model_copy(update={"recipe": recipe, "training": changed}), CPU)
    assert isinstance(distiller._towers, DistributedDataParallel) == dist.is_initialized()
    recorded = Recorded(distiller)
    distiller._optimizer = recorded  # type: ignore[assignment]
    losses = [{f"loss {name}": torch.tensor(v) for name, v in distiller.step().items()} for _ in range(STEPS)]
    return [one | other for one, other in zip(losses, recorded.gradients, strict=True)]


def share_of(rank: int, folder: str, text: str) -> None:
    """One worker: what it finds for every recipe, in one pass, in parts, and in parts in bf16."""
    set_up_process(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=WORKERS)
    try:
        plan = TrialPlan.model_validate_json(text)
        found = {
            f"{parts}": {name: steps_of(plan, recipe, accumulation=parts) for name, recipe in RECIPES.items()}
            for parts in (1, PARTS)
        }
        found["bf16"] = {"mix": steps_of(plan, RECIPES["mix"], accumulation=PARTS, precision="bf16")}
        torch.save(found, f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture
def wide(plan: TrialPlan) -> TrialPlan:
    """Two captions an image, of which some are missing, and a text tower whose layers need projections."""
    text = plan.student.text.model_copy(update={"width": 32})
    training = plan.training.model_copy(
        update={"batch_size": 24, "captions_per_image": 2, "max_gradient_norm": 1e9, "warmup": 0.0}
    )
    student = plan.student.model_copy(update={"text": text})
    return plan.model_copy(update={"student": student, "training": training})


def assert_same(found: list[dict[str, Tensor]], whole: list[dict[str, Tensor]], case: str, atol: float = 1e-5) -> None:
    for step, (one, other) in enumerate(zip(found, whole, strict=True)):
        assert one.keys() == other.keys()
        for name, tensor in other.items():
            torch.testing.assert_close(
                one[name], tensor, rtol=0, atol=atol, msg=lambda text, at=(case, step, name): f"{at}: {text}"
            )


@every_family
def test_workers_and_parts_have_the_losses_and_gradients_of_the_whole_batch(wide: TrialPlan, tmp_path: Path) -> None:
    whole = {name: steps_of(wide, recipe) for name, recipe in RECIPES.items()}
    for name, steps in whole.items():
        assert max(float(tensor.abs().max()) for tensor in steps[0].values()) > 1e-2, name
        parts = steps_of(wide, RECIPES[name], accumulation=PARTS)
        assert_same(parts, steps, f"{name} in parts")
    assert whole["mix"][0]["loss dr"] != whole["mix"][1]["loss dr"]
    torch.multiprocessing.spawn(share_of, (str(tmp_path), wide.model_dump_json()), nprocs=WORKERS)
    for rank in range(WORKERS):
        found: dict[str, Found] = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for parts in (1, PARTS):
            for name, steps in whole.items():
                assert_same(found[f"{parts}"][name], steps, f"{name}, worker {rank}, {parts} parts")
        rough, exact = found["bf16"]["mix"][0], whole["mix"][0]
        for name, tensor in exact.items():
            if name.startswith("loss"):
                assert float(rough[name]) == pytest.approx(float(tensor), rel=0.05), name
            assert torch.isfinite(rough[name]).all()
        assert any(not torch.equal(rough[name], tensor) for name, tensor in exact.items())


def test_a_batch_has_equal_shares_where_there_are_fewer_images_than_it_wants(wide: TrialPlan) -> None:
    recipe, images = RECIPES["fd"], len(Distiller(wide, CPU)._batches.data.images)
    distiller = Distiller(
        wide.model_copy(
            update={
                "recipe": recipe,
                "training": wide.training.model_copy(update={"batch_size": 70, "accumulation": 7}),
            }
        ),
        CPU,
    )
    assert len(distiller._batches.at(0).images) == images // 7 * 7
    distiller.step()


def test_memory_is_that_of_a_part(wide: TrialPlan) -> None:
    """Measured: what a process takes beside, for a step of 1,536 images with two captions each."""
    taken = {}
    for parts in (8, 1):
        training = wide.training.model_copy(update={"accumulation": parts})
        distiller = Distiller(wide.model_copy(update={"recipe": RECIPES["layers"], "training": training}), CPU)
        draw = distiller._batches.at(0).draw
        again = np.arange(1536) % len(draw.images)  # the same few images, again and again
        many = Draw(*(getattr(draw, field.name)[..., again] for field in fields(Draw)))
        distiller._batches._sampler.draw = lambda _, drawn=many: drawn  # type: ignore[method-assign]
        peak = measure_peak(CPU)
        before = peak()
        distiller.step()
        taken[parts] = peak() - before
    assert taken[1] > 0.25, taken
    assert taken[8] < taken[1] / 2, taken
