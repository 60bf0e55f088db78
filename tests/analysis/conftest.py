"""A builder of study folders in the ledger's own format."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from analysis.load import StudyData, load_study

LANGUAGES = ("en", "ja", "ar")
START = datetime(2026, 1, 1, tzinfo=UTC)


class StudyFolder:
    """A study on disk that tests fill one file at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        search = {
            "objectives": {"retrieval_map": "maximise", "vqa_variance": "minimise"},
            "constraints": {"vqa_lift_kept": {"min": 0.5}},
            "trials": 20,
        }
        config = {"name": "tiny", "seed": 0, "data": {"languages": list(LANGUAGES)}, "search": search}
        (path / "trials").mkdir(parents=True)
        (path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")

    def teacher(self, retrieval_map: float = 0.6, vqa_variance: float = 10.0, test: bool = True) -> StudyFolder:
        scores = {"validation": self.scores(retrieval_map, vqa_variance, lift=None)}
        if test:
            scores["test"] = self.scores(retrieval_map - 0.02, vqa_variance + 1.0, lift=None)
        costs = {"parameters": 6_100_000, "image_flops": 8_000, "text_flops": 4_000, "image_ms": 2.0, "text_ms": 1.0}
        student = {"parameters": 3_500_000, "image_flops": 4_000, "text_flops": 3_000, "image_ms": 1.0, "text_ms": 0.25}
        content = {
            "family": "clip",
            "parameters": 6_100_000,
            "scores": scores,
            "chance": {"": 0.25},
            "random_student": self.scores(0.02, 1.0, lift=0.0),
            "encoding": {"device": "a CPU", "threads": 2, "precision": "fp32", "teacher": costs, "student": student},
        }
        self._write("teacher.json", content)
        return self

    def trial(
        self,
        number: int,
        retrieval_map: float = 0.3,
        vqa_variance: float = 12.0,
        state: str | None = "complete",
        strategy: str = "fd",
        lift: float = 0.8,
        steps: int = 80,
    ) -> Path:
        """A trial with a report every 40 steps, better and better; with no state, it still runs.

        It is proposed ten minutes after the one before it and takes five.
        """
        folder = f"trials/{number:05d}"
        recipe = {"strategy": strategy, "training": {"learning_rate": 1e-3}}
        created, finished = (START + timedelta(minutes=10 * number + minutes) for minutes in (0, 5))
        self._write(
            f"{folder}/recipe.json",
            {"number": number, "recipe": recipe, "seed": number, "created": created.isoformat()},
        )
        final = self.metrics(retrieval_map, vqa_variance, lift)
        lines = [
            {
                "step": step,
                "seconds": step / 10,
                "final": step == steps and state == "complete",
                "metrics": self.metrics(retrieval_map * step / steps, vqa_variance, lift),
            }
            for step in range(40, steps + 1, 40)
        ]
        if state != "failed":
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (self.path / folder / "reports.jsonl").write_text(text, encoding="utf-8")
        if state is not None:
            failed = state == "failed"
            result = {
                "state": state,
                "reason": None if state == "complete" else f"{state} by the test",
                "steps": 0 if failed else steps,
                "seconds": steps / 10,
                "metrics": {} if failed else final,
                "scores": {} if failed else {"validation": self.scores(retrieval_map, vqa_variance, lift)},
                "timing": {"setup": 1.0, "train": 6.0, "evaluate": 1.0},
                "parameters": 3_500_000,
                "finished": finished.isoformat(),
            }
            self._write(f"{folder}/result.json", result)
        return self.path / folder

    def confirmed(self, number: int, *trainings: tuple[float, float]) -> None:
        """Further trainings of a trial's recipe: retrieval mAP and VQA variance of each."""
        for place, (retrieval_map, vqa_variance) in enumerate(trainings, start=1):
            folder = f"trials/{number:05d}/confirm/{place:02d}"
            metrics = self.metrics(retrieval_map, vqa_variance, 0.8)
            self._write(f"{folder}/result.json", {"state": "complete", "metrics": metrics})

    def tested(self, number: int, retrieval_map: float, vqa_variance: float) -> None:
        scores = self.scores(retrieval_map, vqa_variance, 0.7)
        self._write(f"trials/{number:05d}/test.json", {"metrics": scores["summary"], "scores": scores})

    @staticmethod
    def metrics(retrieval_map: float, vqa_variance: float, lift: float | None) -> dict[str, float]:
        metrics = {
            "retrieval_map": retrieval_map,
            "vqa_variance": vqa_variance,
            "vqa_std": math.sqrt(vqa_variance),
            "retrieval_map_noise": 0.01,
            "vqa_variance_noise": vqa_variance / 8,
            "vqa_accuracy": 0.45,
        }
        return metrics if lift is None else {**metrics, "vqa_lift_kept": lift}

    def scores(self, retrieval_map: float, vqa_variance: float, lift: float | None) -> dict[str, Any]:
        language = dict.fromkeys(
            (
                f"{score}_{way}"
                for score in ("map", "recall_1", "recall_5", "recall_10", "mrr")
                for way in ("i2t", "t2i")
            ),
            retrieval_map,
        )
        languages = {code: {**language, "vqa_accuracy": 0.45, "vqa_items": 1500} for code in LANGUAGES}
        return {"languages": languages, "summary": self.metrics(retrieval_map, vqa_variance, lift)}

    def _write(self, name: str, value: Any) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value), encoding="utf-8")


@pytest.fixture
def study_folder(tmp_path: Path) -> StudyFolder:
    """A study of three languages that has neither a teacher nor trials yet."""
    return StudyFolder(tmp_path / "study")


@pytest.fixture
def new_study(tmp_path: Path) -> Callable[[str], StudyFolder]:
    """Makes further studies, by name."""
    return lambda name: StudyFolder(tmp_path / name)


@pytest.fixture(scope="session")
def varied(tmp_path_factory: pytest.TempPathFactory) -> StudyData:
    """Forty complete trials whose effects are known: see `varied`."""
    from tests.analysis.varied import varied_study

    return load_study(varied_study(StudyFolder(tmp_path_factory.mktemp("varied") / "study"), 40).path)


MARKUP = '<script>alert(1)</script></script>]]><img src="http://x.invalid/1" onerror="alert(2)">'
FORMULA = r"$\input{}$ [a](http://x.invalid/2) ![b](http://x.invalid/3) \u003c &lt; {{ 7*7 }} 'quoted\""


@pytest.fixture(scope="session")
def hostile_study(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """A study whose every name, text and reason would inject markup or a formula if it were not escaped.

    Trials: 0 and 1 on the front, 2 dominated, 3 stopped, 4 failed, 5 unreadable, 6 of an unknown strategy.
    """
    study = StudyFolder(tmp_path_factory.mktemp("hostile") / "study")
    study.teacher()
    for number, (retrieval_map, vqa_variance, state, strategy) in enumerate(
        [
            (0.40, 14.0, "complete", "fd"),
            (0.30, 6.0, "complete", "ed"),
            (0.25, 15.0, "complete", "mix"),
            (0.20, 12.0, "stopped", "fd"),
            (0.20, 12.0, "failed", "dr"),
            (0.20, 12.0, "complete", "dr"),
            (0.15, 13.0, "complete", MARKUP + FORMULA),
        ]
    ):
        study.trial(number, retrieval_map, vqa_variance, state, strategy)
    study.confirmed(0, (0.39, 14.5), (0.41, 13.0))
    study.tested(0, 0.38, 15.0)
    (study.path / "trials" / "00005" / "result.json").write_text(f'{{"state": "{MARKUP[:8]}', encoding="utf-8")
    write_examples(study.path / "trials" / "00000" / "examples.parquet")
    names = {'"ar"': json.dumps(MARKUP), '"ja"': json.dumps(FORMULA), "failed by the test": json.dumps(MARKUP)[1:-1]}
    for path in study.path.glob("**/*.json*"):
        text = path.read_text(encoding="utf-8")
        for name, hostile in names.items():
            text = text.replace(name, hostile)
        path.write_text(text, encoding="utf-8")
    config = yaml.safe_load((study.path / "config.yaml").read_text(encoding="utf-8"))
    config |= {"name": f"{MARKUP} {FORMULA}", "data": {"languages": ["en", FORMULA, MARKUP]}, "seed": MARKUP}
    (study.path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    study._write("environment.json", {"python": MARKUP, "packages": {FORMULA: MARKUP}, "git_revision": MARKUP})
    return study


def write_examples(path: Path) -> None:
    """Best and worst cases as a trial's final evaluation stores them, with hostile texts; one picture is broken."""
    content = io.BytesIO()
    Image.new("RGB", (24, 24), "#cc3311").save(content, "PNG")
    picture = content.getvalue()
    rows = [
        {
            "task": task,
            "language": language,
            "case": case,
            "text": MARKUP,
            "score": 0.5,
            "shown": [picture, MARKUP.encode()] if task == "retrieval" else [picture],
            "options": None if task == "retrieval" else [MARKUP, FORMULA],
            "answer": None if task == "retrieval" else 0,
            "chosen": None if task == "retrieval" else 1,
        }
        for task in ("retrieval", "vqa")
        for language in ("en", MARKUP)
        for case in ("best", "worst")
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
