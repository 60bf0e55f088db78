from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from trainables.data.images import JoinedImages
from trainables.data.prepared import CaptionedImages
from trainables.data.report import DataError
from trainables.sampling import BatchSampler, Draw, check_weights
from trainables.teacher import language_exposure

IMAGES, LANGUAGES = 30, 4


def captioned(present: np.ndarray | None = None, captions: int = 1) -> CaptionedImages:
    """Thirty images in an order that is not that of their captions, with one or more captions each."""
    items = np.repeat(np.arange(100, 100 + IMAGES), captions)
    rng = np.random.default_rng(0)
    rows = len(items)
    return CaptionedImages(
        languages=["en", "ja", "ar", "tr"],
        images=np.zeros((IMAGES, 2, 2, 3), np.uint8),
        image_item=rng.permutation(np.arange(100, 100 + IMAGES)),
        tokens=np.zeros((LANGUAGES, rows, 4), np.int32),
        present=np.ones((LANGUAGES, rows), np.bool_) if present is None else present,
        text_item=rng.permutation(items),
        texts=[[""] * rows] * LANGUAGES,
    )


def sampler(
    data: CaptionedImages, batch_size: int = 8, captions: int = 1, seed: int = 0, **more: object
) -> BatchSampler:
    return BatchSampler(data, batch_size, captions, views=3, seed=seed, **more)


def same(left: Draw, right: Draw) -> bool:
    return all(
        np.array_equal(getattr(left, field.name), getattr(right, field.name)) for field in dataclasses.fields(Draw)
    )


def test_batch_is_a_function_of_seed_and_step() -> None:
    data = captioned()
    used, fresh = sampler(data, captions=2), sampler(data, captions=2)
    draws = [used.draw(step) for step in range(8)]
    assert same(fresh.draw(5), draws[5])
    assert not any(same(draws[5], draw) for step, draw in enumerate(draws) if step != 5)
    assert not same(sampler(data, captions=2, seed=1).draw(5), draws[5])


@pytest.mark.parametrize("batch_size", [5, 30, 64])
def test_epoch_visits_every_image_once_in_an_order_of_its_own(batch_size: int) -> None:
    chosen = sampler(captioned(), batch_size)
    steps = max(1, IMAGES // batch_size)
    epochs = [np.concatenate([chosen.draw(epoch * steps + step).images for step in range(steps)]) for epoch in range(3)]
    assert all(sorted(epoch) == list(range(IMAGES)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_incomplete_batch_at_the_end_of_an_epoch_is_left_out() -> None:
    chosen = sampler(captioned(), batch_size=8)
    draws = [chosen.draw(step).images for step in range(6)]
    assert all(len(images) == 8 for images in draws)
    for epoch in (draws[:3], draws[3:]):
        assert len(set(np.concatenate(epoch))) == 24


def test_captions_show_their_image_and_all_get_their_turn() -> None:
    data = captioned(captions=3)
    chosen = sampler(data, batch_size=30, captions=2)
    seen: set[int] = set()
    for step in range(40):
        draw = chosen.draw(step)
        assert (data.text_item[draw.texts] == data.image_item[draw.images]).all()
        # Captions that are translations of each other stay together.
        np.testing.assert_array_equal(draw.captions, np.stack([draw.captions[0]] * LANGUAGES))
        np.testing.assert_array_equal(draw.texts, draw.captions[:2])
        assert draw.present.all()
        assert (draw.languages[0] != draw.languages[1]).all()
        seen |= set(draw.texts[0].tolist())
    assert len(seen) == 3 * IMAGES


def test_views_and_languages_are_uniform_unless_told_otherwise() -> None:
    chosen = sampler(captioned(), batch_size=30)
    draws = [chosen.draw(step) for step in range(200)]
    for counts, kinds in (
        (np.bincount(np.concatenate([draw.views for draw in draws]), minlength=3), 3),
        (np.bincount(np.concatenate([draw.languages[0] for draw in draws]), minlength=LANGUAGES), LANGUAGES),
    ):
        expected = 6000 / kinds
        assert ((counts - expected) ** 2 / expected).sum() < 16.3  # χ² with up to 3 degrees of freedom, p = 0.001


def test_exposure_follows_zipf() -> None:
    chosen = sampler(captioned(), batch_size=30, exposure=language_exposure("zipf", LANGUAGES))
    counts = np.bincount(np.concatenate([chosen.draw(step).languages[0] for step in range(200)]), minlength=LANGUAGES)
    expected = 6000 * np.asarray([12, 6, 4, 3]) / 25
    assert ((counts - expected) ** 2 / expected).sum() < 16.3


def test_missing_captions_are_drawn_only_when_no_others_are_left() -> None:
    present = np.random.default_rng(1).random((LANGUAGES, IMAGES)) < 0.6
    present[0] = True
    data = captioned(present)
    chosen = sampler(data, batch_size=30, captions=3)
    for step in range(20):
        draw = chosen.draw(step)
        np.testing.assert_array_equal(draw.present, present[draw.languages, draw.texts])
        of_image = present[:, draw.captions[0]]
        np.testing.assert_array_equal(draw.present.sum(axis=0), np.minimum(of_image.sum(axis=0), 3))


def test_each_language_gives_all_the_captions_that_it_has_of_an_image_and_no_others() -> None:
    present = np.random.default_rng(1).random((LANGUAGES, 4 * IMAGES)) < 0.5
    present[0] = True
    data = captioned(present, captions=4)
    chosen = sampler(data, batch_size=30, captions=LANGUAGES)
    seen = np.zeros_like(present)
    for step in range(60):
        draw = chosen.draw(step)
        for language in range(LANGUAGES):
            has = np.isin(data.image_item[draw.images], data.text_item[present[language]])
            rows = draw.captions[language][has]
            assert present[language, rows].all()
            assert not present[language, draw.captions[language][~has]].any()
            assert (data.text_item[rows] == data.image_item[draw.images][has]).all()
            np.testing.assert_array_equal(
                draw.present[draw.languages == language], has[np.where(draw.languages == language)[1]]
            )
            seen[language, rows] = True
    np.testing.assert_array_equal(seen, present)


def test_more_captions_than_languages_give_each_language_once() -> None:
    draw = sampler(captioned(), captions=9).draw(0)
    assert draw.languages.shape == (LANGUAGES, 8)
    assert (np.sort(draw.languages, axis=0) == np.arange(LANGUAGES)[:, None]).all()


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_parts_of_all_workers_join_to_the_whole(workers: int) -> None:
    draw = sampler(captioned(), captions=2).draw(1)
    parts = [draw.part(worker, workers) for worker in range(workers)]
    for field in dataclasses.fields(Draw):
        joined = np.concatenate([getattr(part, field.name) for part in parts], axis=-1)
        np.testing.assert_array_equal(joined, getattr(draw, field.name))


def test_image_without_a_caption_is_refused() -> None:
    data = captioned()
    lonely = dataclasses.replace(data, image_item=np.where(data.image_item == 105, 999, data.image_item))
    with pytest.raises(ValueError, match="1 training images have no caption"):
        sampler(lonely)


def mixed(sizes: tuple[int, ...]) -> CaptionedImages:
    """The thirty images as a mixture of parts of these sizes."""
    data = captioned()
    ends = np.cumsum(sizes)
    parts = [np.asarray(data.images)[end - size : end] for end, size in zip(ends, sizes, strict=True)]
    return dataclasses.replace(data, images=JoinedImages(parts))


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (5.0, 1.5, 2.25), (1.0, 2.0, 7.0)])
@pytest.mark.parametrize("batch_size", [8, 7])
def test_batches_have_the_parts_of_a_mixture_in_their_shares(weights: tuple[float, ...], batch_size: int) -> None:
    sizes, steps = (9, 10, 11), 400
    chosen = sampler(mixed(sizes), batch_size, weights=weights)
    of_part = np.repeat(np.arange(3), sizes)
    counts = np.stack([np.bincount(of_part[chosen.draw(step).images], minlength=3) for step in range(steps)])
    shares = batch_size * np.asarray(weights) / sum(weights)
    assert (counts.sum(axis=1) == batch_size).all()
    assert (np.abs(counts - shares) < 2).all()
    done = np.arange(1, steps + 1)[:, None]
    assert (np.abs(counts.cumsum(axis=0) - done * shares) < 1).all()
    # In closed form: the parts up to each one have their share of all images so far, rounded down.
    bounds = np.floor(done * batch_size * np.cumsum(weights) / sum(weights) + 1e-9)
    np.testing.assert_array_equal(counts.cumsum(axis=0).cumsum(axis=1), bounds)


def test_two_parts_are_in_every_batch_to_the_nearest_image() -> None:
    chosen = sampler(mixed((20, 10)), 8, weights=(0.7, 0.3))
    counts = [int((chosen.draw(step).images < 20).sum()) for step in range(100)]
    assert set(counts) == {5, 6}
    assert sum(counts) == 560


def test_every_image_of_a_part_comes_once_in_each_of_the_parts_own_epochs() -> None:
    sizes = (7, 23)
    chosen = sampler(mixed(sizes), 8, weights=(3.0, 5.0))
    images = np.concatenate([np.sort(chosen.draw(step).images) for step in range(140)])
    orders = []
    for part, size in enumerate(sizes):
        drawn = images[(images < sizes[0]) == (part == 0)]
        whole = len(drawn) // size
        assert whole > 15
        counts = np.bincount(drawn - part * sizes[0], minlength=size)
        assert counts.max() - counts.min() <= 1
    for step in range(0, 7 * 20, 7):  # 7 steps take three epochs of the small part
        first = np.concatenate([chosen.draw(step + more).images for more in range(7)])
        assert (np.bincount(first[first < 7], minlength=7) == 3).all()
        orders.append(tuple(first[first < 7][:7]))
    assert len(set(orders)) > 10


def test_mixture_is_drawn_alike_wherever_a_trial_goes_on_from() -> None:
    used, fresh = (sampler(mixed((12, 18)), weights=(1.0, 3.0)) for _ in range(2))
    draws = [used.draw(step) for step in range(30)]
    assert same(fresh.draw(29), draws[29])
    assert same(fresh.draw(3), draws[3])
    assert not same(sampler(mixed((12, 18)), seed=1, weights=(1.0, 3.0)).draw(3), draws[3])


def test_without_weights_a_mixture_is_drawn_as_the_same_images_of_one_source() -> None:
    alone, joined = sampler(captioned(), captions=2), sampler(mixed((12, 18)), captions=2)
    assert all(same(alone.draw(step), joined.draw(step)) for step in range(12))


def test_part_that_is_smaller_than_its_share_of_a_batch_is_refused() -> None:
    check_weights({"photos": 6, "drawings": 24}, (3.0, 1.0), "training.batch_size", 8)
    with pytest.raises(
        DataError, match=r"data\.train\.photos\.weight: .* 8 \(training\.batch_size\) is 6 pictures, but it has 5"
    ):
        check_weights({"photos": 5, "drawings": 24}, (3.0, 1.0), "training.batch_size", 8)
    with pytest.raises(DataError, match=r"data\.train\.drawings\.weight: .* is less than one picture"):
        check_weights({"photos": 9, "drawings": 24}, (7.5, 1.0), "training.batch_size", 8)
