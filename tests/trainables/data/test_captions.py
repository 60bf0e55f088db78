"""Captions of the user's own, in every layout and form, as the arrays that the embedded data becomes."""

from __future__ import annotations

import csv
import functools
import http.server
import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict, Features, Image, List, Value
from PIL import Image as Pictures

from tests.own_data import Item, items, save_wide, wide_rows
from tests.trainables.data.forms import (
    COUNT,
    FORMS,
    LANGUAGES,
    SIZE,
    file_a_language,
    parquet,
    pictures_with_metadata,
    prepared,
    table_of_paths,
    wide,
    write_lines,
)
from trainables.data.captions import prepare_captions, training_texts
from trainables.data.headers import check_source
from trainables.data.pictures import Pixels
from trainables.data.prepared import CaptionedImages, Texts
from trainables.data.report import DataError
from trainables.data.settings import PerLanguageCaptions, WideCaptions
from trainables.models.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def chosen() -> list[Item]:
    return items("validation", LANGUAGES, SIZE, COUNT)


def pixels(picture: bytes) -> np.ndarray:
    return np.asarray(Pictures.open(io.BytesIO(picture)).convert("RGB"))


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
    assert report["languages"]["ja"] == {"items": COUNT, "captions": COUNT, "missing": 0, "not_joined": 0}
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
    text = (folder / "rows.csv").read_text(encoding="utf-8-sig")
    (folder / "rows.csv").write_text(
        text.replace(chosen[0].names["ja"].replace(" ", "\n"), "changed"), encoding="utf-8"
    )
    changed, _ = prepared(here.model_copy(update={"source": f"{url}/rows.csv"}), tokenizer)
    assert changed.texts[1][0] == "changed"  # though the server tells no tag of it, but its time and size


def test_parquet_is_read_from_a_server_that_cannot_serve_its_end_alone(
    served: tuple[Path, str], chosen: list[Item], tokenizer: Tokenizer
) -> None:
    folder, url = served
    here = parquet(folder, chosen)
    there = here.model_copy(update={"source": f"{url}/rows.parquet"})
    np.testing.assert_array_equal(prepared(there, tokenizer)[0].images, prepared(here, tokenizer)[0].images)
    with pytest.raises(DataError, match=r"data\.train\.image: http.*rows\.parquet has no column 'picture'"):
        prepared(there.model_copy(update={"image": "picture"}), tokenizer)


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
    assert report["languages"]["ar"] == {
        "items": COUNT - 1,
        "captions": COUNT - 1,
        "missing": 1,
        "not_joined": 0,
    }


def test_languages_are_joined_by_id_whatever_they_lack(
    chosen: list[Item], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    source = file_a_language(tmp_path, chosen)
    lines = (tmp_path / "rows" / "en.jsonl").read_text(encoding="utf-8").splitlines()
    (tmp_path / "rows" / "en.jsonl").write_text("\n".join(lines[:-2]), encoding="utf-8")
    without = [{k: v for k, v in json.loads(line).items() if k != "picture"} for line in lines]
    write_lines(tmp_path / "rows" / "ja.jsonl", [row | {"text": f"ja {row['text']}"} for row in without])
    data, report = prepared(source, tokenizer, control=None)
    assert [of["not_joined"] for of in report["languages"].values()] == [2, 0, 0]
    assert len(data.images) == COUNT
    np.testing.assert_array_equal(data.present.sum(axis=1), [COUNT - 2, COUNT, COUNT])
    assert list(data.texts[0][-2:]) == ["", ""]
    assert list(data.texts[1]) == [f"ja {item.names['en']}" for item in chosen]
    np.testing.assert_array_equal(data.images, [pixels(item.picture) for item in chosen])
    with pytest.raises(DataError, match=rf"2 of {COUNT} rows are bad \(2 × no caption in en, the control"):
        prepared(source, tokenizer, control="en")


def test_ids_are_one_whether_they_are_numbers_or_text(chosen: list[Item], tokenizer: Tokenizer, tmp_path: Path) -> None:
    source = file_a_language(tmp_path, chosen)
    for language, write in zip(LANGUAGES, (int, str, float), strict=True):
        path = tmp_path / "rows" / f"{language}.jsonl"
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        order = [item.id for item in chosen]
        write_lines(path, [row | {"key": write(order.index(row["key"]))} for row in rows])
    data, _ = prepared(source, tokenizer)
    assert (len(data.images), data.present.all()) == (COUNT, True)
    write_lines(path, [row | {"key": f"{order.index(row['key'])}.png"} for row in rows])
    with pytest.raises(
        DataError, match=r"data\.train\.id: no id of ar, such as '\d+\.png', is one of another .*, such as 0 of en"
    ):
        prepared(source, tokenizer)


def test_cells_of_a_table_are_read_as_they_are_written(
    chosen: list[Item], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    source = table_of_paths(tmp_path, chosen)
    rows = list(csv.reader((tmp_path / "rows.csv").read_text(encoding="utf-8-sig").splitlines()))
    with open(tmp_path / "rows.csv", "w", encoding="utf-8", newline="") as file:
        pictures = [f"pictures/{item.id}.png" for item in chosen]
        csv.writer(file).writerows([rows[0], *([path, "007", "NA", ""] for path in pictures)])
    data, report = prepared(source.model_copy(update={"min_items": 0}), tokenizer)
    assert [set(texts) for texts in data.texts] == [{"007"}, {"NA"}, {""}]
    assert (report["bad_rows"], report["languages"]["ar"]["missing"]) == (0, COUNT)


def test_a_picture_that_a_table_names_and_that_is_not_there_is_a_bad_row(
    chosen: list[Item], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    source = pictures_with_metadata(tmp_path, chosen)
    (tmp_path / f"{chosen[3].id}.png").unlink()
    data, report = prepared(source.model_copy(update={"max_bad": 0.05}), tokenizer)
    assert len(data.images) == COUNT - 1
    assert [row["row"] for row in report["listed"]] == ["row 3"]
    assert report["listed"][0]["reason"].startswith("picture: there is no file ")


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
    settings = {"id": "id", "share": halves[0], "min_items": 1, "share_seed": 7}
    other = set(prepared(wide(tmp_path / "rows.parquet", **settings), tokenizer)[0].texts[0])
    assert other != first
    assert other & first  # two halves that chance has made
    assert other == set(prepared(wide(tmp_path / "turned.parquet", **settings), tokenizer)[0].texts[0])
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


def test_data_of_which_no_row_is_left_is_refused(chosen: list[Item], tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = save_wide(tmp_path / "rows.parquet", chosen[:2])
    with pytest.raises(DataError, match=r"data\.train: not one usable row is left of 2"):
        prepared(wide(path, id="id", share=(0.0, 1e-9)), tokenizer)


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
    ({"columns": "caption_{language}.of"}, r"columns\.en: .* has no column 'caption_en\.of': did you mean caption_en\?"),
    ({"source": "{folder}/saved", "split": "tset"}, r"split: .* has no split 'tset': did you mean test\?"),
    ({"source": "{folder}/saved", "split": "test"}, r"columns\.en: .* has no column 'caption_en'"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "message"), MISTAKES)
def test_what_is_not_there_is_told_before_anything_is_read(
    settings: dict[str, str], message: str, chosen: list[Item], tmp_path: Path
) -> None:
    source = {"source": str(save_wide(tmp_path / "rows.parquet", chosen[:2]))}
    DatasetDict({"test": Dataset.from_list([{"image": None}])}).save_to_disk(str(tmp_path / "saved"))
    given = {key: value.replace("{folder}", str(tmp_path)) for key, value in settings.items()}
    with pytest.raises(DataError, match=r"^data\.train\." + message):
        check_source("data.train", wide(**(source | given)), LANGUAGES)


@pytest.mark.parametrize("ending", ["parquet", "json", "csv"])
def test_a_file_without_rows_is_told_so(ending: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    columns = ["id", "image", *(f"caption_{language}" for language in LANGUAGES)]
    path = tmp_path / f"rows.{ending}"
    if ending == "parquet":
        pq.write_table(pa.table({name: pa.array([], pa.string()) for name in columns}), path)
    else:
        path.write_text("[]" if ending == "json" else ",".join(columns) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"^data\.train: .*, split train, cannot be opened: it has no rows$"):
        prepared(wide(source=str(path)), tokenizer)


def test_what_only_reading_tells_is_told_then(chosen: list[Item], tokenizer: Tokenizer, tmp_path: Path) -> None:
    source = pictures_with_metadata(tmp_path, chosen)
    for settings, message in (
        ({"columns": "{language}"}, r"data\.train\.columns\.en: .* has no column 'en': there are image, caption_en"),
        ({"split": "test"}, r"data\.train: .*, split test, cannot be opened: Unknown split"),
    ):
        with pytest.raises(DataError, match=message):
            prepared(source.model_copy(update=settings), tokenizer)
