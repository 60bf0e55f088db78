"""A student of a study that has really run, exported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from analysis.load import front, load_study
from tests.study.tiny import Outcome, Study
from trainables.export import main
from trainables.models.factory import load_model
from trainables.models.tokenizer import Tokenizer

TEXTS = ["flag: Wales", "gato", "bayrak"]


def test_member_of_the_front_is_exported_with_its_scores(finished: tuple[Study, Outcome], tmp_path: Path) -> None:
    from open_clip import create_model_from_pretrained, get_tokenizer

    study, _ = finished
    member = front(load_study(study.folder))["members"][0]
    target = tmp_path / "student"
    assert main([str(study.folder), member["trial"], "--to", str(target)]) == 0
    model, _ = create_model_from_pretrained(f"local-dir:{target}")
    checkpoint = study.folder / "trials" / member["trial"] / "checkpoint"
    ours = load_model(checkpoint).eval()
    tokens = Tokenizer(checkpoint, ours.spec.text.context_length).encode(TEXTS)
    with torch.no_grad():
        found = model.encode_text(get_tokenizer(f"local-dir:{target}")(TEXTS), normalize=True)
        expected = ours.encode_text(torch.from_numpy(tokens).long()).embedding
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)

    _, header, body = (target / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert yaml.safe_load(header)["language"] == ["en", "es", "tr"]
    for split, scores in (("validation", member["validation"]), ("test", member["test"])):
        table = body.partition(f"| {split} | mAP")[2].partition("\n\n")[0]
        (mean,) = [line for line in table.splitlines() if line.startswith("| mean ")]
        shown = [float(cell) for cell in mean.split("|")[2:6]]
        assert shown[0] == pytest.approx(scores["retrieval_map"], abs=6e-4)
        assert shown[2] == pytest.approx(scores["vqa_accuracy"], abs=6e-4)
        teacher = study.read("teacher.json")["scores"][split]["summary"]
        assert shown[1] == pytest.approx(teacher["retrieval_map"], abs=6e-4)
        assert shown[3] == pytest.approx(teacher["vqa_accuracy"], abs=6e-4)
    recipe = json.loads((study.folder / "trials" / member["trial"] / "recipe.json").read_text(encoding="utf-8"))
    assert json.loads((target / "polydistill.json").read_text(encoding="utf-8"))["recipe"] == recipe["recipe"]
