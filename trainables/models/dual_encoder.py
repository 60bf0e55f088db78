"""`DualEncoder`: the one interface that teacher and student share, whatever library the towers come from."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from trainables.artifacts import atomically, write_text
from trainables.models.spec import SPEC_FILE, ModelSpec

WEIGHTS_FILE = "model.safetensors"
VOCABULARY_FILE = "vocabulary.npy"  # of a student with a trimmed vocabulary: its own id of each of its teacher's tokens

TowerName = Literal["image", "text"]


@dataclass(frozen=True)
class Encoded:
    """What a tower makes of a batch."""

    embedding: Tensor  # [B, D], unit vectors
    layers: tuple[Tensor, ...]  # pooled hidden states [B, H] after each transformer layer, first to last


class DualEncoder(nn.Module, ABC):
    """An image tower and a text tower that embed into one space of dimension D."""

    _factor: Tensor  # of pixels, by colour
    _offset: Tensor
    _vocabulary: Tensor | None

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        standard = spec.preprocess
        mean, deviation = (torch.tensor(colours).view(3, 1, 1) for colours in (standard.mean, standard.deviation))
        self.register_buffer("_factor", 1 / deviation, persistent=False)
        self.register_buffer("_offset", -mean / deviation, persistent=False)
        self.register_buffer("_vocabulary", None, persistent=False)
        self._pad_id = spec.text.pad_id  # in prepared tokens

    def preprocess(self, images: Tensor) -> Tensor:
        """Prepared images, uint8 [B, H, W, 3] or float [B, 3, H, W] in [0, 1], as the image tower takes them."""
        if images.dtype == torch.uint8:
            images = images.permute(0, 3, 1, 2).float() / 255
        size = self.spec.image.image_size
        if images.shape[-1] != size:  # of a student that sees less than its teacher, for whom they were prepared
            images = functional.interpolate(images, (size, size), mode="bilinear", antialias=True)
        return (images * self._factor).add_(self._offset)

    def read(self, tokens: Tensor) -> Tensor:
        """Prepared token ids, int [B, T], as the text tower takes them: in its own vocabulary, at most as many as its
        context length, of which the last one is then the text's own last.
        """
        length = self.spec.text.context_length
        if tokens.shape[1] > length:
            places = torch.arange(tokens.shape[1], device=tokens.device)
            last = (places * (tokens != self._pad_id)).amax(dim=1, keepdim=True).clamp(min=length - 1)
            tokens = torch.cat([tokens[:, : length - 1], tokens.gather(1, last)], dim=1)
        return tokens if self._vocabulary is None else self._vocabulary[tokens]

    def use_vocabulary(self, ids: Tensor) -> None:
        """Read prepared tokens by ``ids``, the own id of each of them, -1 for what the model has no row for."""
        self._vocabulary = ids.long().to(self._factor.device)
        self._pad_id = int((ids == self.spec.text.pad_id).nonzero()[0])

    @abstractmethod
    def layers(self, tower: TowerName) -> Sequence[nn.Module]:
        """A tower's transformer layers, first to last."""

    @abstractmethod
    def encode_image(self, pixels: Tensor) -> Encoded:
        """Preprocessed pixels float [B, 3, H, W] to embeddings and hidden states."""

    @abstractmethod
    def encode_text(self, tokens: Tensor) -> Encoded:
        """Token ids int [B, T], T up to the context length, to embeddings and hidden states."""

    @property
    @abstractmethod
    def logit_scale(self) -> Tensor:
        """The factor on cosine similarities, a positive scalar."""

    @property
    @abstractmethod
    def logit_bias(self) -> Tensor:
        """What is added to scaled similarities, a scalar; 0 in a family that has none."""

    @abstractmethod
    def clamp_logit_scale(self) -> None:
        """Keep the logit scale within the range that its family trains with (CLIP: at most 100)."""

    @abstractmethod
    def task_loss(self, image: Tensor, text: Tensor, weight: Tensor, logit_scale: Tensor, logit_bias: Tensor) -> Tensor:
        """The loss that the family is trained with; scale and bias are given, since the embeddings may be of a batch
        that several workers share.

        Args:
            image: unit vectors [B, D].
            text: unit vectors of G captions an image [G, B, D].
            weight: [G, B], 0 where a caption is missing.
            logit_scale: scalar.
            logit_bias: scalar.
        """

    @abstractmethod
    def turn_to_task(self, image: Tensor, text: Tensor, weight: Tensor) -> None:
        """Set what the embeddings do not depend on, but `task_loss` does, to suit a batch: for a model that was trained
        with another loss so far, or not at all. Arguments as there."""

    def layer_names(self, tower: TowerName) -> list[str]:
        """The names of a tower's transformer layers, first to last: all of a layer's tensors begin with its name."""
        names = {module: name for name, module in self.named_modules()}
        return [names[layer] for layer in self.layers(tower)]

    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    def save(self, folder: Path) -> None:
        """Write the spec as JSON, the weights as safetensors and the vocabulary, if it has one, each file whole.

        Raises:
            OSError: naming the file that cannot be written; an older one of its name is then still there.
        """
        write_text(folder / SPEC_FILE, json.dumps(self.spec.model_dump(), indent=1))
        if self._vocabulary is not None:
            with atomically(folder / VOCABULARY_FILE) as temporary, open(temporary, "wb") as file:
                np.save(file, self._vocabulary.int().cpu().numpy())
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        with atomically(folder / WEIGHTS_FILE) as temporary:
            try:
                save_file(state, temporary)
            except SafetensorError as error:  # also of a full disk, whose error number is in its message alone
                number = re.search(r"os error (\d+)", str(error))
                if number is None:
                    raise
                raise OSError(int(number[1]), str(error)) from error
