"""Tiny checkpoints with random weights, one of each kind, saved as the libraries themselves save and publish theirs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, models, trainers
from tokenizers import Tokenizer as Backend

from trainables.data.emoji import catalogue

Kind = Literal["siglip2", "naflex", "native", "sigmoid", "xlm-r", "nllb"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# Names in all languages, and what an open_clip tokenizer cleans.
TEXTS = [
    *(name for entry in catalogue()[::400] for name in entry.names),
    "An  OLD &amp; Tired\tCat's   don't 42 times",
    "ＦＵＬＬ width, naïve café — “quoted” ☃️ 🏽",
    "İstanbul ΣΑΣ ß <end_of_text>",
    "a very long text about nothing in particular " * 12,
    "",
]
_SIGLIP_SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
}


def save_checkpoint(kind: Kind, folder: Path) -> Path:
    """A folder in the hub's format."""
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        if kind in ("siglip2", "naflex"):
            _save_siglip2(kind, folder)
        else:
            _save_open_clip(kind, folder)
    return folder


def _save_siglip2(kind: Kind, folder: Path) -> None:
    from transformers import (
        Siglip2Config,
        Siglip2ImageProcessor,
        Siglip2Model,
        Siglip2Processor,
        SiglipConfig,
        SiglipImageProcessor,
        SiglipModel,
        SiglipProcessor,
    )

    tokenizer = _gemma_tokenizer()
    text = {**_SIGLIP_SIZES, "vocab_size": len(tokenizer), "max_position_embeddings": 64, "projection_size": 64}
    model: Any
    if kind == "siglip2":
        model = SiglipModel(
            SiglipConfig(vision_config={**_SIGLIP_SIZES, "image_size": 32, "patch_size": 8}, text_config=text)
        )
        images = SiglipImageProcessor(size={"height": 32, "width": 32}, resample=2)
        processor: Any = SiglipProcessor(images, tokenizer)
    else:
        vision = {**_SIGLIP_SIZES, "num_patches": 16, "patch_size": 8}
        model = Siglip2Model(Siglip2Config(vision_config=vision, text_config=text))
        processor = Siglip2Processor(Siglip2ImageProcessor(patch_size=8, max_num_patches=16), tokenizer)
    _stir(model)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _save_open_clip(kind: Kind, folder: Path) -> None:
    import open_clip
    from open_clip.model import CLIP, CustomTextCLIP

    vision: dict[str, Any] = {"image_size": 32, "layers": 3, "width": 64, "head_width": 32, "patch_size": 8}
    preprocess: dict[str, Any] = {"resize_mode": "shortest", "interpolation": "bicubic"}
    cfg: dict[str, Any]
    if kind == "native":  # as OpenAI's: the CLIP class, QuickGELU, the class token, the end mark as the largest id
        text: dict[str, Any] = {"width": 64, "heads": 2, "layers": 3, "mlp_ratio": 3.0}
        cfg = {"embed_dim": 48, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
        model: Any = CLIP(**cfg)
    elif kind == "sigmoid":  # as SigLIP in open_clip: a text tower that looks both ways, the last token, a bias
        _gemma_tokenizer().save_pretrained(folder)
        text = {
            "context_length": 16, "vocab_size": len(_gemma_tokenizer()), "width": 64, "heads": 2, "layers": 3,
            "hf_tokenizer_name": "timm/ViT-B-16-SigLIP2", "tokenizer_kwargs": {"clean": "canonicalize"},
            "no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6},
            "act_kwargs": {"approximate": "tanh"},
        }  # fmt: skip
        cfg = {
            "embed_dim": 48, "init_logit_bias": -10, "custom_text": True,
            "vision_cfg": {**vision, "ls_init_value": 0.5, "no_ln_pre": True, "pool_type": "avg"}, "text_cfg": text,
        }  # fmt: skip
        model = CustomTextCLIP(**{name: value for name, value in cfg.items() if name != "custom_text"})
        preprocess = {"resize_mode": "squash", "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3}
    else:
        text_model = "xlm-r" if kind == "xlm-r" else "m2m"
        (_save_xlm_r if kind == "xlm-r" else _save_m2m)(folder, folder / text_model)
        text = {
            "hf_model_name": str(folder / text_model), "hf_tokenizer_name": text_model, "context_length": 24,
            **({"hf_pooler_type": "mean_pooler"} if kind == "xlm-r" else
               {"hf_pooler_type": "cls_pooler", "hf_proj_type": "linear"}),
        }  # fmt: skip
        cfg = {"embed_dim": 48, "vision_cfg": vision, "text_cfg": text}
        if kind == "nllb":
            timm = {"image_size": 160, "timm_model_name": "test_vit3", "timm_pool": "map", "timm_proj": "none"}
            cfg |= {"embed_dim": 96, "init_logit_bias": -10, "custom_text": True, "vision_cfg": timm}
            preprocess |= {"mean": [0.5] * 3, "std": [0.5] * 3}
        fresh = {**text, "hf_model_pretrained": False}
        names = ("embed_dim", "init_logit_bias", "vision_cfg")
        model = CustomTextCLIP(**{name: cfg[name] for name in names if name in cfg}, text_cfg=fresh)
    _stir(model)
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    mean = {"mean": list(open_clip.OPENAI_DATASET_MEAN), "std": list(open_clip.OPENAI_DATASET_STD)}
    content = {"model_cfg": cfg, "preprocess_cfg": {**mean, **preprocess}}
    (folder / "open_clip_config.json").write_text(json.dumps(content), encoding="utf-8")


def _save_xlm_r(folder: Path, text_model: Path) -> None:
    from transformers import XLMRobertaConfig, XLMRobertaTokenizer

    trainer = trainers.UnigramTrainer(
        vocab_size=400, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    backend = Backend(models.Unigram())
    backend.train_from_iterator(["▁" + word for text in TEXTS for word in text.split()], trainer)
    pieces = json.loads(backend.to_str())["model"]["vocab"]
    tokenizer = XLMRobertaTokenizer(vocab=[(piece, score) for piece, score in pieces])
    tokenizer.save_pretrained(folder)
    XLMRobertaConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=48,
        max_position_embeddings=40,
    ).save_pretrained(text_model)  # fmt: skip


def _save_m2m(folder: Path, text_model: Path) -> None:
    from transformers import M2M100Config, NllbTokenizer

    vocab, merges = _bpe(["<s>", "<pad>", "</s>", "<unk>"], unknown="<unk>")
    tokenizer = NllbTokenizer(vocab=vocab, merges=merges)
    tokenizer.save_pretrained(folder)
    M2M100Config(
        vocab_size=len(tokenizer), d_model=32, encoder_layers=3, encoder_attention_heads=2, encoder_ffn_dim=48,
        decoder_layers=2, decoder_attention_heads=2, decoder_ffn_dim=48, max_position_embeddings=40,
    ).save_pretrained(text_model)  # fmt: skip


def _gemma_tokenizer() -> Any:
    """Of the kind that SigLIP2's checkpoints name in their files, which does not lower-case by itself."""
    from transformers import GemmaTokenizer

    marks = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    vocab, merges = _bpe([*marks, *(f"<0x{byte:02X}>" for byte in range(256))], unknown="<unk>")
    return GemmaTokenizer(
        vocab=vocab, merges=merges, add_bos_token=False, add_eos_token=True, padding_side="right", model_max_length=64
    )


def _bpe(first: list[str], unknown: str) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a BPE fitted on the texts, with these pieces first."""
    backend = Backend(models.BPE(unk_token=unknown))
    trainer = trainers.BpeTrainer(
        vocab_size=len(first) + 400,
        special_tokens=[AddedToken(piece, special=False) for piece in first],
        show_progress=False,
    )
    backend.train_from_iterator([text.lower().replace(" ", "▁") for text in TEXTS], trainer)
    model = json.loads(backend.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def _stir(model: torch.nn.Module) -> None:
    """Move every parameter off its start, zeros and ones included, so that none can be overlooked."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
