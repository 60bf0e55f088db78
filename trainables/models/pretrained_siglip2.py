"""SigLIP2 checkpoints of transformers: their spec, tokenizer and weights."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from tokenizers import normalizers
from torch import nn

from trainables.models.checkpoint import CheckpointError, Repository, in_one_line
from trainables.models.dual_encoder import DualEncoder
from trainables.models.published import TOKENIZER_FILES, architecture, fast_tokenizer, sizes
from trainables.models.spec import ModelSpec
from trainables.models.tokenizer import save_tokenizer

_CONFIGS = ("config.json", "preprocessor_config.json", "processor_config.json")
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
_RESAMPLE = {2: "bilinear", 3: "bicubic"}  # PIL's numbers


class Siglip2Checkpoint:
    """`SiglipModel` or `Siglip2Model` (NaFlex) in a repository."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def spec(self, image_size: int | None) -> ModelSpec:
        """Of the published configuration; ``image_size``: of NaFlex, by default what its table of positions is for.

        Raises:
            CheckpointError: if the configuration is not one of SigLIP2, or its resolution is fixed.
        """
        from transformers import AutoConfig, AutoImageProcessor

        folder = self._repository.fetch(_CONFIGS)
        try:
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=False)
        except Exception as error:  # both raise whatever a damaged file makes them
            raise CheckpointError(
                f"{self._repository.name} cannot be read by transformers: {in_one_line(error)}"
            ) from None
        vision, text = config.vision_config, config.text_config
        if not getattr(vision, "vision_use_head", True):
            raise CheckpointError(f"{self._repository.name} has no pooling head of images (vision_use_head)")
        if config.model_type == "siglip2":
            size = image_size or round(vision.num_patches**0.5) * vision.patch_size
        else:
            size = vision.image_size
            if image_size not in (None, size):
                raise CheckpointError(
                    f"{self._repository.name} takes images of {size}: teacher.image_size is for NaFlex and for "
                    "open_clip's own image towers"
                )
        interpolation = _RESAMPLE.get(int(processor.resample))
        if interpolation is None:
            raise CheckpointError(f"{self._repository.name} resizes pictures by PIL's {processor.resample!r}")
        return ModelSpec.model_validate(
            {
                "family": "siglip2",
                "embed_dim": vision.hidden_size,
                "image": {**sizes(vision), "patch_size": vision.patch_size, "image_size": size},
                "text": {
                    **sizes(text),
                    "context_length": text.max_position_embeddings,
                    "vocab_size": text.vocab_size,
                },
                "preprocess": {
                    "mode": "squash",
                    "interpolation": interpolation,
                    "mean": tuple(processor.image_mean),
                    "deviation": tuple(processor.image_std),
                },
                "library": architecture(config),
            }
        )

    def save_tokenizer(self, folder: Path) -> None:
        """Texts are lower-cased, and padded to the context length, whatever the files say: so the models were trained.

        Raises:
            CheckpointError: if there is no fast tokenizer.
        """
        backend, pad_id = fast_tokenizer(self._repository)
        lower = normalizers.Lowercase()
        backend.normalizer = normalizers.Sequence([lower, backend.normalizer]) if backend.normalizer else lower
        text = self.spec(None).text
        save_tokenizer(backend, folder, text.context_length, pad_id, clean=None)

    def load_weights(self, model: DualEncoder) -> None:
        """Into a model of `spec`.

        Raises:
            CheckpointError: if there are no safetensors, or they do not fit the configuration.
        """
        import torch
        from transformers import AutoModel

        folder = self._repository.fetch([*_CONFIGS, *_WEIGHTS])
        try:
            published, found = AutoModel.from_pretrained(
                folder,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=torch.float32,
                local_files_only=True,
                output_loading_info=True,
            )
        except Exception as error:
            raise CheckpointError(
                f"the weights of {self._repository.name} cannot be read: {in_one_line(error)}"
            ) from None
        if found["missing_keys"]:
            raise CheckpointError(f"the weights of {self._repository.name} lack {min(found['missing_keys'])}")
        cast(nn.Module, model.siglip).load_state_dict(published.state_dict())

    def identity(self) -> dict[str, str]:
        return self._repository.identity(self._repository.fetch([*_CONFIGS, *TOKENIZER_FILES, *_WEIGHTS]))
