"""open_clip models from typed specs: the sizes of a spec laid on the architecture as open_clip describes it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from trainables.models.spec import ModelSpec, TextTower

# What the study fits itself, in open_clip's words.
_EMBEDDED: dict[str, Any] = {"vision_cfg": {"pool_type": "avg"}, "text_cfg": {"pool_type": "eos"}}
# What transformers calls the sizes of the text towers that open_clip takes from it: layers, width, heads, MLP width.
HF_SIZES: dict[str, tuple[str, str, str, str]] = {
    "bert": ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size"),
    "roberta": ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size"),
    "xlm-roberta": ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size"),
    "m2m_100": ("encoder_layers", "d_model", "encoder_attention_heads", "encoder_ffn_dim"),
}
# Students are compared with outputs of a teacher at rest, and trials go on from a checkpoint as if nothing had
# happened: both forbid chance within a forward pass.
_NO_DROPOUT = (
    "dropout",
    "attention_dropout",
    "activation_dropout",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "encoder_layerdrop",
)


def build_clip(spec: ModelSpec) -> Any:
    """open_clip's `CustomTextCLIP` with random weights, and the sizes of ``spec``.

    transformers and timm are told sizes in their own files, in a folder that is gone afterwards: what they make of
    them is what open_clip makes of a published model, without a network.
    """
    from open_clip import CustomTextCLIP

    with tempfile.TemporaryDirectory() as folder:
        return CustomTextCLIP(**library_config(spec, Path(folder), Path(folder)))


def library_config(spec: ModelSpec, folder: Path, lies_in: Path) -> dict[str, Any]:
    """What open_clip calls a model's configuration: the arguments of `CustomTextCLIP`.

    What transformers and timm are told of sizes is written into ``folder``, which is to be found as ``lies_in`` when
    open_clip reads the configuration.
    """
    model_cfg = deepcopy(spec.library.get("model_cfg", _EMBEDDED))
    return {
        "embed_dim": spec.embed_dim,
        "vision_cfg": _vision_cfg(spec, model_cfg["vision_cfg"], folder, lies_in),
        "text_cfg": _text_cfg(spec, model_cfg["text_cfg"], folder, lies_in),
        **{name: model_cfg[name] for name in ("quick_gelu", "init_logit_bias") if name in model_cfg},
    }


def _vision_cfg(spec: ModelSpec, published: Mapping[str, Any], folder: Path, lies_in: Path) -> dict[str, Any]:
    image = spec.image
    if published.get("timm_model_name"):
        sizes = {
            "img_size": image.image_size,
            "patch_size": image.patch_size,
            "embed_dim": image.width,
            "depth": image.layers,
            "num_heads": image.width // image.head_width,
            "mlp_ratio": _ratio(image.mlp_width, image.width),
        }
        _write(
            folder / "image", {"architecture": published["timm_model_name"], "pretrained_cfg": {}, "model_args": sizes}
        )
        return {
            **published,
            "image_size": image.image_size,
            "timm_model_name": f"local-dir:{lies_in / 'image'}",
            "timm_model_pretrained": False,
            "timm_drop": 0.0,
            "timm_drop_path": None,
        }
    return {
        **published,
        "layers": image.layers,
        "width": image.width,
        "head_width": image.head_width,
        "mlp_ratio": _ratio(image.mlp_width, image.width),
        "patch_size": image.patch_size,
        "image_size": image.image_size,
        "patch_dropout": 0.0,
    }


def _text_cfg(spec: ModelSpec, published: Mapping[str, Any], folder: Path, lies_in: Path) -> dict[str, Any]:
    text = spec.text
    if "hf_config" in spec.library:
        _write(folder / "text", _hf_config(spec.library["hf_config"], text))
        return {
            **published,
            "context_length": text.context_length,
            "hf_model_name": str(lies_in / "text"),
            "hf_model_pretrained": False,
        }
    return {
        **published,
        "layers": text.layers,
        "width": text.width,
        "heads": text.width // text.head_width,
        "mlp_ratio": _ratio(text.mlp_width, text.width),
        "context_length": text.context_length,
        "vocab_size": text.vocab_size,
        "eos_id": text.end_id,
        "pad_id": text.pad_id,
    }


def _hf_config(published: Mapping[str, Any], text: TextTower) -> dict[str, Any]:
    layers, width, heads, mlp_width = HF_SIZES[published["model_type"]]
    config = {
        **published,
        layers: text.layers,
        width: text.width,
        heads: text.width // text.head_width,
        mlp_width: text.mlp_width,
        "vocab_size": text.vocab_size,
        "pad_token_id": text.pad_id,
        **{name: 0.0 for name in _NO_DROPOUT if name in published},
    }
    if "decoder_layers" in config:
        config["decoder_layers"] = 1  # made and thrown away: only the encoder is the text tower
    return config


def _ratio(mlp_width: int, width: int) -> float:
    """What the libraries multiply ``width`` by, and round down, to get ``mlp_width``."""
    return mlp_width / width if mlp_width % width == 0 else (mlp_width + 0.5) / width


def _write(folder: Path, config: Mapping[str, Any]) -> None:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
