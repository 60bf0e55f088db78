"""Studies of many recipes whose effects are known, because they are made so."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from conftest import StudyFolder


STRATEGY = {"fd": 6.0, "ed": 0.0, "dr": -6.0}  # points of mAP
START = {"mapped": 4.0, "random": -4.0}
TEACHER_MAP = {"en": 0.7, "ja": 0.5, "ar": 0.3}
LANGUAGES = tuple(TEACHER_MAP)
PER_DOUBLING = 1.5  # points of mAP of a language whose weight is doubled


def recipe(rng: np.random.Generator) -> dict[str, Any]:
    """A recipe as the ledger keeps it, at random: with every field, also those that have no effect in it."""
    kind = str(rng.choice(["none", "uniform", "monotone"]))
    weighting = str(rng.choice(["uniform", "difficulty", "free"]))
    logits = dict(zip(LANGUAGES, rng.uniform(-1, 1, 3).tolist(), strict=True))
    return {
        "strategy": str(rng.choice([*STRATEGY])),
        "strategy_weights": {},
        "initialise": str(rng.choice([*START])),
        "image_mapping": {"kind": kind, "layers": [1, int(rng.integers(2, 7))] if kind == "monotone" else []},
        "text_mapping": {"kind": "none", "layers": []},
        "layer_weight": float(10 ** rng.uniform(-2, 0)),
        "language_weighting": {
            "kind": weighting,
            "gamma": float(rng.uniform(-2, 2)) if weighting == "difficulty" else 0.0,
            "logits": logits if weighting == "free" else {},
        },
        "replication": {"teacher_temperature": float(rng.uniform(0.02, 0.1)), "queue_size": 2048},
        "learning_rate": float(10 ** rng.uniform(-3, -2)),
    }


def weights(made: dict[str, Any]) -> dict[str, float]:
    """The weights of a recipe's languages by the definition: of difficulty (1 − AP)^γ, of free e^z, with mean 1."""
    of = made["language_weighting"]
    raw = {
        "uniform": lambda language: 1.0,
        "difficulty": lambda language: (1 - TEACHER_MAP[language]) ** of["gamma"],
        "free": lambda language: np.exp(of["logits"][language]),
    }[of["kind"]]
    values = {language: float(raw(language)) for language in LANGUAGES}
    mean = sum(values.values()) / 3
    return {language: value / mean for language, value in values.items()}


def varied_study(folder: StudyFolder, trials: int, noise: float = 0.5, seed: int = 0) -> StudyFolder:
    """Complete trials of random recipes: mAP (%) is 30, and what strategy and start add; s.d. of VQA is 3, less by dr."""
    rng = np.random.default_rng(seed)
    folder.teacher()
    teacher = json.loads((folder.path / "teacher.json").read_text(encoding="utf-8"))
    for language, row in teacher["scores"]["validation"]["languages"].items():
        row.update(map_i2t=TEACHER_MAP[language], map_t2i=TEACHER_MAP[language], vqa_accuracy=0.5)
    teacher["scores"]["validation"]["consistency"] = matrices(0.6)
    (folder.path / "teacher.json").write_text(json.dumps(teacher), encoding="utf-8")
    for number in range(trials):
        made = recipe(rng)
        score = 30 + STRATEGY[made["strategy"]] + START[made["initialise"]] + noise * rng.normal()
        spread = 3.0 - (made["strategy"] == "dr") + 0.1 * noise * rng.normal()
        path = folder.trial(number, score / 100, spread**2, strategy=made["strategy"])
        record = json.loads((path / "recipe.json").read_text(encoding="utf-8"))
        (path / "recipe.json").write_text(json.dumps({**record, "recipe": made}), encoding="utf-8")
        result = json.loads((path / "result.json").read_text(encoding="utf-8"))
        validation = result["scores"]["validation"]
        for language, weight in weights(made).items():
            found = TEACHER_MAP[language] - 0.2 + score / 1000 + PER_DOUBLING * np.log2(weight) / 100
            row = {"map_i2t": found + 0.01, "map_t2i": found - 0.01, "vqa_accuracy": 0.45 + 0.02 * (language == "ar")}
            validation["languages"][language].update(row)
        validation["consistency"] = matrices(0.4)
        (path / "result.json").write_text(json.dumps(result), encoding="utf-8")
    return folder


def matrices(level: float) -> dict[str, list[list[float | None]]]:
    retrieval = [[1.0, level, level / 2], [level, 1.0, None], [level / 2, None, 1.0]]
    return {"retrieval": retrieval, "vqa": [[1.0, 0.1, 0.2], [0.1, 1.0, 0.3], [0.2, 0.3, 1.0]]}
