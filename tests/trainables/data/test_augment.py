from __future__ import annotations

import math

import torch
from torch.nn import functional

from trainables.data.augment import apply_views, draw_views

SIZE = 8


def pictures(count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, SIZE, SIZE, 3), generator=generator, dtype=torch.uint8)


def as_pixels(images: torch.Tensor) -> torch.Tensor:
    return images.permute(0, 3, 1, 2).float() / 255


def affine(turn: float = 0.0, zoom: float = 1.0, right: float = 0.0, down: float = 0.0) -> torch.Tensor:
    cosine, sine = math.cos(turn) * zoom, math.sin(turn) * zoom
    return torch.tensor([[[cosine, -sine, right], [sine, cosine, down]]]).expand(2, 2, 3)


def test_identity_view_is_the_picture_itself() -> None:
    torch.testing.assert_close(apply_views(pictures(), affine()), as_pixels(pictures()), rtol=0, atol=1e-5)


def test_quarter_turn_is_exact() -> None:
    turned = apply_views(pictures(), affine(turn=math.pi / 2))
    torch.testing.assert_close(turned, as_pixels(pictures()).rot90(1, (2, 3)), rtol=0, atol=1e-5)


def test_shift_by_whole_pixels_brings_in_white() -> None:
    shifted = apply_views(pictures(), affine(right=2 * 3 / SIZE))
    torch.testing.assert_close(shifted[..., : SIZE - 3], as_pixels(pictures())[..., 3:], rtol=0, atol=1e-5)
    torch.testing.assert_close(shifted[..., SIZE - 3 :], torch.ones(2, 3, SIZE, 3))


def test_views_lie_where_torch_puts_them() -> None:
    wide = torch.randint(0, 256, (16, SIZE, 2 * SIZE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    views = draw_views((16,), torch.Generator().manual_seed(3))
    ink = 1 - as_pixels(wide)
    grid = functional.affine_grid(views, list(ink.shape), align_corners=False)
    expected = 1 - functional.grid_sample(ink, grid, align_corners=False)
    torch.testing.assert_close(apply_views(wide, views), expected, rtol=0, atol=1e-5)


def test_white_stays_white_in_any_view() -> None:
    white = torch.full((16, SIZE, SIZE, 3), 255, dtype=torch.uint8)
    views = draw_views((16,), torch.Generator().manual_seed(0))
    torch.testing.assert_close(apply_views(white, views), torch.ones(16, 3, SIZE, SIZE))


def test_views_depend_on_the_generator_alone_and_stay_small() -> None:
    views = draw_views((500, 2), torch.Generator().manual_seed(1))
    assert views.shape == (500, 2, 2, 3)
    torch.testing.assert_close(views, draw_views((500, 2), torch.Generator().manual_seed(1)), rtol=0, atol=0)
    assert not torch.equal(views, draw_views((500, 2), torch.Generator().manual_seed(2)))
    linear = views[..., :2]
    turn = torch.atan2(linear[..., 1, 0], linear[..., 0, 0])
    zoom = torch.linalg.det(linear).sqrt()
    # Uniform over the whole range: the extremes of 1,000 draws come close to it and never pass it.
    for values, bound in ((turn, math.radians(20)), (zoom - 1, 0.2), (views[..., 2], 0.15)):
        assert float(values.abs().max()) <= bound + 1e-6
        assert float(values.max()) > 0.95 * bound
        assert float(values.min()) < -0.95 * bound
