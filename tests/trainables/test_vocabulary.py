"""Trimmed vocabularies of each kind that teachers have, on real names in 14 languages."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, trainers
from transformers import CLIPTokenizer, GemmaTokenizer, PreTrainedTokenizerFast, XLMRobertaTokenizer

from tests.trainables.models.tiny import CONTEXT, SIZE, tiny_spec
from trainables.config import StudentConfig, StudentImageTower, StudentTextTower
from trainables.data import embedded, emoji
from trainables.data.prepared import Array, CaptionedImages
from trainables.models.dual_encoder import DualEncoder
from trainables.models.factory import build_model, load_model, read_vocabulary
from trainables.models.tokenizer import TOKENIZER_FILE, Tokenizer, fit_bpe
from trainables.recipe import Recipe
from trainables.student import make_student, student_spec
from trainables.vocabulary import trim, trimmed_vocabulary

UNSEEN = ("Zwölf Boxkämpfer jagen Eva", "χαῖρε κόσμε", "🦄 und ᚠᛇᚻ", "蝴蝶效应", "x" * 200, "")


def names(every: int = 1) -> list[str]:
    """The names of emoji in all 14 languages: every third for fitting, and one in fifteen as what a study uses."""
    return [name for entry in emoji.catalogue()[::every] for name in entry.names]


def own() -> Backend:
    return Backend.from_file(str(fit_bpe(names(3), 4000) / TOKENIZER_FILE))


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
    fitted.train_from_iterator(
        names(3), trainers.BpeTrainer(vocab_size=4000, special_tokens=marks, show_progress=False)
    )
    model = json.loads(fitted.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    return GemmaTokenizer(vocab=model["vocab"], merges=merges).backend_tokenizer


def xlm_roberta() -> Backend:
    """Pieces with likelihoods, as SentencePiece makes them."""
    fitted = Backend(models.Unigram())
    fitted.pre_tokenizer = pre_tokenizers.Metaspace()
    marks = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=4000, special_tokens=marks, unk_token="<unk>", show_progress=False)
    fitted.train_from_iterator(names(3), trainer)
    pieces = [(str(piece), float(score)) for piece, score in json.loads(fitted.to_str())["model"]["vocab"]]
    return XLMRobertaTokenizer(vocab=[*pieces, ("<mask>", 0.0)]).backend_tokenizer


# With the least tokens that a study of one emoji in fifteen may save.
KINDS: dict[str, tuple[Callable[[], Backend], int]] = {
    "own": (own, 1),
    "clip": (clip, 40_000),
    "gemma": (gemma, 900),
    "xlm-roberta": (xlm_roberta, 150),
}


@pytest.mark.parametrize("kind", KINDS)
def test_texts_of_the_study_keep_their_pieces_and_others_fall_into_known_ones(kind: str) -> None:
    build, saved = KINDS[kind]
    backend = build()
    before = backend.encode_batch(names(15))
    trimmed, ids = trim(backend, {number for encoded in before for number in encoded.ids})
    kept = trimmed.get_vocab()
    assert sorted(kept.values()) == list(range(len(kept)))  # the student has a row for each, and no more
    assert len(kept) <= backend.get_vocab_size() - saved
    for old, new in zip(before, trimmed.encode_batch(names(15)), strict=True):
        assert new.tokens == old.tokens
        assert new.ids == ids[old.ids].tolist()
    for text in UNSEEN:
        pieces, known = trimmed.encode(text), backend.encode(text)
        assert set(pieces.ids) <= set(kept.values())
        assert len(pieces.ids) >= len(known.ids)
        said, meant = (
            decode(found.ids).replace("</w>", " ").split()
            for decode, found in ((trimmed.decode, pieces), (backend.decode, known))
        )
        assert said == meant


@pytest.mark.parametrize("kind", KINDS)
def test_a_trimmed_tokenizer_is_one_that_transformers_loads(kind: str, tmp_path: Path) -> None:
    backend = KINDS[kind][0]()
    used = {number for encoded in backend.encode_batch(names(15)) for number in encoded.ids}
    trimmed, _ = trim(backend, used)
    trimmed.save(str(tmp_path / TOKENIZER_FILE))
    loaded = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / TOKENIZER_FILE))
    texts = [*names(90), *UNSEEN]
    assert loaded(texts)["input_ids"] == [encoded.ids for encoded in trimmed.encode_batch(texts)]


def test_a_vocabulary_of_whole_words_is_refused() -> None:
    with pytest.raises(ValueError, match="of kind WordLevel cannot be trimmed: only BPE and Unigram can"):
        trim(Backend(models.WordLevel({"a": 0}, unk_token="a")), {0})


@dataclass
class Trimmed:
    """The validation names in three languages, a teacher of a larger vocabulary, and what is left of that."""

    tokenizer: Tokenizer
    own: Tokenizer
    ids: Array
    data: CaptionedImages
    teacher: DualEncoder

    def student(self, width: float) -> DualEncoder:
        config = StudentConfig(
            image=StudentImageTower(layers=1, width=width), text=StudentTextTower(layers=1.0, width=width)
        )
        spec = student_spec(config, self.teacher.spec, self.ids)
        return make_student(spec, self.teacher, Recipe(strategy="fd"), 1, vocabulary=self.ids)


@pytest.fixture(scope="module")
def trimmed() -> Trimmed:
    tokenizer = Tokenizer(fit_bpe(embedded.training_texts(("en", "ja", "ar")), 2500), CONTEXT)
    captions = embedded.prepare_captions("validation", ("en", "ja", "ar"), SIZE, tokenizer)
    folder = trimmed_vocabulary(tokenizer, [captions], [])
    ids = read_vocabulary(folder)
    assert ids is not None
    spec = tiny_spec("clip")
    text = spec.text.model_copy(update={"vocab_size": tokenizer.vocab_size})
    teacher = build_model(spec.model_copy(update={"text": text}), seed=1).eval()
    return Trimmed(tokenizer, Tokenizer(folder, CONTEXT), ids, CaptionedImages.load(captions), teacher)


def test_prepared_tokens_read_through_the_vocabulary_are_the_trimmed_tokenizers(trimmed: Trimmed) -> None:
    student = trimmed.student(0.5)
    assert student.spec.text.vocab_size == trimmed.own.vocab_size == (trimmed.ids >= 0).sum()
    assert trimmed.own.vocab_size < trimmed.tokenizer.vocab_size - 200
    for texts, tokens in zip(trimmed.data.texts, trimmed.data.tokens, strict=True):
        read = student.read(torch.tensor(tokens, dtype=torch.long)).numpy()
        np.testing.assert_array_equal(read, trimmed.own.encode(texts))


def test_a_text_that_a_trimmed_tokenizer_would_split_otherwise_is_found(trimmed: Trimmed, tmp_path: Path) -> None:
    wrong = replace(
        trimmed.data,
        texts=[["one more", *trimmed.data.texts[0][1:]], *trimmed.data.texts[1:]],
        tokens=trimmed.data.tokens.copy(),
    )
    wrong.save(tmp_path / "captions")
    with pytest.raises(ValueError, match="'one more' does not keep its pieces"):
        trimmed_vocabulary(trimmed.tokenizer, [tmp_path / "captions"], [])


def test_a_trimmed_student_computes_what_its_teacher_does_also_when_saved(trimmed: Trimmed, tmp_path: Path) -> None:
    student, teacher = trimmed.student(1.0).eval(), trimmed.teacher
    student.save(tmp_path)
    saved = load_model(tmp_path).eval()
    tokens = torch.tensor(trimmed.data.tokens[2][:8], dtype=torch.long)
    with torch.inference_mode():
        expected = teacher.encode_text(teacher.read(tokens))
        for model in (student, saved):
            torch.testing.assert_close(model.encode_text(model.read(tokens)).embedding, expected.embedding)
