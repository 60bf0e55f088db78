"""What `python -m study.describe` says of a configuration."""

from __future__ import annotations

import json
from typing import Any

import pytest

from study.describe import main


def described(capsys: pytest.CaptureFixture[str], *settings: str) -> dict[str, Any]:
    arguments = [word for setting in settings for word in ("--set", setting)]
    assert main(["emoji_siglip2", "--json", *arguments]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_json_is_that_of_the_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    found = described(capsys, "training.captions_per_image=2", "search.trials=10", "resources.workers_per_trial=2")
    teacher, student = found["teacher"], found["student"]
    assert teacher["total"] == sum(teacher["parameters"].values())
    assert 5.8e6 < teacher["total"] < 5.9e6  # what the preset's teacher has
    assert teacher["parameters"]["image layers"] == 3 * student["parameters"]["image layers"]
    assert found["mappings"]["image"] == {
        "student_layers": 2,
        "teacher_layers": 6,
        "uniform": [3, 6],
        "last": [5, 6],
        "first": [1, 2],
        "monotone": 15,
    }
    step = found["step"]
    assert step["flops"] == step["forward_flops"] + step["backward_flops"] + step["optimizer_flops"]
    # Two workers take half of 128 images with two texts each.
    encoding = 64 * (student["encoding"]["image_flops"] + 2 * student["encoding"]["text_flops"])
    assert encoding < step["forward_flops"] < 1.2 * encoding
    assert found["worker_memory"] == pytest.approx(0.5e9 + max(step["memory"], student["encoding"]["memory"]))
    assert found["trial"] == {"steps": 80, "images": 80 * 128, "flops": 80 * 2 * step["flops"]}
    assert found["study"]["steps"] == (10 + 2 * 5) * 80  # trials, and two further trainings of five
    # Views, embeddings and hidden states of all layers: `monotone` may map any of them.
    images, texts = 6 * found["training_images"], 14 * found["training_images"]
    assert found["cache_bytes"] == images * (24 + 2 * 192 * 7) + texts * 2 * 192 * 5


def test_tables_show_teacher_beside_student(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["emoji_clip", "--set", "student.text.width=128"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.out.splitlines() if "│" in line]
    rows = {row[0]: row[1:] for row in cells}
    assert rows["text tower: layers × width, heads"] == ["4 × 192, 3", "2 × 128, 2"]
    student = int(rows["in all"][2].replace(",", ""))
    assert rows["token embedding"] == ["768,000", "14.1 %", "512,000", f"{100 * 512_000 / student:.1f} %", "67 %"]
    assert rows["text layers"][2] == f"{2 * (12 * 128**2 + 13 * 128):,}"
    assert rows["image"] == ["2 of 6", "3 6", "5 6", "1 2", "15 maps"]
    assert rows["a trial"][:2] == ["80", "10,240"]
    assert rows["a process that trains on a CPU, libraries included"][1].endswith(" GB")


def test_a_study_at_full_size_is_described_in_little_memory(capsys: pytest.CaptureFixture[str]) -> None:
    """SigLIP2 base and half of its layers, whose step would take tens of gigabytes."""
    tower = "{layers: 12, width: 768}"
    image = "{layers: 12, width: 768, patch_size: 16, image_size: 224}"
    found = described(
        capsys,
        f"teacher.model={{embed_dim: 768, image: {image}, text: {tower}}}",
        "teacher.tokenizer={vocab_size: 256000, context_length: 64}",
        "student={image: {layers: 6, width: 768}, text: {layers: 6, width: 768}}",
        "training.batch_size=1024",
    )
    assert found["teacher"]["total"] == pytest.approx(375e6, rel=0.001)
    assert found["teacher"]["parameters"]["token embedding"] == 256_000 * 768
    assert found["step"]["memory"] > 40e9
    assert found["student"]["total"] / found["teacher"]["total"] == pytest.approx(0.773, abs=0.001)
