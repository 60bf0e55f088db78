"""What is known of a pretrained teacher before anything slow starts, and what is refused there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from study.checks import checked_space, surroundings
from study.config import StudyConfig, load_config
from study.engine import refuse_another_teacher
from study.errors import UserError
from study.models import check_student
from tests.trainables.models.checkpoints import save_checkpoint


@pytest.fixture(scope="module")
def siglip2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint("siglip2", tmp_path_factory.mktemp("published") / "siglip2")


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint("native", tmp_path_factory.mktemp("published") / "native")


def configured(*settings: str) -> StudyConfig:
    fitted = ("teacher.model=null", "teacher.tokenizer=null", "teacher.fit=null", "student={}")
    return load_config("emoji_clip", [*fitted, *settings])


def mistake(*settings: str) -> str:
    with pytest.raises(UserError) as raised:
        check_student(configured(*settings))
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_space_is_told_the_sizes_of_a_published_teacher_and_of_its_half(siglip2: Path) -> None:
    config = configured(f"teacher.pretrained={siglip2}", "teacher.family=siglip2", "student.text.layers=1")
    check_student(config)
    around = surroundings(config)
    assert around.teacher_layers == {"image": 3, "text": 3}
    assert around.student_layers == {"image": 2, "text": 1}
    assert "strategy" in checked_space(config).entries


def test_what_is_known_of_a_teacher_at_the_door_costs_the_driver_no_library(siglip2: Path) -> None:
    code = (
        "import sys; from study.config import load_config; from study.models import check_student; "
        f"check_student(load_config('emoji_clip', {_overrides(siglip2)})); "
        "print({'torch', 'ray', 'transformers', 'open_clip'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def _overrides(folder: Path) -> Sequence[str]:
    keys = ("teacher.model", "teacher.tokenizer", "teacher.fit")
    return [*(f"{key}=null" for key in keys), "student={}", f"teacher.pretrained={folder}", "teacher.family=siglip2"]


def test_a_family_that_the_checkpoint_is_not_of_is_refused(siglip2: Path, native: Path) -> None:
    assert mistake(f"teacher.pretrained={siglip2}") == (
        f"teacher.family: clip is not what {siglip2} is: make it siglip2"
    )
    assert mistake(f"teacher.pretrained={native}", "teacher.family=siglip2").endswith("make it clip")


def test_what_only_the_library_can_tell_of_a_source_is_refused_in_one_line_too() -> None:
    assert mistake("teacher.pretrained=xlm-roberta-base-ViT-B32:laion5b_s13b_b90k") == (
        "teacher.pretrained: open_clip has no model 'xlm-roberta-base-ViT-B32': did you mean xlm-roberta-base-ViT-B-32?"
    )


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        (["teacher.revision=main"], "has no revisions: leave teacher.revision out"),
        (["student.image.layers=4"], "student.image.layers: 4 is more than the teacher has, 3"),
        (["student.text.width=48"], "student.text.width: 48 is not a multiple of the teacher's head width 32"),
        (["student.image.width=0.5"], "the teacher does not project images: it must be its 64"),
    ],
)
def test_what_does_not_fit_a_checkpoint_is_refused(siglip2: Path, settings: list[str], hint: str) -> None:
    assert hint in mistake(f"teacher.pretrained={siglip2}", "teacher.family=siglip2", *settings)


def test_command_prints_the_spec_of_a_source(native: Path) -> None:
    command = [sys.executable, "-m", "trainables.models.pretrained", str(native), "--image-size", "48"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    spec = json.loads(done.stdout)
    assert (spec["image"]["image_size"], spec["text"]["mlp_width"]) == (48, 192)


def test_a_study_does_not_go_on_with_another_teacher(tmp_path: Path) -> None:
    described = {"pretrained": "org/model", "content": {"org/model": "a" * 40}}
    refuse_another_teacher(tmp_path, described)
    (tmp_path / "teacher.json").write_text(json.dumps(described), encoding="utf-8")
    refuse_another_teacher(tmp_path, described)
    moved = {"pretrained": "org/model", "content": {"org/model": "b" * 40}}
    with pytest.raises(
        UserError, match=rf"org/model was {'a' * 40} and is {'b' * 40}; pin a hub id by teacher\.revision"
    ):
        refuse_another_teacher(tmp_path, moved)
    for damaged in ("{", "{}", '{"content": "org/model"}'):
        (tmp_path / "teacher.json").write_text(damaged, encoding="utf-8")
        with pytest.raises(UserError, match=r"teacher\.json cannot be read \(.*give --fresh"):
            refuse_another_teacher(tmp_path, described)
