"""Pictures of every kind that people have, as the square RGB arrays that a model sees."""

from __future__ import annotations

import dataclasses
import io
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from trainables.data.remote import opened

if TYPE_CHECKING:
    from trainables.data.prepared import Array

Fit = Literal["squash", "crop"]
Interpolation = Literal["bilinear", "bicubic"]

# Raster formats alone: others, such as EPS, would have PIL start programs.
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_MOST_PIXELS = 100_000_000  # of a picture that is opened: a small file may hold one that fills the memory
_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
# Of lossless forms one that is quick: of photographs of 640 × 480 pixels, fitted to 224, it takes 3 ms to write, half of their
# arrays' bytes, and 1.7 ms to read, where decoding and fitting the JPEG takes 5 to 9. Slower ones save another tenth.
_LOSSLESS: dict[str, Any] = {"format": "WEBP", "lossless": True, "method": 0, "quality": 50}
_WHITE = (255, 255, 255, 255)


class PictureError(ValueError):
    """A picture that is missing or cannot be read, and why."""


def read_picture(cell: Any, base: str | None) -> bytes:
    """The encoded bytes of a picture as a data set has it: bytes, a path, or a mapping with ``bytes`` or ``path``.

    ``base``: the folder or URL that paths are relative to; None where the data has no folder.

    Raises:
        PictureError: if there is none, or its file cannot be read.
    """
    named = isinstance(cell, dict)  # by `datasets`, which has the file
    if named:
        cell = cell.get("bytes") or cell.get("path")
    if isinstance(cell, bytes | bytearray):
        return bytes(cell)
    if not isinstance(cell, str) or not cell:
        raise PictureError(f"no picture but {type(cell).__name__}" if cell else "no picture")
    if base is None and not named:
        raise PictureError(f"no picture but the path {cell}, of a file that the data does not have")
    if "://" in cell and not cell.startswith(f"{base}/"):
        raise PictureError(f"{cell} is not fetched: pictures lie beside their data, or in it")
    is_remote = base is not None and "://" in base
    where = cell if "://" in cell else f"{base}/{cell}" if is_remote else str(Path(base or "/", cell))
    try:
        if not is_remote:
            return Path(where).read_bytes()
        with opened(where, "rb") as file:
            content: bytes = file.read()
            return content
    except FileNotFoundError:
        raise PictureError(f"there is no file {where}") from None
    except Exception as error:  # what clients of storage raise has no base in common
        raise PictureError(f"{where} cannot be read: {_short(error)}") from None


def open_picture(content: bytes) -> Image.Image:
    """A picture in RGB, turned as its EXIF data says and laid on white where it is transparent.

    Sixteen bits become eight; of several frames it is the first.

    Raises:
        PictureError: if it is no picture, is damaged or cut off, or has more pixels than are opened.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes, which are checked here, and of odd EXIF data
            picture = Image.open(io.BytesIO(content), formats=_formats())
            if picture.width * picture.height > _MOST_PIXELS:
                raise PictureError(f"{picture.width} × {picture.height} pixels are more than {_MOST_PIXELS:,}")
            picture.load()
            ImageOps.exif_transpose(picture, in_place=True)
            return _rgb(picture)
    except (PictureError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise PictureError(_short(error)) from None
    except UnidentifiedImageError:
        raise PictureError("not a picture") from None
    except Exception as error:  # what a decoder raises for damaged data is as various as the formats
        raise PictureError(f"damaged: {_short(error)}") from None


@cache
def _formats() -> list[str]:
    """Those that this PIL was built with."""
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # grey of 16 bits, which PIL would cut off at 255
        grey = np.asarray(picture).astype(np.int64)
        return Image.fromarray(np.clip((grey + 128) // 257, 0, 255).astype(np.uint8)).convert("RGB")
    if picture.mode == "F":
        raise PictureError("its values are floats, whose range is not known")
    if picture.has_transparency_data:
        on_white = Image.new("RGBA", picture.size, _WHITE)
        on_white.alpha_composite(picture.convert("RGBA"))
        picture = on_white
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def fit_picture(image: Image.Image, size: int, mode: Fit = "squash", interpolation: Interpolation = "bicubic") -> Array:
    """A picture as uint8 [size, size, 3].

    squash: resized to a square whatever its shape (SigLIP's); crop: its shortest side resized, the middle cut out
    (CLIP's). Both as open_clip's `image_transform` does before it turns to floats (torchvision `Resize`, `CenterCrop`).

    Raises:
        PictureError: if it is so long and thin that it cannot be cut.
    """
    if mode == "squash":
        return np.asarray(image.resize((size, size), _RESAMPLING[interpolation]))
    short = min(image.size)
    width, height = (size if side == short else int(size * side / short) for side in image.size)
    if width * height > _MOST_PIXELS:
        raise PictureError(f"{image.width} × {image.height} pixels are too long and thin to be cut to a square")
    left, top = round((width - size) / 2.0), round((height - size) / 2.0)
    resized = image.resize((width, height), _RESAMPLING[interpolation])
    return np.asarray(resized.crop((left, top, left + size, top + size)))


@dataclass(frozen=True)
class Pixels:
    """How a picture becomes what a model sees: by default squashed to a square of so many pixels a side.

    ``budget``: the bytes that the decoded pictures of one data set may take; a larger one's are ``encoded``.
    """

    size: int
    fit: Fit = "squash"
    interpolation: Interpolation = "bicubic"
    budget: int = 20_000_000_000
    encoded: bool = False

    def of_so_many(self, pictures: int) -> Self:
        """The same, for a data set of so many pictures."""
        return dataclasses.replace(self, encoded=pictures * self.size**2 * 3 > self.budget)

    @property
    def form(self) -> list[Any]:
        """What names how they are stored."""
        return [self.size, self.fit, self.interpolation, *(["encoded"] if self.encoded else [])]

    def fitted(self, content: bytes) -> Array:
        """An encoded picture as uint8 [size, size, 3].

        Raises:
            PictureError: if it cannot be read or fitted.
        """
        return fit_picture(open_picture(content), self.size, self.fit, self.interpolation)

    def packed(self, content: bytes) -> bytes:
        """Bytes that `fitted` makes the same of as of ``content``, but sooner.

        They are the user's own if the picture has no more pixels than the fitted one; otherwise those of the fitted
        picture without loss, which fitting leaves as it is.

        Raises:
            PictureError: as `fitted` does.
        """
        picture = open_picture(content)
        fitted = fit_picture(picture, self.size, self.fit, self.interpolation)
        if picture.width * picture.height <= self.size**2 and len(content) <= fitted.nbytes:
            return content
        buffer = io.BytesIO()
        Image.fromarray(fitted).save(buffer, **_LOSSLESS)
        return buffer.getvalue()


def _short(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
