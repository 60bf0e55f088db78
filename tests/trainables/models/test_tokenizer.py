from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trainables.data.emoji import catalogue, splits
from trainables.models.tokenizer import END_ID, PAD_ID, Tokenizer, fit_bpe

LANGUAGE_COLUMNS = {"en": 0, "ja": 2, "ar": -1}


@pytest.fixture(scope="module")
def roomy(tokenizer: Tokenizer) -> Tokenizer:
    """The session's tokenizer with room for every name."""
    return Tokenizer(tokenizer.folder, 128)


@pytest.mark.parametrize("language", LANGUAGE_COLUMNS)
def test_names_survive_encoding_in_every_script(roomy: Tokenizer, language: str) -> None:
    names = [catalogue()[i].names[LANGUAGE_COLUMNS[language]].lower() for i in splits()["train"][::25]]
    assert roomy.decode(roomy.encode(names)) == [name.replace("’", "'") for name in names]


@pytest.mark.parametrize(
    ("one", "other"),
    [("ｆｌａｇ Wales", "flag wales"), ("nine o’clock", "nine o'clock"), ("“ok”", '"ok"'), (" a \n cat ", "a cat")],
)
def test_case_compatibility_forms_quotation_marks_and_spaces_do_not_matter(
    roomy: Tokenizer, one: str, other: str
) -> None:
    tokens = roomy.encode([one, other])
    np.testing.assert_array_equal(tokens[0], tokens[1])


def test_saved_tokenizer_is_the_same(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    assert Tokenizer(tmp_path, tokenizer.context_length).fingerprint == tokenizer.fingerprint


def test_texts_are_marked_padded_and_cut(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode(["cat", "a very long name " * 20])
    assert tokens.shape == (2, tokenizer.context_length)
    assert tokens.dtype == np.int32
    assert (tokens[:, 0] == 2).all()
    end = int(np.flatnonzero(tokens[0] == END_ID)[0])
    assert (tokens[0, end + 1 :] == PAD_ID).all()
    assert end < tokenizer.context_length - 1
    assert tokens[1, -1] == END_ID  # what is cut still ends
    assert (tokens == END_ID).sum() == 2
    assert tokens.max() < tokenizer.vocab_size


def test_script_that_was_never_seen_is_unknown_and_no_error(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode(["ⴰⵣⵓⵍ"])
    assert 1 in tokens


def test_fingerprint_names_vocabulary_and_context_length(tokenizer: Tokenizer) -> None:
    again, longer = (Tokenizer(tokenizer.folder, length) for length in (tokenizer.context_length, 20))
    other = Tokenizer(fit_bpe(["one cat", "two dogs"], 300), tokenizer.context_length)
    assert again.fingerprint == tokenizer.fingerprint
    assert len({tokenizer.fingerprint, longer.fingerprint, other.fingerprint}) == 3


def test_same_texts_and_size_share_one_folder() -> None:
    folders = {fit_bpe(texts, size) for texts, size in [(["a b"], 300), (["a b"], 300), (["a c"], 300), (["a b"], 301)]}
    assert len(folders) == 3
