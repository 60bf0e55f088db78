"""SigLIP2 of a fixed resolution by transformers' own model class, behind `DualEncoder`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.models.dual_encoder import DualEncoder, Encoded, TowerName
from trainables.models.spec import ImageTower, ModelSpec, TextTower
from trainables.models.tokenizer import END_ID, PAD_ID, START_ID
from trainables.strategies import best_logit_bias, sigmoid_task

_HALF = (0.5, 0.5, 0.5)
_FIRST_SCALE, _FIRST_BIAS = 10.0, -10.0  # Zhai et al. 2023, section 3.2


class Siglip2Encoder(DualEncoder):
    """`SiglipModel`, the class of the checkpoints `google/siglip2-*-patch16-NNN`; those named `naflex` are of another.

    Images are pooled by attention and not projected. Texts are padded to the context length, every token attends to
    every other, padding included, and the last position stands for the text.
    """

    def __init__(self, spec: ModelSpec) -> None:
        from transformers import SiglipConfig, SiglipModel

        super().__init__(spec, _HALF, _HALF)
        image, text = spec.image, spec.text
        self.siglip = SiglipModel(
            SiglipConfig(
                vision_config={
                    **_sizes(image),
                    "patch_size": image.patch_size,
                    "image_size": image.image_size,
                },
                text_config={
                    **_sizes(text),
                    "max_position_embeddings": text.context_length,
                    "vocab_size": text.vocab_size,
                    "projection_size": spec.embed_dim,
                    "pad_token_id": PAD_ID,
                    "bos_token_id": START_ID,
                    "eos_token_id": END_ID,
                },
            )
        )
        with torch.no_grad():
            self.siglip.logit_scale.fill_(math.log(_FIRST_SCALE))
            self.siglip.logit_bias.fill_(_FIRST_BIAS)

    def layers(self, tower: TowerName) -> Sequence[nn.Module]:
        towers = {"image": self.siglip.vision_model, "text": self.siglip.text_model}
        return list(towers[tower].encoder.layers)

    @property
    def logit_scale(self) -> Tensor:
        logarithm: Tensor = self.siglip.logit_scale
        return logarithm.exp().squeeze()

    @property
    def logit_bias(self) -> Tensor:
        bias: Tensor = self.siglip.logit_bias
        return bias.squeeze()

    def clamp_logit_scale(self) -> None:
        """SigLIP is trained without a range; that of the released models is above CLIP's."""

    def task_loss(self, image: Tensor, text: Tensor, weight: Tensor, logit_scale: Tensor, logit_bias: Tensor) -> Tensor:
        return sigmoid_task(image, text, weight, logit_scale, logit_bias)

    def turn_to_task(self, image: Tensor, text: Tensor, weight: Tensor) -> None:
        """Set the logit bias to what minimises the sigmoid loss of the batch."""
        with torch.no_grad():
            self.siglip.logit_bias.copy_(best_logit_bias(image, text, weight, self.logit_scale))

    def encode_image(self, pixels: Tensor) -> Encoded:
        tower = self.siglip.vision_model
        hidden, states = tower.embeddings(pixels), []
        for layer in self.layers("image"):
            hidden = layer(hidden, None)
            states.append(hidden.mean(dim=1))
        embedding = tower.head(tower.post_layernorm(hidden))
        return Encoded(functional.normalize(embedding.float(), dim=-1), tuple(states))

    def encode_text(self, tokens: Tensor) -> Encoded:
        tower = self.siglip.text_model
        missing = max(0, self.spec.text.context_length - tokens.shape[1])
        tokens = functional.pad(tokens, (0, missing), value=PAD_ID)
        *layers, last = self.layers("text")
        hidden, states = tower.embeddings(tokens), []
        for layer in layers:
            hidden = layer(hidden, None)
            states.append(hidden[:, -1])
        states.append(_output_at_the_end(last, hidden))
        embedding = tower.head(tower.final_layer_norm(states[-1]))
        return Encoded(functional.normalize(embedding.float(), dim=-1), tuple(states))


def _sizes(tower: ImageTower | TextTower) -> dict[str, int]:
    """What transformers calls the sizes of either tower."""
    return {
        "num_hidden_layers": tower.layers,
        "hidden_size": tower.width,
        "intermediate_size": 4 * tower.width,
        "num_attention_heads": tower.width // tower.head_width,
    }


def _output_at_the_end(layer: Any, hidden: Tensor) -> Tensor:
    """What a `SiglipEncoderLayer` makes of the last token of each text: [B, H] of [B, T, H].

    Nothing reads the other tokens of a tower's last layer, which without them costs little more than keys and values.
    """
    attention, normed = layer.self_attn, layer.layer_norm1(hidden)
    query, keys, values = (
        project(rows).unflatten(-1, (attention.num_heads, attention.head_dim)).transpose(1, 2)
        for project, rows in (
            (attention.q_proj, normed[:, -1:]),
            (attention.k_proj, normed),
            (attention.v_proj, normed),
        )
    )
    attended = functional.scaled_dot_product_attention(query, keys, values, scale=attention.scale)
    output = hidden[:, -1] + attention.out_proj(attended.flatten(1))
    return cast(Tensor, output + layer.mlp(layer.layer_norm2(output)))
