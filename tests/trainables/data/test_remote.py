"""Data in a bucket and on a web server: the same arrays as from files here, or one line that says why not."""

from __future__ import annotations

import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from tests.object_store import BUCKET, SECRET
from tests.own_data import Item, items
from tests.trainables.data.forms import (
    COUNT,
    LANGUAGES,
    SIZE,
    file_a_language,
    parquet,
    parts,
    pictures_in_subfolders,
    prepared,
    split_a_language,
    wide,
)
from trainables.artifacts import cache_root
from trainables.data.captions import prepare_captions
from trainables.data.headers import check_source
from trainables.data.pictures import PictureError, Pixels, read_picture
from trainables.data.report import DataError
from trainables.data.settings import PerLanguageCaptions, WideCaptions
from trainables.models.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def chosen() -> list[Item]:
    return items("validation", LANGUAGES, SIZE, COUNT)


@pytest.mark.parametrize(
    "form", [parquet, parts, file_a_language, split_a_language, pictures_in_subfolders], ids=lambda form: form.__name__
)
def test_data_in_a_bucket_becomes_the_arrays_that_files_become(
    form: Callable[[Path, list[Item]], WideCaptions | PerLanguageCaptions],
    chosen: list[Item],
    tokenizer: Tokenizer,
    store: dict[str, str],
    tmp_path: Path,
) -> None:
    here = form(tmp_path, chosen)
    url = f"{BUCKET}/{form.__name__}"
    fsspec.filesystem("s3").put(f"{tmp_path}/", url, recursive=True)
    there = here.model_copy(update={"source": here.source.replace(str(tmp_path), url)})
    (expected, _), (found, report) = prepared(here, tokenizer), prepared(there, tokenizer)
    np.testing.assert_array_equal(found.images, expected.images)
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    assert [list(texts) for texts in found.texts] == [list(texts) for texts in expected.texts]
    assert report["bad_rows"] == 0
    written = [path.read_bytes() for path in cache_root().glob("captions/*/*.json")]
    assert any(url.encode() in content for content in written)
    assert not any(SECRET.encode() in content for content in written)


def unreachable(source: str, seconds: float = 30, **settings: Any) -> str:
    """What is said of a source before anything slow begins."""
    began = time.monotonic()
    with pytest.raises(DataError) as raised:
        check_source("data.train", wide(source, **settings), LANGUAGES)
    assert time.monotonic() - began < seconds
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("s3://no-bucket/rows.parquet", "The specified bucket does not exist"),
        ("s3://no-bucket/*.parquet", "The specified bucket does not exist"),
        (f"{BUCKET}/missing.parquet", "there is no such file"),
        (f"{BUCKET}/*.txt", "no file matches"),
        (BUCKET, "name data files by a pattern such as s3://bucket/*.parquet"),
        ("http://127.0.0.1:1/rows.parquet", "Connect call failed"),
        ("nowhere://bucket/rows.csv", "Protocol not known: nowhere"),
    ],
)
def test_what_is_not_at_a_url_is_told_at_once_in_one_line(store: dict[str, str], source: str, message: str) -> None:
    said = unreachable(source)
    assert said.startswith(f"data.train.source: {source} cannot be opened: ")
    assert message in said


def test_columns_of_a_file_in_a_bucket_are_known_before_it_is_read(
    store: dict[str, str], chosen: list[Item], tmp_path: Path
) -> None:
    parquet(tmp_path, chosen)
    url = f"{BUCKET}/columns/rows.parquet"
    fsspec.filesystem("s3").put(str(tmp_path / "rows.parquet"), url)
    assert f"{url} has no column 'picture': there are id, image, caption_en" in unreachable(url, image="picture")


def test_a_bucket_without_the_right_credentials_says_so(store: dict[str, str], tokenizer: Tokenizer) -> None:
    def ask_for_credentials(after: str) -> None:
        address, kind = f"{store['AWS_ENDPOINT_URL']}/moto-api/reset-auth", {"Content-Type": "text/plain"}
        urllib.request.urlopen(urllib.request.Request(address, after.encode(), kind)).close()

    url = f"{BUCKET}/secret.parquet"
    ask_for_credentials("0")
    try:
        said = unreachable(url)
        with pytest.raises(DataError) as raised:
            prepare_captions("data.train", wide(url), LANGUAGES, "en", Pixels(SIZE), tokenizer, lambda *_: None)
    finally:
        ask_for_credentials("inf")
    for message in (said, str(raised.value)):
        assert "access is refused, to the credentials that are in the environment" in message
        assert SECRET not in message


def test_a_bucket_that_does_not_answer_or_lacks_its_package_is_told_in_seconds(
    store: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    fsspec.filesystem("s3").clear_instance_cache()
    assert "Could not connect to the endpoint URL" in unreachable(f"{BUCKET}/rows.parquet")
    with pytest.raises(PictureError, match=r"s3://bucket/a\.png cannot be read: .*Could not connect"):
        read_picture("a.png", BUCKET)
    fsspec.filesystem("s3").clear_instance_cache()
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3")  # that it has been imported before
    monkeypatch.setitem(sys.modules, "s3fs", None)
    assert "s3:// needs a package: pip install 'polydistill[s3]'" in unreachable(f"{BUCKET}/rows.parquet")
