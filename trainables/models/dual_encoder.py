"""`DualEncoder`: the one interface that teacher and student share, whatever library the towers come from."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from trainables.artifacts import atomically, write_text
from trainables.models.spec import SPEC_FILE, ModelSpec

WEIGHTS_FILE = "model.safetensors"


@dataclass(frozen=True)
class Encoded:
    """What a tower makes of a batch."""

    embedding: Tensor  # [B, D], unit vectors
    layers: tuple[Tensor, ...]  # pooled hidden states [B, H] after each transformer layer, first to last


class DualEncoder(nn.Module, ABC):
    """An image tower and a text tower that embed into one space of dimension D."""

    spec: ModelSpec

    @abstractmethod
    def preprocess(self, images: Tensor) -> Tensor:
        """uint8 [B, H, W, 3] or float [B, 3, H, W] in [0, 1] to what the image tower was trained on."""

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

    @abstractmethod
    def clamp_logit_scale(self) -> None:
        """Keep the logit scale within the range that its family trains with (CLIP: at most 100)."""

    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    def save(self, folder: Path) -> None:
        """Write the spec as JSON and the weights as safetensors, each file whole.

        Raises:
            OSError: naming the file that cannot be written; an older one of its name is then still there.
        """
        write_text(folder / SPEC_FILE, json.dumps(self.spec.model_dump(), indent=1))
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        with atomically(folder / WEIGHTS_FILE) as temporary:
            try:
                save_file(state, temporary)
            except SafetensorError as error:  # also of a full disk, whose error number is in its message alone
                number = re.search(r"os error (\d+)", str(error))
                if number is None:
                    raise
                raise OSError(int(number[1]), str(error)) from error
