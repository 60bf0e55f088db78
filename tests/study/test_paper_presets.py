"""The presets at the paper's scale, from their own files: models and data swapped for tiny local ones of the same formats."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from datasets import Dataset, DatasetDict, Features, Image, List, Value
from safetensors.torch import save_file

from study.config import _PRESETS, StudyConfig, load_config
from study.describe import main as describe
from tests.own_data import cvqa_rows, items, save_cvqa
from tests.study.tiny import Study, check_that_nothing_is_left, check_that_optuna_and_ledger_agree
from tests.trainables.models.checkpoints import Kind, save_checkpoint
from trainables.config import FitConfig
from trainables.data.embedded import prepare_captions
from trainables.data.prepared import CaptionedImages
from trainables.device import set_up_process
from trainables.export import main as export
from trainables.models.factory import load_model
from trainables.models.pretrained import load_pretrained, open_checkpoint, pretrained_tokenizer
from trainables.models.spec import ModelSpec
from trainables.teacher import _fit

set_up_process(1)  # more threads wait for each other where the machine is busy
LANGUAGES = ("en", "es", "ja", "zh", "ru", "ar")
COLUMNS = {"en": "en", "es": "es", "ja": "jp-stair", "zh": "cn", "ru": "ru", "ar": "ar"}
SIZE = 24  # pixels of the tiny data
PRESETS: list[tuple[str, Kind]] = [("siglip2_paper", "siglip2"), ("clip_paper", "xlm-r")]
SMALL = (
    "training.steps=12",
    "training.batch_size=64",
    "search.scheduler.rungs=[6]",
    "search.trials=2",
    "search.constraints={vqa_lift_kept: {min: -10.0}}",  # what a few steps teach does not matter here
    "search.confirm.seeds=0",
    "resources={workers_per_trial: 0, concurrent_trials: 2}",
    "tracking.tensorboard=false",
)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Data sets with the columns, types and splits that those of the presets have on the hub, by their names there."""
    folder = tmp_path_factory.mktemp("hub")
    texts = List(Value("string"))
    coco = Features({"cocoid": Value("int64"), **dict.fromkeys(COLUMNS.values(), texts), "image": Image()})
    rows: list[dict[str, object]] = [
        {"cocoid": number, "image": {"bytes": item.picture, "path": None}}
        | {COLUMNS[language]: [name] for language, name in item.names.items()}
        for number, item in enumerate(items("train", LANGUAGES, SIZE, 1200))
    ]
    rows[0]["image"] = {"bytes": b"no picture", "path": None}
    DatasetDict(train=Dataset.from_list(rows, features=coco)).save_to_disk(str(folder / "coco"))
    picture = {"bytes": Value("binary"), "path": Value("null")}
    xm3600 = Features({"image_id": Value("string"), "captions": texts, "image": picture})
    shown = items("validation", LANGUAGES, SIZE)
    DatasetDict(
        {
            language: Dataset.from_list(
                [
                    {
                        "image_id": item.id,
                        "captions": [item.names[language]],
                        "image": {"bytes": item.picture, "path": None},
                    }
                    for item in shown
                ],
                features=xm3600,
            )
            for language in LANGUAGES
        }
    ).save_to_disk(str(folder / "xm3600"))
    questions = save_cvqa(folder / "questions", cvqa_rows("validation", LANGUAGES[1:], SIZE))
    DatasetDict(test=Dataset.load_from_disk(str(questions))).save_to_disk(str(folder / "cvqa"))
    return {
        "romrawinjp/multilingual-coco": folder / "coco",
        "floschne/xm3600": folder / "xm3600",
        "afaji/cvqa": folder / "cvqa",
    }


def with_local_data(preset: str, hub: dict[str, Path], teacher: Path) -> dict[str, object]:
    """The preset's own content, but for where things are; the tiny model reads answers better alone."""
    content = yaml.safe_load((_PRESETS / f"{preset}.yaml").read_text(encoding="utf-8"))
    data = content["data"]
    for source in (data["train"], data["retrieval"], data["vqa"], data["test"]["retrieval"], data["test"]["vqa"]):
        source["source"] = str(hub[source["source"]])
        del source["revision"]
    for questions in (data["vqa"], data["test"]["vqa"]):
        questions["prompt"] = "{answer}"
    content["teacher"] = {"family": content["teacher"]["family"], "pretrained": str(teacher)}
    return dict(content)


def save_taught_checkpoint(kind: Kind, folder: Path) -> Path:
    """A tiny checkpoint of a model that has seen the emoji, in the hub's format."""
    checkpoint = open_checkpoint(str(save_checkpoint(kind, folder)), None)
    model = load_pretrained(checkpoint, None)
    size = model.spec.image.image_size
    data = CaptionedImages.load(prepare_captions("train", LANGUAGES, size, pretrained_tokenizer(checkpoint)))
    fit = FitConfig(steps=100, batch_size=128, softmax_share=0.7 if kind == "siglip2" else None)
    _fit(model, data, fit, seed=0, precision="fp32", progress=lambda *_: None)
    if kind == "siglip2":
        model.siglip.save_pretrained(folder)
    else:
        save_file(model.clip.state_dict(), folder / "open_clip_model.safetensors")
    return folder


@pytest.mark.long
@pytest.mark.parametrize(("preset", "kind"), PRESETS)
def test_a_preset_at_the_papers_scale_runs_to_a_front_on_tiny_local_copies(
    preset: str, kind: Kind, hub: dict[str, Path], study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLYDISTILL_CACHE", study.environment["POLYDISTILL_CACHE"])
    teacher = save_taught_checkpoint(kind, tmp_path / "published")
    outcome = study.run(*SMALL, content=with_local_data(preset, hub, teacher))
    assert outcome.code == 0, study.runs[0].said()
    check_that_optuna_and_ledger_agree(study)
    described = study.read("teacher.json")
    assert described["pretrained"] == str(teacher)
    assert {"config.json" if kind == "siglip2" else "open_clip_config.json"} < set(described["content"])
    scores = described["scores"]["validation"]["languages"]
    assert set(scores) == set(LANGUAGES)
    assert scores["en"]["vqa_items"] == sum(scores[language]["vqa_items"] for language in LANGUAGES[1:])
    reports = study.read("data_report.json")
    assert set(reports) == {"train", "retrieval", "vqa", "test.retrieval", "test.vqa", "leakage"}
    assert reports["train"]["listed"] == [{"row": "row 0", "reason": "picture: not a picture"}]
    bad = f"data.train: 1 of {reports['train']['rows']} rows are bad: {study.folder / 'data_report.json'}"
    assert bad in outcome.errors
    members = study.read("results/front.json")["members"]
    assert members
    assert all({"retrieval_map", "vqa_variance"} <= set(member["test"]) for member in members)
    examples = pd.read_parquet(study.folder / "trials" / members[0]["trial"] / "examples.parquet")
    assert set(zip(examples["task"], examples["language"], strict=True)) == set(
        product(("retrieval", "vqa"), LANGUAGES)
    )
    checkpoint = study.folder / "trials" / members[0]["trial"] / "checkpoint"
    spec = ModelSpec.model_validate_json((checkpoint / "spec.json").read_text(encoding="utf-8"))
    published = open_checkpoint(str(teacher), None).spec(None)
    assert (spec.image.layers, spec.text.layers) == (2, 2)  # of three: half, halves up
    assert spec.text.vocab_size < published.text.vocab_size
    assert spec.library  # the published architecture, with other sizes
    check_that_nothing_is_left(study.runs[0])
    for _again in range(2):  # an earlier export is replaced
        check_that_a_student_is_a_checkpoint(study, members[0]["trial"], tmp_path / "student")


def check_that_a_student_is_a_checkpoint(study: Study, trial: str, folder: Path) -> None:
    """Exported, it could be the next study's teacher."""
    assert export([str(study.folder), trial, "--to", str(folder)]) == 0
    checkpoint = open_checkpoint(str(folder), None)
    again, student = load_pretrained(checkpoint, None), load_model(study.folder / "trials" / trial / "checkpoint")
    tokens = torch.from_numpy(pretrained_tokenizer(checkpoint).encode(["flag: Wales", "gato", "bayrak"])).long()
    pixels = student.preprocess(torch.rand(2, 3, *2 * (student.spec.image.image_size,)))
    with torch.no_grad():
        for encode, given in (("encode_text", tokens), ("encode_image", pixels)):
            ours, theirs = (getattr(model.eval(), encode)(given).embedding for model in (student, again))
            torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("preset", "parameters", "embedding"),
    [("siglip2_paper", 375_187_970, 196_608_000), ("clip_paper", 366_121_473, 192_001_536)],
)
def test_a_preset_at_the_papers_scale_is_described_without_a_hub(
    preset: str, parameters: int, embedding: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert isinstance(load_config(preset), StudyConfig)
    assert describe([preset, "--json"]) == 0
    teacher = json.loads(capsys.readouterr().out)["teacher"]
    assert teacher["total"] == parameters  # as the published models have
    assert teacher["parameters"]["token embedding"] == embedding
