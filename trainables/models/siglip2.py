"""SigLIP2 by transformers' own model classes, behind `DualEncoder`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.models.dual_encoder import DualEncoder, Encoded, TowerName
from trainables.models.spec import START_ID, ImageTower, ModelSpec, TextTower
from trainables.strategies import best_logit_bias, sigmoid_task

# What the study fits itself, in transformers' words.
_EMBEDDED: dict[str, Any] = {"model_type": "siglip", "text_config": {"bos_token_id": START_ID}}
_FIRST_SCALE, _FIRST_BIAS = 10.0, -10.0  # Zhai et al. 2023, section 3.2


class Siglip2Encoder(DualEncoder):
    """`SiglipModel`, the class of the checkpoints `google/siglip2-*-patch16-NNN`, or `Siglip2Model`, that of those
    named `naflex`.

    Images are pooled by attention and not projected. Texts are padded to the context length, every token attends to
    every other, padding included, and the last position stands for the text.
    """

    def __init__(self, spec: ModelSpec) -> None:
        from transformers import AutoModel

        super().__init__(spec)
        self.siglip = AutoModel.from_config(_config(spec))
        self._takes_patches = spec.library.get("model_type") == "siglip2"
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
        hidden, states = self._embedded(pixels), []
        for layer in self.layers("image"):
            hidden = layer(hidden, None)
            states.append(hidden.mean(dim=1))
        embedding = tower.head(tower.post_layernorm(hidden))
        return Encoded(functional.normalize(embedding.float(), dim=-1), tuple(states))

    def _embedded(self, pixels: Tensor) -> Tensor:
        """What goes into the first layer: [B, patches, H] of [B, 3, S, S].

        All pictures are square and of one size: no patch of `Siglip2Model` is padding, so that its mask hides none, and
        the table of positions is resampled once for the batch.
        """
        embeddings = self.siglip.vision_model.embeddings
        if not self._takes_patches:
            return cast(Tensor, embeddings(pixels))
        side, patch = self.spec.image.image_size // self.spec.image.patch_size, self.spec.image.patch_size
        # The order in a patch is that of transformers' image processor: row, column, colour.
        patches = pixels.reshape(len(pixels), 3, side, patch, side, patch).permute(0, 2, 4, 3, 5, 1)
        embedded = embeddings.patch_embedding(patches.flatten(3).flatten(1, 2))
        table = embeddings.position_embedding.weight
        shape = torch.tensor([[side, side]])
        across = embeddings.position_embedding_size
        return cast(
            Tensor,
            embedded
            + embeddings.resize_positional_embeddings(table.view(across, across, -1), shape, max_length=side * side),
        )

    def encode_text(self, tokens: Tensor) -> Encoded:
        tower = self.siglip.text_model
        missing = max(0, self.spec.text.context_length - tokens.shape[1])
        tokens = functional.pad(tokens, (0, missing), value=self.spec.text.pad_id)
        *layers, last = self.layers("text")
        hidden, states = tower.embeddings(tokens), []
        for layer in layers:
            hidden = layer(hidden, None)
            states.append(hidden[:, -1])
        states.append(_output_at_the_end(last, hidden))
        embedding = tower.head(tower.final_layer_norm(states[-1]))
        return Encoded(functional.normalize(embedding.float(), dim=-1), tuple(states))


def _config(spec: ModelSpec) -> Any:
    """transformers' configuration of the published architecture with the sizes of ``spec``."""
    from transformers import AutoConfig

    image, text = spec.image, spec.text
    published = spec.library or _EMBEDDED
    vision = {**published.get("vision_config", {}), **_sizes(image), "patch_size": image.patch_size}
    if published["model_type"] == "siglip":
        vision["image_size"] = image.image_size
    return AutoConfig.for_model(
        **{
            **published,
            "vision_config": vision,
            "text_config": {
                **published.get("text_config", {}),
                **_sizes(text),
                "max_position_embeddings": text.context_length,
                "vocab_size": text.vocab_size,
                "projection_size": spec.embed_dim,
                "pad_token_id": text.pad_id,
                "eos_token_id": text.end_id,
            },
        }
    )


def _sizes(tower: ImageTower | TextTower) -> dict[str, Any]:
    """What transformers calls the sizes of either tower."""
    return {
        "num_hidden_layers": tower.layers,
        "hidden_size": tower.width,
        "intermediate_size": tower.mlp_width,
        "num_attention_heads": tower.width // tower.head_width,
        # Chance within a forward pass would part students from a teacher at rest, and a trial from its checkpoint.
        "attention_dropout": 0.0,
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
