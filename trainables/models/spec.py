"""Typed descriptions of dual encoders: what a configuration says and what a saved model carries beside its weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

SPEC_FILE = "spec.json"  # of a saved model, beside its weights

Family = Literal["clip", "siglip2"]
# Families without a projection of images: the width of their image tower is the joint dimension.
UNPROJECTED_IMAGES: frozenset[Family] = frozenset({"siglip2"})

# Strict: neither `true` nor "3" is a number.
Count = Annotated[int, Field(ge=1, strict=True)]


class Typed(BaseModel):
    """Base of every typed section: frozen, strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Tower(Typed):
    layers: Count
    width: Count
    head_width: Count = 64

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.head_width:
            raise ValueError(f"width {self.width} is not a multiple of head_width {self.head_width}")
        return self


class ImageTower(_Tower):
    """A vision transformer over square patches."""

    patch_size: Count
    image_size: Count

    @model_validator(mode="after")
    def _patches_fill_image(self) -> Self:
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}")
        return self


class TextTower(_Tower):
    """A transformer over tokens: causal and pooled at the end mark in CLIP, neither in SigLIP2."""

    context_length: Count
    vocab_size: Count


class ModelSpec(Typed):
    """Everything that is needed to build a dual encoder, but for its weights."""

    family: Family = "clip"
    embed_dim: Count
    image: ImageTower
    text: TextTower

    @model_validator(mode="after")
    def _images_end_in_the_joint_space(self) -> Self:
        if self.family in UNPROJECTED_IMAGES and self.embed_dim != self.image.width:
            raise ValueError(
                f"embed_dim {self.embed_dim} is not image.width {self.image.width}: {self.family} does not project images"
            )
        return self

    def parameter_count(self) -> int:
        """How many parameters a model of these sizes has, without building it."""
        return _stems(self) + _layers(self.image) + _layers(self.text) + _ENDS[self.family](self)


def _stems(spec: ModelSpec) -> int:
    """Embeddings of patches, tokens and their positions."""
    image, text = spec.image, spec.text
    patches = (image.image_size // image.patch_size) ** 2
    return image.width * (3 * image.patch_size**2 + patches) + text.width * (text.vocab_size + text.context_length)


def _layers(tower: _Tower) -> int:
    """A tower's transformer layers: attention, an MLP four times as wide, two layer norms."""
    width = tower.width
    attention, mlp, norms = 4 * width**2 + 4 * width, 8 * width**2 + 5 * width, 4 * width
    return tower.layers * (attention + mlp + norms)


def _clip_ends(spec: ModelSpec) -> int:
    """What open_clip's `CustomTextCLIP` has beside: class token and its position, norms, projections, logit scale."""
    image, text = spec.image.width, spec.text.width
    return 2 * image + 4 * image + 2 * text + (image + text) * spec.embed_dim + 1


def _siglip2_ends(spec: ModelSpec) -> int:
    """What `SiglipModel` has beside: bias of patches, norms, pooling head, projection of texts, logit scale and bias."""
    image, text = spec.image.width, spec.text.width
    pooling = image + _layers(spec.image) // spec.image.layers - 2 * image  # a probe, and a layer but for one norm
    return image + 2 * image + 2 * text + pooling + (text + 1) * spec.embed_dim + 2


_ENDS: dict[Family, Callable[[ModelSpec], int]] = {"clip": _clip_ends, "siglip2": _siglip2_ends}
