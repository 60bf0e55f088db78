"""A data set of the hub, asked for as the hub's clients ask: from a server on this machine that speaks its API."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, Features, Image, List, Value

from tests.own_data import items

ROOT = Path(__file__).parents[3]
REVISION = "0123456789abcdef0123456789abcdef01234567"
NAME = "owner/set"
PREPARE = """
import json, sys, time
from trainables.data.captions import prepare_captions
from trainables.data.headers import check_source
from trainables.data.pictures import Pixels
from trainables.data.prepared import CaptionedImages
from trainables.data.report import DataError
from trainables.data.settings import PerLanguageCaptions
from trainables.models.tokenizer import Tokenizer, fit_bpe

tokenizer = Tokenizer(fit_bpe(["some words"], 300), 8)
languages = ("en", "ja")
for given in sys.argv[1:]:
    source = PerLanguageCaptions.model_validate_json(given)
    began, at_the_door = time.monotonic(), True
    try:
        check_source("data.train", source, languages)
        at_the_door = False
        folder = prepare_captions("data.train", source, languages, "en", Pixels(24), tokenizer, lambda *_: None)
        data = CaptionedImages.load(folder)
        found = {"texts": [list(texts) for texts in data.texts], "images": data.images.shape}
    except DataError as error:
        found = {"error": str(error), "at_the_door": at_the_door}
    print(json.dumps(found | {"seconds": time.monotonic() - began}))
"""


class Hub(ThreadingHTTPServer):
    """Serves the files in ``folder`` as those of one data set at one revision."""

    def __init__(self, folder: Path) -> None:
        self.files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(path)
        files = self.server.files
        if path.startswith(f"/datasets/{NAME}/resolve/{REVISION}/"):
            content = files.get(path.removeprefix(f"/datasets/{NAME}/resolve/{REVISION}/"))
            tag = hashlib.sha1(content or b"").hexdigest()
            self._answer(content, {"ETag": f'"{tag}"', "X-Repo-Commit": REVISION, "X-Error-Code": "EntryNotFound"})
        elif path.startswith(f"/api/datasets/{NAME}/tree/{REVISION}"):
            folder = path.removeprefix(f"/api/datasets/{NAME}/tree/{REVISION}").strip("/")
            inside = [name for name in files if Path(name).parent.as_posix() == (folder or ".")]
            found = [{"type": "file", "oid": "0", "size": len(files[name]), "path": name} for name in inside]
            self._answer(json.dumps(found).encode(), {})
        elif path == f"/api/datasets/{NAME}/revision/{REVISION}":
            siblings = [{"rfilename": name} for name in files]
            self._answer(json.dumps({"_id": "0", "id": NAME, "sha": REVISION, "siblings": siblings}).encode(), {})
        else:
            self._answer(None, {})

    do_HEAD = do_GET  # noqa: N815  the name that http.server calls

    def _answer(self, content: bytes | None, headers: dict[str, str]) -> None:
        self.send_response(404 if content is None else 200)
        for name, value in {**headers, "Content-Length": str(len(content or b""))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content or b"")

    def log_message(self, *_arguments: object) -> None:
        """Nothing: the test looks at what was asked."""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """`floschne/xm3600` in small: a split a language, with lists of captions."""
    features = Features({"image_id": Value("string"), "image": Image(), "captions": List(Value("string"))})
    splits = []
    (tmp_path / "set" / "data").mkdir(parents=True)
    for language in ("en", "ja"):
        rows = [
            {"image_id": item.id, "image": {"bytes": item.picture, "path": None}, "captions": [item.names[language]]}
            for item in items("validation", ("en", "ja"), 24, 12)
        ]
        path = f"data/{language}-00000-of-00001.parquet"
        Dataset.from_list(rows, features=features).to_parquet(str(tmp_path / "set" / path))
        splits.append(f"  - split: {language}\n    path: {path}\n")
    readme = f"---\nconfigs:\n- config_name: default\n  data_files:\n{''.join(splits)}---\n"
    (tmp_path / "set" / "README.md").write_text(readme, encoding="utf-8")
    with Hub(tmp_path / "set") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def prepare(*names: str, **environment: str) -> list[dict[str, Any]]:
    """What becomes of data sets in a process that has these variables."""
    source = {
        "revision": REVISION,
        "split": "{language}",
        "layout": "per_language",
        "id": "image_id",
        "caption": "captions",
    }
    command = [sys.executable, "-c", PREPARE, *(json.dumps(source | {"source": name}) for name in names)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_data_set_of_the_hub_is_downloaded_at_its_revision_and_then_needs_no_network(
    hub: Hub, tmp_path: Path
) -> None:
    cached = {"HF_HOME": str(tmp_path / "home"), "POLYDISTILL_CACHE": str(tmp_path / "cache")}
    endpoint = f"http://127.0.0.1:{hub.server_port}"
    (first,) = prepare(NAME, HF_ENDPOINT=endpoint, HF_HUB_OFFLINE="0", **cached)
    expected = items("validation", ("en", "ja"), 24, 12)
    assert first["texts"] == [[item.names[language] for item in expected] for language in ("en", "ja")]
    assert first["images"] == [12, 24, 24, 3]
    assert all(REVISION in path for path in hub.asked if NAME in path)

    cached["POLYDISTILL_CACHE"] = str(tmp_path / "another")
    again, missing = prepare(NAME, "owner/other", HF_ENDPOINT="http://127.0.0.1:1", HF_HUB_OFFLINE="1", **cached)
    assert again["texts"] == first["texts"]  # from the hub's own cache
    assert missing["at_the_door"]
    assert missing["error"].startswith(
        f"data.train.source: owner/other cannot be opened: it is not in the hub's cache at revision {REVISION}, and "
        "HF_HUB_OFFLINE is set: download it where there is a network (hf download owner/other"
    )
    (unreachable,) = prepare("owner/other", HF_ENDPOINT="http://127.0.0.1:1", HF_HUB_OFFLINE="0", **cached)
    assert unreachable["error"].startswith("data.train: owner/other, split en, cannot be opened: ")
    assert "\n" not in unreachable["error"]
    assert unreachable["seconds"] < 60
