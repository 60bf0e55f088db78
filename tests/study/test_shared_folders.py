"""Folders that not all nodes of a cluster see, made by mounting something else over them on one node."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from study.shared_folders import Probe, look
from tests.study.nodes import cluster
from tests.study.tiny import UNCONFIRMED, check_that_optuna_and_ledger_agree

if TYPE_CHECKING:
    from tests.study.tiny import Study

PATIENCE = 600.0  # seconds


@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a disk over a folder needs root")
def test_a_folder_that_a_node_does_not_share_is_told_by_its_key_and_the_node_before_anything_slow(study: Study) -> None:
    runs, shared, cache = (study.place / name for name in ("runs", "shared", "cache"))
    for folder in (runs, shared, cache):
        folder.mkdir()
    study.environment = {**study.environment, "POLYDISTILL_CACHE": str(cache)}
    with cluster(study.place, study.environment, drivers=1) as nodes:
        study.environment = nodes.environment
        nodes.add(1)
        nodes.add(1, runs, cache)
        for key, what, folder, settings in (
            ("storage.path", "study folder", runs / "tiny", []),
            ("POLYDISTILL_CACHE", "cache folder", cache, [f"storage.path={shared}"]),
        ):
            outcome = study.start(*settings, address=nodes.address).wait()
            assert outcome.code == 2, study.runs[-1].said()
            assert "prepare data" not in outcome.errors
            last = outcome.errors.splitlines()[-1]
            assert re.match(
                rf"study\.run: {re.escape(key)}: node [\d.]+ does not share the {what} {folder} \(", last
            ), last
            assert list(folder.glob(".shared*")) == []
    assert list(cache.iterdir()) == []


@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a disk over a folder needs root")
def test_a_node_that_joins_and_does_not_share_the_folder_ends_the_study_in_one_line_and_costs_no_trial(
    study: Study,
) -> None:
    settings = ["training.steps=120", "search.scheduler.kind=none", UNCONFIRMED]
    with cluster(study.place, study.environment, drivers=1) as nodes:
        study.environment = nodes.environment
        nodes.add(1)
        run = study.start("search.trials=100", *settings, address=nodes.address)
        run.until(study.results, PATIENCE)
        apart = nodes.add(1, study.folder)
        outcome = run.wait(PATIENCE)
        assert outcome.code == 2, run.said()
        kept, began = study.results(), study.recipes()
        said = rf"study\.run: storage\.path: node [\d.]+ does not share the study folder {study.folder} \("
        (last,) = [line for line in outcome.errors.splitlines() if line.startswith("study.run:")]
        assert re.match(said, last), last
        assert f"{len(kept)} finished trials are kept" in last
        nodes.remove(apart)
        again = study.start(f"search.trials={len(began)}", *settings, address=nodes.address)
        assert again.wait(PATIENCE).code == 0, again.said()
    results = study.results()
    assert kept.items() <= results.items()
    assert {number: result["state"] for number, result in results.items()} == dict.fromkeys(began, "complete")
    check_that_optuna_and_ledger_agree(study)


def test_a_node_says_what_it_sees_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("study.shared_folders._SEEN_WITHIN", 0.0)
    (tmp_path / ".shared.12345678").write_text("a word", encoding="utf-8")
    monkeypatch.setenv("POLYDISTILL_CACHE", str(tmp_path))

    def seen(key: str, word: str, folder: Path = tmp_path) -> dict[str, str]:
        return look([Probe(key, "folder", folder, ".shared.12345678", word)], "ab" * 28)

    assert seen("POLYDISTILL_CACHE", "a word") == {}
    assert (tmp_path / ".shared.12345678.abababab").read_text(encoding="utf-8") == "a word"
    assert seen("storage.path", "another") == {"storage.path": "it holds other files"}
    assert seen("storage.path", "a word", tmp_path / "gone") == {"storage.path": "No such file or directory"}
    monkeypatch.setenv("POLYDISTILL_CACHE", str(tmp_path / "own"))
    assert seen("POLYDISTILL_CACHE", "a word") == {"POLYDISTILL_CACHE": f"its own is {tmp_path / 'own'}"}
