from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import yaml

from tests.trainables.models.tiny import tiny_spec
from trainables.model_card import escaped, write_model_card
from trainables.models.factory import build_model
from trainables.recipe import LanguageWeighting, LayerMapping, Recipe
from trainables.study_files import CompleteTrial, Config, Result, Scores, TeacherFile, TrialFile

RECIPE = Recipe(
    strategy="mix",
    strategy_weights={"fd": 0.25, "dr": 1.0},
    layer_weight=0.5,
    text_mapping=LayerMapping(kind="monotone", layers=(1, 3)),
    language_weighting=LanguageWeighting(kind="difficulty", gamma=-1.5),
)
HOSTILE = "<b>a|b</b> [x](javascript:1) `c`\n---\nlicense: mit"


def scores(**languages: tuple[float, float, float]) -> Scores:
    """mAP both ways and VQA accuracy by language."""
    names = ("map_i2t", "map_t2i", "vqa_accuracy")
    return Scores(languages={name: dict(zip(names, values, strict=True)) for name, values in languages.items()})


def trial(**changes: object) -> CompleteTrial:
    emoji = {"source": "emoji", "split": "train"}
    config = {
        "name": "tiny",
        "data": {
            "languages": ["en", "no", "pt-BR"],
            "train": emoji,
            "retrieval": emoji,
            "vqa": {"source": "emoji_vqa"},
        },
        "teacher": {"family": "clip"},
        "training": {"batch_size": 64},
    }
    validation = scores(en=(0.5, 0.25, 0.75), no=(0.125, 0.125, 0.25))
    return CompleteTrial(
        folder=Path("trials", "00007"),
        config=Config.model_validate({**config, **changes}),
        begun=TrialFile(recipe=RECIPE, seed=1),
        result=Result.model_validate({"state": "complete", "steps": 80, "scores": {"validation": validation}}),
        teacher=TeacherFile.model_validate({"parameters": 10_000_000, "scores": {"validation": validation}}),
        test=scores(en=(0.25, 0.25, 0.5)),
    )


def card(given: CompleteTrial, folder: Path) -> tuple[dict[str, object], str]:
    """The metadata and the text of a card."""
    write_model_card(given, build_model(tiny_spec("clip"), seed=0), folder)
    start, header, *body = (folder / "README.md").read_text(encoding="utf-8").split("---\n")
    assert start == ""
    return yaml.safe_load(header), "---\n".join(body)


def test_header_is_what_a_hub_reads(tmp_path: Path) -> None:
    header, _ = card(trial(), tmp_path)
    assert header == {
        "language": ["en", "no", "pt"],  # Norwegian is no false
        "license": "cc-by-sa-4.0",
        "library_name": "open_clip",
        "pipeline_tag": "zero-shot-image-classification",
        "tags": ["clip", "knowledge-distillation", "multilingual", "polydistill"],
    }


@pytest.mark.parametrize(
    ("pretrained", "hub_id"),
    [
        ("hf-hub:someone/model", "someone/model"),
        ("someone/model", "someone/model"),
        ("xlm-roberta-base-ViT-B-32:laion5b_s13b_b90k", None),
        ("./folder", None),
        ("/a/folder", None),
    ],
)
def test_header_names_a_pretrained_teacher_of_the_hub(tmp_path: Path, pretrained: str, hub_id: str | None) -> None:
    header, body = card(trial(teacher={"family": "clip", "pretrained": pretrained}), tmp_path)
    assert header.get("base_model") == hub_id
    assert f"pretrained, {escaped(pretrained)}" in body


def test_header_names_no_licence_that_is_not_known(tmp_path: Path) -> None:
    data = {**trial().config.data.model_dump(), "train": {"source": "someone/captions", "revision": "abc"}}
    header, body = card(trial(data=data), tmp_path)
    assert header["license"] == "other"
    assert "- training: someone/captions (revision abc); see there for its licence\n" in body


def test_body_tells_recipe_and_scores_beside_the_teachers(tmp_path: Path) -> None:
    _, body = card(trial(), tmp_path)
    assert json.loads(body.partition("```json\n")[2].partition("```")[0]) == RECIPE.model_dump(mode="json")
    assert "feature distillation (weight 0.25), distributional replication (weight 1)" in body
    assert "mapped uniform (pictures), monotone [1, 3] (texts): weight 0.5" in body
    assert "difficulty, γ = -1.5" in body
    assert "80 steps of 64 pictures" in body
    assert "| en | 0.375 | 0.375 | 0.750 | 0.750 |\n| no | 0.125 | 0.125 | 0.250 | 0.250 |\n" in body
    assert "| mean | 0.250 | 0.250 | 0.500 | 0.500 |\n" in body
    assert "| en | 0.250 |  | 0.500 |  |\n" in body  # the teacher has no scores on test


def test_texts_from_outside_are_shown_and_not_obeyed(tmp_path: Path) -> None:
    data = {**trial().config.data.model_dump(), "train": {"source": HOSTILE, HOSTILE: HOSTILE}}
    data["languages"] = ["en", HOSTILE]
    teacher = {"family": "clip", "pretrained": HOSTILE}
    header, body = card(trial(name=HOSTILE, data=data, teacher=teacher), tmp_path)
    assert header["license"] == "other"
    assert "<b>" not in body
    assert "](javascript" not in body
    assert "\n---\n" not in body.replace("|---|", "")
    assert escaped(HOSTILE) == (r"\<b\>a\|b\</b\> \[x\]\(javascript:1\) \`c\` --- license: mit")


def test_named_sources_and_sets_are_told_one_by_one(tmp_path: Path) -> None:
    data = trial().config.data.model_dump()
    data["train"] = {"photos": {"source": "someone/captions"}, "drawings": {"source": "emoji"}}
    given = trial(data=data)
    rows = given.result.scores.validation
    assert rows is not None
    sets = {"cvqa": {"en": {"vqa_accuracy": 0.75}, "no": {"vqa_accuracy": 0.5}}, "": rows.languages}
    scored = given.result.scores.model_copy(update={"validation": rows.model_copy(update={"sets": sets})})
    header, body = card(dataclasses.replace(given, result=given.result.model_copy(update={"scores": scored})), tmp_path)
    assert header["license"] == "other"
    assert "- training, photos: someone/captions; see there for its licence\n- training, drawings: OpenMoji" in body
    assert "| validation, cvqa | mAP | teacher | VQA | teacher |\n" in body
    assert "| no |  |  | 0.500 |  |\n| mean |  |  | 0.625 |  |\n" in body
    assert body.count("| validation | mAP") == 1
