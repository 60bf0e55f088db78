"""Typed descriptions of dual encoders: what a configuration says and what a saved model carries beside its weights."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

SPEC_FILE = "spec.json"  # of a saved model, beside its weights

Family = Literal["clip", "siglip2"]
# Families without a projection of images: the width of their image tower is the joint dimension.
UNPROJECTED_IMAGES: frozenset[Family] = frozenset({"siglip2"})

PAD_ID, UNKNOWN_ID, START_ID, END_ID = range(4)  # of a tokenizer that the study fits itself

# Strict: neither `true` nor "3" is a number.
Count = Annotated[int, Field(ge=1, strict=True)]
TokenId = Annotated[int, Field(ge=0, strict=True)]
Channels = tuple[float, float, float]  # red, green, blue


def shaped_like(pattern: str) -> WithJsonSchema:
    """For a JSON schema: the shape of a text that a validator of its own checks, whose message says what is wrong."""
    return WithJsonSchema({"type": "string", "pattern": f"^({pattern})$"})


class Typed(BaseModel):
    """Base of every typed section: frozen, strict about unknown keys. A text below a key says what it means."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class _Tower(Typed):
    layers: Count
    width: Count
    head_width: Count = 64
    mlp_width: Count = Field(default_factory=lambda given: 4 * given["width"])
    """Of the hidden layer of its MLPs."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.head_width:
            raise ValueError(f"width {self.width} is not a multiple of head_width {self.head_width}")
        return self

    def resized(self, layers: int, width: int) -> Self:
        """This tower with so many layers of this width, and an MLP that is as much wider as it was."""
        mlp_width = max(1, round(self.mlp_width * width / self.width))
        return type(self).model_validate(
            {**self.model_dump(), "layers": layers, "width": width, "mlp_width": mlp_width}
        )


class ImageTower(_Tower):
    """A vision transformer over square patches."""

    patch_size: Count
    image_size: Count

    @property
    def patches(self) -> int:
        """How many a picture falls into."""
        return (self.image_size // self.patch_size) ** 2

    @model_validator(mode="after")
    def _patches_fill_image(self) -> Self:
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}")
        return self


class TextTower(_Tower):
    """A transformer over tokens."""

    context_length: Count
    vocab_size: Count
    pad_id: TokenId = PAD_ID
    end_id: TokenId = END_ID


class Preprocess(Typed):
    """How a picture becomes what an image tower takes: fitted to ``image_size``, as bytes, then standardised."""

    mode: Literal["squash", "crop"]
    """`crop`: the shorter side to the size, then the middle of the longer one."""
    interpolation: Literal["bilinear", "bicubic"]
    mean: Channels
    deviation: Channels


_HALF = (0.5, 0.5, 0.5)
PREPROCESS: dict[Family, Preprocess] = {  # of models that the study fits itself
    "clip": Preprocess(
        mode="squash",
        interpolation="bicubic",
        mean=(0.48145466, 0.4578275, 0.40821073),  # Radford et al. 2021, in their code
        deviation=(0.26862954, 0.26130258, 0.27577711),
    ),
    "siglip2": Preprocess(mode="squash", interpolation="bilinear", mean=_HALF, deviation=_HALF),
}


class ModelSpec(Typed):
    """Everything that is needed to build a dual encoder, but for its weights."""

    family: Family = "clip"
    embed_dim: Count
    image: ImageTower
    text: TextTower
    preprocess: Preprocess = Field(default_factory=lambda given: PREPROCESS[given["family"]])
    library: dict[str, Any] = Field(default={})
    """The model library's own description of a published architecture, on which the sizes above are laid, so that a
    student is its teacher's architecture with other sizes. Empty: the architecture that the study fits itself.
    clip: open_clip's `model_cfg`, and `hf_config` where the text tower is a transformers model of its own;
    siglip2: the content of transformers' config.json."""

    @model_validator(mode="after")
    def _images_end_in_the_joint_space(self) -> Self:
        if not self.projects_images and self.embed_dim != self.image.width:
            raise ValueError(
                f"embed_dim {self.embed_dim} is not image.width {self.image.width}: {self.family} does not project images"
            )
        return self

    @property
    def projects_images(self) -> bool:
        """Whether the joint dimension may differ from the width of the image tower."""
        if self.family in UNPROJECTED_IMAGES:
            return False
        vision = self.library.get("model_cfg", {}).get("vision_cfg", {})
        return not (vision.get("timm_model_name") and vision.get("timm_proj") == "none")
