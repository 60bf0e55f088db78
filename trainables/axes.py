"""What the axes of a model's tensors mean, told by their names: a narrower student inherits the same parts of them all.

A family is added by its rows in `_ROWS`.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Literal

# width: channels of the tower's residual stream          norm: the same, where they scale what a layer norm has normed
# heads: attention heads, times their width               qkv, kv: the same for queries, keys and values together
# mlp: neurons of an MLP                                  tokens: the vocabulary
# grid: places of patches, row by row, after class tokens places: positions of tokens
# padded: the same in a tower whose last place, padding included, stands for the text
# patch: a side of a patch                                pixels: a flattened patch, height × width × colours
# fixed: what is the same in teacher and student, such as the joint dimension
Axis = Literal[
    "width", "norm", "heads", "qkv", "kv", "mlp", "tokens", "grid", "places", "padded", "patch", "pixels", "fixed"
]


# The end of a tensor's name, and its axes; the first row that fits counts. What a bias has is the first of them.
_ROWS: tuple[tuple[str, tuple[Axis, ...]], ...] = (
    # open_clip's own towers
    (r"visual\.class_embedding", ("width",)),
    (r"visual\.positional_embedding", ("grid", "width")),
    (r"text\.positional_embedding", ("places", "width")),
    (r"conv1\.weight", ("width", "fixed", "patch", "patch")),
    (r"visual\.proj|text\.text_projection", ("width", "fixed")),
    (r"text\.text_projection\.(weight|bias)", ("fixed", "width")),
    (r"(ln_1|ln_2|ln_pre|ln_post|ln_final)\.(weight|bias)", ("norm",)),
    (r"(ls_1|ls_2)\.gamma", ("width",)),
    (r"attn\.in_proj_(weight|bias)", ("qkv", "width")),
    (r"attn\.out_proj\.(weight|bias)", ("width", "heads")),
    (r"mlp\.c_fc\.(weight|bias)", ("mlp", "width")),
    (r"mlp\.c_proj\.(weight|bias)", ("width", "mlp")),
    # timm's vision transformers
    (r"trunk\.(cls_token|reg_token)", ("fixed", "fixed", "width")),
    (r"trunk\.pos_embed", ("fixed", "grid", "width")),
    (r"patch_embed\.proj\.(weight|bias)", ("width", "fixed", "patch", "patch")),
    (r"(norm|norm1|norm2|norm_pre|fc_norm)\.(weight|bias)", ("norm",)),
    (r"(ls1|ls2)\.gamma", ("width",)),
    (r"attn\.qkv\.(weight|bias)", ("qkv", "width")),
    (r"attn\.proj\.(weight|bias)", ("width", "heads")),
    (r"attn_pool\.latent", ("fixed", "fixed", "width")),
    (r"attn_pool\.q\.(weight|bias)", ("heads", "width")),
    (r"attn_pool\.kv\.(weight|bias)", ("kv", "width")),
    (r"attn_pool\.proj\.(weight|bias)", ("width", "heads")),
    (r"mlp\.fc1\.(weight|bias)", ("mlp", "width")),
    (r"mlp\.fc2\.(weight|bias)", ("width", "mlp")),
    (r"(trunk\.head|visual\.head\.proj)\.(weight|bias)", ("fixed", "width")),
    # SigLIP and SigLIP2 of transformers
    (r"vision_model\.embeddings\.patch_embedding\.(weight|bias)", ("width", "pixels")),  # of NaFlex
    (r"vision_model\.embeddings\.patch_embedding\.(weight|bias)", ("width", "fixed", "patch", "patch")),
    (r"vision_model\.embeddings\.position_embedding\.weight", ("grid", "width")),
    (r"text_model\.embeddings\.position_embedding\.weight", ("padded", "width")),
    (r"(layer_norm1|layer_norm2|post_layernorm|final_layer_norm|layernorm)\.(weight|bias)", ("norm",)),
    (r"self_attn\.(q|k|v)_proj\.(weight|bias)", ("heads", "width")),
    (r"(self_attn|attention)\.out_proj\.(weight|bias)", ("width", "heads")),
    (r"attention\.in_proj_(weight|bias)", ("qkv", "width")),
    (r"vision_model\.head\.probe", ("fixed", "fixed", "width")),
    (r"text_model\.head\.(weight|bias)", ("fixed", "width")),
    # XLM-RoBERTa of transformers, in open_clip
    (r"(word_embeddings|token_embedding|embed_tokens)\.weight", ("tokens", "width")),
    (r"position_embeddings\.weight", ("places", "width")),
    (r"token_type_embeddings\.weight", ("fixed", "width")),
    (r"(attention\.output|output|embeddings)\.LayerNorm\.(weight|bias)", ("norm",)),
    (r"attention\.self\.(query|key|value)\.(weight|bias)", ("heads", "width")),
    (r"attention\.output\.dense\.(weight|bias)", ("width", "heads")),
    (r"intermediate\.dense\.(weight|bias)", ("mlp", "width")),
    (r"output\.dense\.(weight|bias)", ("width", "mlp")),
    (r"pooler\.dense\.(weight|bias)", ("width", "width")),
    (r"text\.proj\.(weight|bias)", ("fixed", "width")),
    (r"text\.proj\.0\.(weight|bias)", ("mlp", "width")),
    (r"text\.proj\.2\.(weight|bias)", ("fixed", "mlp")),
    # M2M100 (NLLB) of transformers, in open_clip, beside what has SigLIP's names; its sines of positions are no weights
    (r"(self_attn_layer_norm|layer_norm)\.(weight|bias)", ("norm",)),
    (r"fc1\.(weight|bias)", ("mlp", "width")),
    (r"fc2\.(weight|bias)", ("width", "mlp")),
)


_COMPILED = tuple((re.compile(rf"(?:(?P<block>.*?)\.)??(?:{pattern})"), axes) for pattern, axes in _ROWS)


@cache
def axes_of(name: str, dimensions: int) -> tuple[tuple[Axis, ...], str]:
    """The axes of the tensor of this name, and the block whose heads and neurons it shares with other tensors.

    Raises:
        ValueError: if no row tells them.
    """
    for pattern, axes in _COMPILED:
        if (found := pattern.fullmatch(name)) and dimensions <= len(axes):
            return axes[:dimensions], found["block"] or ""
    raise ValueError(f"{name}: a smaller student cannot start from it, since nothing says what its axes mean")
