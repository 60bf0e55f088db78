from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.util import tensor_util

from study.config import TrackingConfig, load_config
from study.errors import UserError
from study.ledger import Ledger, TrialRecord
from study.tracking import Trackers, check_tracking, mlflow_store
from trainables.recipe import Recipe

ROOT = Path(__file__).parents[2]
RECIPE = Recipe.model_validate(
    {
        "strategy": "mix",
        "strategy_weights": {"ed": 1.0, "dr": 0.5},
        "image_mapping": {"kind": "monotone", "layers": [1, 3]},
        "learning_rate": 0.002,
    }
)
ROW = {"map_i2t": 0.25, "map_t2i": 0.5, "recall_1": 0.1, "vqa_accuracy": 0.75}
SCORES = {
    "languages": {"en": ROW, "tr": {**ROW, "map_i2t": 0.125}},
    "sets": {"": {"tr": {"map_i2t": 0.125, "map_t2i": 0.5}}, "cvqa": {"tr": {"vqa_accuracy": 0.625}}},
    "summary": {},
}


def report(step: int, value: float = 0.5, **more: Any) -> dict[str, Any]:
    """As a trial sends it. Numbers are powers of two: TensorBoard keeps 32 bits of each."""
    return {
        "step": step,
        "seconds": step / 2,
        "final": False,
        "metrics": {"retrieval_map": value, "vqa_variance": 8.0, "vqa_variance@cvqa": 4.0},
        "losses": {"total": 1 / step},
        **more,
    }


class Kept:
    """A study's ledger, and trackers that are opened as the next run of the study would."""

    def __init__(self, folder: Path, mlflow: str | None) -> None:
        self.ledger = Ledger(folder)
        self.mlflow = mlflow

    def open(self) -> Trackers:
        tracking = {"tensorboard": self.mlflow is None, "mlflow": self.mlflow}
        return Trackers.open(load_config("emoji_clip", [f"tracking={json.dumps(tracking)}"]), self.ledger.folder)

    def begin(self, number: int, recipe: Recipe = RECIPE) -> TrialRecord:
        return self.ledger.begin(number, recipe, seed=number)

    def report(self, trackers: Trackers, record: TrialRecord, sent: Mapping[str, Any]) -> None:
        self.ledger.report(record, sent)
        trackers.report(record, sent)

    def catch_up(self, trackers: Trackers) -> None:
        records = self.ledger.records()
        trackers.catch_up(
            {record: record.result for record in records if record.result is not None},
            [record for record in records if record.result is None],
        )


def whole_study(kept: Kept) -> None:
    """Three trials that end in each of the ways, and one that does not."""
    trackers = kept.open()
    complete, stopped, failed, under_way = (kept.begin(number) for number in range(4))
    for record in (complete, stopped, under_way):
        kept.report(trackers, record, report(6))
    last = report(12, 0.75, final=True, scores=SCORES)
    kept.report(trackers, complete, last)
    trackers.finish(complete, kept.ledger.finish(complete, "complete", None, last))
    trackers.finish(stopped, kept.ledger.finish(stopped, "stopped", "behind others at step 6", report(6)))
    trackers.finish(failed, kept.ledger.finish(failed, "failed", "MemoryError: too much", {}))
    trackers.close()


def test_tensorboard_reads_each_trial_as_a_run(tmp_path: Path) -> None:
    whole_study(Kept(tmp_path, None))
    runs = {path.name: EventAccumulator(str(path)).Reload() for path in (tmp_path / "tensorboard").iterdir()}
    assert sorted(runs) == ["00000", "00001", "00002", "00003"]
    complete = runs["00000"]
    assert points(complete, "metrics/retrieval_map") == [(6, 0.5), (12, 0.75)]
    assert points(complete, "metrics/seconds") == [(6, 3.0), (12, 6.0)]
    assert [step for step, _ in points(complete, "loss/total")] == [6, 12]
    assert points(complete, "map_i2t/tr") == [(12, 0.125)]
    assert points(complete, "metrics/vqa_variance@cvqa") == [(6, 4.0), (12, 4.0)]
    assert points(complete, "vqa_accuracy@cvqa/tr") == [(12, 0.625)]
    assert abs(complete.Scalars("metrics/seconds")[0].wall_time - time.time()) < 60
    assert "| image_mapping.layers | [1, 3] |" in text(complete, "recipe")
    assert text(complete, "state") == "complete"
    assert text(runs["00001"], "state") == "stopped: behind others at step 6"
    assert text(runs["00002"], "state") == "failed: MemoryError: too much"
    assert "recipe" in runs["00003"].Tags()["tensors"]
    assert "state" not in runs["00003"].Tags()["tensors"]
    started, ended = (
        complete.summary_metadata[tag].plugin_data.content
        for tag in (metadata.SESSION_START_INFO_TAG, metadata.SESSION_END_INFO_TAG)
    )
    hparams = metadata.parse_session_start_info_plugin_data(started).hparams
    assert hparams["strategy"].string_value == "mix"
    assert hparams["strategy_weights.dr"].number_value == 0.5
    assert metadata.parse_session_end_info_plugin_data(ended).status == api_pb2.STATUS_SUCCESS


def points(run: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    return [(scalar.step, scalar.value) for scalar in run.Scalars(tag)]


def text(run: EventAccumulator, tag: str) -> str:
    [found] = tensor_util.make_ndarray(run.Tensors(tag)[0].tensor_proto).flatten()
    return str(found.decode())


def test_tensorboard_has_each_report_once_after_a_crash_in_the_middle_of_a_write(tmp_path: Path) -> None:
    kept = Kept(tmp_path, None)
    whole_study(kept)
    files = sorted((tmp_path / "tensorboard").glob("*/*"))
    before = [path.read_bytes() for path in files]
    os.truncate(files[0], len(before[0]) - 5)
    os.truncate(files[3], 3)
    trackers = kept.open()
    kept.catch_up(trackers)
    kept.report(trackers, kept.ledger.records()[3], report(12, 0.25))
    trackers.close()
    assert sorted((tmp_path / "tensorboard").glob("*/*")) == files
    assert [path.read_bytes() for path in files[1:3]] == before[1:3]
    assert len(files[0].read_bytes()) == len(before[0])
    mended = EventAccumulator(str(files[0].parent)).Reload()
    assert points(mended, "metrics/retrieval_map") == [(6, 0.5), (12, 0.75)]
    assert text(mended, "state") == "complete"
    resumed = EventAccumulator(str(files[3].parent)).Reload()
    assert points(resumed, "metrics/retrieval_map") == [(6, 0.5), (12, 0.25)]


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which MLflow has made its tables: that takes longer than all else here."""
    folder = tmp_path_factory.mktemp("mlflow")
    MlflowClient(mlflow_store(str(folder)).uri).search_experiments()
    return folder


@pytest.fixture
def mlflow_folder(store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(store, tmp_path / "mlflow"))


def runs_of(folder: Path) -> dict[str, Run]:
    """All runs of the study by name; two of one name are a mistake."""
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("emoji-clip")
    assert experiment is not None
    assert experiment.artifact_location == (folder / "artifacts").as_uri()
    runs = client.search_runs([experiment.experiment_id])
    assert len({run.info.run_name for run in runs}) == len(runs)
    return {run.info.run_name: run for run in runs}


def history(folder: Path, run: Run, metric: str) -> list[tuple[int, float]]:
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, metric)]


def test_mlflow_has_a_run_for_each_trial(mlflow_folder: Path, tmp_path: Path) -> None:
    whole_study(Kept(tmp_path / "study", str(mlflow_folder)))
    runs = runs_of(mlflow_folder)
    assert {name: run.info.status for name, run in runs.items()} == {
        "00000 mix": "FINISHED",
        "00001 mix": "KILLED",
        "00002 mix": "FAILED",
        "00003 mix": "RUNNING",
    }
    complete = runs["00000 mix"]
    assert history(mlflow_folder, complete, "retrieval_map") == [(6, 0.5), (12, 0.75)]
    assert history(mlflow_folder, complete, "loss/total") == [(6, 1 / 6), (12, 1 / 12)]
    assert history(mlflow_folder, complete, "map_i2t/tr") == [(12, 0.125)]
    assert history(mlflow_folder, complete, "vqa_variance:cvqa") == [(6, 4.0), (12, 4.0)]
    assert history(mlflow_folder, complete, "vqa_accuracy:cvqa/tr") == [(12, 0.625)]
    for run in runs.values():
        assert run.data.params["learning_rate"] == "0.002"
        assert run.data.params["image_mapping.layers"] == "[1, 3]"
        assert run.data.params["strategy_weights.ed"] == "1.0"
    assert runs["00001 mix"].data.tags["reason"] == "behind others at step 6"
    assert (complete.data.tags["polydistill.trial"], complete.data.tags["state"]) == ("0", "complete")
    assert abs(complete.info.end_time - complete.info.start_time - 3000) < 2000  # it began 3 s before its first report


def test_a_resumed_study_finds_its_mlflow_runs_again_and_a_new_one_of_its_name_gets_its_own(
    mlflow_folder: Path, tmp_path: Path
) -> None:
    kept = Kept(tmp_path / "study", str(mlflow_folder))
    whole_study(kept)
    before = runs_of(mlflow_folder)
    trackers = kept.open()
    kept.catch_up(trackers)
    under_way = kept.ledger.records()[3]
    last = report(12, 0.25, final=True, scores=SCORES)
    kept.report(trackers, under_way, last)
    trackers.finish(under_way, kept.ledger.finish(under_way, "complete", None, last))
    trackers.close()
    after = runs_of(mlflow_folder)
    assert {name: run.info.run_id for name, run in after.items()} == {
        name: run.info.run_id for name, run in before.items()
    }
    assert after["00000 mix"].info.end_time == before["00000 mix"].info.end_time
    assert history(mlflow_folder, after["00000 mix"], "retrieval_map") == [(6, 0.5), (12, 0.75)]
    assert history(mlflow_folder, after["00003 mix"], "retrieval_map") == [(6, 0.5), (12, 0.25)]
    assert after["00003 mix"].info.status == "FINISHED"

    other = Kept(tmp_path / "fresh", str(mlflow_folder))
    trackers = other.open()
    other.report(trackers, other.begin(0, Recipe(strategy="fd")), report(6))
    trackers.close()
    found = runs_of(mlflow_folder)
    assert set(found) == {*after, "00000 fd"}
    assert history(mlflow_folder, found["00000 mix"], "retrieval_map") == [(6, 0.5), (12, 0.75)]


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that accepts everything and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("answers", [False, True], ids=["refuses", "is silent"])
def test_a_server_that_is_gone_costs_the_study_one_line_in_its_log(
    tmp_path: Path,
    silent: int,
    answers: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    port = silent if answers else 9  # nobody listens there
    monkeypatch.setenv("TRACKING_SERVER", f"http://me:hush@127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    kept = Kept(tmp_path, "env:TRACKING_SERVER")
    began = time.monotonic()
    trackers = kept.open()
    record = kept.begin(0)
    for step in range(1, 21):
        kept.report(trackers, record, report(step))
    trackers.finish(record, kept.ledger.finish(record, "complete", None, report(20)))
    assert time.monotonic() - began < 1  # the study has not waited
    time.sleep(1)
    trackers.close()
    assert time.monotonic() - began < 12
    lines = [line.getMessage() for line in caplog.records if line.levelno >= logging.WARNING]
    assert len(lines) == 2, lines
    assert lines[0].startswith("tracking.mlflow: ")
    assert "the study goes on" in lines[0]
    assert lines[1] == "tracking.mlflow: 21 reports were not written"
    written = "".join(path.read_text(encoding="utf-8") for path in tmp_path.rglob("*") if path.is_file())
    said = written + caplog.text + "".join(capfd.readouterr())
    assert "hush" not in said
    assert f"127.0.0.1:{port}" not in said
    assert f"port={port}" not in said


def test_what_could_not_be_written_is_written_once_it_can(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = Kept(tmp_path, None)
    (tmp_path / "tensorboard").write_text("in the way", encoding="utf-8")
    trackers = kept.open()
    first, second = kept.begin(0), kept.begin(1)
    kept.report(trackers, first, report(6))
    kept.report(trackers, second, report(6))
    wait_for(lambda: "NotADirectoryError" in caplog.text or "FileExistsError" in caplog.text)
    (tmp_path / "tensorboard").unlink()
    kept.report(trackers, first, report(12))
    wait_for(lambda: len(list(tmp_path.glob("tensorboard/*/*"))) == 2)
    trackers.close()
    assert caplog.text.count("tracking.tensorboard") == 1
    for number, steps in (("00000", [6, 12]), ("00001", [6])):
        run = EventAccumulator(str(tmp_path / "tensorboard" / number)).Reload()
        assert sorted(step for step, _ in points(run, "metrics/retrieval_map")) == steps


def wait_for(condition: Any, timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_nothing_is_tracked_by_default(tmp_path: Path) -> None:
    before = threading.active_count()
    trackers = Trackers.open(load_config("emoji_clip"), tmp_path)
    trackers.report(Kept(tmp_path / "study", None).begin(0), report(6))
    trackers.close()
    assert threading.active_count() == before
    assert [path.name for path in tmp_path.iterdir()] == ["study"]


def test_tracking_does_not_load_torch(tmp_path: Path, mlflow_folder: Path) -> None:
    program = """
import sys
from pathlib import Path
from study.config import load_config
from study.ledger import Ledger
from study.tracking import Trackers
from trainables.recipe import Recipe
folder, store = Path(sys.argv[1]), sys.argv[2]
trackers = Trackers.open(load_config("emoji_clip", ["tracking.tensorboard=true", f"tracking.mlflow={store}"]), folder)
trackers.report(Ledger(folder).begin(0, Recipe(strategy="fd"), 0), {"step": 1, "metrics": {}})
trackers.close()
print("imported:", *sorted({"mlflow", "tensorboard", "torch", "ray", "transformers"} & set(sys.modules)))
"""
    ran = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "study"), str(mlflow_folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "imported: mlflow tensorboard\n", "")
    assert len(runs_of(mlflow_folder)) == 1


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("env:NO_SUCH_SERVER", None, ["NO_SUCH_SERVER is not set", "tracking URI"]),
        ("env:", None, ["'env:'", "env:NAME"]),
        ("env:1ST", None, ["'env:1ST'", "env:NAME"]),
        ("env:SERVER", "ftp://me:hush@host", ["what SERVER holds", "http, https", "sqlite"]),
        ("env:SERVER", "http://me:hush@host:many", ["what SERVER holds", "not a URI"]),
        ("env:SERVER", "http:///hush", ["what SERVER holds", "where the server"]),
        ("", None, ["''", "no folder"]),
        ("htp://host", None, ["'htp://host'", "http, https"]),
        ("databricks", None, ["'databricks'", "http, https"]),
        ("http://", None, ["'http://'", "where the server"]),
        ("sqlite://", None, ["'sqlite://'", "where"]),
        ("http://me:hush@host", None, ["password", "env:NAME"]),
        (__file__, None, [repr(__file__), "no folder"]),
    ],
)
def test_what_cannot_be_a_store_is_one_line_that_keeps_secrets(
    setting: str, value: str | None, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_SERVER", raising=False)
    if value is not None:
        monkeypatch.setenv("SERVER", value)
    with pytest.raises(UserError) as raised:
        check_tracking(TrackingConfig(mlflow=setting))
    message = str(raised.value)
    assert message.startswith("tracking.mlflow: ")
    assert "\n" not in message
    assert "hush" not in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    "uri", ["https://host/base", "http://127.0.0.1:5000", "postgresql+psycopg2://host/db", "sqlite:////tmp/x.db"]
)
def test_a_uri_is_taken_as_it_is(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert mlflow_store(uri).uri == uri
    monkeypatch.setenv("SERVER", uri)
    assert (mlflow_store("env:SERVER").uri, mlflow_store("env:SERVER").is_secret) == (uri, True)


@pytest.mark.parametrize("setting", ["runs/ml", "FOLDER", "file:FOLDER", "file://FOLDER"])
def test_a_folder_holds_a_database_and_artifacts(setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "ml"
    store = mlflow_store(setting.replace("FOLDER", str(folder)))
    assert (store.uri, store.artifacts) == (f"sqlite:///{folder}/mlflow.db", f"file://{folder}/artifacts")


@pytest.mark.parametrize(
    ("module", "tracking"),
    [("tensorboard", TrackingConfig(tensorboard=True)), ("mlflow", TrackingConfig(mlflow="somewhere"))],
)
def test_a_missing_extra_is_named(module: str, tracking: TrackingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"tracking\.{module}: .*pip install 'polydistill\[{module}\]'"):
        check_tracking(tracking)
