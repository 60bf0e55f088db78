from __future__ import annotations

import json
from pathlib import Path

import pytest

from study.config import dump_config, load_config
from study.errors import UserError
from study.ledger import Ledger
from tests.benchmarks.record import METRICS, RECORDING, add_to_recording, read_recording
from trainables.recipe import Recipe

TEACHER = {"retrieval_map": 0.5, "vqa_variance": 20.0}


def test_a_ledger_becomes_a_row_a_training(tmp_path: Path) -> None:
    study = tmp_path / "study"
    ledger = Ledger(study)
    recipes = [
        Recipe.model_validate(
            {
                "strategy": "fd",
                "task_weight": 0.1,
                "layer_weight": 1.0,
                "image_mapping": {"kind": "monotone", "layers": [2, 6]},
            }
        ),
        Recipe(strategy="dr", task_weight=0.01, layer_weight=0.02, learning_rate=0.004),
    ]
    records = [ledger.begin(number, recipe, seed=number) for number, recipe in enumerate([*recipes, recipes[0]])]
    records.append(ledger.begin_confirmation(records[1], 1, seed=9))
    for record in records:
        for step in (10, 80):
            metrics = dict.fromkeys(METRICS, step + record.seed)
            ledger.report(record, {"step": step, "seconds": step / 10, "final": step == 80, "metrics": metrics})
        ledger.finish(record, "failed" if record.seed == 2 else "complete", None, {})
    config = load_config("emoji_clip", ["search.scheduler.rungs=[10]", "search.scheduler.kind=none"])
    (study / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    (study / "teacher.json").write_text(json.dumps({"scores": {"validation": {"summary": TEACHER}}}), encoding="utf-8")

    assert add_to_recording([study], tmp_path / "trials.csv") == 3  # the failed one is left out
    recording = read_recording(tmp_path / "trials.csv")

    assert recording.levels == (10, 80)
    assert recording.reference == {"retrieval_map": 0.0, "vqa_variance": 40.0}
    assert recording.recipes.index.to_list() == [0, 1, 1]  # the confirmation trains recipe 1 again
    first, second = recording.recipes.iloc[0], recording.recipes.iloc[1]
    assert (first["image_mapping.layers.0"], first["image_mapping.layers.1"]) == (1, 4)
    assert second.isna()["image_mapping.layers.0"]
    assert second["learning_rate"] == pytest.approx(0.004)
    assert recording.scores["vqa_lift_kept@80"].to_list() == [80, 81, 89]
    assert recording.scores["seconds@10"].to_list() == [1, 1, 1]

    ledger.finish(ledger.begin(3, recipes[0], seed=3), "failed", None, {})
    fourth = ledger.begin_confirmation(records[0], 1, seed=4)
    for step in (10, 80):
        metrics = dict.fromkeys(METRICS, step + 4)
        ledger.report(fourth, {"step": step, "seconds": 1, "final": step == 80, "metrics": metrics})
    ledger.finish(fourth, "complete", None, {})
    assert add_to_recording([study], tmp_path / "trials.csv") == 1  # what is there already is not added again
    assert sorted(read_recording(tmp_path / "trials.csv").recipes.index) == [0, 0, 1, 1]

    (study / "config.yaml").write_text(
        dump_config(load_config("emoji_clip", ["training.batch_size=64"])), encoding="utf-8"
    )
    with pytest.raises(UserError, match="batch_size"):
        add_to_recording([study], tmp_path / "trials.csv")


def test_the_recording_is_small_and_measures_every_training_at_every_level() -> None:
    recording = read_recording()
    assert RECORDING.stat().st_size < 500_000
    assert not recording.scores.isna().any(axis=None)
    assert recording.recipes["strategy"].nunique() == 6
    assert recording.recipes.index.duplicated().any()  # noise can be told from what a model does not know
