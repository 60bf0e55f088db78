"""Two real processes with half of a batch each against one with all of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from trainables.distributed import by_the_first, gather, maximum, worker
from trainables.recipe import Replication
from trainables.strategies import STRATEGIES, DistillationBatch, contrastive_task, sigmoid_task

WORKERS, SHARE, CAPTIONS, DIMENSION = 2, 3, 2, 5  # of every worker: 3 images with 2 captions each
TASKS = ("contrastive_task", "sigmoid_task")
LOSSES = [*STRATEGIES, *TASKS]


def whole_batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = WORKERS * SHARE

    def unit(*shape: int) -> Tensor:
        return torch.nn.functional.normalize(torch.randn(*shape, DIMENSION, generator=generator), dim=-1)

    weight = torch.tensor([[0.5], [1.5]]).repeat(1, images)
    weight[1, 4] = 0  # a missing caption, on the second worker
    return {
        "image": unit(images),
        "text": unit(CAPTIONS, images),
        "teacher_image": unit(images),
        "teacher_text": unit(CAPTIONS, images),
        "teacher_control": unit(images),
        "weight": weight,
        "queue": unit(8),
    }


def gradients(name: str, part: slice) -> dict[str, Tensor]:
    """The loss and its gradients by this worker's embeddings, by the logit scale and by the logit bias."""
    batch = whole_batch()
    image = batch["image"][part].requires_grad_()
    text = batch["text"][:, part].clone().requires_grad_()
    scale, bias = torch.tensor(6.0, requires_grad=True), torch.tensor(-2.0, requires_grad=True)
    joined = DistillationBatch(
        image=gather(image),
        text=gather(text, dim=1),
        teacher_image=gather(batch["teacher_image"][part]),
        teacher_text=gather(batch["teacher_text"][:, part], dim=1),
        teacher_control=gather(batch["teacher_control"][part]),
        weight=gather(batch["weight"][:, part], dim=1),
        logit_scale=scale,
        teacher_logit_scale=torch.tensor(9.0),
        queue=batch["queue"],
        replication=Replication(teacher_temperature=0.2, student_temperature=0.3),
    )
    if name == "contrastive_task":
        loss = contrastive_task(joined.image, joined.text, joined.weight, scale)
    elif name == "sigmoid_task":
        loss = sigmoid_task(joined.image, joined.text, joined.weight, scale, bias)
    else:
        loss = STRATEGIES[name](joined)
    loss.backward()
    found = {
        "loss": loss.detach(),
        "image": image.grad,
        "text": text.grad,
        "scale": scale.grad,
        "bias": bias.grad,
    }
    return {key: torch.zeros(()) if value is None else value for key, value in found.items()}


def gradients_of_a_sum() -> dict[str, Tensor]:
    """Of Σ(a + b)² at ones, with both gathered: autograd hands both the very same gradient."""
    parts = [torch.ones(SHARE, 1, requires_grad=True) for _ in range(2)]
    joined = gather(parts[0]) + gather(parts[1])
    joined.square().sum().backward()
    return {name: part.grad for name, part in zip("ab", parts, strict=True)}


def diverged() -> None:
    raise FloatingPointError("an embedding is not finite")


def share_of(rank: int, folder: str) -> None:
    """One worker: write what it finds for every loss."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=WORKERS)
    try:
        assert worker() == (rank, WORKERS)
        assert maximum(0.5 + rank, torch.device("cpu")) == 0.5 + WORKERS - 1
        assert by_the_first(lambda: rank, torch.device("cpu")) == (0 if rank == 0 else None)
        with pytest.raises(FloatingPointError):
            by_the_first(diverged, torch.device("cpu"))
        part = slice(rank * SHARE, (rank + 1) * SHARE)
        found = {name: gradients(name, part) for name in LOSSES}
        torch.save({**found, "sum": gradients_of_a_sum()}, f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def shares(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    folder: Path = tmp_path_factory.mktemp("workers")
    torch.multiprocessing.spawn(share_of, (str(folder),), nprocs=WORKERS)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORKERS)]


@pytest.mark.parametrize("name", LOSSES)
def test_two_workers_have_the_loss_and_mean_gradient_of_one(
    name: str, shares: list[dict[str, dict[str, Tensor]]]
) -> None:
    assert worker() == (0, 1)
    whole, parts = gradients(name, slice(None)), [share[name] for share in shares]
    assert whole["image"].abs().max() > 1e-3
    for part in parts:
        torch.testing.assert_close(part["loss"], whole["loss"], rtol=0, atol=1e-5)
    # Data-parallel training takes the mean over workers; an embedding has a gradient on its own worker alone.
    torch.testing.assert_close(
        torch.cat([part["image"] for part in parts]) / WORKERS, whole["image"], rtol=0, atol=1e-5
    )
    torch.testing.assert_close(
        torch.cat([part["text"] for part in parts], 1) / WORKERS, whole["text"], rtol=0, atol=1e-5
    )
    for scalar in ("scale", "bias"):
        mean = torch.stack([part[scalar] for part in parts]).mean()
        torch.testing.assert_close(mean, whole[scalar], rtol=0, atol=1e-5)


def test_gathered_tensors_that_are_added_keep_their_own_gradients(shares: list[dict[str, dict[str, Tensor]]]) -> None:
    for share in shares:
        for gradient in share["sum"].values():
            torch.testing.assert_close(gradient, torch.full((SHARE, 1), 2 * 2.0 * WORKERS))


def test_one_process_gathers_nothing() -> None:
    part = torch.randn(3, 2)
    assert gather(part, dim=1) is part
