"""Text to token ids: the one way in this project, whether a tokenizer was fitted here or published with a model.

A tokenizer is a folder: `tokenizer.json` in the format of the `tokenizers` library, and `cleaning.json` if texts are
cleaned as open_clip does before they reach it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Backend

from trainables.artifacts import artifact, write_json, write_text
from trainables.data.prepared import Array
from trainables.models.spec import END_ID, PAD_ID, START_ID, UNKNOWN_ID

PAD, UNKNOWN, START, END = "<pad>", "<unk>", "<s>", "</s>"
TOKENIZER_FILE = "tokenizer.json"  # in its folder, and beside a student of its own vocabulary
CLEANING_FILE = "cleaning.json"
# What a typist's quotation marks and spaces are to a keyboard. open_clip does this to a text before any tokenizer sees it.
_PLAIN = (("[\u02bc\u2018-\u201b]", "'"), ("[\u201c-\u201f]", '"'), (r"\s+", " "))
_STAGE_VERSION = 2  # raise it when the same texts give another tokenizer

Cleaning = Literal["lower", "whitespace", "canonicalize"]  # open_clip's names


class Tokenizer:
    """A saved tokenizer."""

    def __init__(self, folder: Path, context_length: int | None = None) -> None:
        """``context_length``: for one that `fit_bpe` made; one that `Tokenizer.save` wrote has its own.

        Raises:
            FileNotFoundError: if there is no tokenizer in the folder.
            ValueError: if its file leaves the length open, and it is not given.
        """
        self.folder = folder
        self._backend = Backend.from_buffer((folder / TOKENIZER_FILE).read_bytes())
        if context_length is not None:
            known = self._backend.padding
            _cut_and_pad(self._backend, context_length, int(known["pad_id"]) if known else PAD_ID)
        cut, padding = self._backend.truncation, self._backend.padding
        if cut is None or padding is None:
            raise ValueError(f"{folder / TOKENIZER_FILE} leaves the length of texts open")
        self.context_length, self.pad_id = int(cut["max_length"]), int(padding["pad_id"])
        content = self._backend.to_str()
        self.cleaning: Cleaning | None = None
        self._clean: Callable[[str], str] | None = None
        if (folder / CLEANING_FILE).exists():
            from open_clip.tokenizer import get_clean_fn

            self.cleaning = json.loads((folder / CLEANING_FILE).read_text(encoding="utf-8"))["clean"]
            self._clean = get_clean_fn(self.cleaning)
            content += str(self.cleaning)
        self.fingerprint = hashlib.sha256(content.encode()).hexdigest()[:16]

    @property
    def vocab_size(self) -> int:
        return int(self._backend.get_vocab_size())

    def encode(self, texts: Sequence[str]) -> Array:
        """Token ids, int32 [len(texts), context_length], with start and end marks, cut or padded to length."""
        encoded = self._backend.encode_batch_fast(self._cleaned(texts))
        return np.asarray([row.ids for row in encoded], np.int32).reshape(-1, self.context_length)

    def measure(self, texts: Sequence[str]) -> tuple[Array, Array]:
        """How many tokens each text has if it is not cut, marks included, and how many of them are unknown: both int64
        [len(texts)]."""
        encoded = self._whole.encode_batch_fast(self._cleaned(texts), add_special_tokens=False)
        lengths = np.asarray([len(row) for row in encoded], np.int64)
        unknown = [0 if self.unknown_id is None else row.ids.count(self.unknown_id) for row in encoded]
        return lengths + self.marks, np.asarray(unknown, np.int64)

    @property
    def marks(self) -> int:
        """How many tokens are put around every text."""
        return int(self._backend.num_special_tokens_to_add(is_pair=False))

    @cached_property
    def unknown_id(self) -> int | None:
        """What stands for what no token is; None if everything falls into tokens."""
        model = json.loads(self._backend.to_str())["model"]
        unknown = self._backend.token_to_id(token) if (token := model.get("unk_token")) else model.get("unk_id")
        return None if unknown is None else int(unknown)

    @cached_property
    def _whole(self) -> Backend:
        """Without cutting or padding."""
        backend = Backend.from_str(self._backend.to_str())
        backend.no_truncation()
        backend.no_padding()
        return backend

    def _cleaned(self, texts: Sequence[str]) -> list[str]:
        return list(texts) if self._clean is None else [self._clean(text) for text in texts]

    def decode(self, tokens: Array) -> list[str]:
        """The texts, without marks, as far as the tokenizer keeps them."""
        lengths = np.where(tokens != self.pad_id, np.arange(1, tokens.shape[1] + 1), 0).max(axis=1, initial=0)
        rows = [row[:length].tolist() for row, length in zip(tokens, lengths, strict=True)]
        return list(self._backend.decode_batch(rows))

    def save(self, folder: Path) -> None:
        """Write it into ``folder``, with its length: from there it can be opened without one.

        Raises:
            OSError: naming the file, if it cannot be written.
        """
        save_tokenizer(self._backend, folder, self.context_length, self.pad_id, self.cleaning)

    def for_transformers(self) -> Any:
        """The same as a `transformers.PreTrainedTokenizerFast`, which cuts and pads to length unless told otherwise; but
        for its cleaning.

        A processor pads as the settings of its tokenizer say, and a SigLIP tower that is not padded pools another token.
        """
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast(
            tokenizer_object=Backend.from_str(self._backend.to_str()),
            pad_token=self._backend.id_to_token(self.pad_id),
            model_max_length=self.context_length,
            max_length=self.context_length,
            padding="max_length",
            truncation=True,
            model_input_names=["input_ids"],
        )


def save_tokenizer(backend: Backend, folder: Path, context_length: int, pad_id: int, clean: Cleaning | None) -> None:
    """Write a tokenizer as `Tokenizer` reads it; ``backend`` puts the marks around a text itself."""
    _cut_and_pad(backend, context_length, pad_id)
    write_text(folder / TOKENIZER_FILE, backend.to_str(pretty=True))
    if clean is not None:
        write_json(folder / CLEANING_FILE, {"clean": clean})


def _cut_and_pad(backend: Backend, context_length: int, pad_id: int) -> None:
    """At the right, as all models here were trained."""
    backend.enable_truncation(context_length)
    backend.enable_padding(length=context_length, pad_id=pad_id, pad_token=backend.id_to_token(pad_id))


def fit_bpe(texts: Sequence[str], vocab_size: int) -> Path:
    """The folder of a byte-pair-encoding tokenizer fitted on ``texts``: NFKC, lower case, straight quotation marks,
    words marked by one space.

    Its file is one that `transformers.PreTrainedTokenizerFast` reads too.
    """
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()

    def build(folder: Path) -> None:
        backend = Backend(models.BPE(unk_token=UNKNOWN))
        backend.normalizer = normalizers.Sequence(
            [normalizers.Replace(Regex(pattern), plain) for pattern, plain in _PLAIN]
            + [normalizers.Strip(), normalizers.NFKC(), normalizers.Lowercase()]
        )
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        backend.decoder = decoders.Metaspace()
        marks = {PAD: PAD_ID, UNKNOWN: UNKNOWN_ID, START: START_ID, END: END_ID}
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=sorted(marks, key=marks.__getitem__), show_progress=False
        )
        backend.train_from_iterator(texts, trainer)
        backend.post_processor = processors.TemplateProcessing(
            single=f"{START} $A {END}", special_tokens=[(START, START_ID), (END, END_ID)]
        )
        backend.save(str(folder / TOKENIZER_FILE))

    return artifact("tokenizer", {"texts": digest, "vocab_size": vocab_size, "stage": _STAGE_VERSION}, build)
