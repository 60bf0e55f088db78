"""A dual encoder and its tokenizer as a folder that its family's own library loads, with none of our code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file

from trainables.artifacts import write_json
from trainables.models.spec import Family
from trainables.models.tokenizer import Tokenizer

if TYPE_CHECKING:
    from trainables.models.dual_encoder import DualEncoder


@dataclass(frozen=True)
class Format:
    """How the models of a family are published."""

    write: Callable[[Any, Tokenizer, Path, Path], None]  # a model of the family; the rest as of `publish`
    library: str  # as the hub names it
    tags: tuple[str, ...]
    usage: str  # Python that compares a picture with texts; {folder} stands for where the model lies
    note: str  # what else its users must know


def publish(model: DualEncoder, tokenizer: Tokenizer, folder: Path, lies_in: Path) -> None:
    """Write the model into an empty folder, which is ``lies_in`` in the end.

    Raises:
        OSError: if a file cannot be written.
    """
    FORMATS[model.spec.family].write(model, tokenizer, folder, lies_in)


def _write_clip(model: Any, tokenizer: Tokenizer, folder: Path, lies_in: Path) -> None:
    """The files that `open_clip.push_to_hf_hub` writes.

    open_clip cleans a text before it reaches the tokenizer: white space and quotation marks, which a fitted tokenizer
    treats alike, but also broken Unicode and HTML entities, which it does not.
    """
    from open_clip.constants import HF_CONFIG_NAME, HF_SAFE_WEIGHTS_NAME

    from trainables.models.openclip_architecture import library_config

    config = library_config(model.spec, folder, lies_in.absolute())
    # Any name says that the tokenizer is one of transformers, which is then read from the same local folder.
    config["text_cfg"] |= {"hf_tokenizer_name": ".", "tokenizer_kwargs": {"clean": tokenizer.cleaning or "whitespace"}}
    standard = model.spec.preprocess
    preprocess = {
        "mean": standard.mean,
        "std": standard.deviation,
        "interpolation": standard.interpolation,
        "resize_mode": "shortest" if standard.mode == "crop" else standard.mode,
    }
    write_json(folder / HF_CONFIG_NAME, {"model_cfg": {**config, "custom_text": True}, "preprocess_cfg": preprocess})
    save_file(
        {name: tensor.contiguous() for name, tensor in model.clip.state_dict().items()}, folder / HF_SAFE_WEIGHTS_NAME
    )
    tokenizer.for_transformers().save_pretrained(folder)


def _write_siglip2(model: Any, tokenizer: Tokenizer, folder: Path, _lies_in: Path) -> None:
    """A student of NaFlex has only seen squares; its processor keeps proportions, within as many patches."""
    from PIL.Image import Resampling
    from transformers import Siglip2ImageProcessor, Siglip2Processor, SiglipImageProcessor, SiglipProcessor

    image, standard, words = model.spec.image, model.spec.preprocess, tokenizer.for_transformers()
    settings = {
        "image_mean": standard.mean,
        "image_std": standard.deviation,
        "resample": Resampling[standard.interpolation.upper()],
    }
    processor: Any
    if model.siglip.config.model_type == "siglip2":
        pictures = Siglip2ImageProcessor(patch_size=image.patch_size, max_num_patches=image.patches, **settings)
        processor = Siglip2Processor(pictures, words)
    else:
        square = {"height": image.image_size, "width": image.image_size}
        processor = SiglipProcessor(SiglipImageProcessor(size=square, **settings), words)
    model.siglip.save_pretrained(folder)
    processor.save_pretrained(folder)


_CLIP_USAGE = """\
import open_clip
from PIL import Image
model, preprocess = open_clip.create_model_from_pretrained("local-dir:{folder}")
tokenizer = open_clip.get_tokenizer("local-dir:{folder}")
image = model.encode_image(preprocess(Image.open("cat.png"))[None], normalize=True)
text = model.encode_text(tokenizer(["a cat", "un gato"]), normalize=True)
print(image @ text.T)"""

_SIGLIP2_USAGE = """\
from PIL import Image
from transformers import AutoModel, AutoProcessor
model, processor = AutoModel.from_pretrained("{folder}"), AutoProcessor.from_pretrained("{folder}")
inputs = processor(text=["a cat", "un gato"], images=[Image.open("cat.png").convert("RGB")], return_tensors="pt")
print(model(**inputs).logits_per_image.sigmoid())"""

_CLIP_NOTE = (
    "In a repository of the hub, `hf_tokenizer_name` in `open_clip_config.json` must be the repository's id: open_clip "
    "looks for the tokenizer there. Where that file names this folder, it must be told if the folder moves."
)
_SIGLIP2_NOTE = "The model expects texts padded to that length, as the processor pads them."

FORMATS: dict[Family, Format] = {
    "clip": Format(_write_clip, "open_clip", ("clip",), _CLIP_USAGE, _CLIP_NOTE),
    "siglip2": Format(_write_siglip2, "transformers", ("siglip",), _SIGLIP2_USAGE, _SIGLIP2_NOTE),
}
