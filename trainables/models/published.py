"""What checkpoints of both libraries are read with: transformers' configurations and tokenizers, open_clip's own BPE."""

from __future__ import annotations

from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from trainables.models.checkpoint import CheckpointError, Repository, in_one_line

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
)
# In a published configuration, but no part of the architecture.
_NOT_ARCHITECTURE = ("_name_or_path", "architectures", "auto_map", "dtype", "torch_dtype", "transformers_version")


def architecture(config: Any) -> dict[str, Any]:
    """A transformers configuration as plain data, defaults included."""
    return _plain(config.to_dict())


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _plain(value) if isinstance(value, dict) else value
        for name, value in values.items()
        if name not in _NOT_ARCHITECTURE
    }


def sizes(config: Any) -> dict[str, int]:
    """A tower of transformers' SigLIP in the words of a spec."""
    return {
        "layers": config.num_hidden_layers,
        "width": config.hidden_size,
        "head_width": config.hidden_size // config.num_attention_heads,
        "mlp_width": config.intermediate_size,
    }


def fast_tokenizer(repository: Repository, **settings: Any) -> tuple[Backend, int]:
    """The tokenizer that transformers makes of a repository, and the id that it pads with.

    Raises:
        CheckpointError: if transformers has no tokenizer of the `tokenizers` library for it.
    """
    from transformers import AutoTokenizer

    folder = repository.fetch(["config.json", *TOKENIZER_FILES])
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True, **settings)
        backend = Backend.from_str(tokenizer.backend_tokenizer.to_str())
        return backend, int(tokenizer.pad_token_id)
    except Exception as error:
        raise CheckpointError(
            f"{repository.name} has no tokenizer that can be read ({in_one_line(error)}): it needs a tokenizer.json"
        ) from None


def clip_tokenizer() -> tuple[Backend, int]:
    """`open_clip.tokenizer.SimpleTokenizer`, CLIP's own, and the id that it pads with; texts are cleaned before."""
    from open_clip.tokenizer import SimpleTokenizer

    simple = SimpleTokenizer()
    merges = sorted(simple.bpe_ranks, key=simple.bpe_ranks.__getitem__)
    backend = Backend(models.BPE(simple.encoder, merges, end_of_word_suffix="</w>", continuing_subword_prefix=""))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(
                Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), "removed", invert=True
            ),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.normalizer = normalizers.Lowercase()
    start, end = (simple.decoder[number] for number in (simple.sot_token_id, simple.eot_token_id))
    backend.add_special_tokens([AddedToken(mark, normalized=False) for mark in (start, end)])
    backend.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(start, simple.sot_token_id), (end, simple.eot_token_id)]
    )
    # A word's last piece says so: a space follows.
    backend.decoder = decoders.Sequence(
        [decoders.Replace("</w>", "Ġ"), decoders.ByteLevel(), decoders.Strip(" ", 0, 1)]
    )
    return backend, 0
