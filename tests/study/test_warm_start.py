from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import fsspec
import optuna
import pytest

from study.checks import checked_space, surroundings
from study.config import dump_config, load_config
from study.errors import UserError
from study.ledger import Ledger
from study.warm_start import StartingPoint, starting_points
from tests.object_store import BUCKET
from trainables.recipe import Recipe

KNOWN = ("fd", "ed", "sd", "mcl", "dr")  # strategies of the known recipes, and of the spaces here
SCORES = {"vqa_std": 3.0, "vqa_variance_noise": 1.0, "vqa_accuracy": 0.4, "vqa_lift_kept": 0.9}


def recipe_of(point: StartingPoint) -> Recipe:
    """What Optuna makes of a point that leaves nothing to the sampler; a value outside its range is an error."""
    config = load_config("emoji_clip")
    with warnings.catch_warnings(action="error"):
        chosen = checked_space(config).suggest(optuna.trial.FixedTrial(point.params), surroundings(config))
    return Recipe.model_validate(chosen)


def points(*settings: str) -> list[StartingPoint]:
    config = load_config("emoji_clip", settings)
    return starting_points(config, checked_space(config))


def refusal(*settings: str) -> str:
    with pytest.raises(UserError) as raised:
        points(*settings)
    message = str(raised.value)
    assert "\n" not in message
    return message


def other_study(folder: Path, *recipes: dict[str, Any], lift: float = 0.9) -> Path:
    """A study as its ledger leaves it, with a complete trial for each recipe; all are on its front if lift suffices."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(dump_config(load_config("emoji_clip")), encoding="utf-8")
    summary = SCORES | {"retrieval_map": 0.5, "vqa_variance": 9.0}
    teacher = {"family": "clip", "parameters": 9, "scores": {"validation": {"languages": {}, "summary": summary}}}
    (folder / "teacher.json").write_text(json.dumps(teacher), encoding="utf-8")
    ledger = Ledger(folder)
    ledger.open()
    for number, fields in enumerate(recipes):
        record = ledger.begin(number, Recipe.model_validate(fields), seed=number)
        metrics = SCORES | {"retrieval_map": 0.3 - number / 100, "vqa_variance": 9.0 - number, "vqa_lift_kept": lift}
        report = {"step": 80, "seconds": 1.0, "final": True, "metrics": metrics}
        ledger.report(record, report)
        ledger.finish(record, "complete", None, report)
    return folder


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_study_begins_with_each_strategy_as_it_is_known_and_a_mix_of_all() -> None:
    found = points()
    assert [point.source for point in found] == [f"known, {name}" for name in [*map(str.upper, KNOWN), "mix"]]
    assert all(point.messages == () for point in found)
    recipes = [recipe_of(point) for point in found]
    assert [recipe.strategy for recipe in recipes] == [*KNOWN, "mix"]
    assert recipes[4].replication.teacher_temperature == recipes[4].replication.student_temperature == 0.05
    assert set(recipes[5].weights) == set(KNOWN)


def test_no_more_points_than_trials_each_once_in_the_order_of_their_sources(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.yaml", "a: {strategy: dr}\nb: {strategy: dr}\nc: {strategy: sd}\n")
    found = points(f"search.start_from=[{path}, known]", "search.trials=4")
    assert [point.source for point in found] == [f"{path}, a", f"{path}, c", "known, FD", "known, ED"]
    assert found[0].params == {"strategy": "dr"}  # the rest is left to the sampler
    assert points("search.start_from=[]") == []


def test_the_front_of_another_study_is_mapped_into_this_space(tmp_path: Path) -> None:
    fits = {
        "strategy": "mix",
        "strategy_weights": {"fd": 1.5, "ed": 0.1, "sd": 0.2, "mcl": 0.3, "dr": 0.4},
        "task_weight": 0.1,
        "layer_weight": 0.2,
        "image_mapping": {"kind": "monotone", "layers": [2, 5]},
        "language_weighting": {"kind": "difficulty", "gamma": 1.0},
    }
    misfits = {
        "strategy": "mix",
        "strategy_weights": {"fd": 0.5, "ed": 0.1, "sd": 0.2, "mcl": 0.3},
        "task_weight": 0.1,
        "layer_weight": 0.2,
        "image_mapping": {"kind": "monotone", "layers": [1, 2, 3]},
        "replication": {"queue_size": 512},
        "learning_rate": 0.02,
    }
    folder = other_study(tmp_path / "other", fits, misfits)
    first, second = points(f"search.start_from=[{folder}]")
    assert first.messages == ()
    assert recipe_of(first) == Recipe.model_validate(fits)
    said = f"start_from {folder}, trial 00001: "
    assert second.messages == (
        f"{said}replication.queue_size 512 is not searched in this space: it stays 2048",
        f"{said}strategy_weights.dr 0 is below this space's 0.05: 0.05 is tried",
        f"{said}image_mapping.layers [1, 2, 3] is no map of 2 student layers into 6 teacher layers: "
        "it is left to the sampler",
        f"{said}learning_rate 0.02 is above this space's 0.01: 0.01 is tried",
    )
    assert second.params["learning_rate"] == 0.01
    assert not any(name.startswith("image_mapping.layers") for name in second.params)


def test_a_space_of_mixes_takes_a_strategy_on_its_own_as_the_mix_that_is_nearest_to_it() -> None:
    found = points("search.space=mix")
    assert len(found) == 6
    for name, point in zip(KNOWN, found, strict=False):
        weights = {other: point.params[f"strategy_weights.{other}"] for other in KNOWN}
        assert weights == dict.fromkeys(KNOWN, 0.01) | {name: 1.0}
        assert point.params["language_weighting.gamma"] == 0.0  # all languages alike
        assert point.messages == (
            f"start_from known, {name.upper()}: strategy {name} is not in this space: a mix is tried that has the "
            "least of the others",
        )
    assert found[5].messages == ()


def test_a_study_in_a_bucket_is_a_start_by_its_url(
    store: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLYDISTILL_CACHE", str(tmp_path / "cache"))
    folder = other_study(tmp_path / "other", {"strategy": "sd", "learning_rate": 0.002})
    place = f"{BUCKET}/{tmp_path.name}"
    url = f"{place}/other"
    fsspec.filesystem("s3").put(f"{folder}/", url, recursive=True)
    (here,), (there,) = points(f"search.start_from=[{folder}]"), points(f"search.start_from=[{url}]")
    assert (there.source, there.params) == (f"{url}, trial 00000", here.params)
    assert (there.params["strategy"], there.params["learning_rate"]) == ("sd", 0.002)
    assert f"{place}/another is no study, it has no config.yaml" in refusal(f"search.start_from=[{place}/another]")
    assert "s3://no-bucket/other cannot be read: " in refusal("search.start_from=[s3://no-bucket/other]")
    itself = [f"search.start_from=[{url}/]", f"storage.path={place}", "storage.optuna=env:DATABASE", "name=other"]
    assert f"{url}/ is this study itself" in refusal(*itself)
    secret = refusal("search.start_from=['s3://me:hush@bucket/other']")
    assert "user or a password" in secret
    assert "hush" not in secret


def test_starting_points_come_before_anything_slow_is_imported() -> None:
    code = (
        "import sys\n"
        "from study.config import load_config\n"
        "from study.checks import checked_space\n"
        "from study.warm_start import starting_points\n"
        "config = load_config('emoji_clip')\n"
        "assert starting_points(config, checked_space(config))\n"
        "print(*{'ray', 'torch', 'optuna', 'pandas', 'transformers'} & set(sys.modules))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=60
    )
    assert (ran.returncode, ran.stdout.strip()) == (0, ""), ran.stdout + ran.stderr
