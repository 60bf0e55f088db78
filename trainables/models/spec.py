"""Typed descriptions of dual encoders: what a configuration says and what a saved model carries beside its weights."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

SPEC_FILE = "spec.json"  # of a saved model, beside its weights

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
    """A causal transformer over tokens, pooled at the end mark."""

    context_length: Count
    vocab_size: Count


class ModelSpec(Typed):
    """Everything that is needed to build a dual encoder, but for its weights."""

    family: Literal["clip"] = "clip"
    embed_dim: Count
    image: ImageTower
    text: TextTower

    def parameter_count(self) -> int:
        """How many parameters a model of these sizes has, without building it (open_clip's `CustomTextCLIP`)."""
        image, text = self.image, self.text
        patches = (image.image_size // image.patch_size) ** 2
        of_images = image.width * (3 * image.patch_size**2 + 1 + (patches + 1)) + 4 * image.width
        of_texts = text.width * (text.vocab_size + text.context_length) + 2 * text.width
        projections = (image.width + text.width) * self.embed_dim
        logit_scale = 1
        return of_images + of_texts + _layers(image) + _layers(text) + projections + logit_scale


def _layers(tower: _Tower) -> int:
    """Parameters of a tower's transformer layers: attention, an MLP four times as wide, two layer norms."""
    width = tower.width
    attention, mlp, norms = 4 * width**2 + 4 * width, 8 * width**2 + 5 * width, 4 * width
    return tower.layers * (attention + mlp + norms)
