"""What open_clip says of a checkpoint: in a repository's own configuration, or in the list that comes with it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainables.models.checkpoint import OPEN_CLIP_CONFIG, CheckpointError, Repository, Source, read_json

_WEIGHTS = (  # the first that there is: safetensors before anything else
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "model.safetensors",
    "open_clip_pytorch_model.bin",
    "pytorch_model.bin",
)


@dataclass(frozen=True)
class Published:
    """What open_clip says of a checkpoint."""

    model_cfg: Mapping[str, Any]
    preprocess_cfg: Mapping[str, Any]
    repository: Repository | None  # None: the weights are at an address
    weights: tuple[str, ...]  # file names, or the address
    is_in_hub_format: bool  # the repository has the configuration and the tokenizer too


def in_repository(repository: Repository) -> Published:
    content = read_json(repository.fetch([OPEN_CLIP_CONFIG]) / OPEN_CLIP_CONFIG)
    model_cfg = content.get("model_cfg")
    if not isinstance(model_cfg, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= set(model_cfg):
        raise CheckpointError(f"{repository.name}: {OPEN_CLIP_CONFIG} has no complete model_cfg")
    return Published(model_cfg, content.get("preprocess_cfg") or {}, repository, _WEIGHTS, is_in_hub_format=True)


def in_list(source: Source) -> Published:
    from open_clip import get_model_config, list_models
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained, list_pretrained_tags_by_model

    name, tag = source.open_clip_name, source.open_clip_tag
    model_cfg = get_model_config(name) if name in list_models() else None
    if model_cfg is None:
        known = list(dict.fromkeys(model for model, _tag in list_pretrained()))
        near = difflib.get_close_matches(name, known, 1)
        raise CheckpointError(f"open_clip has no model {name!r}{f': did you mean {near[0]}?' if near else ''}")
    tags = list_pretrained_tags_by_model(name)
    published = get_pretrained_cfg(name, tag)
    if not published:
        near = difflib.get_close_matches(tag, tags, 1)
        hint = f"did you mean {name}:{near[0]}?" if near else f"there are {', '.join(tags) or 'no weights at all'}"
        raise CheckpointError(f"open_clip has no weights {tag!r} of {name}: {hint}")
    if published.get("quick_gelu", False) != model_cfg.get("quick_gelu", False):
        raise CheckpointError(
            f"{name}:{tag} was trained with QuickGELU, which this architecture lacks: take {name}-quickgelu:{tag}"
        )
    if address := published.get("hf_hub"):
        hub_id, _, file = address.rpartition("/")
        files = (f"{file.rpartition('.')[0]}.safetensors", file) if file else _WEIGHTS
        repository = Repository(hub_id, source.revision, is_local=False)
        return Published(model_cfg, published, repository, files, is_in_hub_format=False)
    if source.revision is not None:
        raise CheckpointError(f"{name}:{tag} is not on the hub and has no revisions: leave teacher.revision out")
    return Published(model_cfg, published, None, (published["url"],), is_in_hub_format=False)
