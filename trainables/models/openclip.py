"""CLIP by open_clip's own model classes, behind `DualEncoder`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.models.dual_encoder import DualEncoder, Encoded, TowerName
from trainables.models.hidden_states import HiddenStates
from trainables.models.openclip_architecture import build_clip
from trainables.models.shared_prefixes import Prefixes, block, in_order
from trainables.models.spec import ModelSpec
from trainables.strategies import best_logit_bias, contrastive_task, sigmoid_task

_LENGTH_BINS, _LARGEST_BIN = 4, 256
_MAX_LOGIT_SCALE = 100.0  # Radford et al. 2021, section 2.5


class OpenClipEncoder(DualEncoder):
    """open_clip's `CustomTextCLIP`: native, timm and transformers towers.

    A model that has a logit bias was trained with the sigmoid loss of SigLIP, one without with CLIP's softmax.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.clip = build_clip(spec)
        self._image_states = HiddenStates(self.layers("image"))
        self._is_native_causal = _is_native_causal(self.clip.text)
        self._is_masked = "hf_config" in spec.library
        self._text_states = HiddenStates([] if self._is_native_causal else self.layers("text"))

    def layers(self, tower: TowerName) -> Sequence[nn.Module]:
        if tower == "image":
            visual = self.clip.visual
            return list(visual.trunk.blocks if hasattr(visual, "trunk") else visual.transformer.resblocks)
        transformer = self.clip.text.transformer
        if "hf_config" in self.spec.library:
            return list(transformer.encoder.layer if hasattr(transformer, "encoder") else transformer.layers)
        return list(transformer.resblocks)

    @property
    def logit_scale(self) -> Tensor:
        logarithm: Tensor = self.clip.logit_scale
        return logarithm.exp()

    @property
    def logit_bias(self) -> Tensor:
        bias: Tensor | None = self.clip.logit_bias
        return torch.zeros_like(self.clip.logit_scale) if bias is None else bias

    def clamp_logit_scale(self) -> None:
        if self.clip.logit_bias is None:  # SigLIP is trained without a range
            with torch.no_grad():
                self.clip.logit_scale.clamp_(0, math.log(_MAX_LOGIT_SCALE))

    def task_loss(self, image: Tensor, text: Tensor, weight: Tensor, logit_scale: Tensor, logit_bias: Tensor) -> Tensor:
        if self.clip.logit_bias is None:
            return contrastive_task(image, text, weight, logit_scale)
        return sigmoid_task(image, text, weight, logit_scale, logit_bias)

    def turn_to_task(self, image: Tensor, text: Tensor, weight: Tensor) -> None:
        """A softmax needs nothing but embeddings and their scale; a sigmoid a bias that suits them."""
        if self.clip.logit_bias is not None:
            with torch.no_grad():
                self.clip.logit_bias.copy_(best_logit_bias(image, text, weight, self.logit_scale))

    def encode_image(self, pixels: Tensor) -> Encoded:
        with self._image_states as states:
            embedding = self.clip.encode_image(pixels)
        # Class and register tokens come first; the layers' states are the means of the patches.
        visual = self.clip.visual
        prefix = visual.trunk.num_prefix_tokens if hasattr(visual, "trunk") else 1
        layers = tuple(state[:, prefix:].mean(dim=1) for state in states)
        return Encoded(functional.normalize(embedding.float(), dim=-1), layers)

    def encode_text(self, tokens: Tensor) -> Encoded:
        if self._is_native_causal and tokens.device.type == "cpu" and torch.is_inference_mode_enabled():
            return self._encode_shared(tokens)  # what is to have gradients must come out the same without them
        if self._is_native_causal:
            return _by_length(tokens, self._end(tokens) + 1, self._encode_causal)
        if self._is_masked:
            place = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
            lengths = (place * (tokens != self.spec.text.pad_id)).amax(dim=1).clamp(min=1)
            return _by_length(tokens, lengths, self._encode_whole)
        missing = max(0, self.spec.text.context_length - tokens.shape[1])
        return self._encode_whole(functional.pad(tokens, (0, missing), value=self.spec.text.pad_id))

    def _end(self, tokens: Tensor) -> Tensor:
        """Where a native tower looks for what stands for a text: [B]."""
        by_size = self.clip.text.pool_type == "argmax"
        return tokens.argmax(dim=1) if by_size else (tokens == self.clip.text.eos_id).int().argmax(dim=1)

    def _encode_causal(self, tokens: Tensor) -> Encoded:
        tower, end = self.clip.text, self._end(tokens)
        length, rows = tokens.shape[1], torch.arange(len(tokens), device=tokens.device)
        hidden = tower.token_embedding(tokens) + tower.positional_embedding[:length]
        *layers, last = self.layers("text")
        states = []
        for layer in layers:
            hidden = layer(hidden, attn_mask=tower.attn_mask[:length, :length])
            states.append(hidden[rows, end])
        states.append(_output_at(last, hidden, end))
        embedding = _projected(tower.ln_final(states[-1]), tower.text_projection)
        return Encoded(functional.normalize(embedding.float(), dim=-1), tuple(states))

    def _encode_shared(self, tokens: Tensor) -> Encoded:
        """What `_encode_causal` gives, with beginnings that texts share computed once; without gradients."""
        tower, (*layers, last) = self.clip.text, self.layers("text")
        embeddings: list[Tensor] = []
        states: list[list[Tensor]] = [[] for _ in range(len(layers) + 1)]
        rows = list(in_order(tokens))
        for some in rows:
            prefixes = Prefixes.of(tokens[some], self._end(tokens[some]))
            hidden = tower.token_embedding(prefixes.tokens) + tower.positional_embedding[prefixes.places]
            for layer, found in zip(layers, states, strict=False):
                hidden = block(layer, hidden, prefixes)
                found.append(hidden[prefixes.whole])
            states[-1].append(block(last, hidden, prefixes, prefixes.whole))
            embeddings.append(_projected(tower.ln_final(states[-1][-1]), tower.text_projection))
        back = torch.cat(rows).argsort()
        embedding, *pooled = (torch.cat(parts)[back] for parts in (embeddings, *states))
        return Encoded(functional.normalize(embedding.float(), dim=-1), tuple(pooled))

    def _encode_whole(self, tokens: Tensor) -> Encoded:
        """By the library's own forward pass; hidden states are pooled as the tower itself pools its last one."""
        with self._text_states as states:
            embedding = self.clip.encode_text(tokens)
        return Encoded(
            functional.normalize(embedding.float(), dim=-1), tuple(self._pooled(state, tokens) for state in states)
        )

    def _pooled(self, state: Tensor, tokens: Tensor) -> Tensor:
        """[B, H] of a layer's output [B, T, H]."""
        tower = self.clip.text
        if self._is_masked:
            if hasattr(tower.pooler, "cls_token_position"):
                return state[:, tower.pooler.cls_token_position]
            mask = (tokens != self.spec.text.pad_id).to(state.dtype)[:, :, None]
            return (state * mask).sum(dim=1) / mask.sum(dim=1)
        if tower.cls_emb is not None or tower.pool_type == "last":
            return state[:, -1]
        if tower.pool_type == "first":
            return state[:, 0]
        return state[torch.arange(len(tokens), device=tokens.device), self._end(tokens)]


def _by_length(tokens: Tensor, lengths: Tensor, encode: Callable[[Tensor], Encoded]) -> Encoded:
    """What ``encode`` makes of texts [B, T] in a tower on which nothing behind a text's length [B] has an effect.

    Most texts are much shorter than the context. On a CPU it pays to encode short and long ones apart; on a GPU the
    lengths would cost a synchronisation.
    """
    if tokens.device.type != "cpu" or len(tokens) < 2 * _LENGTH_BINS:
        return encode(tokens)
    order = lengths.argsort()
    parts = [
        encode(tokens[rows, : int(lengths[rows[-1]])])
        for rows in order.tensor_split(max(_LENGTH_BINS, math.ceil(len(tokens) / _LARGEST_BIN)))
    ]
    back = order.argsort()
    return Encoded(
        torch.cat([part.embedding for part in parts])[back],
        tuple(torch.cat(states)[back] for states in zip(*(part.layers for part in parts), strict=True)),
    )


def _is_native_causal(tower: Any) -> bool:
    """Whether a text tower is open_clip's own, reads from left to right, and pools at the end mark."""
    from open_clip.transformer import ResidualAttentionBlock, TextTransformer

    return (
        isinstance(tower, TextTransformer)
        and tower.attn_mask is not None
        and tower.cls_emb is None
        and tower.pool_type in ("argmax", "eos")
        and all(type(block) is ResidualAttentionBlock for block in tower.transformer.resblocks)
    )


def _projected(rows: Tensor, projection: Any) -> Tensor:
    if projection is None:
        return rows
    return cast(Tensor, projection(rows) if isinstance(projection, nn.Module) else rows @ projection)


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
