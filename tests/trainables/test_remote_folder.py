from __future__ import annotations

from pathlib import Path

import fsspec

from tests.object_store import BUCKET
from trainables.remote_folder import RemoteFolder


def test_names_that_lead_out_of_a_folder_are_left_where_they_are(store: dict[str, str], tmp_path: Path) -> None:
    remote = RemoteFolder(f"{BUCKET}/{tmp_path.name}/evil")
    for name in ("config.yaml", "../escaped", "a/../../escaped"):
        fsspec.filesystem("s3").pipe_file(f"{BUCKET}/{tmp_path.name}/evil/{name}", b"{}")
    assert remote.names() == ["config.yaml"]
    remote.pull(tmp_path / "here", remote.names())
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["config.yaml"]
