"""Every loss against a float64 reference written from its formula, and what must hold whatever the batch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from trainables.recipe import STRATEGY_NAMES, Replication
from trainables.strategies import (
    STRATEGIES,
    DistillationBatch,
    best_logit_bias,
    contrastive_task,
    sigmoid_task,
)

IMAGES, DIMENSION, QUEUE = 4, 5, 7
LANGUAGE_WEIGHTS = (0.4, 1.0, 1.6)
MISSING = (1, 2)  # the caption of the second language for the third image
REPLICATION = Replication(teacher_temperature=0.3, student_temperature=0.5, queue_size=QUEUE)
STUDENT = ("image", "text", "logit_scale")  # what has gradients
LOGIT_BIAS = -1.5  # of the sigmoid loss

Arrays = dict[str, np.ndarray]


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def random_arrays(seed: int, missing: bool) -> Arrays:
    rng = np.random.default_rng(seed)
    languages = len(LANGUAGE_WEIGHTS)
    weight = np.repeat(np.asarray(LANGUAGE_WEIGHTS)[:, None], IMAGES, axis=1)
    if missing:
        weight[MISSING] = 0
    return {
        "image": unit(rng.normal(size=(IMAGES, DIMENSION))),
        "text": unit(rng.normal(size=(languages, IMAGES, DIMENSION))),
        "teacher_image": unit(rng.normal(size=(IMAGES, DIMENSION))),
        "teacher_text": unit(rng.normal(size=(languages, IMAGES, DIMENSION))),
        "teacher_control": unit(rng.normal(size=(IMAGES, DIMENSION))),
        "weight": weight,
        "logit_scale": np.asarray(3.0),
        "teacher_logit_scale": np.asarray(4.0),
        "queue": unit(rng.normal(size=(QUEUE, DIMENSION))),
    }


def as_batch(arrays: Arrays) -> DistillationBatch:
    tensors = {name: torch.tensor(value, requires_grad=name in STUDENT) for name, value in arrays.items()}
    return DistillationBatch(**tensors, replication=REPLICATION)


# The reference: a term for each present caption, straight from the formula; the loss is the terms' weighted mean.


def log_softmax(row: np.ndarray) -> np.ndarray:
    return row - math.log(np.exp(row).sum())


def divergence(teacher: np.ndarray, student: np.ndarray) -> float:
    p, q = log_softmax(teacher), log_softmax(student)
    return float((np.exp(p) * (p - q)).sum())


def cross_entropy(teacher: np.ndarray, student: np.ndarray) -> float:
    return float(-(np.exp(log_softmax(teacher)) * log_softmax(student)).sum())


def nce(i: int, left: np.ndarray, right: np.ndarray, present: np.ndarray, scale: float) -> float:
    """Both directions for pair i; only present captions are candidates."""
    among = list(present).index(i)
    to_right = -log_softmax(scale * right[present] @ left[i])[among]
    to_left = -log_softmax(scale * left @ right[i])[i]
    return float(to_right + to_left) / 2


def caption_term(name: str, a: Arrays, language: int, i: int) -> float:
    s, teacher_s = a["text"][language], a["teacher_text"][language]
    v, teacher_v, english = a["image"], a["teacher_image"], a["teacher_control"]
    scale, teacher_scale = float(a["logit_scale"]), float(a["teacher_logit_scale"])
    present = np.flatnonzero(a["weight"][language])
    if name == "fd":
        return float(((s[i] - teacher_s[i]) ** 2).sum())
    if name == "ed":
        return float(((s[i] - english[i]) ** 2).sum())
    if name == "sd":
        to_text = divergence(teacher_scale * teacher_s[present] @ teacher_v[i], scale * s[present] @ v[i])
        to_image = divergence(teacher_scale * teacher_v @ teacher_s[i], scale * v @ s[i])
        return (to_text + to_image) / 2
    if name == "mcl":
        across = nce(i, english, s, present, scale)
        between = nce(i, v, teacher_s, present, scale) + nce(i, teacher_v, s, present, scale)
        return (across + between / 2) / 2
    if name == "dr":
        target = a["queue"] @ teacher_s[i] / REPLICATION.teacher_temperature
        return cross_entropy(target, a["queue"] @ s[i] / REPLICATION.student_temperature)
    if name == "sigmoid_task":
        likelihoods = 1 / (1 + np.exp(-(scale * v @ s[i] + LOGIT_BIAS)))
        return -math.log(likelihoods[i]) - float(np.log(1 - np.delete(likelihoods, i)).sum())
    assert name == "task"
    return nce(i, v, s, present, scale)


def image_term(name: str, a: Arrays) -> float:
    if name in ("fd", "ed"):
        return float(((a["image"] - a["teacher_image"]) ** 2).sum(axis=1).mean())
    if name == "dr":
        teacher = a["teacher_image"] @ a["queue"].T / REPLICATION.teacher_temperature
        student = a["image"] @ a["queue"].T / REPLICATION.student_temperature
        return float(np.mean([cross_entropy(t, s) for t, s in zip(teacher, student, strict=True)]))
    return 0.0


def reference(name: str, a: Arrays) -> float:
    captions = list(zip(*np.nonzero(a["weight"]), strict=True))
    terms = [a["weight"][language, i] * caption_term(name, a, language, i) for language, i in captions]
    return float(np.mean(terms)) + image_term(name, a)


def task(batch: DistillationBatch) -> Tensor:
    return contrastive_task(batch.image, batch.text, batch.weight, batch.logit_scale)


def sigmoid(batch: DistillationBatch, bias: float = LOGIT_BIAS) -> Tensor:
    return sigmoid_task(batch.image, batch.text, batch.weight, batch.logit_scale, torch.tensor(bias))


LOSSES: dict[str, Callable[[DistillationBatch], Tensor]] = {**STRATEGIES, "task": task, "sigmoid_task": sigmoid}
every_loss = pytest.mark.parametrize("name", LOSSES)


def test_every_strategy_of_a_recipe_has_a_loss() -> None:
    assert set(STRATEGIES) == set(STRATEGY_NAMES)


@every_loss
@pytest.mark.parametrize("missing", [False, True])
def test_loss_is_its_formula(name: str, missing: bool) -> None:
    arrays = random_arrays(0, missing)
    assert float(LOSSES[name](as_batch(arrays)).detach()) == pytest.approx(reference(name, arrays), rel=1e-10)


@every_loss
def test_gradient_is_the_slope_of_the_formula(name: str) -> None:
    arrays = random_arrays(1, missing=True)
    batch = as_batch(arrays)
    LOSSES[name](batch).backward()
    step = 1e-6
    for part in STUDENT:
        found = getattr(batch, part).grad
        slope = np.zeros_like(arrays[part])
        for place in np.ndindex(slope.shape):
            sides = []
            for sign in (1, -1):
                moved = {**arrays, part: arrays[part].copy()}
                moved[part][place] += sign * step
                sides.append(reference(name, moved))
            slope[place] = (sides[0] - sides[1]) / (2 * step)
        np.testing.assert_allclose(np.zeros_like(slope) if found is None else found.numpy(), slope, atol=1e-8)


@every_loss
def test_value_of_a_missing_caption_does_not_matter(name: str) -> None:
    arrays = random_arrays(2, missing=True)
    other = random_arrays(3, missing=True)
    changed = {**arrays, "text": arrays["text"].copy(), "teacher_text": arrays["teacher_text"].copy()}
    for part in ("text", "teacher_text"):
        changed[part][MISSING] = other[part][MISSING]
    before, after = as_batch(arrays), as_batch(changed)
    losses = [LOSSES[name](batch) for batch in (before, after)]
    assert float(losses[0].detach()) == float(losses[1].detach())
    for loss in losses:
        loss.backward()
    assert not after.text.grad[MISSING].any()
    torch.testing.assert_close(before.text.grad, after.text.grad, rtol=0, atol=0)


@every_loss
def test_language_that_a_batch_lacks_changes_nothing(name: str) -> None:
    arrays = random_arrays(4, missing=False)
    weight = arrays["weight"].copy()
    weight[1] = 0
    kept = {part: arrays[part][[0, 2]] for part in ("text", "teacher_text", "weight")}
    without = LOSSES[name](as_batch({**arrays, **kept}))
    torch.testing.assert_close(LOSSES[name](as_batch({**arrays, "weight": weight})), without)


@every_loss
def test_order_of_images_and_captions_does_not_matter(name: str) -> None:
    arrays = random_arrays(5, missing=True)
    images, slots = np.random.default_rng(0).permutation(IMAGES), [2, 0, 1]
    shuffled = {
        part: arrays[part][images] if part in ("image", "teacher_image", "teacher_control") else
        arrays[part][slots][:, images] if part in ("text", "teacher_text", "weight") else arrays[part]
        for part in arrays
    }  # fmt: skip
    torch.testing.assert_close(LOSSES[name](as_batch(shuffled)), LOSSES[name](as_batch(arrays)))


def assert_at_minimum(name: str, arrays: Arrays, value: float) -> None:
    batch = as_batch(arrays)
    loss = STRATEGIES[name](batch)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(value, abs=1e-12)
    for part in STUDENT:
        gradient = getattr(batch, part).grad
        assert gradient is None or float(gradient.abs().max()) < 1e-12


def test_fd_and_its_gradient_vanish_at_the_teacher() -> None:
    arrays = random_arrays(6, missing=True)
    assert_at_minimum("fd", {**arrays, "image": arrays["teacher_image"], "text": arrays["teacher_text"]}, 0)


def test_ed_vanishes_where_every_language_is_the_teachers_english() -> None:
    arrays = random_arrays(7, missing=True)
    english = np.broadcast_to(arrays["teacher_control"], arrays["text"].shape).copy()
    assert_at_minimum("ed", {**arrays, "image": arrays["teacher_image"], "text": english}, 0)


def test_sd_vanishes_for_a_rotated_teacher_since_only_similarities_count() -> None:
    arrays = random_arrays(8, missing=True)
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(DIMENSION, DIMENSION)))[0]
    rotated = {"image": arrays["teacher_image"] @ rotation, "text": arrays["teacher_text"] @ rotation}
    assert_at_minimum("sd", {**arrays, **rotated, "logit_scale": arrays["teacher_logit_scale"]}, 0)
    assert float(STRATEGIES["sd"](as_batch({**arrays, **rotated})).detach()) > 1e-3  # the scales differ


def test_dr_is_least_at_the_teacher_when_the_temperatures_agree() -> None:
    settings = Replication(teacher_temperature=0.3, student_temperature=0.3)
    arrays = random_arrays(9, missing=True)
    students = {"image": arrays["teacher_image"], "text": arrays["teacher_text"]}
    batch = dataclasses.replace(as_batch({**arrays, **students}), replication=settings)
    least = STRATEGIES["dr"](batch)
    least.backward()
    assert float(batch.image.grad.abs().max()) < 1e-12
    assert float(batch.text.grad.abs().max()) < 1e-12
    rng = np.random.default_rng(1)
    for _ in range(20):
        moved = {part: unit(rows + 0.05 * rng.normal(size=rows.shape)) for part, rows in students.items()}
        other = STRATEGIES["dr"](dataclasses.replace(as_batch({**arrays, **moved}), replication=settings))
        assert float(other.detach()) > float(least.detach())


@pytest.mark.parametrize("name", ["mcl", "task"])
def test_contrast_of_orthonormal_pairs_has_its_closed_form(name: str) -> None:
    # NCE = log(1 + (B − 1)·exp(−a)), and MCL is ½(NCE + NCE).
    pairs = np.eye(IMAGES, DIMENSION)
    slots = np.stack([pairs] * 2)
    arrays = random_arrays(10, missing=False)
    aligned = {"image": pairs, "teacher_image": pairs, "teacher_control": pairs, "text": slots, "teacher_text": slots}
    batch = as_batch({**arrays, **aligned, "weight": np.full((2, IMAGES), 1.0)})
    expected = math.log(1 + (IMAGES - 1) * math.exp(-float(arrays["logit_scale"])))
    assert float(LOSSES[name](batch).detach()) == pytest.approx(expected, rel=1e-12)


def test_sigmoid_loss_of_orthonormal_pairs_has_its_closed_form() -> None:
    # Every caption is one pair of similarity 1 and B − 1 of similarity 0.
    pairs = np.eye(IMAGES, DIMENSION)
    arrays = random_arrays(11, missing=False)
    scale = float(arrays["logit_scale"])
    batch = as_batch({**arrays, "image": pairs, "text": pairs[None], "weight": np.full((1, IMAGES), 1.0)})
    expected = math.log1p(math.exp(-scale - LOGIT_BIAS)) + (IMAGES - 1) * math.log1p(math.exp(LOGIT_BIAS))
    assert float(sigmoid(batch).detach()) == pytest.approx(expected, rel=1e-12)


def test_sigmoid_loss_falls_with_the_bias_as_its_formula_says() -> None:
    batch = as_batch(random_arrays(12, missing=True))
    bias = torch.tensor(LOGIT_BIAS, dtype=torch.float64, requires_grad=True)
    sigmoid_task(batch.image, batch.text, batch.weight, batch.logit_scale, bias).backward()
    sides = [float(sigmoid(batch, LOGIT_BIAS + step).detach()) for step in (1e-3, -1e-3)]
    assert float(bias.grad) == pytest.approx((sides[0] - sides[1]) / 2e-3, rel=1e-4)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("scale", [0.5, 15.0, 300.0])
def test_best_bias_is_where_the_sigmoid_loss_has_no_slope(seed: int, scale: float) -> None:
    batch = as_batch({**random_arrays(seed, missing=True), "logit_scale": np.asarray(scale)})
    best = best_logit_bias(batch.image, batch.text, batch.weight, batch.logit_scale)
    bias = best.requires_grad_()
    sigmoid_task(batch.image, batch.text, batch.weight, batch.logit_scale, bias).backward()
    assert abs(float(bias.grad)) < 1e-7


def test_best_bias_without_any_similarity_is_the_odds_of_a_pair() -> None:
    arrays = random_arrays(13, missing=True)
    batch = as_batch({**arrays, "image": np.zeros_like(arrays["image"])})
    found = best_logit_bias(batch.image, batch.text, batch.weight, batch.logit_scale)
    assert float(found) == pytest.approx(-math.log(IMAGES - 1), abs=1e-8)
