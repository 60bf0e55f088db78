"""Captions of the user's own, in every layout and form, as the arrays that the embedded data becomes."""

from __future__ import annotations

import csv
import functools
import http.server
import io
import json
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, Features, Image, List, Value
from PIL import Image as Pictures

from tests.own_data import Item, items, save_per_language, save_wide, wide_rows
from trainables.data.captions import prepare_captions, training_texts
from trainables.data.headers import check_source
from trainables.data.pictures import Pixels
from trainables.data.prepared import CaptionedImages, Texts
from trainables.data.report import DataError
from trainables.data.settings import PerLanguageCaptions, WideCaptions
from trainables.models.tokenizer import Tokenizer

LANGUAGES = ("en", "ja", "ar")
SIZE = 24
COUNT = 20


@pytest.fixture(scope="module")
def chosen() -> list[Item]:
    return items("validation", LANGUAGES, SIZE, COUNT)


def wide(source: Path | str, **settings: Any) -> WideCaptions:
    return WideCaptions.model_validate(
        {"source": str(source), "layout": "wide", "columns": "caption_{language}", **settings}
    )


def prepared(
    source: WideCaptions | PerLanguageCaptions, tokenizer: Tokenizer, control: str | None = "en"
) -> tuple[CaptionedImages, dict[str, Any]]:
    check_source("data.train", source, LANGUAGES)
    folder = prepare_captions("data.train", source, LANGUAGES, control, Pixels(SIZE), tokenizer, lambda *_: None)
    return CaptionedImages.load(folder), json.loads((folder / "data_report.json").read_text(encoding="utf-8"))


def pixels(picture: bytes) -> np.ndarray:
    return np.asarray(Pictures.open(io.BytesIO(picture)).convert("RGB"))


def write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


# The forms that data comes in: each puts `chosen` into a folder and says how a configuration names it.


def parquet(folder: Path, chosen: list[Item]) -> WideCaptions:
    return wide(save_wide(folder / "rows.parquet", chosen), id="id")


def parts(folder: Path, chosen: list[Item]) -> WideCaptions:
    save_wide(folder / "rows-0.parquet", chosen[:7])
    save_wide(folder / "rows-1.parquet", chosen[7:])
    return wide(folder / "rows-*.parquet")


def at_a_url(folder: Path, chosen: list[Item]) -> WideCaptions:
    return wide(f"file://{save_wide(folder / 'rows.parquet', chosen)}")


def pictures_with_metadata(folder: Path, chosen: list[Item]) -> WideCaptions:
    rows = [
        {"file_name": f"{item.id}.png", **{f"caption_{code}": name for code, name in item.names.items()}}
        for item in chosen
    ]
    for item in chosen:
        (folder / f"{item.id}.png").write_bytes(item.picture)
    write_lines(folder / "metadata.jsonl", rows)
    return wide(folder)


def table_of_paths(folder: Path, chosen: list[Item]) -> WideCaptions:
    (folder / "pictures").mkdir()
    with open(folder / "rows.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["picture", *LANGUAGES])
        for item in chosen:
            (folder / "pictures" / f"{item.id}.png").write_bytes(item.picture)
            writer.writerow([f"pictures/{item.id}.png", *item.names.values()])
    return wide(folder / "rows.csv", image="picture", columns={code: code for code in LANGUAGES})


def bytes_alone(folder: Path, chosen: list[Item]) -> WideCaptions:
    rows = [
        {"image": item.picture, **{f"caption_{code}": name for code, name in item.names.items()}} for item in chosen
    ]
    Dataset.from_list(rows).to_parquet(str(folder / "rows.parquet"))
    return wide(folder / "rows.parquet")


def shards(folder: Path, chosen: list[Item]) -> WideCaptions:
    with tarfile.open(folder / "rows.tar", "w") as file:
        for item in chosen:
            texts = {f"{code}.txt": name.encode() for code, name in item.names.items()}
            for ending, content in {"png": item.picture, **texts}.items():
                member = tarfile.TarInfo(f"{item.id}.{ending}")
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))
    return wide(folder / "rows.tar", image="png", columns="{language}.txt")


def file_a_language(folder: Path, chosen: list[Item]) -> PerLanguageCaptions:
    path = save_per_language(folder / "rows", chosen) / "{language}.jsonl"
    return PerLanguageCaptions(source=str(path), layout="per_language", id="key", image="picture", caption="text")


def _by_language(chosen: list[Item]) -> DatasetDict:
    """As `floschne/xm3600` has them: a split a language, with lists of captions."""
    features = Features({"image_id": Value("string"), "image": Image(), "captions": List(Value("string"))})
    return DatasetDict(
        {
            language: Dataset.from_list(
                [
                    {
                        "image_id": item.id,
                        "image": {"bytes": item.picture, "path": None},
                        "captions": [item.names[language]],
                    }
                    for item in chosen
                ],
                features=features,
            )
            for language in LANGUAGES
        }
    )


def split_a_language(folder: Path, chosen: list[Item]) -> PerLanguageCaptions:
    _by_language(chosen).save_to_disk(str(folder / "saved"))
    return PerLanguageCaptions(
        source=str(folder / "saved"), layout="per_language", split="{language}", id="image_id", caption="captions"
    )


def configuration_a_language(folder: Path, chosen: list[Item]) -> PerLanguageCaptions:
    """A folder as the hub stores it."""
    configurations = []
    for language, rows in _by_language(chosen).items():
        (folder / language).mkdir()
        rows.to_parquet(str(folder / language / "test-00000-of-00001.parquet"))
        path = f"{language}/test-*"
        configurations.append(f"- config_name: of-{language}\n  data_files:\n  - split: test\n    path: {path}\n")
    (folder / "README.md").write_text(f"---\nconfigs:\n{''.join(configurations)}---\n", encoding="utf-8")
    return PerLanguageCaptions(
        source=str(folder),
        layout="per_language",
        config="of-{language}",
        split="test",
        id="image_id",
        caption="captions",
    )


FORMS: list[Callable[[Path, list[Item]], WideCaptions | PerLanguageCaptions]] = [
    parquet,
    parts,
    at_a_url,
    pictures_with_metadata,
    table_of_paths,
    bytes_alone,
    shards,
    file_a_language,
    split_a_language,
    configuration_a_language,
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_every_form_of_data_becomes_the_same_arrays(
    form: Callable[[Path, list[Item]], WideCaptions | PerLanguageCaptions],
    chosen: list[Item],
    tokenizer: Tokenizer,
    tmp_path: Path,
) -> None:
    source = form(tmp_path, chosen)
    data, report = prepared(source, tokenizer)
    order = [list(data.texts[0]).index(item.names["en"]) for item in chosen]
    assert sorted(order) == list(range(COUNT))
    for language, (texts, tokens) in enumerate(zip(data.texts, data.tokens, strict=True)):
        assert isinstance(texts, Texts)
        names = [item.names[LANGUAGES[language]] for item in chosen]
        assert [texts[row] for row in order] == names
        np.testing.assert_array_equal(tokens[order], tokenizer.encode(names))
    assert data.present.all()
    np.testing.assert_array_equal(data.images[order], [pixels(item.picture) for item in chosen])
    np.testing.assert_array_equal(data.image_item, data.text_item)
    assert isinstance(data.images, np.memmap)
    assert report["bad_rows"] == 0
    assert report["languages"]["ja"] == {"items": COUNT, "captions": COUNT, "missing": 0}
    assert sorted(training_texts("data.train", source, LANGUAGES)) == sorted(
        name for item in chosen for name in item.names.values()
    )


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the URL at which a server has it."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield tmp_path, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_table_at_a_url_has_its_pictures_beside_it(
    served: tuple[Path, str], chosen: list[Item], tokenizer: Tokenizer
) -> None:
    folder, url = served
    here = table_of_paths(folder, chosen)
    data, _ = prepared(here.model_copy(update={"source": f"{url}/rows.csv"}), tokenizer)
    np.testing.assert_array_equal(data.images, prepared(here, tokenizer)[0].images)


def test_several_captions_become_rows_of_their_item(chosen: list[Item], tokenizer: Tokenizer, tmp_path: Path) -> None:
    rows = wide_rows(chosen)
    rows[0] |= {"caption_en": ["one", "two", "three"], "caption_ja": ["eins", None, "zwei", ""], "caption_ar": None}
    rows[1] |= {"caption_ja": []}
    features = {f"caption_{code}": List(Value("string")) for code in LANGUAGES}
    Dataset.from_list(rows, features=Features({"id": Value("string"), "image": Image(), **features})).save_to_disk(
        str(tmp_path / "rows")
    )
    data, report = prepared(wide(tmp_path / "rows"), tokenizer)
    assert list(data.text_item[:4]) == [0, 0, 0, 1]
    assert [list(texts[:3]) for texts in data.texts] == [["one", "two", "three"], ["eins", "zwei", ""], ["", "", ""]]
    np.testing.assert_array_equal(data.present[:, :4], [[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 1]])
    assert (data.tokens[~data.present] == 0).all()
    assert len(data.images) == COUNT
    assert report["bad_rows"] == 0
    assert report["languages"]["ar"] == {"items": COUNT - 1, "captions": COUNT - 1, "missing": 1}


def test_languages_are_joined_by_id_whatever_they_lack(
    chosen: list[Item], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    source = file_a_language(tmp_path, chosen)
    lines = (tmp_path / "rows" / "en.jsonl").read_text(encoding="utf-8").splitlines()
    (tmp_path / "rows" / "en.jsonl").write_text("\n".join(lines[:-2]), encoding="utf-8")
    without = [{k: v for k, v in json.loads(line).items() if k != "picture"} for line in lines]
    write_lines(tmp_path / "rows" / "ja.jsonl", [row | {"text": f"ja {row['text']}"} for row in without])
    data, _ = prepared(source, tokenizer, control=None)
    assert len(data.images) == COUNT
    np.testing.assert_array_equal(data.present.sum(axis=1), [COUNT - 2, COUNT, COUNT])
    assert list(data.texts[0][-2:]) == ["", ""]
    assert list(data.texts[1]) == [f"ja {item.names['en']}" for item in chosen]
    np.testing.assert_array_equal(data.images, [pixels(item.picture) for item in chosen])
    with pytest.raises(DataError, match=rf"2 of {COUNT} rows are bad \(2 × no caption in en, the control"):
        prepared(source, tokenizer, control="en")


def test_shares_of_one_split_are_disjoint_and_the_same_in_any_order(
    chosen: list[Item], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    save_wide(tmp_path / "rows.parquet", chosen)
    save_wide(tmp_path / "turned.parquet", chosen[::-1])
    halves = [(0.0, 0.5), (0.5, 1.0)]
    first, second = (
        set(prepared(wide(tmp_path / "rows.parquet", id="id", share=share, min_items=1), tokenizer)[0].texts[0])
        for share in halves
    )
    assert first | second == {item.names["en"] for item in chosen}
    assert min(len(first), len(second)) > 4
    assert not first & second
    turned = prepared(wide(tmp_path / "turned.parquet", id="id", share=halves[0], min_items=1), tokenizer)[0]
    assert set(turned.texts[0]) == first
    joined = file_a_language(tmp_path, chosen).model_copy(update={"share": halves[0], "min_items": 1})
    assert set(prepared(joined, tokenizer)[0].texts[0]) == first  # an id is an id in any file


def test_bad_rows_are_skipped_counted_and_listed(chosen: list[Item], tokenizer: Tokenizer, tmp_path: Path) -> None:
    rows = wide_rows(chosen)
    rows[1]["image"] = {"bytes": chosen[1].picture[:80], "path": None}
    rows[2]["image"] = None
    rows[3]["id"] = rows[0]["id"]
    rows[4] |= dict.fromkeys([f"caption_{code}" for code in LANGUAGES])
    rows[5]["caption_ja"] = ["  "]
    rows[6]["id"] = None
    rows[7]["caption_ar"] = [" ", ""]
    captions = {f"caption_{code}": List(Value("string")) for code in LANGUAGES}
    features = Features({"id": Value("string"), "image": Image(), **captions})
    Dataset.from_list(rows, features=features).save_to_disk(str(tmp_path / "rows"))
    data, report = prepared(wide(tmp_path / "rows", id="id", max_bad=0.4), tokenizer)
    kept = [item for place, item in enumerate(chosen) if place not in (1, 2, 3, 4, 6)]
    assert list(data.texts[0]) == [item.names["en"] for item in kept]
    np.testing.assert_array_equal(data.images, [pixels(item.picture) for item in kept])
    assert data.present.sum() == 3 * len(kept) - 2
    assert (report["rows"], report["bad_rows"], report["items"]) == (COUNT, 7, len(kept))
    reasons = {"picture": 2, "duplicate id": 1, "no caption": 1, "empty caption": 2, "no id": 1}
    assert report["reasons"] == reasons
    listed = {row["row"]: row["reason"] for row in report["listed"]}
    assert set(listed) == {f"row {row}" for row in range(1, 8)}
    assert listed["row 1"].startswith("picture: ")
    assert listed["row 2"] == "picture: no picture"
    assert listed["row 5"] == "empty caption: ja"
    with pytest.raises(DataError, match=r"data\.train: .* of 20 rows are bad .*max_bad, 0\.01, .*: row "):
        prepared(wide(tmp_path / "rows", id="id"), tokenizer)


def test_a_language_with_too_few_items_is_named(chosen: list[Item], tokenizer: Tokenizer, tmp_path: Path) -> None:
    rows = wide_rows(chosen)
    for row in rows[5:]:
        row["caption_ar"] = None
    Dataset.from_list(rows).save_to_disk(str(tmp_path / "rows"))
    message = r"data\.train: fewer than min_items, 10, usable items in ar \(5\): leave the language out"
    with pytest.raises(DataError, match=message):
        prepared(wide(tmp_path / "rows", image="image"), tokenizer)


def test_changed_data_is_prepared_anew(chosen: list[Item], tokenizer: Tokenizer, tmp_path: Path) -> None:
    source = table_of_paths(tmp_path, chosen)
    first = prepared(source, tokenizer)[0]
    again = prepare_captions("data.train", source, LANGUAGES, "en", Pixels(SIZE), tokenizer, lambda *_: None)
    assert CaptionedImages.load(again).images.filename == first.images.filename
    (tmp_path / "pictures" / f"{chosen[0].id}.png").write_bytes(chosen[1].picture)
    changed = prepared(source, tokenizer)[0]
    np.testing.assert_array_equal(changed.images[0], first.images[1])
    larger = prepare_captions("data.train", source, LANGUAGES, "en", Pixels(2 * SIZE), tokenizer, lambda *_: None)
    assert CaptionedImages.load(larger).images.shape[1] == 2 * SIZE


MISTAKES = [
    ({"columns": "captoin_{language}"}, r"columns\.en: .* has no column 'captoin_en': did you mean caption_en\? there are id"),
    ({"image": "picture"}, r"image: .* has no column 'picture': there are id, image"),
    ({"id": "ids"}, r"id: .* has no column 'ids': did you mean id\?"),
    ({"split": "test"}, r"split: 'test': files have no splits, which split: train means"),
    ({"source": "{folder}/row.parquet"}, r"source: .* has no 'row\.parquet': did you mean rows\.parquet\?"),
    ({"source": "{folder}/*.jsonl"}, r"source: no file matches .*\*\.jsonl"),
    ({"source": "{folder}/rows.txt"}, r"source: .*rows\.txt should end in \.parquet, .*, or be a folder"),
    ({"source": "{folder}/broken.parquet"}, r"source: .*broken\.parquet cannot be read"),
    ({"source": "owner/set"}, r"source: there is no folder .*owner; if owner/set is a hub data set, it needs its revision"),
    ({"source": "{folder}/saved", "split": "tset"}, r"split: .* has no split 'tset': did you mean test\?"),
    ({"source": "{folder}/saved", "split": "test"}, r"columns\.en: .* has no column 'caption_en'"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "message"), MISTAKES)
def test_what_is_not_there_is_told_before_anything_is_read(
    settings: dict[str, str], message: str, chosen: list[Item], tmp_path: Path
) -> None:
    source = {"source": str(save_wide(tmp_path / "rows.parquet", chosen[:2]))}
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    (tmp_path / "rows.txt").touch()
    DatasetDict({"test": Dataset.from_list([{"image": None}])}).save_to_disk(str(tmp_path / "saved"))
    given = {key: value.replace("{folder}", str(tmp_path)) for key, value in settings.items()}
    with pytest.raises(DataError, match=r"^data\.train\." + message):
        check_source("data.train", wide(**(source | given)), LANGUAGES)


def test_what_only_reading_tells_is_told_then(chosen: list[Item], tokenizer: Tokenizer, tmp_path: Path) -> None:
    source = pictures_with_metadata(tmp_path, chosen)
    for settings, message in (
        ({"columns": "{language}"}, r"data\.train\.columns\.en: .* has no column 'en': there are image, caption_en"),
        ({"split": "test"}, r"data\.train: .*, split test, cannot be opened: Unknown split"),
    ):
        with pytest.raises(DataError, match=message):
            prepared(source.model_copy(update=settings), tokenizer)
