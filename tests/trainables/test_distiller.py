"""A student under distillation, on the real tiny data, teacher and cache."""

from __future__ import annotations

import dataclasses
import io
import os
import shutil
from concurrent import futures
from copy import deepcopy
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch._dynamo.utils import counters

from tests.trainables.models.tiny import every_family
from trainables.batches import Batches
from trainables.config import TrialPlan
from trainables.data import gallery
from trainables.data.gallery import write_pictures
from trainables.data.images import EncodedShards, Images
from trainables.data.pictures import Pixels
from trainables.data.prepared import CaptionedImages
from trainables.data.report import DataReport
from trainables.distiller import Distiller
from trainables.models.dual_encoder import DualEncoder
from trainables.recipe import LayerMapping, Recipe
from trainables.strategies import STRATEGIES
from trainables.teacher_cache import TeacherCache

CPU = torch.device("cpu")


def changed(plan: TrialPlan, recipe: Recipe, **training: Any) -> TrialPlan:
    return plan.model_copy(update={"recipe": recipe, "training": plan.training.model_copy(update=training)})


@pytest.mark.parametrize("name", [*STRATEGIES, "task"])
def test_each_strategy_alone_lowers_its_own_loss(plan: TrialPlan, name: str) -> None:
    if name == "task":
        recipe = Recipe(strategy="mix", strategy_weights={"fd": 1e-9}, task_weight=1.0, initialise="random")
    else:
        recipe = Recipe(strategy=name, initialise="random")
    distiller = Distiller(changed(plan, recipe, steps=10, batch_size=48, warmup=0.0), CPU)
    losses = [distiller.step()[name] for _ in range(10)]
    assert np.mean(losses[-2:]) < 0.9 * losses[0] or losses[0] - np.mean(losses[-2:]) > 0.2
    assert distiller.steps_done == 10


def test_layer_loss_is_lowered_through_projections_too(plan: TrialPlan) -> None:
    narrow = plan.student.model_copy(
        update={
            "image": plan.student.image.model_copy(update={"width": 32}),
            "text": plan.student.text.model_copy(update={"width": 32}),
        }
    )
    recipe = Recipe(strategy="mix", strategy_weights={"fd": 1e-9}, layer_weight=1.0)
    distiller = Distiller(
        changed(plan.model_copy(update={"student": narrow}), recipe, steps=10, batch_size=48, warmup=0.0), CPU
    )
    projections = {
        name: tensor.clone() for name, tensor in distiller.state()["towers"].items() if not name.startswith("student.")
    }
    assert len(projections) == 8  # weight and bias for two layers of two towers
    losses = [distiller.step()["layers"] for _ in range(10)]
    assert losses[-1] < 0.8 * losses[0]
    towers = distiller.state()["towers"]
    assert all(not torch.equal(tensor, towers[name]) for name, tensor in projections.items())


@every_family
def test_task_loss_is_the_familys_own(plan: TrialPlan, cache: TeacherCache) -> None:
    recipe = Recipe(strategy="mix", strategy_weights={"fd": 1e-9}, task_weight=1.0)
    distiller = Distiller(changed(plan, recipe, steps=10, batch_size=48, warmup=0.0), CPU)
    seen: list[list[torch.Tensor]] = []
    loss = distiller.student.task_loss

    def watched(*batch: torch.Tensor) -> torch.Tensor:
        seen.append([tensor.detach().clone() for tensor in batch])
        return loss(*batch)

    distiller.student.task_loss = watched  # type: ignore[method-assign]
    losses = [distiller.step()["task"] for _ in range(10)]
    assert losses[-1] < losses[0] - 0.2
    image, text, weight, scale, bias = seen[0]
    assert (image.shape, text.shape, weight.shape) == (
        (48, plan.student.embed_dim),
        (1, 48, plan.student.embed_dim),
        (1, 48),
    )
    assert losses[0] == pytest.approx(float(loss(image, text, weight, scale, bias)), rel=1e-5)


@every_family
def test_student_that_is_its_teacher_has_nothing_to_learn(plan: TrialPlan, teacher: DualEncoder) -> None:
    # The student sees the views and captions that the cache holds, or else these would not vanish.
    recipe = Recipe(
        strategy="mix", strategy_weights={"fd": 1.0, "sd": 1.0}, layer_weight=1.0, replication={"queue_size": 64}
    )
    same = changed(plan.model_copy(update={"student": teacher.spec}), recipe, captions_per_image=3)
    losses = Distiller(same, CPU).step()
    assert losses["fd"] < 1e-5
    assert losses["sd"] < 1e-4
    assert losses["layers"] < 1e-5
    other = Distiller(changed(plan, recipe, captions_per_image=3), CPU).step()
    assert min(other["fd"], other["layers"]) > 1e-2


def test_total_is_the_weighted_sum_of_the_named_losses(plan: TrialPlan) -> None:
    weights = {"fd": 0.5, "ed": 0.25, "sd": 2.0, "mcl": 0.125, "dr": 0.75}
    recipe = Recipe(strategy="mix", strategy_weights=weights, task_weight=0.3, layer_weight=0.7)
    losses = Distiller(changed(plan, recipe), CPU).step()
    assert set(losses) == {*weights, "task", "layers", "total"}
    expected = sum(weight * losses[name] for name, weight in weights.items())
    assert losses["total"] == pytest.approx(expected + 0.3 * losses["task"] + 0.7 * losses["layers"], rel=1e-5)


def test_layers_of_one_tower_alone_can_be_matched(plan: TrialPlan) -> None:
    none = LayerMapping(kind="none")
    settings = {"strategy": "fd", "layer_weight": 1.0, "initialise": "random"}
    mappings = [{}, {"text_mapping": none}, {"image_mapping": none}, {"image_mapping": none, "text_mapping": none}]
    both, image, text, neither = (
        Distiller(changed(plan, Recipe.model_validate({**settings, **mapping})), CPU).step() for mapping in mappings
    )
    assert both["layers"] == pytest.approx((image["layers"] + text["layers"]) / 2, rel=1e-5)
    assert "layers" not in neither


def test_mapped_layers_must_be_in_the_cache(plan: TrialPlan, cache: TeacherCache, tmp_path: Path) -> None:
    few = TeacherCache(**{**vars(cache), "image_layers": cache.image_layers[:1], "image_layer_numbers": [0]})
    few.save(tmp_path / "cache")
    paths = plan.paths.model_copy(update={"cache": str(tmp_path / "cache")})
    with pytest.raises(ValueError, match="not in list"):
        Distiller(plan.model_copy(update={"paths": paths}), CPU)


def test_queue_is_full_from_the_start_and_takes_in_the_newest(plan: TrialPlan, cache: TeacherCache) -> None:
    recipe = Recipe(strategy="dr", replication={"queue_size": 40})
    distiller = Distiller(changed(plan, recipe), CPU)
    known = torch.tensor(np.concatenate([np.asarray(rows).reshape(-1, 32) for rows in (cache.image, cache.text)]))
    before = distiller.state()["queue"].clone()
    assert before.shape == (40, 32)
    for row in before:
        assert (known.float() == row).all(dim=1).any()  # all are the teacher's
    distiller.step()
    after = distiller.state()["queue"]
    assert after.shape == (40, 32)
    # 16 images and their captions, of which a few may be missing, have come in.
    came = 40 - max(kept for kept in range(41) if torch.equal(after[:kept], before[40 - kept :]))
    assert 16 < came <= 32
    images = set(map(tuple, torch.tensor(np.asarray(cache.image).reshape(-1, 32)).float().tolist()))
    assert all(tuple(row) in images for row in after[40 - came : 40 - came + 16].tolist())


@every_family
@pytest.mark.parametrize("strategy", ["dr", "mcl"])
def test_restored_distiller_goes_on_bit_for_bit(plan: TrialPlan, strategy: str) -> None:
    recipe = Recipe(strategy=strategy, layer_weight=0.5, task_weight=0.1)
    first = Distiller(changed(plan, recipe), CPU)
    for _ in range(3):
        first.step()
    file = io.BytesIO()
    torch.save(first.state(), file)
    expected = [first.step() for _ in range(3)]
    file.seek(0)
    second = Distiller(changed(plan, recipe), CPU)
    second.restore(torch.load(file, weights_only=True))
    assert [second.step() for _ in range(3)] == expected
    for name, tensor in first.student.state_dict().items():
        assert torch.equal(tensor, second.student.state_dict()[name]), name


def test_language_weights_reach_the_loss(plan: TrialPlan) -> None:
    recipe = Recipe(strategy="fd", initialise="random")

    def loss(weights: dict[str, float]) -> float:
        every = changed(
            plan.model_copy(update={"language_weights": weights}), recipe, captions_per_image=3, batch_size=48
        )
        return Distiller(every, CPU).step()["fd"]

    # All languages are in the batch, so the loss is linear in the weights: image part + Σ w_l·text part_l.
    base = loss({"en": 1e-9, "ja": 1e-9, "ar": 1e-9})
    alone = [loss({"en": 1e-9, "ja": 1e-9, "ar": 1e-9} | {language: 1.0}) - base for language in ("en", "ja", "ar")]
    mixed = loss({"en": 0.6, "ja": 0.9, "ar": 1.5}) - base
    assert min(alone) > 0.05
    assert mixed == pytest.approx(0.6 * alone[0] + 0.9 * alone[1] + 1.5 * alone[2], rel=1e-4)


def test_gradient_that_is_not_finite_stops_the_student(plan: TrialPlan, cache: TeacherCache, tmp_path: Path) -> None:
    broken = TeacherCache(**{**vars(cache), "image": np.full_like(cache.image, np.nan)})
    broken.save(tmp_path / "cache")
    paths = plan.paths.model_copy(update={"cache": str(tmp_path / "cache")})
    distiller = Distiller(plan.model_copy(update={"paths": paths}), CPU)
    before = {name: tensor.clone() for name, tensor in distiller.student.state_dict().items()}
    with pytest.raises(FloatingPointError, match="at step 1"):
        distiller.step()
    assert all(torch.equal(tensor, distiller.student.state_dict()[name]) for name, tensor in before.items())


class Looked:
    """Pictures that remember which rows were looked at."""

    def __init__(self, images: Images) -> None:
        self._images, self.shape, self.rows = images, images.shape, []

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, rows: Any) -> Any:
        self.rows += list(rows)
        return self._images[rows]


@pytest.fixture
def encoded(plan: TrialPlan, train_data: CaptionedImages, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> TrialPlan:
    """The plan, with its training pictures in encoded shards."""
    monkeypatch.setattr(gallery, "_ROWS", 20)
    shutil.copytree(plan.paths.train, tmp_path / "train", ignore=shutil.ignore_patterns("images.npy"))
    (tmp_path / "train" / "images").mkdir()
    pictures = []
    for pixels in train_data.images:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        pictures.append((buffer.getvalue(), None))
    items, form = np.arange(len(pictures)), Pixels(train_data.images.shape[1], encoded=True)
    report = DataReport("data.train", len(items), 0.0)
    write_pictures(
        tmp_path / "train", items, lambda rows: [pictures[row] for row in rows], str, form, report, lambda *_: None
    )
    return plan.model_copy(update={"paths": plan.paths.model_copy(update={"train": str(tmp_path / "train")})})


def test_a_student_learns_the_same_from_encoded_pictures(plan: TrialPlan, encoded: TrialPlan) -> None:
    losses = [[distiller.step() for _ in range(2)] for distiller in (Distiller(plan, CPU), Distiller(encoded, CPU))]
    assert losses[0] == losses[1]


def test_a_worker_looks_at_the_pictures_of_its_own_part_alone(
    encoded: TrialPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = []
    for rank in range(2):
        monkeypatch.setattr("trainables.batches.worker", lambda rank=rank: (rank, 2))
        batches = Batches(encoded, (), (), CPU)
        assert isinstance(batches.data.images, EncodedShards)
        looked = Looked(batches.data.images)
        batches.data = dataclasses.replace(batches.data, images=looked)
        batches.at(0)
        rows.append(looked.rows)
    monkeypatch.undo()
    assert rows == [list(part) for part in np.array_split(Batches(encoded, (), (), CPU).at(0).draw.images, 2)]


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_student_learns_the_same_from_batches_read_ahead(plan: TrialPlan, accumulation: int) -> None:
    recipe = Recipe(strategy="mcl", layer_weight=0.5, task_weight=0.1)
    plan = changed(plan, recipe, steps=5, accumulation=accumulation)
    at_once, ahead = Distiller(plan, CPU), Distiller(plan.model_copy(update={"prefetch": 2}), CPU)
    expected = [at_once.step() for _ in range(5)]
    assert [ahead.step() for _ in range(2)] == expected[:2]
    state = deepcopy(ahead.state())
    assert ahead.step() == expected[2]
    ahead.restore(state)  # the next batch is not one of those that are read
    assert [ahead.step() for _ in range(3)] == expected[2:]


def test_so_many_batches_are_read_ahead_and_none_behind_the_last_step(plan: TrialPlan) -> None:
    plan = changed(plan, plan.recipe, steps=4)
    batches, alone = (Batches(plan.model_copy(update={"prefetch": prefetch}), (), (), CPU) for prefetch in (2, 0))
    batches.data = dataclasses.replace(batches.data, images=(looked := Looked(batches.data.images)))
    drawn = [list(alone.at(step).draw.images) for step in range(4)]
    for step, known in enumerate((3, 4, 4, 4)):
        assert list(batches.at(step).draw.images) == drawn[step]
        futures.wait(batches._read_ahead.values(), timeout=60)
        assert looked.rows == list(chain.from_iterable(drawn[:known]))


def test_what_goes_wrong_when_a_batch_is_read_ahead_is_told_at_its_step(plan: TrialPlan) -> None:
    batches = Batches(plan.model_copy(update={"prefetch": 1}), (), (), CPU)
    batches.at(0)
    futures.wait(batches._read_ahead.values(), timeout=60)
    batches.data = dataclasses.replace(batches.data, images=np.empty((0, 1, 1, 3), np.uint8))
    batches.at(1)  # which was read before the pictures went
    with pytest.raises(IndexError):
        batches.at(2)


@pytest.mark.long
@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="torch.compile needs a C++ compiler")
def test_compiled_layers_learn_the_same_and_are_compiled_once_for_all_students(plan: TrialPlan) -> None:
    recipe = Recipe(strategy="fd", layer_weight=0.5)
    plan = changed(plan, recipe, steps=3, batch_size=48)
    expected = [losses["total"] for losses in _steps(plan)]
    plan = plan.model_copy(update={"compile": True})
    before = counters["stats"]["unique_graphs"]
    assert [losses["total"] for losses in _steps(plan)] == pytest.approx(expected, rel=1e-4)
    compiled = counters["stats"]["unique_graphs"]
    assert compiled > before
    _steps(plan)
    assert counters["stats"]["unique_graphs"] == compiled


def _steps(plan: TrialPlan) -> list[dict[str, float]]:
    distiller = Distiller(plan, CPU)
    return [distiller.step() for _ in range(plan.training.steps)]
