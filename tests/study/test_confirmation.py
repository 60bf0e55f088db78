from __future__ import annotations

from pathlib import Path
from typing import Any

from study.config import StudyConfig
from study.confirmation import Confirmations, chosen, due, is_complete
from study.ledger import Ledger, TrialRecord
from study.search_config import SearchConfig
from study.selection import front, near_front
from trainables.recipe import Recipe

# mAP, variance and its standard error: two members, one behind them by half of the noise, one far behind.
SCORES = [(0.40, 8.0, 1.0), (0.30, 5.0, 1.0), (0.30, 5.5, 1.0), (0.20, 9.0, 1.0), (0.29, 5.05, 1.0)]


def config(seeds: int = 2, most: int = 6) -> StudyConfig:
    return StudyConfig.model_validate({"search": {"confirm": {"seeds": seeds, "most": most}}})


def finished(ledger: Ledger) -> dict[TrialRecord, dict[str, Any]]:
    found = {}
    for number, (mean, variance, noise) in enumerate(SCORES):
        metrics = {"retrieval_map": mean, "vqa_variance": variance, "vqa_variance_noise": noise, "vqa_lift_kept": 1.0}
        found[ledger.begin(number, Recipe(strategy="fd"), number)] = {"state": "complete", "metrics": metrics}
    return found


def test_the_front_and_what_is_behind_it_by_less_than_the_noise_is_chosen(tmp_path: Path) -> None:
    trials = finished(Ledger(tmp_path))
    assert [record.number for record in front(trials, config().search)] == [0, 1]
    assert [record.number for record in near_front(trials, config().search)] == [4, 2]  # the nearest first
    assert [record.number for record in chosen(trials, config())] == [0, 1, 4, 2]
    assert [record.number for record in chosen(trials, config(most=3))] == [0, 1, 4]
    assert chosen(trials, config(seeds=0)) == []


def test_the_noise_of_an_objective_of_one_set_is_that_sets_own(tmp_path: Path) -> None:
    trials = finished(Ledger(tmp_path))
    for result in trials.values():
        metrics = result["metrics"]
        metrics["vqa_variance@cvqa"], metrics["vqa_variance_noise@cvqa"] = metrics["vqa_variance"], 0.1
    objectives = {"retrieval_map": "maximise", "vqa_variance@cvqa": "minimise"}
    search = SearchConfig.model_validate({"objectives": objectives})
    assert [record.number for record in near_front(trials, search)] == [4]  # 0.5 behind is more than 0.1


def test_each_recipe_is_trained_again_with_seeds_of_its_own_and_only_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    trials = finished(ledger)
    waiting = due(ledger, trials, config(most=2))
    assert [(record.number, record.folder.name) for record in waiting] == [(0, "01"), (0, "02"), (1, "01"), (1, "02")]
    assert len({record.seed for record in [*waiting, *trials]}) == len(waiting) + len(trials)
    assert not is_complete(ledger, trials, config(most=2))

    source = Confirmations(ledger, waiting, lambda done, total: None)
    while (record := source.next()) is not None:
        source.ended(record, "complete", None, {"step": 80, "metrics": {"retrieval_map": 0.4}})
    assert is_complete(ledger, trials, config(most=2))
    assert due(ledger, trials, config(most=2)) == []
    assert [record.folder for record in ledger.records()] == [record.folder for record in trials]
    # More seeds train further; those that are there stay.
    assert [(more.number, more.folder.name) for more in due(ledger, trials, config(3, 2))] == [(0, "03"), (1, "03")]


def test_what_was_begun_goes_on_with_its_seed(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    trials = finished(ledger)
    first = due(ledger, trials, config(most=1))
    again = due(Ledger(tmp_path), trials, config(most=1))
    assert [(record.seed, record.folder, record.recipe) for record in again] == [
        (record.seed, record.folder, record.recipe) for record in first
    ]
