"""A study whose students are shares of their teacher, see and read less of the data, and have a vocabulary of their own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from tests.study.tiny import check_that_nothing_is_left, check_that_optuna_and_ledger_agree
from trainables.models.factory import load_model, parameter_count
from trainables.models.tokenizer import Tokenizer

if TYPE_CHECKING:
    from tests.study.tiny import Study


def test_students_of_shares_and_a_trimmed_vocabulary_come_to_a_front(study: Study) -> None:
    outcome = study.run(
        "student.image={layers: 0.5, width: 0.5, image_size: 16}",
        "student.text={layers: 1.0, width: 0.5, context_length: 10}",
        "student.vocabulary=trimmed",
        "search.limits.parameters=100000",
        "search.confirm.seeds=0",
        "search.trials=3",
        "tracking.tensorboard=false",
    )
    assert outcome.code == 0, study.runs[0].said()
    check_that_nothing_is_left(study.runs[0])
    check_that_optuna_and_ledger_agree(study)
    said = re.search(
        r"^Students: 1 image layers, 32 wide, for 16 pixels; 1 text layers, 32 wide, for (\d+) tokens$",
        outcome.errors,
        re.MULTILINE,
    )
    assert said, outcome.errors
    members = study.read("results/front.json")["members"]
    assert members
    for member in members:
        folder = study.folder / "trials" / f"{int(member['trial']):05d}"
        assert np.isfinite(member["test"]["retrieval_map"])
        model, tokenizer = load_model(folder / "checkpoint"), Tokenizer(folder / "checkpoint", 10)
        assert model.spec.text.vocab_size == tokenizer.vocab_size == int(said[1])
        assert model.parameter_count() == parameter_count(model.spec)
        assert study.results()[int(member["trial"])]["parameters"] == model.parameter_count()
