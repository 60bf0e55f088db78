"""Studies whose teacher is a published checkpoint, from its folder to a front."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import save_file

from study.engine import refuse_another_teacher
from study.errors import UserError
from tests.study.tiny import Study, check_that_nothing_is_left, check_that_optuna_and_ledger_agree
from tests.trainables.models.checkpoints import Kind, save_checkpoint
from trainables.config import FitConfig
from trainables.data.embedded import prepare_captions
from trainables.data.prepared import CaptionedImages
from trainables.device import set_up_process
from trainables.models.pretrained import load_pretrained, open_checkpoint, pretrained_tokenizer
from trainables.models.spec import ModelSpec
from trainables.teacher import _fit

set_up_process(1)  # more threads wait for each other where the machine is busy
LANGUAGES = ("en", "es", "tr")
NOT_FITTED = ("teacher.model=null", "teacher.tokenizer=null", "teacher.fit=null", "student=null")


def save_taught_checkpoint(kind: Kind, folder: Path, steps: int) -> Path:
    """A tiny checkpoint of a model that has seen the emoji, in the hub's format."""
    checkpoint = open_checkpoint(str(save_checkpoint(kind, folder)), None)
    model = load_pretrained(checkpoint, None)
    size = model.spec.image.image_size
    data = CaptionedImages.load(prepare_captions("train", LANGUAGES, size, pretrained_tokenizer(checkpoint)))
    fit = FitConfig(steps=steps, batch_size=128, softmax_share=0.7 if kind == "siglip2" else None)
    _fit(model, data, fit, seed=0, precision="fp32", progress=lambda *_: None)
    if kind == "siglip2":
        model.siglip.save_pretrained(folder)
    else:
        save_file(model.clip.state_dict(), folder / "open_clip_model.safetensors")
    return folder


def test_a_study_does_not_go_on_with_another_teacher(tmp_path: Path) -> None:
    described = {"pretrained": "org/model", "content": {"org/model": "a" * 40}}
    refuse_another_teacher(tmp_path, described)
    (tmp_path / "teacher.json").write_text(json.dumps(described), encoding="utf-8")
    refuse_another_teacher(tmp_path, described)
    moved = {"pretrained": "org/model", "content": {"org/model": "b" * 40}}
    with pytest.raises(
        UserError, match=rf"org/model was {'a' * 40} and is {'b' * 40}; pin a hub id by teacher\.revision"
    ):
        refuse_another_teacher(tmp_path, moved)


@pytest.mark.parametrize(("kind", "family"), [("siglip2", "siglip2"), ("xlm-r", "clip")])
def test_a_study_of_a_checkpoint_ends_with_a_front(
    kind: Kind, family: str, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLYDISTILL_CACHE", study.environment["POLYDISTILL_CACHE"])
    folder = save_taught_checkpoint(kind, tmp_path / "published", steps=60)
    pretrained = (f"teacher.pretrained={folder}", f"teacher.family={family}")
    outcome = study.run(*NOT_FITTED, *pretrained, "search.trials=2")
    assert outcome.code == 0, study.runs[0].said()
    check_that_optuna_and_ledger_agree(study)
    described = study.read("teacher.json")
    assert described["pretrained"] == str(folder)
    assert {"config.json" if kind == "siglip2" else "open_clip_config.json"} < set(described["content"])
    members = study.read("results/front.json")["members"]
    assert members
    assert all({"retrieval_map", "vqa_variance"} <= set(member["test"]) for member in members)
    checkpoint = study.folder / "trials" / members[0]["trial"] / "checkpoint"
    spec = ModelSpec.model_validate_json((checkpoint / "spec.json").read_text(encoding="utf-8"))
    assert (spec.image.layers, spec.text.layers) == (2, 2)  # of three: half, halves up
    assert spec.library
    check_that_nothing_is_left(study.runs[0])
