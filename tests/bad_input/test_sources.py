"""Several sources for one purpose that do not go together, and metrics of sets that there are not."""

from __future__ import annotations

import pytest

from tests.bad_input.refusing import Refused, as_said
from tests.study.test_data_config import ASKED, GALLERIES, MIXTURE, OWN, QUESTIONS, THREE

# What is overridden, for a study of three languages, and what is said.
CASES = [
    ([MIXTURE.replace(", weight: 3", "")], "--set: data.train.drawings.weight: is missing: either all parts of a mixture have a weight or none has"),
    ([MIXTURE.replace("weight: 3", "weight: 0")], "--set: data.train.drawings.weight: should be more than 0, not 0"),
    ([MIXTURE.replace("weight: 3", "wait: 3")], "--set: unknown key data.train.drawings.wait: did you mean data.train.drawings.weight?"),
    ([MIXTURE.replace("photos", "my photos")], "--set: data.train.my photos: the name of a set is letters, digits, '_' and '-', not 'my photos'"),
    ([MIXTURE.replace("layout: wide", "layout: wid")], "--set: data.train.photos.layout: should be wide or per_language (did you mean wide?), not 'wid'"),
    ([MIXTURE.replace("photos: ", "photos: 3, x: ")], "--set: data.train.photos: should be a section of keys and values, not 3"),
    ([MIXTURE.replace("[en, es]", "[es]")], "--set: data.train.photos.languages: English (en), the control language, must be in every source of training data"),
    ([MIXTURE.replace("[en, es]", "[en, xx]")], "--set: data.train.photos.languages: 'xx' is not among data.languages, en es tr"),
    ([MIXTURE.replace("[en, es]", "[]")], "--set: data.train.photos.languages: none is left: name those of data.languages that the source has, or null for all"),
    ([f"data.train={OWN}, weight: 2}}"], "--set: data.train.weight: 2 is for the parts of a mixture, named sources of train"),
    ([f"data.train={OWN}, languages: [en, es]}}", THREE], "--set: data.train: no source has language tr: add it to the languages of one that does, or leave it out of data.languages"),
    (["data.train.photos={source: emoji}"], "--set: data.train: source is a key of a single source, but there are named ones beside it: photos"),
    ([GALLERIES[0]], "emoji_clip.yaml: data.test.retrieval: its sets (one without a name) must have the names of those of retrieval (drawings photos), so that a score on test can stand beside that on validation"),
    ([GALLERIES[0], GALLERIES[1].replace("photos", "fotos")], "--set: data.test.retrieval: its sets (drawings fotos) must have the names of those of retrieval (drawings photos), so that a score on test can stand beside that on validation"),
    ([MIXTURE, *GALLERIES], "--set: data.train.photos: it and data.retrieval.photos use the same items, ... share: [0, 0.9] and share: [0.9, 1]"),
    ([GALLERIES[0], GALLERIES[1].replace("0.5", "0.4")], "--set: data.retrieval.photos: it and data.test.retrieval.photos use the same items, ... share: [0, 0.9] and share: [0.9, 1]"),
    ([QUESTIONS[0].replace("es, tr", "tr"), QUESTIONS[1]], "--set: data.vqa.cvqa.languages: tr alone: a variance over languages needs two of them"),
    ([f"data.vqa={ASKED}, languages: [es, tr], translation: {{language: en}}}}"], "--set: data.vqa.translation.language: 'en' is not among its languages, es tr"),
    (["search.constraints={vqa_std@cvqa: {max: 3.0}}"], "--set: search.constraints.vqa_std@cvqa: data.vqa is one set without a name: write vqa_std"),
    ([*QUESTIONS, "search.constraints={vqa_std@cvq: {max: 3.0}}"], "--set: search.constraints.vqa_std@cvq: 'cvq' is no vqa set: did you mean vqa_std@cvqa? there are emoji, cvqa"),
    ([*GALLERIES, *QUESTIONS, "search.objectives={retrieval_map@cvqa: maximise, vqa_std: minimise}"], "--set: search.objectives.retrieval_map@cvqa: 'cvqa' is no retrieval set: there are drawings, photos"),
    (["search.objectives={vqa_varience@cvqa: minimise, retrieval_map: maximise}"], "--set: search.objectives.vqa_varience@cvqa: should be one of retrieval_map, vqa_variance, vqa_std, vqa_accuracy, vqa_lift_kept, or @ and the name of a set after it (did you mean vqa_variance@cvqa?)"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "said"), CASES, ids=[" ".join(settings) for settings, _ in CASES])
def test_sources_that_do_not_go_together(refused: Refused, settings: list[str], said: str) -> None:
    line = refused("study.run", *(word for setting in [THREE, *settings] for word in ("--set", setting)))
    assert as_said(line, said), line
