"""What is foreseen, against costs of a known law."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from study.errors import UserError
from study.foresight import ENOUGH, Foresight
from study.search_config import LimitsConfig
from trainables.models.spec import ImageTower, ModelSpec, TextTower
from trainables.recipe import STRATEGY_NAMES, LayerMapping, Recipe, Replication

STEPS = 80
PARAMETERS = 123_456  # of the student
STUDENT = ModelSpec(
    embed_dim=32,
    image=ImageTower(layers=2, width=64, head_width=32, patch_size=12, image_size=24),
    text=TextTower(layers=3, width=32, head_width=32, context_length=12, vocab_size=600),
)
TEACHER = STUDENT.model_copy(
    update={
        "image": STUDENT.image.model_copy(update={"layers": 4}),
        "text": STUDENT.text.model_copy(update={"layers": 4, "width": 64}),
    }
)
NO_MAP = LayerMapping(kind="none")
Cost = Callable[[Recipe], float]


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    (tmp_path / "spec.json").write_text(TEACHER.model_dump_json(), encoding="utf-8")
    return tmp_path


def foresight(teacher: Path, **limits: Any) -> Foresight:
    return Foresight(LimitsConfig(**limits), STUDENT, PARAMETERS, teacher, STEPS)


def some_recipes(count: int, seed: int) -> list[Recipe]:
    """Mixes and single strategies with and without layers and task, queues from 512 to 65,536."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        names = rng.choice(STRATEGY_NAMES, rng.integers(1, 4), replace=False)
        weights = {str(name): 1.0 for name in names}
        strategy = {"strategy": "mix", "strategy_weights": weights} if len(weights) > 1 else {"strategy": str(names[0])}
        found.append(
            Recipe.model_validate(
                {
                    **strategy,
                    "task_weight": float(rng.integers(2)),
                    "layer_weight": float(rng.integers(2)),
                    "image_mapping": {"kind": str(rng.choice(["none", "uniform"]))},
                    "text_mapping": {"kind": str(rng.choice(["none", "last"]))},
                    "replication": {"queue_size": int(2 ** rng.integers(9, 17))},
                }
            )
        )
    return found


def law(recipe: Recipe) -> float:
    """1 to about 5, of which most is the queue of dr."""
    matched = 0
    if recipe.layer_weight > 0:
        matched = 2 * (recipe.image_mapping.kind != "none") + 3 * (recipe.text_mapping.kind != "none")
    each = {"fd": 0.1, "ed": 0.1, "sd": 0.4, "mcl": 0.6, "dr": 0.2 + 3e-5 * recipe.replication.queue_size}
    return 1.0 + sum(each.get(name, 0.5) for name in recipe.weights) + 0.3 * (recipe.task_weight > 0) + 0.08 * matched


def complete(memory: float | None = None, train: float = 60.0, evaluate: float = 10.0) -> dict[str, Any]:
    timing = {"setup": 5.0, "train": train, "evaluate": evaluate}
    return {"state": "complete", "steps": STEPS, "timing": timing, "memory_gb": memory, "parameters": None}


def test_memory_is_foreseen_by_the_law_that_it_follows(teacher: Path) -> None:
    seeing = foresight(teacher, memory_gb=2.5)
    rng = np.random.default_rng(0)
    for recipe in some_recipes(40, seed=1):
        seeing.learn(recipe, complete(memory=law(recipe) + rng.normal(0, 0.05)))
    fresh = some_recipes(300, seed=2)
    refused = {index for index, recipe in enumerate(fresh) if seeing.refusal(recipe)}
    above = {index for index, recipe in enumerate(fresh) if law(recipe) > 2.5}
    clearly = {index for index, recipe in enumerate(fresh) if law(recipe) > 2.5 + 0.25}
    assert len(clearly) > 20
    assert clearly <= refused <= above


def test_reason_names_what_is_foreseen_and_the_limit(teacher: Path) -> None:
    seeing = foresight(teacher, memory_gb=4)
    for recipe in some_recipes(40, seed=1):
        seeing.learn(recipe, complete(memory=law(recipe)))
    recipe = Recipe(strategy="dr", replication=Replication(queue_size=2**17), image_mapping=NO_MAP)
    assert law(recipe) == pytest.approx(5.13, abs=0.01)
    assert seeing.refusal(recipe) == "foreseen to need 5.13 GB a worker, more than search.limits.memory_gb, 4"


def test_nothing_is_refused_before_enough_trials_were_measured(teacher: Path) -> None:
    seeing = foresight(teacher, memory_gb=0.5, minutes=0.1)  # below all of them
    recipe = some_recipes(1, seed=1)[0]
    for _ in range(ENOUGH - 1):
        seeing.learn(recipe, complete(memory=law(recipe)))
        assert seeing.refusal(recipe) is None
    seeing.learn(recipe, complete(memory=law(recipe)))
    assert "search.limits.memory_gb, 0.5" in str(seeing.refusal(recipe))


def test_recipe_unlike_all_that_were_measured_is_run(teacher: Path) -> None:
    seeing = foresight(teacher, memory_gb=1)
    seen = Recipe(strategy="fd", task_weight=1.0)
    for _ in range(ENOUGH):
        seeing.learn(seen, complete(memory=2.0))
    assert seeing.refusal(seen) is not None
    assert seeing.refusal(Recipe(strategy="sd", task_weight=1.0)) is None  # never seen
    assert seeing.refusal(Recipe(strategy="fd")) is None  # may be cheaper: all that were seen had a task


def test_costs_that_follow_no_law_refuse_only_what_is_far_above(teacher: Path) -> None:
    """Noise is in the margin: half of these trials are above the limit, and no recipe is refused for that."""
    seeing = foresight(teacher, memory_gb=2)
    rng = np.random.default_rng(3)
    for recipe in some_recipes(40, seed=1):
        seeing.learn(recipe, complete(memory=rng.uniform(1, 3)))
    assert not any(seeing.refusal(recipe) for recipe in some_recipes(100, seed=2))


def test_running_out_of_memory_is_known_to_be_above_the_limit(teacher: Path) -> None:
    """Trials above the limit never finish, so that their memory is known from below alone."""
    seeing = foresight(teacher, memory_gb=2)
    out = {"state": "infeasible", "steps": 0, "timing": {}, "cause": "out_of_memory", "memory_gb": 1.9}
    for recipe in some_recipes(60, seed=1):
        seeing.learn(recipe, complete(memory=law(recipe)) if law(recipe) <= 2 else out)
    fresh = some_recipes(300, seed=2)
    refused = [recipe for recipe in fresh if seeing.refusal(recipe)]
    assert len(refused) > 10
    assert all(law(recipe) > 2 for recipe in refused)


def test_time_of_stopped_trials_is_scaled_to_all_steps(teacher: Path) -> None:
    seeing = foresight(teacher, minutes=2.5)
    rng = np.random.default_rng(0)
    for index, recipe in enumerate(some_recipes(40, seed=1)):
        train = 60 * (law(recipe) + rng.normal(0, 0.05))
        stopped = {
            "state": "stopped",
            "steps": STEPS // 4,
            "timing": {"setup": 5.0, "train": train / 4, "evaluate": 2.0},
        }
        seeing.learn(recipe, complete(train=train, evaluate=15.0) if index % 2 else stopped)
    fresh = some_recipes(300, seed=2)
    minutes = [law(recipe) + 15 / 60 for recipe in fresh]
    refused = [bool(seeing.refusal(recipe)) for recipe in fresh]
    assert all(needed > 2.5 for needed, is_refused in zip(minutes, refused, strict=True) if is_refused)
    assert all(is_refused for needed, is_refused in zip(minutes, refused, strict=True) if needed > 2.5 + 0.25)
    dear = Recipe(strategy="dr", replication=Replication(queue_size=2**17))
    assert str(seeing.refusal(dear)).startswith("foreseen to take 5.")
    assert str(seeing.refusal(dear)).endswith(" minutes, more than search.limits.minutes, 2.5")


def test_parameters_are_counted_without_a_trial(teacher: Path) -> None:
    own = PARAMETERS
    text_maps = 3 * (32 * 64 + 64)  # the image tower is as wide as its teacher
    seeing = foresight(teacher, parameters=own + text_maps - 1)
    matching = Recipe(strategy="fd", layer_weight=1.0)
    assert seeing.refusal(matching) == (
        f"trains {own + text_maps} parameters, more than search.limits.parameters, {own + text_maps - 1}"
    )
    assert foresight(teacher, parameters=own + text_maps).refusal(matching) is None
    for cheaper in (
        matching.model_copy(update={"layer_weight": 0.0}),
        matching.model_copy(update={"text_mapping": NO_MAP}),
    ):
        assert seeing.refusal(cheaper) is None


def test_a_limit_that_no_recipe_can_keep_to_is_a_mistake(teacher: Path) -> None:
    own = PARAMETERS
    assert foresight(teacher, parameters=own).refusal(Recipe(strategy="fd")) is None
    with pytest.raises(UserError, match=rf"search\.limits\.parameters: {own - 1} .* {own} "):
        foresight(teacher, parameters=own - 1)


def test_parameters_that_trials_report_count(teacher: Path) -> None:
    seeing = foresight(teacher, parameters=10**6)
    assert seeing.refusal(Recipe(strategy="fd")) is None
    seeing.learn(Recipe(strategy="fd"), {**complete(), "parameters": 2 * 10**6})
    assert seeing.refusal(Recipe(strategy="fd")) is not None


def test_without_limits_nothing_is_read_or_refused(tmp_path: Path) -> None:
    seeing = foresight(tmp_path / "no such teacher")
    for recipe in some_recipes(20, seed=1):
        seeing.learn(recipe, complete(memory=1e6, train=1e9))
        assert seeing.refusal(recipe) is None


def test_the_driver_foresees_without_torch_and_ray() -> None:
    code = "import sys, study.foresight; print({'torch', 'ray'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
