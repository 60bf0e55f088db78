"""A vocabulary trimmed to what a study's texts use: in a multilingual model, rows that no text reads may be most parameters.

Every text of the study keeps its pieces; any other falls into smaller ones, single characters or bytes at last.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer as Backend

from trainables.artifacts import artifact
from trainables.data.prepared import Array, CaptionedImages, VisualQuestions
from trainables.models.dual_encoder import VOCABULARY_FILE
from trainables.models.tokenizer import TOKENIZER_FILE, Tokenizer, save_tokenizer

_STAGE_VERSION = 1  # raise it when the same data leave another vocabulary
_BATCH = 10_000  # texts at once


def trimmed_vocabulary(tokenizer: Tokenizer, captions: Sequence[Path], questions: Sequence[Path]) -> Path:
    """The folder of what is left of ``tokenizer`` for these prepared data: a tokenizer, and its ids by the old ones in
    `VOCABULARY_FILE`. Every text of the data is held against it.

    Raises:
        ValueError: as `trim` does, or if a text would change its pieces.
    """
    fields = {
        "tokenizer": tokenizer.fingerprint,
        "data": [folder.name for folder in (*captions, *questions)],
        "stage": _STAGE_VERSION,
    }

    def build(folder: Path) -> None:
        data: list[CaptionedImages | VisualQuestions] = [
            *map(CaptionedImages.load, captions),
            *map(VisualQuestions.load, questions),
        ]
        used = {int(token) for part in data for tokens in part.tokens for token in np.unique(tokens)}
        backend, ids = trim(Backend.from_file(str(tokenizer.folder / TOKENIZER_FILE)), used)
        save_tokenizer(backend, folder, tokenizer.context_length, int(ids[tokenizer.pad_id]), tokenizer.cleaning)
        np.save(folder / VOCABULARY_FILE, ids)
        own = Tokenizer(folder)
        for part in data:
            for texts, tokens in zip(
                part.texts, part.tokens.reshape(len(part.texts), -1, part.tokens.shape[-1]), strict=True
            ):
                _check(own, texts, ids[tokens])

    return artifact("vocabulary", fields, build)


def _check(tokenizer: Tokenizer, texts: Sequence[str], tokens: Array) -> None:
    """Hold what the tokenizer makes of texts [M] against ``tokens`` [M, T]; an empty text is a missing one."""
    for start in range(0, len(texts), _BATCH):
        rows = slice(start, start + _BATCH)
        differs = (tokenizer.encode(texts[rows]) != tokens[rows]).any(axis=1)
        for text, changed in zip(texts[rows], differs, strict=True):
            if text and changed:
                raise ValueError(f"with a trimmed vocabulary {text!r} does not keep its pieces")


def trim(backend: Backend, used: Iterable[int]) -> tuple[Backend, Array]:
    """A tokenizer that makes the same of a text whose tokens are all ``used``, and its id of each of the old ids, int32,
    -1 for one that is gone.

    It keeps the used tokens and what they are merged from, all special or otherwise added tokens, and, for other texts,
    bytes if the tokenizer falls back to them, or else single characters. The order of ids stays.

    Raises:
        ValueError: if the tokenizer is neither BPE nor Unigram.
    """
    content = json.loads(backend.to_str())
    model, added = content["model"], sorted(content["added_tokens"], key=lambda token: int(token["id"]))
    if model["type"] not in _KINDS:
        raise ValueError(f"a vocabulary of kind {model['type']} cannot be trimmed: only {' and '.join(_KINDS)} can")
    known: dict[str, int] = backend.get_vocab()
    names = {number: token for token, number in known.items()}
    own = _KINDS[model["type"]](model, {names[number] for number in used}, {token["content"] for token in added})
    # As the library numbers them: the model's own tokens, then what was added to them.
    order = list(dict.fromkeys([*own, *(token["content"] for token in added)]))
    ids = np.full(max(names) + 1, -1, np.int32)
    ids[[known[token] for token in order]] = np.arange(len(order))
    content["added_tokens"] = [{**token, "id": int(ids[token["id"]])} for token in added]
    if content["padding"] is not None:
        content["padding"]["pad_id"] = int(ids[content["padding"]["pad_id"]])
    _renumber(content["post_processor"], ids)
    return Backend.from_str(json.dumps(content)), ids


def _trim_merges(model: dict[str, Any], used: set[str], added: set[str]) -> list[str]:
    """BPE: what is used, with the merges and the tokens on the way to it from characters. Returns the tokens left.

    Within a piece a text merges exactly as the piece alone does, since any merge across its border would have made
    another piece of it. So what the pieces need is what the texts need.
    """
    suffix = model["end_of_word_suffix"] or ""
    ranks = {tuple(merge): rank for rank, merge in enumerate(model["merges"])}
    kept, merges = used | added | _smallest(model, model["vocab"], suffix), set()
    for token in used - added:
        parts = list(token.removesuffix(suffix))
        if parts and token.endswith(suffix):
            parts[-1] += suffix
        kept.update(parts)
        while found := [(ranks[pair], place) for place, pair in enumerate(pairwise(parts)) if pair in ranks]:
            rank, place = min(found)
            merges.add(rank)
            parts[place : place + 2] = ["".join(parts[place : place + 2])]
            kept.add(parts[place])
    left = sorted(kept & model["vocab"].keys(), key=model["vocab"].__getitem__)
    model["vocab"] = {token: number for number, token in enumerate(left)}
    model["merges"] = [model["merges"][rank] for rank in sorted(merges)]
    return left


def _trim_pieces(model: dict[str, Any], used: set[str], added: set[str]) -> list[str]:
    """Unigram: what is used, which wins as before against fewer others. Returns the pieces left.

    The least likely piece stays too: by how much less likely the unknown is, is counted from there.
    """
    pieces = [(str(piece), float(score)) for piece, score in model["vocab"]]
    kept = used | added | _smallest(model, [piece for piece, _ in pieces], "")
    kept.add(min(pieces, key=lambda piece: piece[1])[0])
    if model["unk_id"] is not None:
        kept.add(unknown := pieces[model["unk_id"]][0])
    model["vocab"] = [piece for piece in pieces if piece[0] in kept]
    left = [piece for piece, _ in model["vocab"]]
    if model["unk_id"] is not None:
        model["unk_id"] = left.index(unknown)
    return left


_KINDS = {"BPE": _trim_merges, "Unigram": _trim_pieces}


def _smallest(model: dict[str, Any], tokens: Iterable[str], suffix: str) -> set[str]:
    """What any text can be split into: bytes if the tokenizer falls back to them, or else its single characters, which
    in a byte-level vocabulary stand for bytes.
    """
    if model["byte_fallback"]:
        return {f"<0x{byte:02X}>" for byte in range(256)}
    return {token for token in tokens if len(token.removesuffix(suffix)) == 1}


def _renumber(processor: dict[str, Any] | None, ids: Array) -> None:
    """Give the marks that a post-processor sets their new ids."""
    if processor is None:
        return
    for part in processor.get("processors", []):
        _renumber(part, ids)
    for mark in processor.get("special_tokens", {}).values():
        mark["ids"] = [int(ids[number]) for number in mark["ids"]]
    for name in {"cls", "sep"} & processor.keys():
        token, number = processor[name]
        processor[name] = [token, int(ids[number])]
