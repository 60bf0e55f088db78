"""open_clip checkpoints: their spec, tokenizer and weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, get_args

from trainables.models.checkpoint import (
    OPEN_CLIP_CONFIG,
    CheckpointError,
    Repository,
    Source,
    digest,
    in_one_line,
    read_json,
)
from trainables.models.dual_encoder import DualEncoder
from trainables.models.openclip_architecture import HF_SIZES
from trainables.models.openclip_published import in_list, in_repository
from trainables.models.published import TOKENIZER_FILES, architecture, clip_tokenizer, fast_tokenizer
from trainables.models.spec import ModelSpec
from trainables.models.tokenizer import Cleaning, save_tokenizer

_MODES = {"shortest": "crop", "squash": "squash"}


class OpenClipCheckpoint:
    """A model of open_clip in a repository, or in open_clip's own list."""

    def __init__(self, source: Source) -> None:
        self._listed = f"{source.open_clip_name}:{source.open_clip_tag}" if source.repository is None else None
        self._published = in_repository(source.repository) if source.repository else in_list(source)
        self._text: dict[str, Any] = dict(self._published.model_cfg["text_cfg"])
        if "multimodal_cfg" in self._published.model_cfg:
            raise CheckpointError(f"{self._name} writes captions (CoCa): only dual encoders can be teachers")
        self._tokenizer_settings = dict(self._text.get("tokenizer_kwargs") or {})
        self._clean = self._tokenizer_settings.pop("clean", "whitespace" if self._tokenizer_name else "lower")
        unknown = [key for key in ("strip_sep_token", "reduction_mask") if key in self._tokenizer_settings]
        if self._text.get("tokenizer_mode") or self._clean not in get_args(Cleaning) or unknown:
            raise CheckpointError(f"{self._name} cuts or marks texts in a way of its own, which cannot be used here")

    @property
    def _name(self) -> str:
        published = self._published
        return published.repository.name if published.repository else published.weights[0]

    @property
    def _tokenizer_name(self) -> str | None:
        """Of transformers' tokenizer, None for CLIP's own."""
        return self._text.get("hf_tokenizer_name")

    @property
    def _context_length(self) -> int:
        return int(self._text.get("context_length", 77))

    def spec(self, image_size: int | None) -> ModelSpec:
        """Of the published configuration; ``image_size``: of open_clip's own image towers, by default as trained.

        Raises:
            CheckpointError: if a tower is of a kind that cannot be used here.
        """
        from open_clip.transform import PreprocessCfg, merge_preprocess_dict

        published = self._published
        preprocess = merge_preprocess_dict(PreprocessCfg(), dict(published.preprocess_cfg))
        if preprocess["resize_mode"] not in _MODES:
            raise CheckpointError(
                f"{self._name} fits pictures by {preprocess['resize_mode']!r}, not {' or '.join(_MODES)}"
            )
        text, library = self._text_tower()
        return ModelSpec.model_validate(
            {
                "family": "clip",
                "embed_dim": published.model_cfg["embed_dim"],
                "image": self._image_tower(image_size),
                "text": text,
                "preprocess": {
                    "mode": _MODES[preprocess["resize_mode"]],
                    "interpolation": "bilinear" if preprocess["interpolation"] == "bilinear" else "bicubic",
                    "mean": tuple(preprocess["mean"]),
                    "deviation": tuple(preprocess["std"]),
                },
                "library": {"model_cfg": _named_by_architecture(published.model_cfg), **library},
            }
        )

    def save_tokenizer(self, folder: Path) -> None:
        """As `open_clip.get_tokenizer` makes it.

        Raises:
            CheckpointError: if it cannot be read.
        """
        if name := self._tokenizer_name:
            backend, pad_id = fast_tokenizer(self._tokenizer_repository(name), **self._tokenizer_settings)
        else:
            backend, pad_id = clip_tokenizer()
        save_tokenizer(backend, folder, self._context_length, pad_id, self._clean)

    def load_weights(self, model: DualEncoder) -> None:
        """Into a model of `spec`; its positions are resampled to its image size.

        Raises:
            CheckpointError: if there are none, or they do not fit the configuration.
        """
        from open_clip.factory import load_checkpoint

        path = self._weights()
        try:
            load_checkpoint(model.clip, str(path), strict=True, weights_only=True)
        except Exception as error:  # what torch, safetensors and open_clip make of a damaged file
            raise CheckpointError(f"the weights in {path} cannot be used: {in_one_line(error)}") from None

    def identity(self) -> dict[str, Any]:
        """Of the weights and of all that is taken from other repositories."""
        published = self._published
        found: dict[str, str] = {}
        for repository, files in self._repositories():
            found |= repository.identity(repository.fetch(files))
        weights = self._weights()
        if published.repository is None:
            found[published.weights[0]] = digest(weights)
        if self._listed:
            found["open_clip"] = self._listed
        return found

    def _repositories(self) -> list[tuple[Repository, tuple[str, ...]]]:
        published = self._published
        found: list[tuple[Repository, tuple[str, ...]]] = []
        if published.repository:
            found.append((published.repository, (OPEN_CLIP_CONFIG, *TOKENIZER_FILES)))
        if name := self._text.get("hf_model_name"):
            found.append((self._other(name), ("config.json",)))
        if name := self._tokenizer_name:
            found.append((self._tokenizer_repository(name), TOKENIZER_FILES))
        return found

    def _weights(self) -> Path:
        published = self._published
        if published.repository is None:
            from open_clip.pretrained import download_pretrained_from_url

            try:
                return Path(download_pretrained_from_url(published.weights[0]))
            except Exception as error:
                raise CheckpointError(f"{self._name} cannot be downloaded: {in_one_line(error)}") from None
        path = published.repository.first_of(published.weights)
        if path is None:
            raise CheckpointError(f"{self._name} has no weights: none of {', '.join(published.weights)}")
        return path

    def _tokenizer_repository(self, name: str) -> Repository:
        """A folder has its own tokenizer, whatever name its configuration gives: so does open_clip read it."""
        repository = self._published.repository
        if repository is not None and repository.is_local and self._published.is_in_hub_format:
            return repository
        return self._other(name)

    def _other(self, name: str) -> Repository:
        """What a configuration names beside the checkpoint itself."""
        repository = self._published.repository
        if repository is not None and name == repository.name:
            return repository
        if os.path.isdir(name):
            return Repository(name, None, is_local=True)
        return Repository(name, None, is_local=False)

    def _text_tower(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The sizes of the text tower, and what the spec's library holds beside open_clip's own configuration."""
        from open_clip.model import CLIPTextCfg

        if not self._text.get("hf_model_name"):
            text = CLIPTextCfg(**self._text)
            return {
                "layers": text.layers,
                "width": text.width,
                "head_width": text.width // text.heads,
                "mlp_width": int(text.width * text.mlp_ratio),
                "context_length": text.context_length,
                "vocab_size": text.vocab_size,
                "pad_id": text.pad_id,
                "end_id": text.eos_id,
            }, {}
        from transformers import AutoConfig

        name = self._text["hf_model_name"]
        try:
            config = AutoConfig.from_pretrained(self._other(name).fetch(["config.json"]), trust_remote_code=False)
        except CheckpointError:
            raise
        except Exception as error:
            raise CheckpointError(f"{name}, {self._name}'s text tower, cannot be read: {in_one_line(error)}") from None
        if config.model_type not in HF_SIZES:
            raise CheckpointError(
                f"{self._name} has a text tower of transformers' type {config.model_type!r}: those that can be used are "
                f"{', '.join(HF_SIZES)}"
            )
        layers, width, heads, mlp_width = (getattr(config, key) for key in HF_SIZES[config.model_type])
        return {
            "layers": layers,
            "width": width,
            "head_width": width // heads,
            "mlp_width": mlp_width,
            "context_length": self._context_length,
            "vocab_size": config.vocab_size,
            "pad_id": config.pad_token_id,
        }, {"hf_config": architecture(config)}

    def _image_tower(self, image_size: int | None) -> dict[str, Any]:
        from open_clip.model import CLIPVisionCfg

        vision = CLIPVisionCfg(**self._published.model_cfg["vision_cfg"])
        if vision.timm_model_name:
            found = _timm_sizes(vision.timm_model_name)
            if image_size not in (None, found["image_size"]):
                raise CheckpointError(
                    f"{self._name} takes images of {found['image_size']}: teacher.image_size is for open_clip's own image "
                    "towers and for SigLIP2 NaFlex"
                )
            return found
        if not isinstance(vision.layers, int):
            raise CheckpointError(f"{self._name} has a convolutional image tower: students are cut from transformers")
        return {
            "layers": vision.layers,
            "width": vision.width,
            "head_width": vision.head_width,
            "mlp_width": int(vision.width * vision.mlp_ratio),
            "patch_size": vision.patch_size,
            "image_size": image_size or vision.image_size,
        }


def _named_by_architecture(model_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration whose timm tower has the name of its architecture, where that of an exported student names a folder
    with its sizes.
    """
    config = deepcopy(dict(model_cfg))
    place = (config["vision_cfg"].get("timm_model_name") or "").partition("local-dir:")[2]
    if place:
        config["vision_cfg"]["timm_model_name"] = read_json(Path(place, "config.json"))["architecture"]
    return config


def _timm_sizes(name: str) -> dict[str, int]:
    """The sizes of timm's vision transformer of this name.

    Raises:
        CheckpointError: if it is none, or one with layers of another build.
    """
    import timm
    import torch
    from timm.layers.mlp import Mlp
    from timm.models import VisionTransformer

    with torch.device("meta"):
        trunk = timm.create_model(name, pretrained=False)
    if not isinstance(trunk, VisionTransformer) or not all(isinstance(block.mlp, Mlp) for block in trunk.blocks):
        raise CheckpointError(f"timm's {name} is no plain vision transformer: students are cut from those")
    block: Any = trunk.blocks[0]
    return {
        "layers": len(trunk.blocks),
        "width": int(trunk.embed_dim),
        "head_width": trunk.embed_dim // block.attn.num_heads,
        "mlp_width": block.mlp.fc1.out_features,
        "patch_size": trunk.patch_embed.patch_size[0],
        "image_size": trunk.patch_embed.img_size[0],
    }
