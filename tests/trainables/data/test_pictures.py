"""Pictures of every kind as the arrays that open_clip's and transformers' own preprocessing gives."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from tests.own_data import items
from trainables.data.pictures import PictureError, fit_picture, open_picture, read_picture


@pytest.fixture(scope="module")
def drawings() -> list[Image.Image]:
    """Emoji in shapes that are not square."""
    found = [open_picture(item.picture) for item in items("validation", ("en",), 120, 3)]
    return [found[0].crop((0, 10, 120, 90)), found[1].crop((20, 0, 81, 120)), found[2].resize((31, 45))]


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(("mode", "theirs"), [("crop", "shortest"), ("squash", "squash")])
@pytest.mark.parametrize("size", [24, 37])
def test_a_picture_fits_as_open_clip_makes_it_fit(
    drawings: list[Image.Image], mode: str, theirs: str, interpolation: str, size: int
) -> None:
    settings = PreprocessCfg(size=size, resize_mode=theirs, interpolation=interpolation, mean=(0, 0, 0), std=(1, 1, 1))
    transform = image_transform_v2(settings, is_train=False)
    for image in drawings:
        expected = (transform(image) * 255).round().byte().permute(1, 2, 0).numpy()
        found = fit_picture(image, size, mode, interpolation)  # type: ignore[arg-type]
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, expected)


def test_a_picture_fits_as_siglip_makes_it_fit(drawings: list[Image.Image]) -> None:
    processor = SiglipImageProcessorPil(
        size={"height": 24, "width": 24}, resample=Image.Resampling.BILINEAR, do_rescale=False, do_normalize=False
    )
    for image in drawings:
        expected = processor(image, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
        np.testing.assert_array_equal(fit_picture(image, 24, "squash", "bilinear"), expected)


def test_a_line_is_squashed_but_not_cut() -> None:
    line = Image.new("RGB", (1, 300_000))
    assert fit_picture(line, 24, "squash").shape == (24, 24, 3)
    with pytest.raises(PictureError, match="1 × 300000 pixels are too long and thin"):
        fit_picture(line, 24, "crop")


SQUARE = Image.fromarray(
    np.kron(np.asarray([[[200, 30, 60], [10, 220, 90]]] * 2, np.uint8), np.ones((8, 8, 1), np.uint8))
)


def test_modes_are_shown_in_their_colours() -> None:
    grey = SQUARE.convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    for image, kind, expected in (
        (SQUARE.quantize(16), "PNG", SQUARE),
        (SQUARE.quantize(16), "GIF", SQUARE),
        (SQUARE.convert("CMYK"), "TIFF", SQUARE),
        (grey, "PNG", grey.convert("RGB")),
        (deep, "PNG", grey.convert("RGB")),
        (deep, "TIFF", grey.convert("RGB")),
        (SQUARE.convert("L").point(lambda value: 255 * (value > 90)).convert("1"), "PNG", None),
    ):
        found = open_picture(encoded(image, kind))
        assert found.mode == "RGB"
        expected = image.convert("RGB") if expected is None else expected
        np.testing.assert_allclose(np.asarray(found).astype(int), np.asarray(expected).astype(int), atol=1)
    cmyk = np.asarray(open_picture(encoded(SQUARE.convert("CMYK"), "JPEG", quality=95))).astype(int)
    assert np.abs(cmyk - np.asarray(SQUARE)).mean() < 8  # of 255: what JPEG loses, not a negative


def test_what_is_transparent_is_white() -> None:
    half = SQUARE.copy()
    half.putalpha(128)
    expected = np.asarray(SQUARE).astype(float) * 128 / 255 + 255 * 127 / 255
    np.testing.assert_allclose(np.asarray(open_picture(encoded(half))), expected, atol=1)
    palette = Image.new("P", (4, 4))
    palette.putpalette([9, 9, 9, 200, 30, 60])
    palette.paste(1, (0, 0, 2, 4))
    found = np.asarray(open_picture(encoded(palette, transparency=0)))
    assert (found[:, 2:] == 255).all()
    assert (found[:, :2] == (200, 30, 60)).all()


def test_a_picture_is_turned_as_its_camera_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    found = open_picture(encoded(SQUARE, exif=exif))
    np.testing.assert_array_equal(np.asarray(found), np.rot90(np.asarray(SQUARE), -1))


def bomb(side: int) -> bytes:
    """A PNG of a few bytes that says it is so many pixels wide and high."""
    png = bytearray(encoded(Image.new("L", (1, 1))))
    header = struct.pack(">II", side, side) + bytes(png[24:29])
    png[16:29] = header
    png[29:33] = struct.pack(">I", zlib.crc32(b"IHDR" + header))
    return bytes(png)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "not a picture"),  # PIL would start Ghostscript
        (encoded(SQUARE.resize((64, 64)), "JPEG")[:-100], "damaged: OSError: .*runcated"),
        (encoded(SQUARE)[:60], "damaged|not a picture"),
        (encoded(SQUARE).replace(b"IDAT", b"IDAT\xff\xff"), "damaged"),
        (bomb(11_000), "11000 × 11000 pixels are more than"),
        (bomb(60_000), "decompression bomb"),
        (encoded(Image.new("F", (4, 4)), "TIFF"), "floats"),
    ],
    ids=["empty", "SVG", "EPS", "JPEG cut off", "PNG cut off", "PNG damaged", "large", "larger", "floats"],
)
def test_what_cannot_be_shown_is_one_kind_of_error(content: bytes, reason: str) -> None:
    with pytest.raises(PictureError, match=reason):
        open_picture(content)


def test_a_picture_is_found_as_bytes_or_beside_its_data(tmp_path: Path) -> None:
    content = encoded(SQUARE)
    (tmp_path / "a.png").write_bytes(content)
    base = str(tmp_path)
    for cell in (
        content,
        {"bytes": content, "path": "gone.png"},
        {"bytes": None, "path": str(tmp_path / "a.png")},
        "a.png",
        str(tmp_path / "a.png"),
    ):
        assert read_picture(cell, base) == content
    for cell, reason in (
        (None, "no picture"),
        ("", "no picture"),
        (7, "no picture but int"),
        ("b.png", r"there is no file .*b\.png"),
        ({"bytes": None, "path": None}, "no picture"),
        ("https://example.org/a.png", "not fetched"),
        (".", "cannot be read"),
    ):
        with pytest.raises(PictureError, match=reason):
            read_picture(cell, base)
    with pytest.raises(PictureError, match="a file that the data does not have"):
        read_picture("a.png", None)
