"""Text to token ids: a BPE tokenizer fitted on the study's own captions, stored in the Hugging Face format."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainables.artifacts import artifact
from trainables.data.prepared import Array

PAD, UNKNOWN, START, END = "<pad>", "<unk>", "<s>", "</s>"
PAD_ID, END_ID = 0, 3
_STAGE_VERSION = 1


class Tokenizer:
    """The one way in which this project turns text into token ids, and back for looking at them."""

    def __init__(self, folder: Path, context_length: int) -> None:
        from open_clip.tokenizer import HFTokenizer

        self.folder = folder
        self.context_length = context_length
        self._tokenizer = HFTokenizer(str(folder), context_length=context_length)
        content = (folder / "tokenizer.json").read_bytes()
        self.fingerprint = f"{hashlib.sha256(content).hexdigest()[:16]}-{context_length}"

    @property
    def vocab_size(self) -> int:
        return len(self._tokenizer.tokenizer)

    def encode(self, texts: Sequence[str]) -> Array:
        """Token ids, int32 [len(texts), context_length], with start and end marks, cut or padded to length."""
        return np.asarray(self._tokenizer(list(texts)), np.int32)

    def decode(self, tokens: Array) -> list[str]:
        return list(self._tokenizer.tokenizer.batch_decode(tokens, skip_special_tokens=True))


def fit_bpe(texts: Sequence[str], vocab_size: int) -> Path:
    """The folder of a byte-pair-encoding tokenizer fitted on ``texts``: NFKC, lower case, words marked by a space."""
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()

    def build(folder: Path) -> None:
        from tokenizers import Tokenizer as Backend
        from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers
        from transformers import PreTrainedTokenizerFast

        backend = Backend(models.BPE(unk_token=UNKNOWN))
        backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        backend.decoder = decoders.Metaspace()
        marks = [PAD, UNKNOWN, START, END]
        trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=marks, show_progress=False)
        backend.train_from_iterator(texts, trainer)
        backend.post_processor = processors.TemplateProcessing(
            single=f"{START} $A {END}", special_tokens=[(START, marks.index(START)), (END, marks.index(END))]
        )
        PreTrainedTokenizerFast(
            tokenizer_object=backend, pad_token=PAD, unk_token=UNKNOWN, bos_token=START, eos_token=END
        ).save_pretrained(folder)

    return artifact("tokenizer", {"texts": digest, "vocab_size": vocab_size, "stage": _STAGE_VERSION}, build)
