"""What docs/extending.md says, done word for word on a copy of the repository, and then a study of what was added."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.study.tiny import ROOT, UNCONFIRMED, Study

pytestmark = pytest.mark.long


class Copy:
    """A copy of the repository that the steps of a section are done on."""

    def __init__(self, root: Path, heading: str) -> None:
        self.root = root
        listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
            if (ROOT / name).is_file():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, root / name)
        text = (root / "docs" / "extending.md").read_text(encoding="utf-8")
        (self.text,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
        blocks = re.findall(r"^( *)```(?:python|yaml)\n(.*?)^ *```", self.text, re.M | re.S)
        # What is left without the indentation of the step that a block stands in is the code's own.
        self._blocks = iter([re.sub(f"^{indentation}", "", block, flags=re.M) for indentation, block in blocks])

    def block(self) -> str:
        """The next block of code."""
        return next(self._blocks)

    def replace(self, name: str, old: str, new: str) -> None:
        path = self.root / name
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, (name, old)
        path.write_text(text.replace(old, new), encoding="utf-8")

    def before(self, name: str, place: str, new: str) -> None:
        self.replace(name, place, f"{new}{place}")

    def after(self, name: str, place: str, new: str) -> None:
        self.replace(name, place, f"{place}{new}")

    def space(self, **lines: str) -> None:
        """`my_space.yaml`: the full space, with the lines that begin so replaced or, if there is none, added."""
        text = (self.root / "search_spaces" / "full.yaml").read_text(encoding="utf-8")
        for beginning, line in lines.items():
            text, found = re.subn(rf"^{beginning}: .*\n", line, text, flags=re.M)
            text += "" if found else line
        (self.root / "my_space.yaml").write_text(text, encoding="utf-8")

    def passes(self, *tests: str) -> None:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not long", *tests]
        ran = subprocess.run(command, cwd=self.root, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout[-5000:]


@pytest.fixture
def copied(run_environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Study]:
    """A study that runs from the copy."""
    code = tmp_path / "copy"
    monkeypatch.setenv("PYTHONPATH", str(code))
    new = Study(tmp_path, {**run_environment, "PYTHONPATH": str(code)}, code=code)
    yield new
    new.end()


def test_a_strategy(copied: Study) -> None:
    copy = Copy(copied.code, "A strategy")
    copy.replace("trainables/recipe.py", 'StrategyName = Literal["fd", "ed", "sd", "mcl", "dr"]\n', copy.block())
    copy.before("trainables/strategies.py", "def contrastive_task(", f"{copy.block()}\n\n")
    copy.after("trainables/strategies.py", '    "dr": distributional_replication,\n', copy.block())
    formulas = "tests/trainables/test_strategies.py"
    copy.before(formulas, "def caption_term(", f"{copy.block()}\n\n")
    copy.before(formulas, '    if name == "sigmoid_task":\n', copy.block())
    copy.before(formulas, "    return 0.0\n", copy.block())
    forward, backward = re.findall(r"`(\+ [^`]*square)`", copy.text)
    copy.after("tests/trainables/test_cost.py", "2 * (1 + 2) * queue", f" {forward}")
    copy.after("tests/trainables/test_cost.py", "square + (1 + 2) * queue", f" {backward}")
    name = copy.block()
    for place in ("analysis/words.py", "trainables/model_card.py"):
        copy.after(place, '    "dr": "distributional replication",\n', name)
    copy.after("analysis/style.py", '    "dr": Look("DR", "#E69F00", "v"),\n', copy.block())
    (choice, weight) = copy.block().splitlines(keepends=True)
    copy.space(strategy=choice + weight)
    (copied.code / "my_recipes.yaml").write_text(copy.block(), encoding="utf-8")

    (named,) = re.findall(r"`pytest ([^`]*)`", copy.text)
    copy.passes(*named.split(), "tests/analysis/test_words.py", "tests/analysis/test_style.py")
    settings = ["search.space=my_space.yaml", "search.start_from=[my_recipes.yaml]", "search.trials=1"]
    ended = copied.run(*settings, UNCONFIRMED)
    assert ended.code == 0, copied.runs[-1].said()
    assert copied.recipes()[0]["recipe"]["strategy"] == "sp"
    assert copied.results()[0]["state"] == "complete"


def test_a_dimension_of_the_search_space(copied: Study) -> None:
    copy = Copy(copied.code, "A dimension of the search space")
    queue = copy.block()
    copy.after(
        "trainables/recipe.py", '    weight_decay: NotNegative = 0.1\n    """Of the optimiser."""\n', copy.block()
    )
    copy.replace("trainables/distiller.py", "        training = plan.training\n", copy.block())
    copy.replace("trainables/distiller.py", "training.schedule, training.warmup,", "training.schedule, warmup,")
    tests = copied.code / "tests" / "trainables" / "test_distiller.py"
    tests.write_text(f"{tests.read_text(encoding='utf-8')}\n\n{copy.block()}", encoding="utf-8")
    copy.space(queue=queue, warmup=copy.block())

    copy.passes("tests/trainables/test_distiller.py")
    settings = ["search.space=my_space.yaml", "search.start_from=[]", "search.sampler=random", "search.trials=2"]
    ended = copied.run(*settings, UNCONFIRMED)
    assert ended.code == 0, copied.runs[-1].said()
    warmups = [content["recipe"]["warmup"] for content in copied.recipes().values()]
    assert len(set(warmups)) == 2
    assert all(0.02 <= share <= 0.3 for share in warmups)


def test_a_scheduler(copied: Study) -> None:
    copy = Copy(copied.code, "A scheduler")
    copy.replace("study/search_config.py", '    kind: Literal["moasha", "none"] = "moasha"\n', copy.block())
    copy.replace("study/search_config.py", 'self.kind == "moasha"', 'self.kind != "none"')
    stage = copied.code / "study" / "search_stage.py"
    text = stage.read_text(encoding="utf-8")
    stage.write_text(f"{text[: text.rindex('    return MultiObjectiveHalving(')]}{copy.block()}", encoding="utf-8")

    copy.passes("tests/study/test_scheduler.py")
    ended = copied.run("search.scheduler.kind=single", "search.trials=10", UNCONFIRMED)
    assert ended.code == 0, copied.runs[-1].said()
    states = {result["state"] for result in copied.results().values()}
    assert states == {"complete", "stopped"}  # ten of the first objective alone do not come in ascending order
