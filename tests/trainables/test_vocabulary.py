"""Trimmed vocabularies of each kind that teachers have, on real names in 14 languages."""

from __future__ import annotations

from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, trainers
from transformers import CLIPTokenizer, GemmaTokenizer, XLMRobertaTokenizer

from trainables.data import emoji
from trainables.models.tokenizer import TOKENIZER_FILE, fit_bpe

UNSEEN = ("Zwölf Boxkämpfer jagen Eva", "χαῖρε κόσμε", "🦄 und ᚠᛇᚻ", "蝴蝶效应", "x" * 200, "")


def names() -> list[str]:
    """All names in every language, as the tokenizers are fitted on."""
    return [name for entry in emoji.catalogue() for name in entry.names]


def study() -> list[str]:
    """What one study uses: every fifth emoji, in every language."""
    return [name for entry in emoji.catalogue()[::5] for name in entry.names]


def own() -> Backend:
    return Backend.from_file(str(fit_bpe(names(), 4000) / TOKENIZER_FILE))


def clip() -> Backend:
    """The vocabulary of CLIP, 49,408 tokens, in the class that transformers has for it."""
    from open_clip.tokenizer import SimpleTokenizer

    published = SimpleTokenizer()
    tokens = [*list(published.encoder)[:-2], "<|startoftext|>", "<|endoftext|>"]
    ids = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=ids, merges=list(published.bpe_ranks)).backend_tokenizer


def gemma() -> Backend:
    """Merged pieces that fall back to bytes, which Gemma's tokenizer has beside them."""
    marks = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
    fitted = Backend(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    fitted.pre_tokenizer = pre_tokenizers.Metaspace()
    fitted.train_from_iterator(names(), trainers.BpeTrainer(vocab_size=4000, special_tokens=marks, show_progress=False))
    model = json_of(fitted)["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    return GemmaTokenizer(vocab=model["vocab"], merges=merges).backend_tokenizer


def xlm_roberta() -> Backend:
    """Pieces with likelihoods, as SentencePiece makes them."""
    fitted = Backend(models.Unigram())
    fitted.pre_tokenizer = pre_tokenizers.Metaspace()
    marks = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=4000, special_tokens=marks, unk_token="<unk>", show_progress=False)
    fitted.train_from_iterator(names(), trainer)
    pieces = [(str(piece), float(score)) for piece, score in json_of(fitted)["model"]["vocab"]]
    return XLMRobertaTokenizer(vocab=[*pieces, ("<mask>", 0.0)]).backend_tokenizer
