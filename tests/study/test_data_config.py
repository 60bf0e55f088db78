"""Several sources for one purpose, and metrics of one of them, as a configuration names them."""

from __future__ import annotations

from pathlib import Path

import yaml

from study.config import dump_config, load_config

OWN = "{source: a.csv, layout: wide"
ASKED = "{source: q.csv, layout: cvqa"
MIXTURE = f"data.train={{drawings: {{source: emoji, weight: 3}}, photos: {OWN}, languages: [en, es], weight: 1}}}}"
GALLERIES = (
    f"data.retrieval={{drawings: {{split: validation}}, photos: {OWN}, languages: [es, en], share: [0, 0.5]}}}}",
    f"data.test.retrieval={{drawings: {{split: test}}, photos: {OWN}, languages: [en, es], share: [0.5, 1]}}}}",
)
QUESTIONS = (
    f"data.vqa={{emoji: {{split: validation}}, cvqa: {ASKED}, languages: [es, tr]}}}}",
    f"data.test.vqa={{emoji: {{split: test}}, cvqa: {ASKED}, split: test, languages: [es, tr]}}}}",
)
THREE = "data.languages=[en, es, tr]"


def test_named_sources_are_read_and_written_as_they_were_given(tmp_path: Path) -> None:
    mixture = MIXTURE.replace("a.csv", "b.csv")
    config = load_config("emoji_clip", [THREE, mixture, *GALLERIES, *QUESTIONS])
    data = config.data
    assert data.weights == (3.0, 1.0)
    assert list(data.sources) == [
        "train.drawings",
        "train.photos",
        "retrieval.drawings",
        "retrieval.photos",
        "test.retrieval.drawings",
        "test.retrieval.photos",
        "vqa.emoji",
        "vqa.cvqa",
        "test.vqa.emoji",
        "test.vqa.cvqa",
    ]
    assert data.languages_of(data.retrieval["photos"]) == ("en", "es")  # in the study's order
    assert data.languages_of(data.vqa["emoji"]) == ("en", "es", "tr")
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config), encoding="utf-8")
    assert load_config(str(path)) == config


def test_a_single_source_is_written_without_a_name_and_without_a_weight() -> None:
    written = yaml.safe_load(dump_config(load_config("emoji_clip")))["data"]
    assert written["train"] == {"source": "emoji", "split": "train"}
    assert written["test"]["vqa"] == {"source": "emoji_vqa", "split": "test"}


def test_parts_without_weights_are_drawn_by_their_sizes() -> None:
    assert (
        load_config("emoji_clip", [MIXTURE.replace(", weight: 3", "").replace(", weight: 1", "")]).data.weights is None
    )


def test_objectives_and_constraints_may_be_of_one_set() -> None:
    objectives = "search.objectives={vqa_variance@cvqa: minimise, retrieval_map: maximise, vqa_std@emoji: minimise}"
    constraints = "search.constraints={vqa_lift_kept@emoji: {min: 0.5}, retrieval_map@photos: {min: 0.1}}"
    config = load_config("emoji_clip", [THREE, *GALLERIES, *QUESTIONS, objectives, constraints])
    assert list(config.search.directions) == ["retrieval_map", "vqa_variance@cvqa", "vqa_std@emoji"]
    assert list(config.search.bounds) == ["vqa_lift_kept@emoji", "retrieval_map@photos"]
