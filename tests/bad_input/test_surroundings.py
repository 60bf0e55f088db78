"""What a study needs around it: variables of the environment, the machine, data and models of the user's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bad_input.refusing import Refused, as_said

ENVIRONMENT = [
    ({"POLYDISTILL_CACHE": "taken/cache"}, (), "POLYDISTILL_CACHE: cannot write the cache folder taken/cache: Not a directory; name a writable one in this environment variable"),
    ({}, ("storage.optuna=env:NO_SUCH",), "storage.optuna: the environment variable NO_SUCH is not set; it must hold a database URL"),
    ({"EMPTY": ""}, ("storage.optuna=env:EMPTY",), "storage.optuna: the environment variable EMPTY is not set; it must hold a database URL"),
    ({}, ("tracking.mlflow=env:NO_SUCH",), "tracking.mlflow: the environment variable NO_SUCH is not set; it must hold a tracking URI"),
    ({}, ("tracking.mlflow=env:no-such",), "tracking.mlflow: 'env:no-such' names no environment variable; write env:NAME"),
    ({}, ("tracking.mlflow=taken",), "tracking.mlflow: 'taken' is no tracking URI and no folder"),
    ({}, ("tracking.mlflow=taken/mlflow",), "tracking.mlflow: the folder 'taken/mlflow' cannot be made: Not a directory"),
    ({}, ("tracking.mlflow='http://:5000'",), "tracking.mlflow: 'http://:5000' does not say where the server or the database is"),
    ({"SERVER": "http://me:secret@[host"}, ("tracking.mlflow=env:SERVER",), "tracking.mlflow: what SERVER holds is not a URI"),
    (
        {"DATABASE": "postgresql://me:secret@h/db"},
        ("storage.optuna=env:DATABASE", "storage.path=nowhere://x/runs"),
        "storage.path: nowhere://x/runs cannot be used: Protocol not known: nowhere",
    ),
    ({"RAY_JOB_CONFIG_JSON_ENV_VAR": "{}", "RAY_ADDRESS": "127.0.0.1:9"}, (), "--address 127.0.0.1:9: nothing answers there (Connection refused); is the cluster up, and is this its head's port?"),
    ({}, ("resources.cpus_per_worker=4096",), "resources.cpus_per_worker: 4096 is more than the ... CPUs that there are; lower it"),
    ({}, ("resources.workers_per_trial=4096", "training.batch_size=4096"), "resources.cpus_per_worker: 1 for each of 4096 workers is more than the ... CPUs that there are; lower it or resources.workers_per_trial"),
    ({"CXX": "no-such"}, ("resources.compile=true",), "resources.compile: true needs a C++ compiler, and there is no no-such on this machine: install it, name another one in the environment variable CXX, or leave compile false"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "settings", "said"),
    ENVIRONMENT,
    ids=[" ".join([*env, *settings]) for env, settings, _ in ENVIRONMENT],
)
def test_the_environment_and_the_machine(
    refused: Refused, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], settings: tuple[str, ...], said: str
) -> None:
    Path("taken").write_text("in the way", encoding="utf-8")
    monkeypatch.delenv("NO_SUCH", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    line = refused("study.run", *(word for setting in settings for word in ("--set", setting)))
    assert as_said(line, said)
    assert "secret" not in line


DATA = [
    ("{source: rows.csv, layout: wide}", "data.train.columns.en: rows.csv has no column 'en': there are id, image, caption_en, caption_es"),
    ("{source: rows.csv, layout: wide, columns: 'captoin_{language}'}", "data.train.columns.en: rows.csv has no column 'captoin_en': did you mean caption_en? there are id, image, caption_en, caption_es"),
    ("{source: rows.csv, layout: wide, columns: 'caption_{language}', image: photo}", "data.train.image: rows.csv has no column 'photo': there are id, image, caption_en, caption_es"),
    ("{source: rows.csv, layout: wide, columns: 'caption_{language}', id: ids}", "data.train.id: rows.csv has no column 'ids': did you mean id? there are id, image, caption_en, caption_es"),
    ("{source: rows.csv, layout: wide, columns: 'caption_{language}', split: test}", "data.train.split: 'test': files have no splits, which split: train means"),
    ("{source: row.csv, layout: wide}", "data.train.source: HERE has no 'row.csv': did you mean rows.csv? there are broken.parquet, damaged, empty.csv, en.csv, rows.csv, rows.xlsx, saved"),
    ("{source: gone/rows.csv, layout: wide}", "data.train.source: there is no folder gone"),
    ("{source: '*.jsonl', layout: wide}", "data.train.source: no file matches *.jsonl"),
    ("{source: rows.xlsx, layout: wide}", "data.train.source: rows.xlsx should end in .parquet, .arrow, .json, .jsonl, .csv, .tsv, .tar, or be a folder"),
    ("{source: broken.parquet, layout: wide}", "data.train.source: broken.parquet cannot be read: ..."),
    ("{source: owner/set, layout: wide}", "data.train.source: there is no folder owner; if owner/set is a hub data set, it needs its revision"),
    ("{source: saved, layout: wide, split: trian}", "data.train.split: saved has no split 'trian': did you mean train? there are train"),
    ("{source: damaged, layout: wide}", "data.train.source: damaged is a damaged folder of save_to_disk: ..."),
    ("{source: '{language}.csv', layout: per_language, id: id}", "data.train.source: HERE has no 'es.csv': did you mean en.csv? there are broken.parquet, damaged, empty.csv, en.csv, rows.csv, rows.xlsx, saved"),
    ("{source: 'nowhere://bucket/rows.csv', layout: wide}", "data.train.source: nowhere://bucket/rows.csv cannot be opened: Protocol not known: nowhere"),
    ("{source: empty.csv, layout: wide}", "data.train.image: empty.csv has no column 'image': there are none"),
]  # fmt: skip


@pytest.mark.parametrize("module", ["study.run", "trainables.data"])
@pytest.mark.parametrize(("source", "said"), DATA, ids=[source for source, _ in DATA])
def test_data_of_the_users_own(refused: Refused, source: str, said: str, module: str) -> None:
    Path("rows.csv").write_text("id,image,caption_en,caption_es\n1,a.png,a dog,un perro\n", encoding="utf-8")
    Path("en.csv").write_text("id,image,caption\n1,a.png,a dog\n", encoding="utf-8")
    Path("empty.csv").touch()
    Path("rows.xlsx").touch()
    Path("broken.parquet").write_bytes(b"PAR1")
    Path("saved").mkdir()
    Path("saved/dataset_dict.json").write_text('{"splits": ["train"]}', encoding="utf-8")
    Path("damaged").mkdir()
    Path("damaged/dataset_dict.json").write_text("{", encoding="utf-8")
    said_line = refused(module, "--set", "data.languages=[en, es]", "--set", f"data.train={source}")
    assert as_said(said_line, said)


MODELS = [
    ("pretrained: empty", "teacher.pretrained: empty is not a model: it has neither config.json nor open_clip_config.json"),
    ("pretrained: ./gone", "teacher.pretrained: ./gone is not there: it must be a folder"),
    ("pretrained: ./file", "teacher.pretrained: ./file is a file: it must be a folder"),
    ("pretrained: bert", "teacher.pretrained: bert is of transformers' type 'bert': teachers are siglip or siglip2 there, and open_clip's models, which have an open_clip_config.json"),
    ("pretrained: broken", "teacher.pretrained: broken/config.json cannot be read: it is no JSON"),
    ("pretrained: siglip", "teacher.family: clip is not what siglip is: make it siglip2"),
    ("pretrained: siglip, family: siglip2, revision: main", "teacher.pretrained: siglip is a folder, which has no revisions: leave teacher.revision out"),
    ("pretrained: ViT-B-32", "teacher.pretrained: 'ViT-B-32' should be a folder, a hub id such as google/siglip2-base-patch16-224, or an open_clip name and tag such as xlm-roberta-base-ViT-B-32:laion5b_s13b_b90k"),
    ("pretrained: ''", "--set: teacher.pretrained: should not be empty, not ''"),
    ("pretrained: 3", "--set: teacher.pretrained: should be text (put it in quotes), not 3"),
    ("pretrained: google/siglip2-base-patch16-224", "teacher.family: clip is not what google/siglip2-base-patch16-224 is: make it siglip2"),
    ("pretrained: siglip, fit: {steps: 9}", "--set: teacher.fit: a pretrained teacher has its own: leave out either fit or pretrained"),
    ("pretrained: siglip, image_size: 0", "--set: teacher.image_size: should be at least 1, not 0"),
]  # fmt: skip


@pytest.mark.parametrize("module", ["study.run", "study.describe"])
@pytest.mark.parametrize(("teacher", "said"), MODELS, ids=[teacher for teacher, _ in MODELS])
def test_a_pretrained_teacher(refused: Refused, teacher: str, said: str, module: str) -> None:
    Path("file").touch()
    for name, content in (("empty", None), ("bert", {"model_type": "bert"}), ("siglip", {"model_type": "siglip"})):
        Path(name).mkdir()
        if content:
            Path(name, "config.json").write_text(json.dumps(content), encoding="utf-8")
    Path("broken").mkdir()
    Path("broken/config.json").write_text("{", encoding="utf-8")
    assert as_said(refused(module, "--set", f"teacher={{{teacher}}}", "--set", "student={}"), said)
