"""Pictures in shards: decoded or encoded, written at once or by processes of which one was killed."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, Features, Value
from PIL import Image

from trainables.data import gallery
from trainables.data.gallery import write_pictures
from trainables.data.images import EncodedShards, Images, JoinedImages, decode_in, open_shards
from trainables.data.pictures import Pixels
from trainables.data.report import DataError, DataReport

ROOT = Path(__file__).parents[3]
SIZE = 24


def encoded(picture: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def photo(seed: int, width: int, height: int) -> Image.Image:
    """Noise, blurred."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    """Twenty of many kinds; the eighth is cut off."""
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    glass = photo(1, 64, 48)
    glass.putalpha(90)
    kinds = [
        encoded(photo(2, 320, 200), "JPEG", quality=95),  # more bytes than fitted without loss
        encoded(photo(3, 64, 96), "JPEG", exif=exif),
        encoded(glass, "PNG"),
        encoded(Image.new("RGB", (300, 300), (1, 2, 3)), "JPEG"),
    ]
    found = [
        kinds[number % 4] if number % 5 else encoded(photo(number, 16, 16), "JPEG", quality=30) for number in range(20)
    ]
    found[7] = found[7][:100]
    return found


def written(folder: Path, pictures: Sequence[bytes | None], pixels: Pixels, max_bad: float = 0.2) -> tuple[Images, Any]:
    """What is read of pictures, and which of them."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    report = DataReport("data.train", len(pictures), max_bad)
    kept = write_pictures(
        folder,
        np.arange(len(pictures)),
        lambda items: [(pictures[item], None) for item in items],
        lambda item: f"row {item}",
        pixels,
        report,
        lambda *_: None,
    )
    report.save(folder)
    return open_shards(folder / "images"), kept


@pytest.fixture
def shards_of_six(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "_ROWS", 6)


@pytest.fixture
def two_threads() -> Iterator[None]:
    decode_in(2)
    yield
    decode_in(1)


@pytest.mark.usefixtures("shards_of_six", "two_threads")
@pytest.mark.parametrize("fit", ["squash", "crop"])
def test_encoded_pictures_are_read_as_the_decoded_ones(fit: Any, pictures: list[bytes], tmp_path: Path) -> None:
    pixels = Pixels(SIZE, fit, budget=20 * SIZE * SIZE * 3)
    forms = [pixels.of_so_many(20), pixels.of_so_many(21)]
    assert [form.encoded for form in forms] == [False, True]
    (plain, kept), (packed, same) = (written(tmp_path / str(form.encoded), pictures, form) for form in forms)
    assert isinstance(plain, JoinedImages)
    assert isinstance(packed, EncodedShards)
    assert list(kept) == list(same) == [number for number in range(20) if number != 7]
    assert plain.shape == packed.shape == (19, SIZE, SIZE, 3)
    expected = np.stack([pixels.fitted(pictures[item]) for item in kept])
    mask = np.zeros(19, np.bool_)
    mask[[2, 11]] = True
    for rows in (slice(None), slice(15, 3, -4), 5, -1, np.asarray([[18, 0], [6, 6]]), mask, [], np.int64(7)):
        wanted = expected[np.asarray(rows, np.int64) if isinstance(rows, list) else rows]
        np.testing.assert_array_equal(plain[rows], wanted, strict=True)
        np.testing.assert_array_equal(packed[rows], wanted, strict=True)
    np.testing.assert_array_equal(np.asarray(packed), expected)
    for images in (plain, packed):
        for rows in (19, -20, [0, 19], mask[:3]):
            with pytest.raises(IndexError):
                images[rows]
    own = sum(len(content) for content in pictures)
    stored = sum(path.stat().st_size for path in (tmp_path / "True" / "images").glob("*.arrow"))
    assert stored < own < expected.nbytes + own


@pytest.mark.usefixtures("shards_of_six")
def test_shards_that_are_there_are_not_written_again_and_are_reported_all_the_same(
    pictures: list[bytes], tmp_path: Path
) -> None:
    whole, _ = written(tmp_path / "whole", pictures, Pixels(SIZE))
    folder = tmp_path / "parts"
    written(folder, pictures, Pixels(SIZE))
    images = folder / "images"
    (images / "00002.json").unlink()  # killed before it was said to be there
    with open(images / "00000.npy", "ab") as file:
        file.write(b"\0")  # a disk's damage
    before = {path.name: path.stat().st_ino for path in images.iterdir()}
    again, kept = written(folder, pictures, Pixels(SIZE))
    np.testing.assert_array_equal(np.asarray(again), np.asarray(whole))
    assert len(kept) == 19
    after = {path.name: path.stat().st_ino for path in images.iterdir()}
    assert {name for name in after if after[name] != before.get(name)} == {
        f"{number}{ending}" for number in ("00000", "00002") for ending in (".json", ".npy")
    }
    reports = [json.loads((tmp_path / name / "data_report.json").read_text()) for name in ("whole", "parts")]
    assert reports[0] == reports[1]
    assert reports[0]["listed"][0]["row"] == "row 7"


@pytest.mark.usefixtures("shards_of_six")
def test_too_many_bad_pictures_end_it_at_the_first_shard_that_tells(pictures: list[bytes], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"3 of 20 rows are bad \(3 × picture\)"):
        written(tmp_path, [None, None, None, *pictures[3:]], Pixels(SIZE), max_bad=0.1)
    assert {path.stem for path in (tmp_path / "images").iterdir()} == {"00000"}


PREPARE = """
import json, sys
from pathlib import Path
from trainables.data import gallery
from trainables.data.captions import prepare_captions
from trainables.data.pictures import Pixels
from trainables.data.settings import WideCaptions
from trainables.models.tokenizer import Tokenizer, fit_bpe

gallery._ROWS = 40
source = WideCaptions(source=sys.argv[1], layout="wide", max_bad=0.1)
tokenizer = Tokenizer(fit_bpe(["some words"], 300), 8)
print(prepare_captions("data.train", source, ("en", "ja"), "en", Pixels(SIZE), tokenizer, lambda *_: None))
""".replace("SIZE", str(SIZE))


def prepare(source: Path, cache: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "POLYDISTILL_CACHE": str(cache)}
    command = [sys.executable, "-c", PREPARE, str(source)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_killed_preparation_is_gone_on_with_by_one_of_two(pictures: list[bytes], tmp_path: Path) -> None:
    large = encoded(photo(0, 800, 600), "JPEG")
    rows = [
        {"image": b"no picture" if number in (3, 85) else large, "en": f"number {number}", "ja": f"{number} 番"}
        for number in range(240)
    ]
    features = Features({"image": Value("binary"), "en": Value("string"), "ja": Value("string")})
    Dataset.from_list(rows, features=features).to_parquet(str(tmp_path / "rows.parquet"))
    source, cache = tmp_path / "rows.parquet", tmp_path / "cache"
    deadline = time.monotonic() + 120
    with prepare(source, cache) as killed:
        while not list(cache.glob("captions/.*.unfinished/images/00001.json")):
            assert killed.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        killed.send_signal(signal.SIGKILL)
    (unfinished,) = cache.glob("captions/.*.unfinished")
    finished = [path.stem for path in (unfinished / "images").glob("*.json")]
    assert 2 <= len(finished) < 6
    before = {name: (unfinished / "images" / f"{name}.npy").stat() for name in finished}

    both = [prepare(source, cache), prepare(source, cache)]
    folders = {Path(process.communicate(timeout=240)[0].strip()) for process in both}
    assert [process.returncode for process in both] == [0, 0]
    (folder,) = folders
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]  # nothing is left over
    for name, was in before.items():
        now = (folder / "images" / f"{name}.npy").stat()
        assert (now.st_ino, now.st_mtime_ns) == (was.st_ino, was.st_mtime_ns)

    with prepare(source, tmp_path / "another") as undisturbed:
        reference = Path(undisturbed.communicate(timeout=240)[0].strip())
    assert contents(folder) == contents(reference)
    assert json.loads((folder / "data_report.json").read_text())["bad_rows"] == 2
    assert open_shards(folder / "images").shape == (238, SIZE, SIZE, 3)
