"""Text to token ids: a BPE tokenizer fitted on the study's own captions, stored in the Hugging Face format."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Backend

from trainables.artifacts import artifact, atomically
from trainables.data.prepared import Array

PAD, UNKNOWN, START, END = "<pad>", "<unk>", "<s>", "</s>"
PAD_ID, START_ID, END_ID = 0, 2, 3
_FILE = "tokenizer.json"
# What a typist's quotation marks and spaces are to a keyboard. open_clip does this to a text before any tokenizer sees it.
_PLAIN = (("[\u02bc\u2018-\u201b]", "'"), ("[\u201c-\u201f]", '"'), (r"\s+", " "))
_STAGE_VERSION = 2  # raise it when the same texts give another tokenizer


class Tokenizer:
    """The one way in which this project turns text into token ids, and back for looking at them."""

    def __init__(self, folder: Path, context_length: int) -> None:
        self._content = (folder / _FILE).read_bytes()
        self.folder = folder
        self.context_length = context_length
        self.fingerprint = f"{hashlib.sha256(self._content).hexdigest()[:16]}-{context_length}"
        self._backend = Backend.from_buffer(self._content)
        self._backend.enable_truncation(context_length)
        self._backend.enable_padding(length=context_length, pad_id=PAD_ID, pad_token=PAD)

    @property
    def vocab_size(self) -> int:
        return int(self._backend.get_vocab_size())

    def encode(self, texts: Sequence[str]) -> Array:
        """Token ids, int32 [len(texts), context_length], with start and end marks, cut or padded to length."""
        encoded = self._backend.encode_batch_fast(list(texts))
        return np.asarray([row.ids for row in encoded], np.int32).reshape(-1, self.context_length)

    def decode(self, tokens: Array) -> list[str]:
        return list(self._backend.decode_batch([[int(token) for token in row] for row in tokens]))

    def save(self, folder: Path) -> None:
        """Write it into ``folder``, from where it can be opened again.

        Raises:
            OSError: naming the file, if it cannot be written.
        """
        with atomically(folder / _FILE) as temporary:
            temporary.write_bytes(self._content)

    def for_transformers(self) -> Any:
        """The same as a `transformers.PreTrainedTokenizerFast`, which cuts and pads to length unless told otherwise.

        A processor pads as the settings of its tokenizer say, and a SigLIP tower that is not padded pools another token.
        """
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast(
            tokenizer_object=Backend.from_buffer(self._content),
            pad_token=PAD,
            model_max_length=self.context_length,
            max_length=self.context_length,
            padding="max_length",
            truncation=True,
            model_input_names=["input_ids"],
        )


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
        marks = [PAD, UNKNOWN, START, END]
        trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=marks, show_progress=False)
        backend.train_from_iterator(texts, trainer)
        backend.post_processor = processors.TemplateProcessing(
            single=f"{START} $A {END}", special_tokens=[(START, marks.index(START)), (END, marks.index(END))]
        )
        backend.save(str(folder / _FILE))

    return artifact("tokenizer", {"texts": digest, "vocab_size": vocab_size, "stage": _STAGE_VERSION}, build)
