"""CLIP by open_clip's own model classes, behind `DualEncoder`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.models.dual_encoder import DualEncoder, Encoded, TowerName
from trainables.models.spec import ModelSpec
from trainables.models.tokenizer import END_ID, PAD_ID
from trainables.strategies import contrastive_task

_LENGTH_BINS, _LARGEST_BIN = 4, 256
_MAX_LOGIT_SCALE = 100.0  # Radford et al. 2021, section 2.5


def library_config(spec: ModelSpec) -> dict[str, Any]:
    """What open_clip calls a model's configuration: the arguments of `CustomTextCLIP`."""
    image, text = spec.image, spec.text
    return {
        "embed_dim": spec.embed_dim,
        "vision_cfg": {
            "layers": image.layers,
            "width": image.width,
            "head_width": image.head_width,
            "patch_size": image.patch_size,
            "image_size": image.image_size,
            "pool_type": "avg",
        },
        "text_cfg": {
            "layers": text.layers,
            "width": text.width,
            "heads": text.width // text.head_width,
            "context_length": text.context_length,
            "vocab_size": text.vocab_size,
            "pool_type": "eos",
            "eos_id": END_ID,
            "pad_id": PAD_ID,
        },
    }


class OpenClipEncoder(DualEncoder):
    """open_clip's `CustomTextCLIP` with native towers."""

    def __init__(self, spec: ModelSpec) -> None:
        from open_clip import CustomTextCLIP
        from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

        super().__init__(spec, OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)
        self.clip = CustomTextCLIP(**library_config(spec))
        self._image_states = _HiddenStates(self.layers("image"))

    def layers(self, tower: TowerName) -> Sequence[nn.Module]:
        towers = {"image": self.clip.visual, "text": self.clip.text}
        return list(towers[tower].transformer.resblocks)

    @property
    def logit_scale(self) -> Tensor:
        logarithm: Tensor = self.clip.logit_scale
        return logarithm.exp()

    @property
    def logit_bias(self) -> Tensor:
        return torch.zeros_like(self.clip.logit_scale)

    def clamp_logit_scale(self) -> None:
        with torch.no_grad():
            self.clip.logit_scale.clamp_(0, math.log(_MAX_LOGIT_SCALE))

    def task_loss(self, image: Tensor, text: Tensor, weight: Tensor, logit_scale: Tensor, logit_bias: Tensor) -> Tensor:
        return contrastive_task(image, text, weight, logit_scale)

    def turn_to_task(self, image: Tensor, text: Tensor, weight: Tensor) -> None:
        """A softmax needs nothing but embeddings and their scale."""

    def encode_image(self, pixels: Tensor) -> Encoded:
        with self._image_states as states:
            embedding = self.clip.encode_image(pixels)
        # The class token comes first; the tower itself pools by the mean of the patches.
        layers = tuple(state[:, 1:].mean(dim=1) for state in states)
        return Encoded(functional.normalize(embedding.float(), dim=-1), layers)

    def encode_text(self, tokens: Tensor) -> Encoded:
        end = (tokens == END_ID).int().argmax(dim=1)
        if tokens.device.type != "cpu" or len(tokens) < 2 * _LENGTH_BINS:
            return self._encode_text(tokens, end)
        # Most texts are much shorter than the context, and what follows the end mark of a causal tower has no effect.
        # On a CPU it pays to encode short and long ones apart; on a GPU the lengths would cost a synchronisation.
        order = end.argsort()
        parts = [
            self._encode_text(tokens[rows, : int(end[rows[-1]]) + 1], end[rows])
            for rows in order.tensor_split(max(_LENGTH_BINS, math.ceil(len(tokens) / _LARGEST_BIN)))
        ]
        back = order.argsort()
        return Encoded(
            torch.cat([part.embedding for part in parts])[back],
            tuple(torch.cat(states)[back] for states in zip(*(part.layers for part in parts), strict=True)),
        )

    def _encode_text(self, tokens: Tensor, end: Tensor) -> Encoded:
        tower = self.clip.text
        length, rows = tokens.shape[1], torch.arange(len(tokens), device=tokens.device)
        hidden = tower.token_embedding(tokens) + tower.positional_embedding[:length]
        *layers, last = self.layers("text")
        states = []
        for layer in layers:
            hidden = layer(hidden, attn_mask=tower.attn_mask[:length, :length])
            states.append(hidden[rows, end])
        states.append(_output_at(last, hidden, end))
        embedding = tower.ln_final(states[-1]) @ tower.text_projection
        return Encoded(functional.normalize(embedding.float(), dim=-1), tuple(states))


def _output_at(layer: Any, hidden: Tensor, place: Tensor) -> Tensor:
    """What a causal residual attention block makes of one token of each text: [B, H] of [B, T, H] and its place [B].

    Nothing reads the other tokens of a tower's last layer. Without them that layer costs keys and values alone, two
    of twelve H × H products a token.
    """
    rows = torch.arange(len(hidden), device=hidden.device)
    normed = layer.ln_1(hidden)
    later = torch.arange(hidden.shape[1], device=hidden.device) > place[:, None]
    query = normed[rows, place][:, None]
    attended = layer.attn(query, normed, normed, key_padding_mask=later, need_weights=False)[0][:, 0]
    output = hidden[rows, place] + layer.ls_1(attended)
    return cast(Tensor, output + layer.ls_2(layer.mlp(layer.ln_2(output))))


class _HiddenStates:
    """The outputs of a tower's layers during one forward pass, [B, tokens, H] each."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self._collected: list[Tensor] | None = None
        for layer in layers:
            layer.register_forward_hook(self._collect)

    def _collect(self, _module: nn.Module, _inputs: Any, output: Tensor | tuple[Tensor, ...]) -> None:
        if self._collected is not None:
            self._collected.append(output if isinstance(output, Tensor) else output[0])

    def __enter__(self) -> list[Tensor]:
        self._collected = []
        return self._collected

    def __exit__(self, *_error: object) -> None:
        self._collected = None
