"""A study in Python, as a notebook has it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from study import Study, UserError
from study.ledger import Ledger
from tests.study.test_warm_start import other_study
from tests.trainables.models.tiny import pictures, tiny_spec
from trainables.data import embedded
from trainables.models.factory import build_model
from trainables.models.tokenizer import Tokenizer, fit_bpe
from trainables.recipe import Recipe

ROOT = Path(__file__).parents[2]
FIRST, SECOND = {"strategy": "dr", "learning_rate": 0.005}, {"strategy": "ed"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study of two complete trials, both on its front."""
    return other_study(tmp_path / "own", FIRST, SECOND)


def test_a_study_is_open_in_a_line_and_its_front_is_a_frame(folder: Path) -> None:
    study = Study.open(folder)
    assert study.name == "emoji-clip"
    front = study.front()
    assert front["number"].tolist() == [0, 1]
    assert front["strategy"].tolist() == ["dr", "ed"]
    trials = study.trials()
    assert trials["on_front"].tolist() == [True, True]
    for objective in study.data.objectives:
        assert front[objective].tolist() == trials[objective].tolist()
    assert set(study.languages()["trial"]) <= {"teacher"}
    assert study.recipe(0) == study.recipe("00000") == Recipe.model_validate(FIRST)
    assert "data" not in repr(study)


def test_a_student_is_loaded_ready_to_encode(folder: Path) -> None:
    checkpoint = folder / "trials" / "00001" / "checkpoint"
    model = build_model(tiny_spec("clip"), seed=3)
    model.save(checkpoint)
    tokenizer = Tokenizer(fit_bpe(embedded.training_texts(("en", "tr")), vocab_size=300), 12)
    tokenizer.save(checkpoint)
    loaded, reader = Study.open(str(folder)).student(1)
    shown = model.preprocess(pictures(2))
    torch.testing.assert_close(loaded.encode_image(shown).embedding, model.eval().encode_image(shown).embedding)
    assert not loaded.training
    assert reader.encode(["a dog"]).tolist() == tokenizer.encode(["a dog"]).tolist()


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda folder: Study.open(folder.with_name("onw")), r"no study in .*onw: did you mean .*own\?"),
        (lambda folder: Study.open(folder).recipe(7), r"no trial 7 in .*own: the nearest are 0, 1"),
        (lambda folder: Study.open(folder).student(7), r"no trial 7 in .*own: did you mean 1\?"),
        (lambda folder: Study.open(folder).student(0), r"the student in .*00000/checkpoint cannot be read"),
        (lambda folder: Study.run("emoji_clop"), r"'emoji_clop': did you mean emoji_clip\?"),
        (lambda folder: Study.run(overrides=["search.trails=3"]), r"--set: .*did you mean search\.trials\?"),
    ],
)
def test_a_mistake_is_one_line(folder: Path, ask: Callable[[Path], object], message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        ask(folder)
    assert "\n" not in str(raised.value)


def test_what_the_process_of_a_study_refuses_is_the_same_mistake(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    held = Ledger(tmp_path / "held")
    held.open()
    with pytest.raises(UserError, match=r"^the study in .*/held is already running"):
        Study.run("emoji_clip", [f"storage.path={tmp_path}"], name="held")
    assert "study.run: the study in" in capfd.readouterr().err
    held.close()


def test_the_package_alone_imports_nothing_slow() -> None:
    program = """
import sys
import study
slow = {"ray", "torch", "transformers", "pandas", "pydantic", "optuna"}
print(*slow & set(sys.modules))
from study import Study
print(*{"ray", "torch", "transformers", "pandas", "optuna"} & set(sys.modules))
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == "\n\n"
