"""The distillation strategies FD, ED, SD, MCL and DR, and the families' task losses, as pure functions of embeddings.

The formulas are reconstructed from the sources that each docstring names. Images carry G captions each; caption g of
image i is in some language l, of weight w_l. A sum over captions in a formula runs over the present ones. If caption
slot g is in one language for the whole batch, each loss is exactly the mean over the languages of the batch; if
languages differ from image to image, it is an unbiased sample of it for FD, ED and DR, and for the losses that compare
across the batch one whose negatives come from several languages.

A new strategy is one function here and one line in `STRATEGIES`; docs/extending.md has the steps around it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from trainables.recipe import Replication, StrategyName


@dataclass(frozen=True)
class DistillationBatch:
    """The embeddings of one batch over all workers: B images, G captions each, unit vectors of dimension D."""

    image: Tensor  # student [B, D]
    text: Tensor  # student [G, B, D]
    teacher_image: Tensor  # [B, D]
    teacher_text: Tensor  # [G, B, D]
    teacher_control: Tensor  # [B, D]: the teacher's embedding of the control-language (English) caption
    weight: Tensor  # [G, B]: w of each caption's language, 0 where a caption is missing
    logit_scale: Tensor  # the student's, a scalar
    teacher_logit_scale: Tensor  # scalar
    queue: Tensor  # [Q, D]: teacher embeddings, for DR; [0, D] where no strategy needs one
    replication: Replication

    @property
    def captions(self) -> Tensor:
        """How many captions are present, at least 1."""
        return (self.weight > 0).sum().clamp(min=1)


def _squared_distance(left: Tensor, right: Tensor) -> Tensor:
    return (left - right).square().sum(dim=-1)


def feature_distillation(batch: DistillationBatch) -> Tensor:
    """FD: mean_i ‖v_i − V_i‖² + mean_l w_l mean_i ‖s_il − S_il‖² (CLIP-KD, arXiv 2307.12732, FD)."""
    text = (batch.weight * _squared_distance(batch.text, batch.teacher_text)).sum() / batch.captions
    return _squared_distance(batch.image, batch.teacher_image).mean() + text


def english_control_distillation(batch: DistillationBatch) -> Tensor:
    """ED: mean_i ‖v_i − V_i‖² + mean_l w_l mean_i ‖s_il − S_i,en‖² (Reimers & Gurevych 2020, arXiv 2004.09813)."""
    text = (batch.weight * _squared_distance(batch.text, batch.teacher_control)).sum() / batch.captions
    return _squared_distance(batch.image, batch.teacher_image).mean() + text


def _caption_mean(rows: Tensor, columns: Tensor, weight: Tensor) -> Tensor:
    """Sum over one slot's present captions of w·½(row term + column term); both [B]."""
    return (weight * torch.where(weight > 0, rows + columns, 0.0)).sum() / 2


def _without_missing(logits: Tensor, weight: Tensor) -> Tensor:
    """Logits [B, B] whose columns of missing captions take no part in a softmax over columns."""
    return logits.masked_fill(weight[None, :] == 0, torch.finfo(logits.dtype).min)


def _divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(σ(teacher) ‖ σ(student)) of each row, [B]."""
    target, log_student = teacher.log_softmax(dim=-1), student.log_softmax(dim=-1)
    return functional.kl_div(log_student, target, reduction="none", log_target=True).sum(dim=-1)


def similarity_distillation(batch: DistillationBatch) -> Tensor:
    """SD: mean_l w_l ½[KL(σ(a_T V S_lᵀ) ‖ σ(a v s_lᵀ)) + the same transposed].

    CLIP-KD's contrastive relational distillation (arXiv 2307.12732) and TinyCLIP's affinity mimicking
    (arXiv 2309.12314).
    """
    total = batch.image.new_zeros(())
    for text, teacher_text, weight in zip(batch.text, batch.teacher_text, batch.weight, strict=True):
        student = batch.logit_scale * batch.image @ text.T
        teacher = batch.teacher_logit_scale * batch.teacher_image @ teacher_text.T
        rows = _divergence(_without_missing(teacher, weight), _without_missing(student, weight))
        total = total + _caption_mean(rows, _divergence(teacher.T, student.T), weight)
    return total / batch.captions


def _contrast(image: Tensor, text: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Symmetric InfoNCE of matching rows, summed over the slot's present captions with their weights."""
    logits = scale * image @ text.T
    rows = -_without_missing(logits, weight).log_softmax(dim=-1).diagonal()
    columns = -logits.log_softmax(dim=0).diagonal()
    return _caption_mean(rows, columns, weight)


def multilingual_contrastive_learning(batch: DistillationBatch) -> Tensor:
    """MCL: mean_l w_l ½[NCE(s_l, S_en) + ½(NCE(v, S_l) + NCE(s_l, V))], NCE symmetric.

    CLIP-KD's interactive contrastive learning (arXiv 2307.12732) with a multilingual InfoNCE term between languages.
    """
    total = batch.image.new_zeros(())
    for text, teacher_text, weight in zip(batch.text, batch.teacher_text, batch.weight, strict=True):
        across = _contrast(batch.teacher_control, text, weight, batch.logit_scale)
        image = _contrast(batch.image, teacher_text, weight, batch.logit_scale)
        caption = _contrast(batch.teacher_image, text, weight, batch.logit_scale)
        total = total + (across + (image + caption) / 2) / 2
    return total / batch.captions


def distributional_replication(batch: DistillationBatch) -> Tensor:
    """DR: mean_l w_l CE(σ(S_l Qᵀ/τ_T), σ(s_l Qᵀ/τ_S)) + CE(σ(V Qᵀ/τ_T), σ(v Qᵀ/τ_S)).

    ConGen (Limkonchotiwat et al., Findings of EMNLP 2022); Q is a queue of teacher embeddings.
    """
    settings = batch.replication

    def replicate(student: Tensor, teacher: Tensor) -> Tensor:
        target = (teacher / settings.teacher_temperature @ batch.queue.T).softmax(dim=-1)
        return -(target * (student / settings.student_temperature @ batch.queue.T).log_softmax(dim=-1)).sum(dim=-1)

    text = (batch.weight * replicate(batch.text, batch.teacher_text)).sum() / batch.captions
    return text + replicate(batch.image, batch.teacher_image).mean()


def contrastive_task(image: Tensor, text: Tensor, weight: Tensor, logit_scale: Tensor) -> Tensor:
    """CLIP's own loss, mean_l w_l NCE(v, s_l), NCE symmetric (Radford et al. 2021, arXiv 2103.00020, figure 3).

    Args:
        image: unit vectors [B, D].
        text: unit vectors of G captions an image [G, B, D].
        weight: [G, B], 0 where a caption is missing.
        logit_scale: scalar.
    """
    total = torch.stack([_contrast(image, *slot, logit_scale) for slot in zip(text, weight, strict=True)]).sum()
    return total / (weight > 0).sum().clamp(min=1)


def sigmoid_task(image: Tensor, text: Tensor, weight: Tensor, logit_scale: Tensor, logit_bias: Tensor) -> Tensor:
    """SigLIP's own loss, mean_l w_l mean_i Σ_j −log σ(z_ij (a v_j·s_il + b)), z_ij = 1 if i = j, else −1.

    Zhai et al. 2023, arXiv 2303.15343, equation 1: every pair of an image and a caption is a classification of its own,
    and counts with the weight of its caption's language.

    Args:
        image: unit vectors [B, D].
        text: unit vectors of G captions an image [G, B, D].
        weight: [G, B], 0 where a caption is missing.
        logit_scale: scalar a.
        logit_bias: scalar b.
    """
    logits = logit_scale * text @ image.T + logit_bias  # [G, B captions, B images]
    negated = logits * (1 - 2 * torch.eye(len(image), dtype=logits.dtype, device=logits.device))
    captions = functional.softplus(negated).sum(dim=-1)
    return (weight * torch.where(weight > 0, captions, 0.0)).sum() / (weight > 0).sum().clamp(min=1)


def best_logit_bias(image: Tensor, text: Tensor, weight: Tensor, logit_scale: Tensor) -> Tensor:
    """The b that minimises `sigmoid_task` for a batch of two images or more, to 1e-9; arguments as there.

    The loss is convex in b. Its slope, which is that of Σ w (σ(a v_j·s_il + b) − 1[i = j]) over all pairs, rises from
    −Σ w to (B − 1) Σ w and is halved in on. Within ±a the similarities cannot move its zero from −log(B − 1), where it
    is if all of them vanish.
    """
    similarity = (logit_scale * text @ image.T).detach().double()
    counts = weight.double()[..., None].expand_as(similarity)
    centre, reach = -math.log(max(1, len(image) - 1)), float(logit_scale.detach())
    low, high = centre - reach, centre + reach
    while high - low > 1e-9:
        middle = (low + high) / 2
        slope = (counts * torch.sigmoid(similarity + middle)).sum() - weight.double().sum()
        low, high = (low, middle) if slope > 0 else (middle, high)
    return logit_scale.detach().new_tensor((low + high) / 2)


STRATEGIES: dict[StrategyName, Callable[[DistillationBatch], Tensor]] = {
    "fd": feature_distillation,
    "ed": english_control_distillation,
    "sd": similarity_distillation,
    "mcl": multilingual_contrastive_learning,
    "dr": distributional_replication,
}
