"""Several sources for one purpose, and metrics of one of them, as a configuration names them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from study.config import dump_config, load_config
from study.errors import UserError

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


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([MIXTURE.replace(", weight: 3", "")], r"data\.train\.drawings\.weight: is missing: either all .* or none"),
        ([MIXTURE.replace("weight: 3", "weight: 0")], r"data\.train\.drawings\.weight: .*more than 0, not 0"),
        (
            [MIXTURE.replace("weight: 3", "wait: 3")],
            r"unknown key data\.train\.drawings\.wait: did you mean .*\.weight\?",
        ),
        ([MIXTURE.replace("photos", "my photos")], r"data\.train\.my photos: .*letters, digits, '_' and '-'"),
        ([MIXTURE.replace("layout: wide", "layout: wid")], r"data\.train\.photos\.layout: .*did you mean wide\?"),
        ([MIXTURE.replace("photos: ", "photos: 3, x: ")], r"data\.train\.photos: .*section of keys and values, not 3"),
        (
            [MIXTURE.replace("[en, es]", "[es]")],
            r"train\.photos\.languages: English \(en\), the control language, must",
        ),
        (
            [MIXTURE.replace("[en, es]", "[en, xx]")],
            r"train\.photos\.languages: 'xx' is not among data\.languages, en es",
        ),
        ([MIXTURE.replace("[en, es]", "[]")], r"data\.train\.photos\.languages: none is left"),
        ([f"data.train={OWN}, weight: 2}}"], r"train\.weight: 2 is for the parts of a mixture"),
        ([f"data.train={OWN}, languages: [en, es]}}", THREE], r"train: no source has language tr: add it .* or leave"),
        (["data.train.photos={source: emoji}"], r"data\.train: source is a key of a single source, .* it: photos"),
        ([GALLERIES[0]], r"test\.retrieval: its sets \(one without a name\) .* of retrieval \(drawings photos\)"),
        ([GALLERIES[0], GALLERIES[1].replace("photos", "fotos")], r"test\.retrieval: its sets \(drawings fotos\)"),
        ([MIXTURE, *GALLERIES], r"train\.photos and retrieval\.photos use the same items, .* share: \[0, 0\.9\]"),
        (
            [GALLERIES[0], GALLERIES[1].replace("0.5", "0.4")],
            r"retrieval\.photos and test\.retrieval\.photos use the same",
        ),
        ([QUESTIONS[0].replace("es, tr", "tr"), QUESTIONS[1]], r"vqa\.cvqa\.languages: tr alone: .* needs two of them"),
        (
            [f"data.vqa={ASKED}, languages: [es, tr], translation: {{language: en}}}}"],
            r"vqa\.translation\.language: 'en' is not among its languages, es tr",
        ),
        (["search.constraints={vqa_std@cvqa: {max: 3.0}}"], r"data\.vqa is one set without a name: write vqa_std"),
        (
            [*QUESTIONS, "search.constraints={vqa_std@cvq: {max: 3.0}}"],
            r"search\.constraints\.vqa_std@cvq: 'cvq' is no vqa set: did you mean vqa_std@cvqa\? there are emoji, cvqa",
        ),
        (
            [*GALLERIES, *QUESTIONS, "search.objectives={retrieval_map@cvqa: maximise, vqa_std: minimise}"],
            r"search\.objectives\.retrieval_map@cvqa: 'cvqa' is no retrieval set: there are drawings, photos",
        ),
        (
            ["search.objectives={vqa_varience@cvqa: minimise, retrieval_map: maximise}"],
            r"search\.objectives\.vqa_varience@cvqa: .*did you mean vqa_variance@cvqa\?",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_cannot_be_is_one_line_that_names_the_key(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        load_config("emoji_clip", [THREE, *overrides])
    assert "\n" not in str(raised.value)
